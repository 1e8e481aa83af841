//! Where files are and what they are called.

use super::holds;
use super::tree::Tree;

/// What lies at the top, beside files and folders that begin with a dot.
const TOP: [&str; 14] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "db-model",
    "docker-compose.yml",
    "docs",
    "nexus",
    "openapi",
    "sagas",
    "tests",
];

/// Limits on one file, in lines.
const LINES_MAX: usize = 600;

const VERBS: [&str; 5] = ["create", "delete", "list", "view", "update"];

fn strangers_at_the_top(tree: &Tree) -> Vec<String> {
    let tops = tree
        .files
        .keys()
        .map(|path| path.split('/').next().unwrap_or(path));
    let mut strangers: Vec<_> = tops
        .filter(|top| !top.starts_with('.') && !TOP.contains(top))
        .map(|top| format!("{top}: at the top there is only {}", TOP.join(", ")))
        .collect();
    strangers.dedup();
    strangers
}

fn toolchain_files(tree: &Tree) -> Vec<String> {
    tree.files
        .keys()
        .filter(|path| {
            path.split('/')
                .next_back()
                .is_some_and(|name| name.starts_with("rust-toolchain"))
        })
        .map(|path| format!("{path}: rust-version in Cargo.toml says enough"))
        .collect()
}

fn too_long(tree: &Tree) -> Vec<String> {
    tree.below("", &[".rs", ".sql", ".md", ".toml"])
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| {
            format!("{path}: {lines} lines, at most {LINES_MAX}: which two ideas share it?")
        })
        .collect()
}

fn without_a_word_about_itself(tree: &Tree) -> Vec<String> {
    tree.below("", &[".rs"])
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| format!("{path}: it does not begin with `//!`: what is it, and what does it leave to others?"))
        .collect()
}

/// The tables of the migrations.
fn tables(tree: &Tree) -> Vec<&str> {
    let statement = "CREATE TABLE IF NOT EXISTS ";
    let migrations = tree.below("db-model/migrations/", &["up.sql"]);
    let lines = migrations.flat_map(|(_, text)| text.lines());
    lines
        .filter_map(|line| line.strip_prefix(statement)?.split([' ', '(']).next())
        .collect()
}

/// Whether a file has the name of a table, or of what several tables have in common (`quota`).
fn is_noun(tables: &[&str], name: &str) -> bool {
    tables
        .iter()
        .any(|table| *table == name || table.rsplit('_').next() == Some(name))
}

fn files_without_a_noun(tree: &Tree) -> Vec<String> {
    let tables = tables(tree);
    // What is about no noun of its own.
    let helpers = ["mod", "page", "refusal"];
    let mut complaints = Vec::new();
    for folder in [
        "db-model/src/model/",
        "db-model/src/query/",
        "db-model/src/read/",
    ] {
        for (path, _) in tree.below(folder, &[".rs"]) {
            let name = path[folder.len()..].trim_end_matches(".rs");
            if !helpers.contains(&name) && !is_noun(&tables, name) {
                complaints.push(format!("{path}: {name} is no table: one noun everywhere"));
            }
        }
    }
    complaints
}

fn sagas_without_a_verb(tree: &Tree) -> Vec<String> {
    let tables = tables(tree);
    let folder = "sagas/src/saga/";
    let fits = |name: &str| {
        name == "mod"
            || name
                .rsplit_once('_')
                .is_some_and(|(noun, verb)| VERBS.contains(&verb) && is_noun(&tables, noun))
    };
    tree.below(folder, &[".rs"])
        .filter(|(path, _)| !fits(path[folder.len()..].trim_end_matches(".rs")))
        .map(|(path, _)| {
            format!("{path}: a saga's file is <resource>_<verb>.rs, a verb is one of {VERBS:?}")
        })
        .collect()
}

fn endpoints_without_a_verb(tree: &Tree) -> Vec<String> {
    let folder = "nexus/src/endpoint/";
    let mut complaints = Vec::new();
    for (path, _) in tree.below(folder, &[".rs"]) {
        let Some((noun, file)) = path[folder.len()..].split_once('/') else {
            continue;
        };
        let verb = file.trim_end_matches(".rs");
        if verb != "mod" && !VERBS.contains(&verb) {
            complaints.push(format!(
                "{path}: an endpoint's file is <noun>/<verb>.rs, a verb is one of {VERBS:?}"
            ));
        }
        let api = |name: &str| tree.files.contains_key(&format!("nexus/src/api/{name}.rs"));
        if !api(noun) && !noun.rsplit('_').next().is_some_and(api) {
            complaints.push(format!(
                "{path}: there is no nexus/src/api/{noun}.rs with what it takes and gives"
            ));
        }
    }
    complaints
}

#[test]
fn the_top_holds_what_belongs_there() {
    holds(
        strangers_at_the_top,
        &[("notes.txt", ""), ("scripts/run.sh", "")],
    );
    holds(toolchain_files, &[("rust-toolchain.toml", "")]);
}

#[test]
fn no_file_is_too_long() {
    holds(too_long, &[("nexus/src/app.rs", &"\n".repeat(601))]);
}

#[test]
fn every_file_says_what_it_is() {
    holds(
        without_a_word_about_itself,
        &[("nexus/src/app.rs", "use std::fmt;\n")],
    );
}

#[test]
fn one_noun_and_one_verb_everywhere() {
    holds(
        files_without_a_noun,
        &[("db-model/src/query/machine.rs", "")],
    );
    holds(
        sagas_without_a_verb,
        &[
            ("sagas/src/saga/instance_make.rs", ""),
            ("sagas/src/saga/helper.rs", ""),
        ],
    );
    holds(
        endpoints_without_a_verb,
        &[
            ("nexus/src/endpoint/machine/create.rs", ""),
            ("nexus/src/endpoint/project/make.rs", ""),
        ],
    );
}
