//! The table of SQLSTATEs: whole, and the same in the documentation.

use std::collections::BTreeSet;

use db_model::batch::sqlstate::{self, Again, Answer, Blast, Rule};
use nexus_tests::TestDatabase;

const DOCUMENT: &str = include_str!("../../../docs/transactions.md");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_code_that_the_server_knows_has_a_row() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let folder = "SELECT setting FROM pg_config() WHERE name = 'SHAREDIR'";
    let folder: String = client.query_one(folder, &[]).await.unwrap().get(0);
    let list = std::path::Path::new(&folder).join("errcodes.txt");
    let text = std::fs::read_to_string(&list)
        .unwrap_or_else(|error| panic!("{}: {error}", list.display()));
    let codes: BTreeSet<_> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("Section:"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(codes.len() > 230, "only {} codes are read", codes.len());
    let missing: Vec<_> = codes
        .iter()
        .filter(|code| sqlstate::rule(code) == &sqlstate::UNKNOWN)
        .collect();
    assert!(missing.is_empty(), "no row of the table has {missing:?}");
    database.assert_books_balance().await;
}

/// A row as the document has it.
fn row(rule: &Rule) -> String {
    let codes: Vec<_> = rule.codes.iter().map(|code| format!("`{code}`")).collect();
    let codes = match codes.as_slice() {
        [] => "else".to_owned(),
        codes => codes.join(" "),
    };
    let kills = match rule.kills {
        Blast::Statement => "statement",
        Blast::Transaction => "transaction",
        Blast::Connection => "connection",
        Blast::CommitUnknown => "nobody knows",
    };
    let again = match rule.again {
        Again::Never => "never",
        Again::Whole => "whole, at once",
        Again::Later => "later",
    };
    let (status, retry_after) = match rule.answer {
        Answer::Busy => ("503", "yes"),
        Answer::Bug => ("500", "no"),
        Answer::ByConstraint => ("the refusal's, or 500", "no"),
    };
    let meaning = rule.meaning;
    format!("| {codes} | {meaning} | {kills} | {again} | {status} | {retry_after} |")
}

#[test]
fn the_document_has_the_same_table() {
    let rules = sqlstate::RULES.iter().chain([&sqlstate::UNKNOWN]);
    let wanted: BTreeSet<_> = rules.map(row).collect();
    let section = DOCUMENT
        .split("\n## ")
        .find(|part| part.starts_with("SQLSTATE"));
    let section = section.expect("docs/transactions.md has a section about SQLSTATEs");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    // The first row is the head.
    let written: BTreeSet<_> = rows.skip(1).map(str::to_owned).collect();
    let missing: Vec<_> = wanted.difference(&written).collect();
    let strange: Vec<_> = written.difference(&wanted).collect();
    assert!(
        missing.is_empty(),
        "docs/transactions.md lacks: {missing:#?}"
    );
    assert!(
        strange.is_empty(),
        "only docs/transactions.md has: {strange:#?}"
    );
}
