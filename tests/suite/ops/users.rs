//! As root and as an ordinary user.

use super::*;
use nexus_tests::folder::DataFolder;
use nexus_tests::history::assert_balanced;
use nexus_tests::process::{Program, path};
use serde_json::json;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};

/// The account under which root plays the ordinary user.
const NOBODY: u32 = 65534;

fn uid_of(pid: u32) -> u32 {
    std::fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!(
            "skipped: only root can become another user; all other tests ran as an ordinary one"
        );
    }
    root
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_runs_as_root_and_as_an_ordinary_user() {
    if !is_root() {
        return;
    }
    let folder = DataFolder::empty();
    folder.give_to(NOBODY);
    // Where every user may go.
    let program = folder.place().join("nexus");
    std::fs::copy(path(), &program).unwrap();
    let data_dir = folder.data_dir();
    let arguments = [
        "server",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--data-dir",
        data_dir.to_str().unwrap(),
    ];
    let mut process = Program::at(&program, &arguments).user(NOBODY).start().await;
    assert_eq!(uid_of(process.pid()), NOBODY);
    assert_eq!(uid_of(folder.server().unwrap()), NOBODY);
    let created = process
        .post("/v1/projects", &json!({ "name": "web" }))
        .await;
    assert_eq!(created.status, 201);
    process.terminate().await;
    assert_eq!(folder.server(), None);

    let mut process = Program::server(&folder).start().await;
    assert_eq!(uid_of(process.pid()), 0);
    assert_eq!(
        uid_of(folder.server().unwrap()),
        NOBODY,
        "the data stays its user's"
    );
    assert_eq!(process.get("/v1/projects/web").await.body, created.body);
    assert_balanced(&process.database_url()).await;
    process.terminate().await;

    // A folder in which an ordinary user may make nothing.
    let closed = folder.place().join("closed");
    std::fs::DirBuilder::new()
        .mode(0o755)
        .create(&closed)
        .unwrap();
    let closed = closed.join("nexus-data");
    let arguments = [
        "server",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--data-dir",
        closed.to_str().unwrap(),
    ];
    let ended = Program::at(&program, &arguments).user(NOBODY).run().await;
    assert_one_clear_line(&ended, &[closed.to_str().unwrap(), "Permission denied"]);
}
