//! The commands beside the server.

use super::*;
use nexus_tests::TestDatabase;
use nexus_tests::folder::DataFolder;
use nexus_tests::history::assert_balanced;
use nexus_tests::process::{self, Program};
use std::process::Command;

/// What a shell prints.
fn shell(line: &str) -> (String, String) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn db_url_prints_a_line_that_opens_the_database() {
    const COUNT: &str = "-X -At -c 'SELECT count(*) FROM fleet_quota'";
    let folder = DataFolder::new().await;
    let db_url = || Program::new(&["db", "url"]).flag("--data-dir", folder.data_dir());
    let ended = db_url().run().await;
    assert_one_clear_line(
        &ended,
        &[
            "no embedded PostgreSQL runs on",
            "--data-dir",
            "--database-url",
        ],
    );
    assert_eq!(folder.server(), None, "a command starts no server");

    let mut server = Program::server(&folder).start().await;
    let ended = db_url().run().await;
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.stdout.lines().count(), 1);
    let line = ended.stdout.trim();
    assert_eq!(line, server.psql());
    assert_eq!(
        shell(&format!("{line} {COUNT}")),
        ("1\n".into(), String::new())
    );
    assert_balanced(&server.database_url()).await;
    server.terminate().await;

    let database = TestDatabase::new().await;
    let ended = Program::new(&["db", "url"])
        .env("DATABASE_URL", database.url().await)
        .run()
        .await;
    let line = ended.stdout.trim();
    assert_eq!(
        shell(&format!("{line} {COUNT}")),
        ("1\n".into(), String::new())
    );
    database.assert_books_balance().await;
}

#[tokio::test]
async fn openapi_prints_the_document_that_is_checked_in() {
    let ended = Program::new(&["openapi"]).run().await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi/nexus.json");
    assert_eq!(ended.stdout, std::fs::read_to_string(path).unwrap());
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let program = process::path();
    let (stdout, stderr) = shell(&format!("{} openapi | head -c 1", program.display()));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("{", ""));
    // Without a reader from the start on.
    let line = format!(
        "( sleep 0.2; {} openapi; echo $? >&2 ) | true",
        program.display()
    );
    assert_eq!(shell(&line).1, "0\n");
}

#[tokio::test]
async fn the_version_is_told_and_what_is_unknown_is_refused() {
    let ended = Program::new(&["--version"]).run().await;
    let version = format!("nexus {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((ended.code(), ended.stdout), (Some(0), version));
    for line in [
        &["--no-such-flag"][..],
        &["server", "--no-such-flag"],
        &["no-such-command"],
        &["db"],
    ] {
        let ended = Program::new(line).run().await;
        assert_eq!(ended.code(), Some(2), "{line:?}: {ended:?}");
        assert_eq!(ended.stdout, "");
        assert!(!ended.stderr.is_empty());
    }
    let ended = Program::loopback()
        .env("NEXUS_WRITE_POOL_SIZE", "many")
        .run()
        .await;
    assert_eq!(ended.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--write-pool-size"), "{ended:?}");
}
