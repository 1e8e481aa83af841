//! The crates: who depends on whom, and what each does not know.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::MetadataCommand;

use super::tree::{Tree, top};
use super::{holds, text};

/// The packages of the workspace, from the bottom to the top.
const LINE: [&str; 4] = ["db-model", "sagas", "nexus", "nexus-tests"];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Each package and all its direct dependencies, those for tests and builds among them.
fn graph() -> Graph {
    let metadata = MetadataCommand::new()
        .manifest_path(top().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .unwrap();
    let names = |package: &cargo_metadata::Package| {
        let dependencies = package.dependencies.iter().map(|d| d.name.clone());
        (package.name.to_string(), dependencies.collect())
    };
    metadata.packages.iter().map(names).collect()
}

fn graph_of(edges: &[(&str, &[&str])]) -> Graph {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    edges
        .iter()
        .map(|(name, dependencies)| ((*name).to_owned(), names(dependencies)))
        .collect()
}

/// One line: each package depends on the one before it, on none after it, and there is no other.
fn not_in_line(graph: &Graph) -> Vec<String> {
    let mut complaints = Vec::new();
    for name in graph.keys().filter(|name| !LINE.contains(&name.as_str())) {
        complaints.push(format!(
            "{name}: the packages are {}, no other",
            LINE.join(", ")
        ));
    }
    for (place, name) in LINE.iter().enumerate() {
        let Some(dependencies) = graph.get(*name) else {
            complaints.push(format!("{name}: there is no such package"));
            continue;
        };
        for after in LINE[place..]
            .iter()
            .filter(|after| dependencies.contains(**after))
        {
            complaints.push(format!("{name} depends on {after}, which comes after it"));
        }
        if let Some(before) = place.checked_sub(1).map(|before| LINE[before])
            && !dependencies.contains(before)
        {
            complaints.push(format!(
                "{name} does not depend on {before}: it stands on it"
            ));
        }
    }
    complaints
}

/// What a package must not know of.
fn knows_too_much(graph: &Graph) -> Vec<String> {
    let unknown: [(&str, &[&str]); 3] = [
        ("db-model", &["axum", "steno", "utoipa", "clap"]),
        (
            "sagas",
            &[
                "axum",
                "utoipa",
                "clap",
                "diesel",
                "diesel-async",
                "tokio-postgres",
            ],
        ),
        (
            "nexus",
            &["steno", "diesel", "diesel-async", "tokio-postgres", "bb8"],
        ),
    ];
    let mut complaints = Vec::new();
    for (name, unknown) in unknown {
        for dependency in graph.get(name).into_iter().flatten() {
            if unknown.contains(&dependency.as_str()) {
                complaints.push(format!(
                    "{name} depends on {dependency}: that is another crate's part"
                ));
            }
        }
    }
    complaints
}

#[test]
fn the_crates_are_one_line() {
    let broken = [
        graph_of(&[
            ("db-model", &["sagas"]),
            ("sagas", &["db-model"]),
            ("nexus", &["sagas"]),
            ("nexus-tests", &["nexus"]),
        ]),
        graph_of(&[
            ("db-model", &[]),
            ("sagas", &["db-model"]),
            ("nexus", &["db-model"]),
            ("nexus-tests", &["nexus"]),
        ]),
        graph_of(&[
            ("db-model", &[]),
            ("sagas", &["db-model"]),
            ("nexus", &["sagas"]),
            ("nexus-tests", &["nexus"]),
            ("more", &[]),
        ]),
    ];
    for graph in broken {
        assert!(!not_in_line(&graph).is_empty(), "{graph:?}");
    }
    assert_eq!(not_in_line(&graph()), Vec::<String>::new());
}

#[test]
fn no_crate_knows_what_is_not_its_part() {
    for broken in [("db-model", "axum"), ("sagas", "clap"), ("nexus", "diesel")] {
        let graph = graph_of(&[(broken.0, &[broken.1])]);
        assert!(!knows_too_much(&graph).is_empty(), "{broken:?}");
    }
    assert_eq!(knows_too_much(&graph()), Vec::<String>::new());
}

/// The name of the saga library, which only the engine may say.
const ENGINE_LIBRARY: &str = "steno";

fn names_the_engine_library(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, source) in tree.code(&["db-model/", "sagas/", "nexus/"]) {
        if path.starts_with("sagas/src/engine/") {
            continue;
        }
        for line in text::lines_with_word(&source.code, ENGINE_LIBRARY) {
            complaints.push(format!(
                "{path}:{line}: {ENGINE_LIBRARY} is named only under sagas/src/engine/"
            ));
        }
    }
    complaints
}

#[test]
fn the_engine_alone_names_its_library() {
    holds(
        names_the_engine_library,
        &[
            ("sagas/src/executor.rs", "use steno::SecClient;"),
            ("nexus/src/app.rs", "fn f(x: steno::SagaId) {}"),
        ],
    );
}
