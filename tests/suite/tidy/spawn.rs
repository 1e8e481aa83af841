//! Tasks that would escape the guard of a transaction.
//!
//! The guard against effects in an open transaction is its task's own: a task that is spawned in a body
//! has none. So in the functions that hold a body, or get its transaction, nothing is spawned.

use super::holds;
use super::tree::Tree;

/// Where the layer itself spawns the task of the commit, behind the body.
const LAYER: &str = "db-model/src/batch/transaction/";

/// What begins a task.
const SPAWNS: [&str; 4] = ["spawn(", "spawn_blocking(", "spawn_local(", "spawn_on("];

/// The length of what stands between a bracket, with which `code` begins, and the one that closes it.
fn bracketed(code: &str) -> usize {
    let mut depth = 0_i32;
    let end = code.find(|character| {
        match character {
            '(' | '{' => depth += 1,
            ')' | '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.unwrap_or(code.len())
}

/// The functions of a file, each with where it begins, its head and its body.
fn functions(code: &str) -> Vec<(usize, &str, &str)> {
    let mut functions = Vec::new();
    for (place, _) in code.match_indices("fn ") {
        let rest = &code[place..];
        // A declaration has no body, and the type of a function no name.
        let Some(open) = rest
            .find(['{', ';'])
            .filter(|at| rest[*at..].starts_with('{'))
        else {
            continue;
        };
        let body = &rest[open..];
        functions.push((place, &rest[..open], &body[..bracketed(body)]));
    }
    functions
}

/// Whether a head takes a transaction, not only gives one.
fn takes_a_transaction(head: &str) -> bool {
    let Some(open) = head.find('(') else {
        return false;
    };
    let parameters = &head[open..][..bracketed(&head[open..])];
    let part = |character: char| character.is_alphanumeric() || character == '_';
    parameters
        .split(|character| !part(character))
        .any(|word| word == "Transaction")
}

fn escaping(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    let code = tree.code(&["db-model/src/", "sagas/src/", "nexus/src/"]);
    for (path, source) in code.iter().filter(|(path, _)| !path.starts_with(LAYER)) {
        for (place, head, body) in functions(&source.code) {
            if !body.contains(".transact(") && !takes_a_transaction(head) {
                continue;
            }
            let line = source.code[..place].lines().count();
            let spawns = SPAWNS.iter().filter(|spawn| body.contains(*spawn));
            complaints.extend(spawns.map(|spawn| {
                format!(
                    "{path}:{line}: {spawn}..) beside the body of a transaction, whose guard does not \
                     see that task: spawn in a function of its own, after the transaction, or in a hook"
                )
            }));
        }
    }
    complaints
}

#[test]
fn d02_nothing_is_spawned_inside_a_transaction() {
    let path = "db-model/src/books.rs";
    holds(
        escaping,
        &[
            (
                path,
                "async fn mend(db: &mut Database) {\n    db.transact(options, |tx| async {\n        \
                 tokio::spawn(async { writes.get().await });\n        Ok((tx, ()))\n    }).await\n}",
            ),
            (
                path,
                "async fn step(id: Uuid, tx: Transaction) -> Result<Transaction, Failure> {\n    \
                 tokio::task::spawn_blocking(move || call(id)).await?;\n    Ok(tx)\n}",
            ),
            (
                "nexus/src/app.rs",
                "fn f(tx: batch::Transaction) { set.spawn(call()); }",
            ),
        ],
    );
}

#[test]
fn what_is_spawned_elsewhere_is_no_complaint() {
    let tree = Tree::of(
        "nexus/src/app.rs",
        "fn begin() { tokio::spawn(run()); }\nfn body() -> Transaction { tokio::spawn(run()) }\n\
         fn mend(db: &mut Database) { db.transact(options, |tx| f(tx)) }\n",
    );
    assert_eq!(escaping(&tree), Vec::<String>::new());
}
