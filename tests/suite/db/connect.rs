//! Connecting: passwords, TLS, and which server is accepted.

use super::private::PrivateServer;
use super::{fly, options};
use db_model::batch::flight::{Flight, FlightError};
use db_model::connect::{self, ConnectError, ConnectOptions};
use db_model::pool::PoolOptions;
use db_model::{Database, migrate};
use nexus_tests::TestDatabase;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

async fn connects(url: &str) -> Result<(), ConnectError> {
    let mut flight = Flight::connect(&options(url)).await?;
    fly(&mut flight, &["select 1"]).await.unwrap();
    Ok(())
}

fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

#[tokio::test]
async fn passwords_are_proven_by_scram_and_md5() {
    let server = PrivateServer::start(
        "host all scram all scram-sha-256\nhost all md5 all md5\nhost all plain all password",
        "",
    )
    .await;
    server
        .sql("create role scram login password 's%cret word'")
        .await;
    server
        .sql("set password_encryption = md5; create role md5 login password 's%cret word'")
        .await;
    server
        .sql("create role plain login password 's%cret word'")
        .await;
    for user in ["scram", "md5", "plain"] {
        let url = |password: &str| {
            format!(
                "postgres://{user}:{password}@127.0.0.1:{}/postgres",
                server.port
            )
        };
        connects(&url("s%25cret%20word")).await.unwrap();
        let error = connects(&url("wrong")).await.unwrap_err();
        assert_eq!(
            (error.sqlstate(), error.is_transient()),
            (Some("28P01"), false),
            "{user}"
        );
        let error = connects(&format!(
            "postgres://{user}@127.0.0.1:{}/postgres",
            server.port
        ))
        .await
        .unwrap_err();
        assert!(
            reason(&error).contains("password missing") && !error.is_transient(),
            "{}",
            reason(&error)
        );
    }
}

#[tokio::test]
async fn a_password_is_shown_nowhere() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let database = TestDatabase::new().await;
    let socket = database.options();
    let user = socket.user().unwrap();
    for url in [
        format!("postgres://{user}:s3cret@127.0.0.1:{port}/nexus"),
        format!("postgres://{user}:s3cret@127.0.0.1:{port}/nexus?sslmode=require"),
        format!("host=127.0.0.1 port={port} user={user} password=s3cret"),
        "postgres://ann:s3cret@nowhere.invalid/nexus".to_owned(),
    ] {
        let options = options(&url);
        let pool = PoolOptions {
            write_size: 1,
            read_size: 1,
            wait: Duration::from_millis(300),
            audit: false,
        };
        let pools = Database::new(options.clone(), &pool, uuid::Uuid::now_v7());
        let pooled = pools.writes.get().await.unwrap_err();
        let migrate = migrate::run(&options, 1).await.unwrap_err();
        let connect = connect::client(&options).await.unwrap_err();
        for text in [
            format!("{options} {options:?} {pools:?}"),
            format!("{connect:?} {}", reason(&connect)),
            format!("{pooled:?} {}", reason(&pooled)),
            format!("{migrate:?} {}", reason(&migrate)),
        ] {
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
    // What is no connection string is not shown either, for the password is somewhere in it.
    for url in [
        "postgres://ann:s3cret@h:port/x",
        "postgres://ann:more@s3cret@h/x",
        "postgres://ann:more/s3cret@h/x",
        "postgres://ann:more?s3cret@h/x",
        "postgres://ann:more#s3cret@h/x",
        "postgres://ann:%s3cret@h/x",
        "postgres://ann:s3cret@h/x?sslmode=never",
        "host=h password='s3cret",
        "host=h password=s3cret sslmode=never",
        "host=h password=more s3cret",
        "ann:s3cret@h",
    ] {
        match ConnectOptions::parse(url) {
            Ok(options) => assert!(
                !format!("{options} {options:?}").contains("s3cret"),
                "{url}"
            ),
            Err(error) => {
                let text = format!("{error:?} {}", reason(&error));
                assert!(!text.contains("s3cret"), "{url}: {text}");
            }
        }
    }
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_session_has_its_settings() {
    let database = TestDatabase::new().await;
    let options = database.options().application_name("nexus op 7");
    let mut flight = Flight::connect(&options).await.unwrap();
    let names = [
        ("statement_timeout", "30s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("client_connection_check_interval", "1s"),
        ("timezone", "UTC"),
        ("application_name", "nexus op 7"),
        ("default_transaction_read_only", "off"),
    ];
    let client = connect::client(&options).await.unwrap();
    for (name, value) in names {
        let sql = format!("show {name}");
        let answers = fly(&mut flight, &[&sql]).await.unwrap();
        assert_eq!(
            answers[0].rows[0].value(0),
            Some(value.as_bytes()),
            "{name}"
        );
        let row = client.query_one(&sql, &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), value);
    }
    database.assert_books_balance().await;
}

#[tokio::test]
async fn a_server_that_is_read_only_is_passed_over() {
    let reader = PrivateServer::start(
        "host all all all trust",
        "default_transaction_read_only = on",
    )
    .await;
    let writer = PrivateServer::start("host all all all trust", "").await;
    let one = format!("postgres://postgres@127.0.0.1:{}/postgres", reader.port);
    for url in [one.clone(), reader.url()] {
        let error = connects(&url).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::ReadOnly),
            "{}",
            reason(&error)
        );
        assert!(error.is_transient());
        assert!(matches!(
            connect::client(&options(&url)).await,
            Err(ConnectError::ReadOnly)
        ));
    }
    connects(&format!("{one}?target_session_attrs=any"))
        .await
        .unwrap();
    connects(&format!("{one}?target_session_attrs=read-only"))
        .await
        .unwrap();
    let list = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres",
        reader.port, writer.port
    );
    let mut flight = Flight::connect(&options(&list)).await.unwrap();
    fly(&mut flight, &["create table here ()"]).await.unwrap();
    assert_eq!(writer.sql("select count(*) from here").await, "0");
    let refused = Flight::connect(&options(&format!("{one}?target_session_attrs=any"))).await;
    let refused = fly(&mut refused.unwrap(), &["create table there ()"]).await;
    assert!(
        matches!(refused, Err(FlightError::Refused { index: 0, error }) if error.sqlstate == "25006")
    );
}

