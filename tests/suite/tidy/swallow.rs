//! Errors of the database that are made to disappear.
//!
//! The compiler and clippy refuse a result that nobody looks at; what makes one look harmless without
//! handling it is found here.

use super::holds;
use super::tree::Tree;

/// What asks the database, or waits for what was asked.
const ASKS: [&str; 9] = [
    ".commit(",
    ".commit_as(",
    ".commit_within(",
    ".transact(",
    ".run(",
    ".outcome(",
    ".into_result(",
    "rows!(",
    "read::",
];

/// What makes an error disappear.
const SWALLOWS: [&str; 8] = [
    ".ok()",
    ".unwrap_or(",
    ".unwrap_or_default()",
    ".unwrap_or_else(|_|",
    ".map_or(",
    ".is_ok()",
    ".is_err()",
    ".into_iter().flatten()",
];

/// The statement that begins at a place: up to its semicolon, its block, or the end of what encloses it.
fn rest(code: &str) -> &str {
    let mut depth = 0_i32;
    let end = code.find(|character| {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        depth < 0 || depth == 0 && matches!(character, ';' | '{' | '}' | ',')
    });
    &code[..end.unwrap_or(code.len())]
}

fn swallowed(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, source) in tree.code(&["db-model/src/", "sagas/src/", "nexus/src/"]) {
        // A module of tests has its own ways to look.
        let code = source.code.split("#[cfg(test)]").next().unwrap_or_default();
        for ask in ASKS {
            for (place, _) in code.match_indices(ask) {
                let flat: String = rest(&code[place..]).split_whitespace().collect();
                let before = code[..place]
                    .rsplit([';', '{', '}'])
                    .next()
                    .unwrap_or_default();
                let begin = before.trim_start();
                let line = code[..place].lines().count();
                let by = SWALLOWS.iter().find(|swallow| flat.contains(*swallow));
                let by = by
                    .copied()
                    .or_else(|| begin.starts_with("let _ =").then_some("let _ ="));
                let by = by.or_else(|| begin.starts_with("drop(").then_some("drop("));
                if let Some(by) = by {
                    complaints.push(format!(
                        "{path}:{line}: {ask}..){by} swallows an error of the database: handle it, or hand it on"
                    ));
                }
            }
        }
    }
    complaints
}

#[test]
fn e03_no_error_of_the_database_is_made_to_disappear() {
    let path = "nexus/src/endpoint/project/view.rs";
    holds(
        swallowed,
        &[
            (path, "let row = batch.commit(&pool).await.ok();"),
            (
                path,
                "let rows = batch\n    .commit_as(&pool, Keyed)\n    .await\n    .unwrap_or_default();",
            ),
            (path, "let _ = batch.commit(&pool).await;"),
            (path, "if read::project::view(&pool, &name).await.is_ok() {"),
            (
                "db-model/src/read/project.rs",
                "Ok(rows!(pool, \"project.view\", query).unwrap_or_default().pop())",
            ),
            (path, "drop(database.transact(options, body).await);"),
        ],
    );
}
