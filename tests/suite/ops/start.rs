//! How a server starts, and what it says when it cannot.

use super::*;
use db_model::embedded;
use nexus_tests::folder::DataFolder;
use nexus_tests::history::{assert_balanced, session};
use nexus_tests::process::Program;
use nexus_tests::{TestDatabase, server};
use serde_json::json;
use std::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_says_where_everything_is() {
    let folder = DataFolder::new().await;
    let mut process = Program::server(&folder).start().await;
    let log = process.log();
    let listening = log.iter().find(|record| record["message"] == "listening");
    let listening = listening.unwrap();
    let text = |name: &str| listening[name].as_str().unwrap().to_owned();
    assert_eq!(text("data"), folder.data_dir().to_str().unwrap());
    let status = async |url: &str| process.client.get(url).send().await.unwrap().status();
    assert_eq!(status(&format!("{}/version", text("api"))).await, 200);
    assert_eq!(status(&text("docs")).await, 200);
    assert_eq!(status(&format!("{}/healthz", text("admin"))).await, 200);
    assert!(text("psql").contains("psql postgresql://nexus@"));
    let warned = log.iter().any(|record| record["level"] == "WARN");
    assert!(!warned, "a usual start warns of nothing: {log:#?}");
    assert_balanced(&process.database_url()).await;
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_database_is_durable_and_keeps_its_data() {
    let folder = DataFolder::empty();
    let mut process = Program::server(&folder).start().await;
    let project = json!({ "name": "kept" });
    let created = process.post("/v1/projects", &project).await;
    assert_eq!(created.status, 201);
    let database = session(&process.database_url()).await;
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let sql = format!("SHOW {setting}");
        let value: String = database.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(value, "on", "{setting}");
    }
    process.terminate().await;
    assert_eq!(folder.server(), None);

    let mut process = Program::server(&folder).start().await;
    assert_eq!(process.get("/v1/projects/kept").await.body, created.body);
    assert_balanced(&process.database_url()).await;
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_url_wins_and_nothing_is_started() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let place = tempfile::tempdir().unwrap();
    let given: [&dyn Fn(Program) -> Program; 3] = [
        &|program| program.flag("--database-url", &url),
        &|program| program.env("NEXUS_DATABASE_URL", &url),
        &|program| program.env("DATABASE_URL", &url),
    ];
    for give in given {
        let program = Program::loopback().folder(place.path());
        let mut process = give(program).start().await;
        assert!(process.psql().contains(database.name()));
        process.terminate().await;
    }
    let made = std::fs::read_dir(place.path()).unwrap().count();
    assert_eq!(made, 0, "something was made in the working folder");
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_cannot_be_says_why_in_one_line() {
    let database = TestDatabase::new().await;
    let url = database.url().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin-listen"] {
        let other = if flag == "--listen" {
            "--admin-listen"
        } else {
            "--listen"
        };
        let program = Program::new(&["server", other, "127.0.0.1:0", "--database-url", &url]);
        let ended = program.flag(flag, &address).run().await;
        assert_one_clear_line(&ended, &["cannot listen on", &address, "in use"]);
    }

    let program = Program::loopback().flag("--data-dir", "/dev/null/data");
    assert_one_clear_line(&program.run().await, &["/dev/null"]);

    let nobody = "postgresql://nexus:open-sesame@127.0.0.1:1/nexus";
    let ended = Program::server_on(nobody).run().await;
    assert_one_clear_line(&ended, &["cannot connect to the database", "refused"]);
    assert!(!format!("{ended:?}").contains("open-sesame"));

    for bad in [
        "postgresql://nexus:open-sesame@host:port/nexus",
        "mysql://nexus:open-sesame@host/",
        "open-sesame",
    ] {
        let ended = Program::server_on(bad).run().await;
        assert_one_clear_line(&ended, &["the database URL is not accepted"]);
        assert!(!format!("{ended:?}").contains("open-sesame"), "{ended:?}");
    }

    let missing = server::url("no_such_database").await;
    let ended = Program::server_on(&missing).run().await;
    assert_one_clear_line(&ended, &["no_such_database", "does not exist"]);
    database.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_used_is_refused_in_one_line() {
    let newer = TestDatabase::new().await;
    let client = newer.client().await;
    let insert = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')";
    client.batch_execute(insert).await.unwrap();
    let ended = Program::server_on(&newer.url().await).run().await;
    assert_one_clear_line(&ended, &["newer version of nexus", "99990101000000"]);
    newer.assert_books_balance().await;

    let read_only = TestDatabase::new().await;
    let set = |value| {
        format!(
            "ALTER DATABASE {} SET default_transaction_read_only = {value}",
            read_only.name()
        )
    };
    let client = read_only.client().await;
    client.batch_execute(&set("on")).await.unwrap();
    let ended = Program::server_on(&read_only.url().await).run().await;
    assert_one_clear_line(&ended, &["the database does not allow writes"]);
    client.batch_execute(&set("off")).await.unwrap();
    read_only.assert_books_balance().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_checked_and_never_shown() {
    let folder = DataFolder::new().await;
    let server = embedded::start(folder.options()).await.unwrap();
    let url = server.url();
    let database = session(&url).await;
    database.batch_execute("CREATE ROLE guarded LOGIN PASSWORD 'open-sesame'; GRANT ALL ON DATABASE nexus TO guarded; GRANT nexus TO guarded").await.unwrap();
    let rules = folder.cluster().join("pg_hba.conf");
    let before = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("local all guarded scram-sha-256\n{before}")).unwrap();
    database
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .unwrap();
    let with = |password: &str| url.replace("nexus@", &format!("guarded:{password}@"));
    nexus_tests::eventually("the rules hold", async || {
        tokio_postgres::connect(&with("wrong"), tokio_postgres::NoTls)
            .await
            .is_err()
    })
    .await;

    let ended = Program::server_on(&with("a-wrong-one")).run().await;
    assert_one_clear_line(&ended, &["password authentication failed"]);
    assert!(!format!("{ended:?}").contains("a-wrong-one"), "{ended:?}");

    let right = Program::server_on(&with("open-sesame")).env("NEXUS_LOG", "debug");
    let mut process = right.start().await;
    assert_eq!(
        process
            .post("/v1/projects", &json!({ "name": "web" }))
            .await
            .status,
        201
    );
    let ended = process.terminate().await;
    assert!(!format!("{ended:?}").contains("open-sesame"), "{ended:?}");
    assert_balanced(&url).await;
    server.stop().await.unwrap();
}