#[tokio::test]
async fn a_stream_in_pieces_is_taken_back_whole() {
    let database = TestDatabase::new().await;
    let proxy = database.proxy().await;
    for piece in [1, 7, 100] {
        proxy.pieces(piece);
        let mut flight = Flight::connect(&options(proxy.url())).await.unwrap();
        let answers = fly(&mut flight, &["select 'a'", "select 'b'"])
            .await
            .unwrap();
        assert_eq!(answers[1].rows[0].value(0), Some(&b"b"[..]));
    }
    database.assert_books_balance().await;
}

/// Makes an authority and a certificate for `localhost` in a folder, and gives the authority's.
fn certify(folder: &Path) -> PathBuf {
    let script = "cd $0 && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem \
        && openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr \
        && printf 'subjectAltName=DNS:localhost' > names \
        && openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt \
        && chmod 600 server.key";
    let made = Command::new("sh")
        .args(["-c", script])
        .arg(folder)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    folder.join("ca.pem")
}

/// Starts the server again with TLS, and gives its authority's certificate.
async fn encrypt(server: &mut PrivateServer) -> PathBuf {
    let ca = certify(server.folder());
    let key = server.folder().join("server.key");
    server.give(&key);
    let folder = server.folder().display();
    server.configure(&format!(
        "ssl = on\nssl_cert_file = '{folder}/server.crt'\nssl_key_file = '{folder}/server.key'\n"
    ));
    server.stop();
    server.run().await;
    ca
}

#[tokio::test]
async fn tls_is_what_sslmode_says() {
    let mut server = PrivateServer::start("host all all all scram-sha-256", "").await;
    server.sql("create role ann login password 'secret'").await;
    let url = |host: &str, more: &str| {
        format!(
            "postgres://ann:secret@{host}:{}/postgres?{more}",
            server.port
        )
    };
    let error = connects(&url("localhost", "sslmode=require"))
        .await
        .unwrap_err();
    assert!(
        reason(&error).contains("does not support TLS"),
        "{}",
        reason(&error)
    );
    connects(&url("localhost", "sslmode=prefer")).await.unwrap();

    let ca = encrypt(&mut server).await;
    let elsewhere = tempfile::TempDir::new().unwrap();
    let other_ca = certify(elsewhere.path());

    let url = |host: &str, more: &str| {
        format!(
            "postgres://ann:secret@{host}:{}/postgres?{more}",
            server.port
        )
    };
    let with = |mode: &str, ca: &PathBuf| format!("sslmode={mode}&sslrootcert={}", ca.display());
    for mode in [
        "sslmode=disable",
        "sslmode=prefer",
        "sslmode=require",
        "sslmode=require&channel_binding=require",
    ] {
        let mut flight = Flight::connect(&options(&url("127.0.0.1", mode)))
            .await
            .unwrap();
        let ssl = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        let answers = fly(&mut flight, &[ssl]).await.unwrap();
        let encrypted = u8::from(mode != "sslmode=disable");
        assert_eq!(
            answers[0].rows[0].value(0),
            Some(&[encrypted][..]),
            "{mode}"
        );
    }
    let error = connects(&url("127.0.0.1", "sslmode=disable&channel_binding=require"))
        .await
        .unwrap_err();
    assert!(
        reason(&error).contains("channel binding"),
        "{}",
        reason(&error)
    );
    connects(&url("localhost", &with("verify-full", &ca)))
        .await
        .unwrap();
    connects(&url("127.0.0.1", &with("verify-ca", &ca)))
        .await
        .unwrap();
    connects(&url("127.0.0.1", &with("require", &ca)))
        .await
        .unwrap();
    let wrong_name = connects(&url("127.0.0.1", &with("verify-full", &ca)))
        .await
        .unwrap_err();
    assert!(
        reason(&wrong_name).contains("not valid for"),
        "{}",
        reason(&wrong_name)
    );
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let error = connects(&url("localhost", &with(mode, &other_ca)))
            .await
            .unwrap_err();
        assert!(
            reason(&error).contains("UnknownIssuer") || reason(&error).contains("BadSignature"),
            "{}",
            reason(&error)
        );
    }
    let error = Flight::connect(&options(&url(
        "localhost",
        &with("require", &"/nowhere".into()),
    )))
    .await
    .unwrap_err();
    assert!(matches!(error, ConnectError::RootCertificate { .. }));
    connect::client(&options(&url("localhost", &with("verify-full", &ca))))
        .await
        .unwrap();
}

#[tokio::test]
async fn many_large_batches_fly_over_tls() {
    let mut server = PrivateServer::start("host all all all trust", "").await;
    encrypt(&mut server).await;
    let url = format!(
        "postgres://postgres@127.0.0.1:{}/postgres?sslmode=require",
        server.port
    );
    let mut flight = Flight::connect(&options(&url)).await.unwrap();
    let text = "x".repeat(1000);
    let batch = vec![super::with_text("select $1::text || $1::text", &text); 10_000];
    for _ in 0..2 {
        assert_eq!(flight.fly(&batch, super::SOON).await.unwrap().len(), 10_000);
    }
}
