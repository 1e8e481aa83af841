//! SQL: who may write it, and the portable subset in which it is written.

use super::tree::Tree;
use super::{holds, text};

/// With what the folders of the migrations end that may contain PL/pgSQL.
const GUARDS: &str = "_guards";

fn is_guards(place: &str) -> bool {
    let folder = place.strip_prefix("db-model/migrations/");
    folder
        .and_then(|path| path.split('/').next())
        .is_some_and(|folder| folder.ends_with(GUARDS))
}

/// Where texts that are refused are named.
const REFUSED: &str = "db-model/src/batch/text/tests.rs";

/// What is SQL, with where it begins: migrations without their comments, and the literals of the
/// sources.
fn statements(tree: &Tree) -> Vec<(String, String)> {
    let mut statements = Vec::new();
    for (path, text) in tree.below("db-model/migrations/", &[".sql"]) {
        let lines = text
            .lines()
            .map(|line| line.split("--").next().unwrap_or_default());
        let text: Vec<_> = lines.collect();
        statements.push((path.to_owned(), text.join("\n")));
    }
    let code = tree.code(&["db-model/", "sagas/", "nexus/"]);
    for (path, source) in code.into_iter().filter(|(path, _)| *path != REFUSED) {
        let literals = source.literals.into_iter();
        statements.extend(literals.map(|(line, text)| (format!("{path}:{line}"), text)));
    }
    statements
}

/// Lower case, and one space between the words.
fn flat(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

fn sql_in_the_service(tree: &Tree) -> Vec<String> {
    let is_sql = |text: &str| {
        let text = flat(text);
        [
            ("select ", " from "),
            ("insert into ", ""),
            ("update ", " set "),
            ("delete from ", ""),
            ("create table ", ""),
        ]
        .iter()
        .any(|(verb, more)| text.starts_with(verb) && text.contains(more))
    };
    let mut complaints = Vec::new();
    for (path, source) in tree.code(&["nexus/"]) {
        for (line, _) in source.literals.iter().filter(|(_, text)| is_sql(text)) {
            complaints.push(format!(
                "{path}:{line}: SQL is written in db-model: query/, read/"
            ));
        }
    }
    complaints
}

fn not_portable(tree: &Tree) -> Vec<String> {
    let forbidden = [
        ("create type", "a CHECK on a text column does the same"),
        ("create domain", "a CHECK on the column does the same"),
        (
            "create sequence",
            "ids are UUIDs, drawn before the batch is built",
        ),
        ("nextval(", "ids are UUIDs, drawn before the batch is built"),
        (
            "as identity",
            "ids are UUIDs, drawn before the batch is built",
        ),
        ("create trigger", "a batch says all that it does"),
        (
            "pg_notify(",
            "a lost wake-up must cost no more than one poll",
        ),
        (
            "pg_advisory_lock(",
            "a session's lock outlives the transaction: use pg_advisory_xact_lock",
        ),
        (
            "pg_try_advisory_lock(",
            "a session's lock outlives the transaction: use pg_try_advisory_xact_lock",
        ),
        (
            "pg_advisory_lock_shared(",
            "a session's lock outlives the transaction: use pg_advisory_xact_lock_shared",
        ),
    ];
    let mut complaints = Vec::new();
    for (place, statement) in statements(tree) {
        let text = flat(&statement);
        for (part, right) in forbidden.iter().filter(|(part, _)| text.contains(part)) {
            complaints.push(format!("{place}: {part}: {right}"));
        }
        let serial = ["serial", "bigserial", "smallserial"];
        if text
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| serial.contains(&word))
            && place.ends_with(".sql")
        {
            complaints.push(format!(
                "{place}: serial: ids are UUIDs, drawn before the batch is built"
            ));
        }
        let begins = |verb: &str| {
            statement
                .split(';')
                .any(|part| part.trim_start().starts_with(verb))
        };
        if begins("LISTEN ") || begins("NOTIFY ") {
            complaints.push(format!(
                "{place}: LISTEN, NOTIFY: a lost wake-up must cost no more than one poll"
            ));
        }
    }
    complaints
}

fn procedures(tree: &Tree) -> Vec<String> {
    let is_procedure = |text: &str| {
        let text = flat(text);
        text.contains("plpgsql")
            || text.contains("do $")
            || text.contains("create function")
            || text.contains("create or replace function")
    };
    statements(tree)
        .into_iter()
        .filter(|(place, text)| !is_guards(place) && is_procedure(text))
        .map(|(place, _)| {
            format!("{place}: PL/pgSQL stands in the migrations *{GUARDS} and nowhere else")
        })
        .collect()
}

#[test]
fn the_service_contains_no_sql() {
    holds(
        sql_in_the_service,
        &[
            ("nexus/src/app.rs", "let sql = \"SELECT 1 FROM project\";"),
            (
                "nexus/src/app.rs",
                "let sql = r#\"update project\n set name = 'a'\"#;",
            ),
        ],
    );
}

#[test]
fn sql_is_portable() {
    let up = "db-model/migrations/1_a/up.sql";
    holds(
        not_portable,
        &[
            (up, "CREATE  TYPE state AS ENUM ('a');"),
            (up, "CREATE TABLE a (id bigserial);"),
            (
                up,
                "CREATE TABLE a (id bigint GENERATED ALWAYS AS IDENTITY);",
            ),
            (
                "sagas/src/engine/lease.rs",
                "let sql = \"SELECT pg_advisory_lock(1)\";",
            ),
            ("sagas/src/engine/lease.rs", "let sql = \"LISTEN jobs\";"),
        ],
    );
}

#[test]
fn procedures_are_guards() {
    holds(
        procedures,
        &[
            ("db-model/migrations/1_a/up.sql", "DO $$ BEGIN END $$;"),
            (
                "db-model/src/books.rs",
                "const F: &str = \"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql\";",
            ),
        ],
    );
}

#[test]
fn statements_are_found_without_their_comments() {
    let tree = Tree::of(
        "db-model/migrations/1_a/up.sql",
        "SELECT 1; -- CREATE TYPE\n",
    );
    assert_eq!(not_portable(&tree), Vec::<String>::new());
    assert_eq!(text::lines_with_word("a_b b", "b").collect::<Vec<_>>(), [1]);
}
