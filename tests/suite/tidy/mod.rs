//! What the tree itself promises: which crate knows what, how files look, what SQL may say.
//!
//! A rule is a function from a tree to complaints: where, what is wrong, what would be right. Each is
//! shown once to fail, on a small tree made for that, and then has to hold for this one.

mod conformance;
mod crates;
mod layout;
mod manifests;
mod source;
mod spawn;
mod sql;
mod swallow;
mod text;
mod tree;

use tree::Tree;

/// Asserts that a rule complains of each of the broken trees and of nothing here.
#[track_caller]
fn holds(rule: fn(&Tree) -> Vec<String>, broken: &[(&str, &str)]) {
    for (path, text) in broken {
        let complaints = rule(&Tree::of(path, text));
        assert!(!complaints.is_empty(), "nobody notices {path}:\n{text}");
    }
    let complaints = rule(&Tree::here());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
