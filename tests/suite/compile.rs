//! What must not compile: each file of `compile/` is a library that compiles, and no longer does with
//! its mistake, which stands under `#[cfg(mistake)]`. So it is the mistake that the compiler refuses, and
//! not a name that has changed. A line `//@ ` says a part of what the compiler has to answer.
//!
//! The compiler is asked directly, with the libraries that this binary was built from: it takes seconds,
//! where a project of its own would build everything a second time.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

/// The libraries that the files may use.
const LIBRARIES: [&str; 4] = ["db_model", "nexus", "sagas", "tokio"];

/// The compiler with which Cargo built this binary.
fn compiler() -> PathBuf {
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    let beside = cargo.map(|cargo| cargo.with_file_name("rustc"));
    beside
        .filter(|path| path.exists())
        .unwrap_or_else(|| "rustc".into())
}

fn modified(path: &Path) -> SystemTime {
    path.metadata().unwrap().modified().unwrap()
}

/// The library as it was linked into this binary: a later one may be of another build.
fn library(name: &str) -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    let built = modified(&binary);
    let prefix = format!("lib{name}-");
    let files = std::fs::read_dir(binary.parent().unwrap()).unwrap();
    let libraries = files.map(|entry| entry.unwrap().path()).filter(|path| {
        let file = path.file_name().unwrap().to_string_lossy();
        file.starts_with(&prefix) && file.ends_with(".rlib") && modified(path) <= built
    });
    libraries
        .max_by_key(|path| modified(path))
        .unwrap_or_else(|| panic!("no {prefix}*.rlib beside {}", binary.display()))
}

fn compile(file: &Path, libraries: &[(&str, PathBuf)], with_mistake: bool) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(compiler());
    command
        .args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=metadata",
            "--color=never",
        ])
        .args(["-D", "unused_must_use", "--out-dir"])
        .arg(folder.path())
        .arg("-L")
        .arg(format!(
            "dependency={}",
            libraries[0].1.parent().unwrap().display()
        ));
    for (name, path) in libraries {
        command
            .arg("--extern")
            .arg(format!("{name}={}", path.display()));
    }
    if with_mistake {
        command.args(["--cfg", "mistake"]);
    }
    command.arg(file).output().unwrap()
}

/// What is wrong with a file.
fn complaint(file: &Path, libraries: &[(&str, PathBuf)]) -> Option<String> {
    let name = file.display();
    let right = compile(file, libraries, false);
    let said = String::from_utf8_lossy(&right.stderr);
    if !right.status.success() {
        return Some(format!(
            "{name} does not compile without its mistake:\n{said}"
        ));
    }
    let wrong = compile(file, libraries, true);
    let said = String::from_utf8_lossy(&wrong.stderr);
    if wrong.status.success() {
        return Some(format!("{name} compiles with its mistake"));
    }
    let text = std::fs::read_to_string(file).unwrap();
    let mut wanted = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("//@ "))
        .peekable();
    if wanted.peek().is_none() {
        return Some(format!(
            "{name} has no line that begins with //@. It is told:\n{said}"
        ));
    }
    let missing = wanted.find(|part| !said.contains(part))?;
    Some(format!("{name} is not told {missing:?}, but:\n{said}"))
}

#[test]
fn e03_mistakes_do_not_compile() {
    let libraries = LIBRARIES.map(|name| (name, library(name)));
    let folder = super::tidy::top().join("tests/suite/compile");
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let complaints: Vec<_> = files
        .iter()
        .filter_map(|file| complaint(file, &libraries))
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn e03_a_file_without_a_mistake_is_noticed() {
    let libraries = LIBRARIES.map(|name| (name, library(name)));
    let folder = tempfile::tempdir().unwrap();
    for (text, told) in [
        ("//@ anything\npub fn f() {}", "compiles with its mistake"),
        (
            "//@ anything\npub fn f() { nothing() }",
            "without its mistake",
        ),
        (
            "//@ another\n#[cfg(mistake)]\npub fn f() { nothing() }",
            "is not told \"another\"",
        ),
        ("#[cfg(mistake)]\npub fn f() { nothing() }", "has no line"),
    ] {
        let file = folder.path().join("file.rs");
        std::fs::write(&file, text).unwrap();
        let complaint = complaint(&file, &libraries).unwrap();
        assert!(complaint.contains(told), "{complaint}");
    }
}
