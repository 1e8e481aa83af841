//! The one PostgreSQL of all suites: started by whoever comes first, adopted by the others, and left
//! running for the next run. It keeps what it confirms across the death of its clients, not across a
//! power cut: fsync is off.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use db_model::connect::ConnectOptions;
use db_model::embedded::{self, Embedded, EmbeddedError, EmbeddedOptions};
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
    ConnectOptions::parse(&url("nexus").await).unwrap()
}

/// The URL of one of the server's databases.
pub async fn url(database: &str) -> String {
    let url = SERVER.get_or_init(start).await.url();
    let (server, _) = url
        .rsplit_once('/')
        .expect("the URL ends with the database's name");
    format!("{server}/{database}")
}

/// The programs with which another server can be started, and the user and group it has to run as.
pub async fn programs() -> (PathBuf, u32, u32) {
    programs_of(SERVER.get_or_init(start).await)
}

/// The programs of a server, and the user and group it runs as.
pub fn programs_of(server: &Embedded) -> (PathBuf, u32, u32) {
    let options = std::fs::read_to_string(server.cluster_dir().join("postmaster.opts")).unwrap();
    let postgres = PathBuf::from(options.split(' ').next().unwrap());
    let owner = std::fs::metadata(server.cluster_dir()).unwrap();
    let folder = postgres.parent().unwrap().to_owned();
    (folder, owner.uid(), owner.gid())
}

/// A server of one's own that keeps what it confirms, as in production. Stop it before its folder goes.
///
/// # Errors
/// When it does not come up.
pub async fn durable(data_dir: &Path, max_connections: u32) -> Result<Embedded, EmbeddedError> {
    let options = EmbeddedOptions {
        data_dir: data_dir.to_owned(),
        durable: true,
        max_connections,
        bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
    };
    embedded::start(options).await
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
