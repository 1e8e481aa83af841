//! The one PostgreSQL of all suites: started by whoever comes first, adopted by the others, and left
//! running for the next run. It keeps what it confirms across the death of its clients, not across a
//! power cut: fsync is off.

use std::path::PathBuf;

use db_model::connect::ConnectOptions;
use db_model::embedded::{self, Embedded, EmbeddedOptions};
use tokio::sync::OnceCell;

static SERVER: OnceCell<Embedded> = OnceCell::const_new();

/// Where the suites keep what outlives a run: `target/suites`.
pub fn folder() -> PathBuf {
    // The test binary is `target/<profile>/deps/suite-<hash>`; only Cargo's own tests know more.
    let binary = std::env::current_exe().unwrap();
    let target = binary
        .ancestors()
        .nth(3)
        .expect("a test binary lies below the target folder");
    target.join("suites")
}

/// How to reach the server's own database.
pub async fn options() -> ConnectOptions {
    let server = SERVER.get_or_init(start).await;
    ConnectOptions::parse(&server.url()).unwrap()
}

/// The URL of one of its databases.
pub async fn url(database: &str) -> String {
    let server = SERVER.get_or_init(start).await;
    let own = server.url();
    let (before, _) = own.rsplit_once('/').expect("the URL names a database");
    format!("{before}/{database}")
}

async fn start() -> Embedded {
    let options = EmbeddedOptions {
        data_dir: folder().join("postgres"),
        durable: false,
        max_connections: 400,
        bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
    };
    embedded::start(options).await.unwrap()
}
