//! The manifests: one edition, one set of lints, one list of dependencies.

use super::tree::Tree;
use super::{holds, text};

/// The manifests of the members.
fn members(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    let manifests = tree.below("", &["/Cargo.toml"]);
    manifests.filter(|(path, _)| path.matches('/').count() == 1)
}

/// The lines of a manifest, each with its number and the section in which it stands.
fn lines(manifest: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let mut section = "";
    manifest
        .lines()
        .enumerate()
        .filter_map(move |(index, line)| {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']);
                return None;
            }
            let entry = !line.trim().is_empty() && !line.starts_with('#');
            entry.then_some((index + 1, section, line))
        })
}

/// The name on the left of an entry.
fn name(line: &str) -> &str {
    line.split(['.', '=', ' ']).next().unwrap_or_default()
}

fn own_dependencies(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, manifest) in members(tree) {
        for (number, section, line) in lines(manifest) {
            let dependency = section.ends_with("dependencies");
            if section.contains("dependencies.") || dependency && !line.contains("workspace = true")
            {
                complaints.push(format!(
                    "{path}:{number}: `{}` is not from [workspace.dependencies]: write `{}.workspace = true`",
                    line.trim(),
                    name(line)
                ));
            }
        }
    }
    complaints
}

fn own_settings(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, manifest) in members(tree) {
        for wanted in [
            "edition.workspace = true",
            "rust-version.workspace = true",
            "license.workspace = true",
            "[lints]\nworkspace = true",
        ] {
            if !manifest.contains(wanted) {
                complaints.push(format!(
                    "{path}: it says {wanted:?} nowhere, and so has its own"
                ));
            }
        }
    }
    complaints
}

/// What the root manifest must say.
const ROOT: [(&str, &str); 6] = [
    ("workspace.package", "edition = \"2024\""),
    ("workspace.lints.rust", "unsafe_code = \"forbid\""),
    ("workspace.lints.rust", "unused_must_use = \"deny\""),
    (
        "workspace.lints.clippy",
        "let_underscore_must_use = \"deny\"",
    ),
    ("workspace.lints.clippy", "unwrap_used = \"deny\""),
    ("profile.dev", "debug = \"line-tables-only\""),
];

fn root_is_lax(tree: &Tree) -> Vec<String> {
    let Some(root) = tree.files.get("Cargo.toml") else {
        return vec!["Cargo.toml: there is none".to_owned()];
    };
    let says =
        |wanted: &(&str, &str)| lines(root).any(|(_, section, line)| (section, line) == *wanted);
    let missing = ROOT.iter().filter(|wanted| !says(wanted));
    missing
        .map(|(section, line)| format!("Cargo.toml: [{section}] does not say {line}"))
        .collect()
}

fn aborts(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, manifest) in tree.below("", &["Cargo.toml", "config.toml"]) {
        for (number, section, line) in lines(manifest) {
            if section.starts_with("profile") && name(line) == "panic" {
                complaints.push(format!(
                    "{path}:{number}: a panic must unwind: one request must not end the process"
                ));
            }
        }
    }
    complaints
}

fn nobody_uses(tree: &Tree) -> Vec<String> {
    let listed = tree.files.get("Cargo.toml").map_or("", String::as_str);
    let used = |name: &str| {
        members(tree).any(|(_, manifest)| {
            lines(manifest).any(|(_, section, line)| {
                section.ends_with("dependencies") && self::name(line) == name
            })
        })
    };
    lines(listed)
        .filter(|(_, section, line)| *section == "workspace.dependencies" && !used(name(line)))
        .map(|(number, _, line)| {
            format!(
                "Cargo.toml:{number}: no crate uses {}: remove it",
                name(line)
            )
        })
        .collect()
}

fn names_nowhere(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, manifest) in members(tree) {
        let folder = path.trim_end_matches("Cargo.toml");
        let sources = tree.code(&[folder]);
        for (number, _, line) in
            lines(manifest).filter(|(_, section, _)| section.ends_with("dependencies"))
        {
            let word = name(line).replace('-', "_");
            let named = |(_, source): &(&str, text::Source)| {
                text::lines_with_word(&source.code, &word).next().is_some()
            };
            if !sources.iter().any(named) {
                complaints.push(format!(
                    "{path}:{number}: no source below {folder} names {word}: remove it"
                ));
            }
        }
    }
    complaints
}

fn sources_of_packages(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let public = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    for (path, lock) in tree.below("", &["Cargo.lock"]) {
        for (index, line) in lock.lines().enumerate() {
            if line.starts_with("source = ") && line != public {
                complaints.push(format!(
                    "{path}:{}: {line}: everything comes from crates.io",
                    index + 1
                ));
            }
        }
    }
    for (path, text) in tree.below("", &[".toml"]) {
        for word in ["registry", "replace-with", "registries", "index"] {
            for (number, _, line) in lines(text)
                .filter(|(_, section, line)| name(line) == word || section.starts_with(word))
            {
                complaints.push(format!(
                    "{path}:{number}: {line}: no registry is named in the project"
                ));
            }
        }
    }
    complaints
}

#[test]
fn dependencies_are_the_workspaces() {
    holds(
        own_dependencies,
        &[
            ("sagas/Cargo.toml", "[dependencies]\nserde = \"1\"\n"),
            (
                "sagas/Cargo.toml",
                "[dev-dependencies.serde]\nversion = \"1\"\n",
            ),
        ],
    );
}

#[test]
fn every_dependency_is_used() {
    holds(
        nobody_uses,
        &[("Cargo.toml", "[workspace.dependencies]\nserde = \"1\"\n")],
    );
    holds(
        names_nowhere,
        &[(
            "sagas/Cargo.toml",
            "[dependencies]\nserde.workspace = true\n",
        )],
    );
}

#[test]
fn edition_and_lints_are_inherited() {
    holds(
        own_settings,
        &[("sagas/Cargo.toml", "[package]\nedition = \"2024\"\n")],
    );
    holds(
        root_is_lax,
        &[("Cargo.toml", "[workspace.package]\nedition = \"2021\"\n")],
    );
}

#[test]
fn a_panic_unwinds_in_every_profile() {
    holds(
        aborts,
        &[("Cargo.toml", "[profile.release]\npanic = \"abort\"\n")],
    );
}

#[test]
fn packages_come_from_the_public_registry() {
    holds(
        sources_of_packages,
        &[
            ("Cargo.lock", "source = \"git+https://example.org/a\"\n"),
            (
                ".cargo/config.toml",
                "[source.crates-io]\nreplace-with = \"mirror\"\n",
            ),
        ],
    );
}
