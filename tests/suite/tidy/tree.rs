//! The files of the project by their paths.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use super::text;

/// Paths from the top, and what is in the files.
pub struct Tree {
    pub files: BTreeMap<String, String>,
}

/// The top of the project.
pub fn top() -> PathBuf {
    let tests = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let tests = tests.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    tests.parent().unwrap().to_owned()
}

impl Tree {
    /// A tree of one file.
    pub fn of(path: &str, text: &str) -> Self {
        Self {
            files: [(path.to_owned(), text.to_owned())].into(),
        }
    }

    /// What Git tracks here, or would; without a repository, as in a released archive, what lies in
    /// the folders of the project.
    pub fn here() -> Self {
        let top = top();
        let git = Command::new("git")
            .args(["-c", "core.quotePath=false", "ls-files"])
            .args(["--cached", "--others", "--exclude-standard"])
            .current_dir(&top)
            .output();
        let paths: Vec<String> = match git {
            Ok(output) if output.status.success() => String::from_utf8(output.stdout)
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect(),
            _ => walk(&top),
        };
        let read = |path: String| {
            let bytes = std::fs::read(top.join(&path)).ok()?;
            Some((path, String::from_utf8_lossy(&bytes).into_owned()))
        };
        Self {
            files: paths.into_iter().filter_map(read).collect(),
        }
    }

    /// The files below a folder, or all for an empty one, with one of the endings.
    pub fn below(&self, folder: &str, endings: &[&str]) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(folder))
            .filter(move |(path, _)| endings.iter().any(|ending| path.ends_with(ending)))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The Rust sources of some crates, each with its comments blanked.
    pub fn code(&self, folders: &[&str]) -> Vec<(&str, text::Source)> {
        let files = folders
            .iter()
            .flat_map(|folder| self.below(folder, &[".rs"]));
        files
            .map(|(path, text)| (path, text::parse(text)))
            .collect()
    }
}

fn walk(top: &std::path::Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", "nexus-data", ".git"].contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() {
                let path = path.strip_prefix(top).unwrap();
                paths.push(path.to_string_lossy().into_owned());
            }
        }
    }
    paths
}
