//! What sources do not contain.

use super::tree::Tree;
use super::{holds, text};

/// This suite has to name what it forbids.
const SELF: &str = "tests/suite/tidy/";

fn unfinished(tree: &Tree) -> Vec<String> {
    let marks = ["TODO", "FIXME", "XXX", "dbg!(", "todo!(", "#[ignore"];
    let mut complaints = Vec::new();
    for (path, text) in tree.below("", &[".rs", ".sql", ".toml", ".md", ".yml"]) {
        for mark in marks.iter().filter(|_| !path.starts_with(SELF)) {
            for line in text::lines_with(text, mark) {
                complaints.push(format!(
                    "{path}:{line}: {mark}: do it, or write down elsewhere that it is to be done"
                ));
            }
        }
    }
    complaints
}

fn unsafe_code(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, source) in tree.code(&[""]) {
        for line in
            text::lines_with_word(&source.code, "unsafe").filter(|_| !path.starts_with(SELF))
        {
            complaints.push(format!("{path}:{line}: unsafe is forbidden"));
        }
    }
    complaints
}

/// A path of the machine on which something was written, up to the name of a user.
fn machine_paths(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in tree
        .files
        .iter()
        .filter(|(path, _)| !path.starts_with(SELF))
    {
        for place in ["/root/", "/home/", "/Users/"] {
            for line in text::lines_with(text, place) {
                complaints.push(format!("{path}:{line}: {place} is a place on one machine"));
            }
        }
    }
    complaints
}

#[test]
fn nothing_is_left_to_do() {
    holds(
        unfinished,
        &[
            ("nexus/src/app.rs", "// TODO: more\n"),
            ("tests/suite/a.rs", "#[ignore]\n"),
        ],
    );
}

#[test]
fn nothing_is_unsafe() {
    holds(
        unsafe_code,
        &[("nexus/src/app.rs", "fn f() { unsafe { g() } }\n")],
    );
}

#[test]
fn no_place_on_one_machine_is_named() {
    holds(
        machine_paths,
        &[
            ("README.md", "see /home/ann/nexus\n"),
            ("Dockerfile", "COPY /root/.cargo .\n"),
        ],
    );
}
