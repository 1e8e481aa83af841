//! Which PostgreSQL is taken, and what is said and left when its programs fail. The programs here are mostly shell scripts.

use super::*;
use db_model::embedded::{EmbeddedError, Machine};

/// A machine on which nothing is installed but what the test puts into `usr` and `path`.
fn bare(folder: &Folder) -> Machine {
    Machine {
        server_roots: vec![folder.path().join("usr")],
        path: folder.path().join("path").into(),
        ..Machine::this()
    }
}

fn script(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Written by another process: a file that this one has open for writing while another test forks could not be run.
    let mut shell = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell
        .stdin
        .take()
        .unwrap()
        .write_all(format!("#!/bin/sh\n{text}\n").as_bytes())
        .unwrap();
    assert!(shell.wait().unwrap().success());
}

/// Programs that tell a version and otherwise fail, naming themselves.
fn fake(bin: &Path, version: &str) {
    let fail = format!("echo this is {version} of {} >&2; exit 3", bin.display());
    script(&bin.join("initdb"), &fail);
    script(
        &bin.join("postgres"),
        &format!(
            "[ \"$1\" = --version ] && echo 'postgres (PostgreSQL) {version}' && exit 0\n{fail}"
        ),
    );
}

/// The folder of the real programs.
async fn real_bin_dir() -> PathBuf {
    let folder = Folder::seeded().await;
    let embedded = folder.start().await;
    let psql = embedded.psql();
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
    Path::new(psql.split(' ').next().unwrap())
        .parent()
        .unwrap()
        .to_owned()
}

