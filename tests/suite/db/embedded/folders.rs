//! Where the data is and whose it is: as root, as an ordinary user, in places that do not suit PostgreSQL.

use super::*;
use db_model::embedded::Machine;

fn machine(folder: &Folder) -> Machine {
    Machine {
        fallback_root: folder.path().join("fallback"),
        ..Machine::this()
    }
}

/// Says that root's half of a rule is not run; true then.
fn skipped_as_an_ordinary_user(what: &str) -> bool {
    if !is_root() {
        eprintln!("skipped, since only root can try it: {what}");
    }
    !is_root()
}

#[tokio::test]
async fn an_ordinary_user_runs_the_server_and_root_joins_it_as_that_user() {
    if skipped_as_an_ordinary_user("a process of another user; the other tests ran as one") {
        return;
    }
    let folder = Folder::new();
    DirBuilder::new()
        .mode(0o700)
        .create(folder.data_dir())
        .unwrap();
    std::os::unix::fs::chown(folder.data_dir(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut other = Service::start(&folder, Some(NOBODY), None);
    assert_eq!(other.report(), "adopted false");
    assert_eq!(uid_of(folder.server().unwrap()), NOBODY);

    let embedded = folder.start().await;
    assert!(embedded.adopted());
    assert_eq!(other.stop(), "LeftToOthers");
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);

    // The data stays its user's when root starts the server, and afterwards that user still gets along.
    let embedded = folder.start().await;
    assert_eq!(uid_of(folder.server().unwrap()), NOBODY);
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
    let mut other = Service::start(&folder, Some(NOBODY), None);
    assert_eq!(other.report(), "adopted false");
    assert_eq!(other.stop(), "Server");
}

#[tokio::test]
async fn root_without_an_account_postgres_runs_the_server_as_nobody() {
    if skipped_as_an_ordinary_user("the choice of an account") {
        return;
    }
    let folder = Folder::new();
    let passwd = folder.path().join("passwd");
    let machine = Machine {
        passwd: passwd.clone(),
        ..Machine::this()
    };
    std::fs::write(&passwd, "root:x:0:0::/root:/bin/sh\n").unwrap();
    let error = embedded::start_on(folder.options(), machine.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("neither `postgres` nor `nobody`") && error.contains("--database-url"),
        "{error}"
    );

    std::fs::write(
        &passwd,
        "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    )
    .unwrap();
    let embedded = embedded::start_on(folder.options(), machine).await.unwrap();
    let server = folder.server().unwrap();
    assert_eq!(uid_of(server), NOBODY);
    let status = std::fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let groups = status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .unwrap();
    assert_eq!(groups.trim(), "", "the server kept groups of root");
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
}

#[tokio::test]
async fn a_home_closed_to_the_server_moves_the_data_elsewhere_for_good() {
    if skipped_as_an_ordinary_user("a folder that the server's user may not enter") {
        return;
    }
    let folder = Folder::new();
    let closed = folder.path().join("closed");
    DirBuilder::new().mode(0o700).create(&closed).unwrap();
    let options = EmbeddedOptions {
        data_dir: closed.join("nexus-data"),
        ..folder.options()
    };
    let machine = machine(&folder);

    let first = embedded::start_on(options.clone(), machine.clone())
        .await
        .unwrap();
    let cluster = first.cluster_dir().to_owned();
    assert!(cluster.starts_with(&machine.fallback_root), "{cluster:?}");
    assert_eq!(first.data_dir(), options.data_dir.canonicalize().unwrap());
    let home = cluster.parent().unwrap().metadata().unwrap();
    assert_eq!(home.mode() & 0o777, 0o700);
    assert_ne!(home.uid(), 0);
    // A second process finds it, and so does a later start, even when the data folder is open or has another name by then.
    let second = embedded::join_on(options.clone(), machine.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.stop().await.unwrap(), Stopped::LeftToOthers);
    assert_eq!(second.stop().await.unwrap(), Stopped::Server);
    std::fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();
    let moved = EmbeddedOptions {
        data_dir: closed.join("renamed"),
        ..options.clone()
    };
    std::fs::rename(&options.data_dir, &moved.data_dir).unwrap();
    let again = embedded::start_on(moved.clone(), machine.clone())
        .await
        .unwrap();
    assert_eq!(again.cluster_dir(), cluster);
    assert_eq!(again.stop().await.unwrap(), Stopped::Server);

    // Data that is gone is not silently replaced by none.
    std::fs::rename(&machine.fallback_root, folder.path().join("away")).unwrap();
    let error = embedded::start_on(moved, machine)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("bring it back"), "{error}");
}

#[tokio::test]
async fn data_in_a_folder_that_was_closed_later_is_not_replaced() {
    if skipped_as_an_ordinary_user("a folder that the server's user may not enter") {
        return;
    }
    let folder = Folder::seeded().await;
    std::fs::set_permissions(folder.data_dir(), Permissions::from_mode(0o700)).unwrap();
    let error = embedded::start_on(folder.options(), machine(&folder))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is not allowed to pass a folder above it"),
        "{error}"
    );
    assert!(!folder.path().join("fallback").exists());
}

