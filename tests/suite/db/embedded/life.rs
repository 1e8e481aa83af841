//! One server's life: who starts, shares and stops it, and how it comes back after each kind of death.

use super::*;
use db_model::embedded::EmbeddedError;

#[tokio::test]
async fn the_first_start_makes_a_private_durable_database() {
    let folder = Folder::new();
    assert!(embedded::join(folder.options()).await.unwrap().is_none());
    assert!(!folder.data_dir().exists(), "a join makes nothing");

    let options = EmbeddedOptions {
        durable: true,
        max_connections: 37,
        ..folder.options()
    };
    let embedded = embedded::start(options).await.unwrap();
    assert!(!embedded.adopted());
    assert_eq!(
        embedded.data_dir(),
        folder.data_dir().canonicalize().unwrap()
    );
    assert!((15..=18).contains(&embedded.major()));
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", ""),
        ("max_connections", "37"),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
    ] {
        let sql = format!(
            "SELECT setting FROM pg_settings WHERE name = '{setting}' UNION ALL \
            SELECT datcollate FROM pg_database WHERE datname = 'nexus' AND '{setting}' = 'lc_collate' LIMIT 1"
        );
        assert_eq!(ask(&embedded, &sql).await, value, "{setting}");
    }
    assert!(folder.server_lock_is_held());
    let server = folder.server().unwrap();
    assert_ne!(uid_of(server), 0);
    let pid = Pid::from_raw(i32::try_from(server).unwrap());
    assert_ne!(
        rustix::process::getpgid(pid),
        rustix::process::getpgid(None),
        "Ctrl-C would reach the server"
    );
    for private in [folder.home(), folder.home().join("run"), folder.cluster()] {
        assert_eq!(
            private.metadata().unwrap().mode() & 0o777,
            0o700,
            "{private:?}"
        );
    }

    let psql = format!(
        "{} -Atc 'SELECT current_user, current_database()'",
        embedded.psql()
    );
    let output = Command::new("sh")
        .arg("-c")
        .arg(psql)
        .env("PGPORT", "1")
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "nexus|nexus",
        "{output:?}"
    );

    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
    assert_eq!(folder.server(), None);
    assert!(!folder.server_lock_is_held());
    assert!(embedded::join(folder.options()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_for_tests_does_not_wait_for_the_disk_and_keeps_its_data() {
    let folder = Folder::seeded().await;
    let embedded = folder.start().await;
    assert_eq!(ask(&embedded, "SHOW fsync").await, "off");
    assert_eq!(ask(&embedded, "SHOW synchronous_commit").await, "on");
    connect(&embedded)
        .await
        .batch_execute("CREATE TABLE kept ()")
        .await
        .unwrap();
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
    let embedded = folder.start().await;
    assert_eq!(
        ask(&embedded, "SELECT 'kept'::regclass::text").await,
        "kept"
    );
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
}

#[tokio::test]
async fn a_durable_start_does_not_trust_a_server_without_fsync() {
    let folder = Folder::seeded().await;
    let first = folder.start().await;
    let durable = EmbeddedOptions {
        durable: true,
        ..folder.options()
    };
    let refused = embedded::start(durable.clone()).await.unwrap_err();
    assert!(
        matches!(refused, EmbeddedError::NotDurable { .. }),
        "{refused}"
    );
    // Nobody's any more, but running.
    drop(first);
    let embedded = embedded::start(durable).await.unwrap();
    assert!(!embedded.adopted());
    assert_eq!(ask(&embedded, "SHOW fsync").await, "on");
    let second = folder.start().await;
    assert_eq!(embedded.stop().await.unwrap(), Stopped::LeftToOthers);
    assert_eq!(second.stop().await.unwrap(), Stopped::Server);
}

#[tokio::test]
async fn many_starts_at_once_make_one_server() {
    let folder = Folder::new();
    let starts = (0..5).map(|_| tokio::spawn(embedded::start(folder.options())));
    let mut handles = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        handles.push(start.await.unwrap().unwrap());
    }
    assert_eq!(handles.iter().filter(|handle| !handle.adopted()).count(), 1);
    let stops = handles
        .into_iter()
        .map(|handle| tokio::spawn(handle.stop()));
    let mut stopped = Vec::new();
    for stop in stops.collect::<Vec<_>>() {
        stopped.push(stop.await.unwrap().unwrap());
    }
    // All leave at once, and still exactly one is the last.
    assert_eq!(
        stopped
            .iter()
            .filter(|stopped| **stopped == Stopped::Server)
            .count(),
        1,
        "{stopped:?}"
    );
    assert_eq!(folder.server(), None);
}

#[tokio::test]
async fn a_second_process_joins_and_the_last_one_stops_the_server() {
    let folder = Folder::seeded().await;
    let mut other = Service::start(&folder, None, None);
    assert_eq!(other.report(), "adopted false");
    let server = folder.server();
    let environment = std::fs::read(format!("/proc/{}/environ", server.unwrap())).unwrap();
    let environment: Vec<_> = environment.split(|byte| *byte == 0).collect();
    assert!(environment.contains(&b"LC_ALL=C".as_slice()));
    assert!(
        !environment.contains(&b"PGPORT=1".as_slice()),
        "the service's environment reached the server"
    );
    let embedded = embedded::join(folder.options()).await.unwrap().unwrap();
    assert!(embedded.adopted());
    assert_eq!(folder.server(), server);
    assert_eq!(other.stop(), "LeftToOthers");
    other.child.wait().unwrap();
    assert_eq!(ask(&embedded, "SELECT 'alive'").await, "alive");
    assert_eq!(folder.server(), server);
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
    assert_eq!(folder.server(), None);
}

#[tokio::test]
async fn the_server_outlives_a_killed_service_and_is_adopted() {
    let folder = Folder::seeded().await;
    let mut other = Service::start(&folder, None, None);
    other.report();
    let server = folder.server().unwrap();
    other.kill();
    let embedded = folder.start().await;
    assert!(embedded.adopted());
    assert_eq!(folder.server(), Some(server));
    // The dead one is no user any more.
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
}

#[tokio::test]
async fn a_start_waits_for_a_server_that_is_stopping() {
    let folder = Folder::seeded().await;
    let first = folder.start().await;
    let client = connect(&first).await;
    let server = folder.server().unwrap();
    // A smart shutdown waits for this client.
    signal(server, Signal::TERM);
    let pid_file = folder.cluster().join("postmaster.pid");
    until("it is stopping", || {
        std::fs::read_to_string(&pid_file)
            .unwrap()
            .contains("stopping")
    })
    .await;
    let start = tokio::spawn(embedded::start(folder.options()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!start.is_finished());
    drop(client);
    let second = start.await.unwrap().unwrap();
    assert!(!second.adopted());
    assert_ne!(folder.server(), Some(server));
    assert_eq!(first.stop().await.unwrap(), Stopped::LeftToOthers);
    assert_eq!(second.stop().await.unwrap(), Stopped::Server);
}

#[tokio::test]
async fn a_killed_server_is_brought_back_once_and_a_stopped_one_is_not() {
    let folder = Folder::seeded().await;
    let (first, second) = (folder.start().await, folder.start().await);
    let watches = [tokio::spawn(first.watch()), tokio::spawn(second.watch())];
    connect(&first)
        .await
        .batch_execute("CREATE TABLE kept ()")
        .await
        .unwrap();
    let server = folder.server().unwrap();
    signal(server, Signal::KILL);
    until("another server runs", || {
        folder.server().is_some_and(|pid| pid != server)
    })
    .await;
    let successor = folder.server();
    // Both have had it brought back, by one start.
    first.revive().await.unwrap();
    second.revive().await.unwrap();
    assert_eq!(folder.server(), successor);
    assert_eq!(ask(&second, "SELECT 'kept'::regclass::text").await, "kept");

    assert_eq!(first.stop().await.unwrap(), Stopped::LeftToOthers);
    assert_eq!(second.stop().await.unwrap(), Stopped::Server);
    for watch in watches {
        watch.await.unwrap();
    }
    assert_eq!(folder.server(), None);
}

#[tokio::test]
async fn a_new_server_waits_for_the_backends_of_the_killed_one() {
    let folder = Folder::seeded().await;
    let embedded = folder.start().await;
    let client = connect(&embedded).await;
    let backend: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let backend = u32::try_from(backend).unwrap();
    signal(backend, Signal::STOP);
    signal(folder.server().unwrap(), Signal::KILL);
    until("the server is dead", || folder.server().is_none()).await;
    assert!(
        folder.server_lock_is_held(),
        "the lock ends with the last backend"
    );
    std::fs::remove_file(folder.cluster().join("postmaster.pid")).unwrap();
    let embedded = Arc::new(embedded);
    let revive = tokio::spawn({
        let embedded = Arc::clone(&embedded);
        async move { embedded.revive().await }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(!revive.is_finished());
    assert_eq!(folder.server(), None);
    signal(backend, Signal::CONT);
    revive.await.unwrap().unwrap();
    // Gone, or a zombie, if nobody in this container takes the exit status of orphans.
    assert_eq!(
        std::fs::read(format!("/proc/{backend}/cmdline")).unwrap_or_default(),
        b""
    );
    assert_eq!(
        Arc::into_inner(embedded).unwrap().stop().await.unwrap(),
        Stopped::Server
    );
}

#[tokio::test]
async fn a_busy_backend_of_a_killed_server_is_told_to_end() {
    let folder = Folder::seeded().await;
    let embedded = folder.start().await;
    let client = connect(&embedded).await;
    // It never waits, so it never notices.
    let busy =
        tokio::spawn(async move { client.batch_execute("DO 'BEGIN LOOP END LOOP; END'").await });
    let observer = connect(&embedded).await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'";
    while observer.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    signal(folder.server().unwrap(), Signal::KILL);
    embedded.revive().await.unwrap();
    assert!(busy.await.unwrap().is_err());
    assert_eq!(ask(&embedded, "SELECT 'alive'").await, "alive");
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Server);
}

#[tokio::test]
async fn a_stop_after_the_server_died_says_so() {
    let folder = Folder::seeded().await;
    let embedded = folder.start().await;
    signal(folder.server().unwrap(), Signal::KILL);
    until("the server is dead", || folder.server().is_none()).await;
    assert_eq!(embedded.stop().await.unwrap(), Stopped::AlreadyGone);
}

#[tokio::test]
async fn a_stale_pid_file_is_removed_and_its_stranger_left_alone() {
    // Of the server's user: PostgreSQL itself already sees through a process that it may not signal.
    let user = Folder::seeded().await.home().metadata().unwrap().uid();
    let spawn = |program: &mut Command| {
        if is_root() {
            program.uid(user);
        }
        program.spawn().unwrap()
    };
    let mut dead = spawn(&mut Command::new("true"));
    let mut zombie = spawn(&mut Command::new("true"));
    let mut stranger = spawn(Command::new("sleep").arg("100"));
    dead.wait().unwrap();
    let state = |pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    until("it is a zombie", || state(zombie.id()).contains(") Z ")).await;

    for (what, pid) in [
        ("dead", dead.id()),
        ("a zombie", zombie.id()),
        ("a stranger", stranger.id()),
    ] {
        let folder = Folder::seeded().await;
        let run = folder.home().join("run");
        let text = format!(
            "{pid}\n{}\n1700000000\n5432\n{}\n\n  1 1\nready   \n",
            folder.cluster().display(),
            run.display()
        );
        std::fs::write(folder.cluster().join("postmaster.pid"), &text).unwrap();
        std::fs::write(run.join(".s.PGSQL.5432.lock"), &text).unwrap();
        let embedded = embedded::start(folder.options())
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!embedded.adopted(), "{what}");
        assert_eq!(embedded.stop().await.unwrap(), Stopped::Server, "{what}");
    }
    assert!(
        stranger.try_wait().unwrap().is_none(),
        "a stranger was ended"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    zombie.wait().unwrap();
}

#[tokio::test]
async fn a_start_completes_what_was_killed_before_the_database_was_made() {
    let folder = Folder::seeded().await;
    let embedded = folder.start().await;
    let postgres = embedded.url().replace(":5432/nexus", ":5432/postgres");
    let (client, connection) = tokio_postgres::connect(&postgres, NoTls).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    client
        .batch_execute("DROP DATABASE nexus WITH (FORCE)")
        .await
        .unwrap();
    let second = folder.start().await;
    assert!(second.adopted());
    assert_eq!(
        ask(&second, "SELECT current_database()::text").await,
        "nexus"
    );
    drop(embedded);
    assert_eq!(second.stop().await.unwrap(), Stopped::Server);
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_adopted() {
    let folder = Folder::seeded().await;
    let options = EmbeddedOptions {
        max_connections: 5,
        ..folder.options()
    };
    let first = embedded::start(options.clone()).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(connect(&first).await);
    }
    assert!(tokio_postgres::connect(&first.url(), NoTls).await.is_err());
    let second = embedded::start(options).await.unwrap();
    assert!(second.adopted());
    assert_eq!(first.stop().await.unwrap(), Stopped::LeftToOthers);
    assert_eq!(second.stop().await.unwrap(), Stopped::Server);
}