async fn fails(options: &EmbeddedOptions, machine: &Machine) -> String {
    embedded::start_on(options.clone(), machine.clone())
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn without_any_programs_the_error_names_the_ways_out() {
    let folder = Folder::new();
    let machine = bare(&folder);
    let error = fails(&folder.options(), &machine).await;
    for way in [
        "PostgreSQL 15 to 18",
        "apt install postgresql",
        "PG_BIN_DIR",
        "--database-url",
        "DATABASE_URL",
    ] {
        assert!(error.contains(way), "{error}");
    }
    assert!(!error.contains('\n'));
    fake(&folder.path().join("usr/14/bin"), "14.9");
    let error = fails(&folder.options(), &machine).await;
    assert!(error.contains("it is version 14"), "{error}");
    let options = EmbeddedOptions {
        bin_dir: Some(folder.path().join("nowhere")),
        ..folder.options()
    };
    let error = fails(&options, &machine).await;
    assert!(
        error.contains("PG_BIN_DIR") && error.contains("nowhere") && error.contains("No such file"),
        "{error}"
    );
}

#[tokio::test]
async fn the_newest_installed_is_taken_and_pg_bin_dir_before_it() {
    let folder = Folder::new();
    let machine = bare(&folder);
    let usr = folder.path().join("usr");
    // By a link in the search path, whose neighbours are elsewhere.
    let linked = folder.path().join("opt/linked");
    fake(&linked, "15.1");
    std::fs::create_dir_all(folder.path().join("path")).unwrap();
    std::os::unix::fs::symlink(linked.join("postgres"), folder.path().join("path/postgres"))
        .unwrap();
    let error = fails(&folder.options(), &machine).await;
    assert!(error.contains("this is 15.1 of"), "{error}");
    assert!(error.starts_with("initdb of"), "{error}");

    let configured = folder.path().join("opt/configured");
    fake(&configured, "16.2");
    script(
        &folder.path().join("path/pg_config"),
        &format!("[ \"$1\" = --bindir ] && echo {}", configured.display()),
    );
    let error = fails(&folder.options(), &machine).await;
    assert!(error.contains("this is 16.2 of"), "{error}");

    for version in ["9", "16", "17", "19"] {
        fake(&usr.join(version).join("bin"), &format!("{version}.3"));
    }
    let error = fails(&folder.options(), &machine).await;
    assert!(error.contains("this is 17.3 of"), "{error}");

    let options = EmbeddedOptions {
        bin_dir: Some(linked),
        ..folder.options()
    };
    let error = fails(&options, &machine).await;
    assert!(error.contains("this is 15.1 of"), "{error}");
}

#[tokio::test]
async fn existing_data_gets_its_own_major_or_none() {
    let folder = Folder::seeded().await;
    let machine = bare(&folder);
    let version = |major: &str| {
        std::fs::write(folder.cluster().join("PG_VERSION"), format!("{major}\n")).unwrap()
    };
    for major in ["16", "18"] {
        fake(
            &folder.path().join("usr").join(major).join("bin"),
            &format!("{major}.1"),
        );
    }
    version("16");
    let error = embedded::start_on(folder.options(), machine.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, EmbeddedError::DidNotStart { tail, .. } if tail.contains("this is 16.1 of")),
        "{error}"
    );

    version("17");
    let error = fails(&folder.options(), &machine).await;
    assert!(
        error.contains("needs PostgreSQL 17")
            && error.contains("found 16 in")
            && error.contains("18 in"),
        "{error}"
    );
    let options = EmbeddedOptions {
        bin_dir: Some(folder.path().join("usr/18/bin")),
        ..folder.options()
    };
    let error = fails(&options, &machine).await;
    assert!(
        error.contains("needs PostgreSQL 17, but found 18 in"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_does_not_start_is_explained_by_its_log() {
    let folder = Folder::seeded().await;
    std::fs::write(
        folder.cluster().join("postgresql.conf"),
        "shared_buffers = a_lot\n",
    )
    .unwrap();
    let error = embedded::start(folder.options())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("shared_buffers") && error.contains("server.log"),
        "{error}"
    );
    std::fs::write(folder.cluster().join("postgresql.conf"), "").unwrap();
    assert_eq!(folder.start().await.stop().await.unwrap(), Stopped::Server);
}

#[tokio::test]
async fn a_failed_or_killed_initdb_disturbs_no_later_start() {
    let real = real_bin_dir().await;
    let folder = Folder::new();
    let wrapped = folder.path().join("wrapped");
    script(
        &wrapped.join("postgres"),
        &format!("exec {}/postgres \"$@\"", real.display()),
    );
    // Half a cluster, then death.
    let half = "for last; do :; done; mkdir \"$last\"; echo 15 > \"$last/PG_VERSION\"; kill -9 $$";
    script(&wrapped.join("initdb"), half);
    let options = EmbeddedOptions {
        bin_dir: Some(wrapped.clone()),
        ..folder.options()
    };
    let error = embedded::start(options).await.unwrap_err();
    assert!(
        matches!(&error, EmbeddedError::InitDb { status, .. } if !status.success()),
        "{error}"
    );
    assert!(!folder.home().join("data.init").exists());

    // The service is killed while initdb works, which goes on alone.
    let (begun, go) = (folder.path().join("begun"), folder.path().join("go"));
    let open = Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let slow = format!(
        "for last; do :; done; mkdir \"$last\"; touch {}; while [ ! -e {} ]; do sleep 0.02; done; exec {}/initdb \"$@\"",
        begun.display(),
        go.display(),
        real.display()
    );
    script(&wrapped.join("initdb"), &slow);
    let mut service = Service::start(&folder, None, Some(&wrapped));
    until("initdb has begun", || begun.exists()).await;
    service.kill();
    let start = tokio::spawn(embedded::start(folder.options()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!start.is_finished());
    let init = folder.home().join("data.init");
    let untouched = init.read_dir().unwrap().next().is_none() && !folder.cluster().exists();
    assert!(untouched, "a second initdb worked beside the first");
    std::fs::write(&go, "").unwrap();
    let embedded = start.await.unwrap().unwrap();
    assert!(!embedded.adopted());
    assert_eq!(ask(&embedded, "SELECT 'alive'").await, "alive");
    assert!(!folder.home().join("data.init").exists());
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
}