#[tokio::test]
async fn a_long_path_moves_only_the_socket() {
    let folder = Folder::seeded().await;
    let long = folder.path().join("x".repeat(100));
    std::fs::rename(folder.data_dir(), &long).unwrap();
    std::os::unix::fs::symlink(&long, folder.data_dir()).unwrap();
    let machine = Machine {
        short_root: folder.path().join("short"),
        ..Machine::this()
    };
    DirBuilder::new()
        .mode(0o755)
        .create(&machine.short_root)
        .unwrap();
    let embedded = embedded::start_on(folder.options(), machine.clone())
        .await
        .unwrap();
    let entries: Vec<_> = std::fs::read_dir(&machine.short_root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [socket_dir] = entries.as_slice() else {
        panic!("{entries:?}")
    };
    assert_eq!(socket_dir.metadata().unwrap().mode() & 0o777, 0o700);
    assert!(
        embedded
            .cluster_dir()
            .starts_with(long.canonicalize().unwrap())
    );
    assert_eq!(ask(&embedded, "SELECT 'alive'").await, "alive");
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);

    // Where everybody can make folders, one that is open to others is not used.
    std::fs::set_permissions(socket_dir, Permissions::from_mode(0o755)).unwrap();
    let error = embedded::start_on(folder.options(), machine)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("nobody else may enter"), "{error}");
}

#[tokio::test]
async fn odd_characters_in_the_path_are_no_trouble() {
    let folder = Folder::seeded().await;
    let odd = folder.path().join("it's 100% ü@:?&");
    std::fs::rename(folder.data_dir(), &odd).unwrap();
    std::os::unix::fs::symlink(&odd, folder.data_dir()).unwrap();
    let embedded = folder.start().await;
    assert_eq!(ask(&embedded, "SELECT 'alive'").await, "alive");
    let psql = format!("{} -Atc 'SELECT 1'", embedded.psql());
    let output = Command::new("sh").arg("-c").arg(psql).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "1",
        "{output:?}"
    );
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let options = EmbeddedOptions {
        data_dir: folder.path().join("file/nexus-data"),
        ..folder.options()
    };
    let error = embedded::start(options).await.unwrap_err().to_string();
    assert!(
        error.contains("cannot create the data folder") && error.contains("file/nexus-data"),
        "{error}"
    );

    DirBuilder::new()
        .mode(0o755)
        .create(folder.data_dir())
        .unwrap();
    if is_root() {
        DirBuilder::new().mode(0o755).create(folder.home()).unwrap();
        std::fs::write(folder.home().join("precious"), "").unwrap();
        let error = embedded::start(folder.options())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("it belongs to root"), "{error}");
    } else {
        std::fs::set_permissions(folder.data_dir(), Permissions::from_mode(0o500)).unwrap();
        let error = embedded::start(folder.options())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("Permission denied"), "{error}");
    }
}

#[tokio::test]
async fn a_data_folder_of_something_else_is_not_touched() {
    let folder = Folder::seeded().await;
    std::fs::remove_file(folder.cluster().join("PG_VERSION")).unwrap();
    let error = embedded::start(folder.options())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("it has no PG_VERSION"), "{error}");
    assert!(folder.cluster().join("global").exists());
}
