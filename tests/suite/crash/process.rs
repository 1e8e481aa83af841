//! One process on a folder of its own, killed under load and started again.

use super::*;
use nexus_tests::folder::DataFolder;
use nexus_tests::history::{assert_balanced, session};
use nexus_tests::load::Load;
use nexus_tests::process::Program;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const ROUNDS: usize = 5;
const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_any_instant_loses_nothing_and_leaves_nothing_half_done() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let folder = DataFolder::new().await;
    let mut process = Program::server(&folder).start().await;
    let load = Load::start(seed, CLIENTS, vec![process.api()]);
    let server = folder.server().unwrap();
    let database = session(&process.database_url()).await;
    settled(&database).await;
    let mut interrupted_in_all = 0;
    for round in 1..=ROUNDS {
        load.goes_on(30).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        process.kill().await;
        assert_eq!(
            folder.server(),
            Some(server),
            "the database outlives the process"
        );
        let interrupted = unfinished(&database).await;
        interrupted_in_all += interrupted.len();

        process = Program::server(&folder).start().await;
        let ready = Instant::now();
        load.aim(vec![process.api()]);
        let took = ended(&database, &interrupted, ready).await;
        println!(
            "round {round}: {} sagas interrupted, ended {took:?} after ready",
            interrupted.len()
        );
        assert!(took < RECOVERY_MAX, "{took:?}");
    }
    load.goes_on(30).await;
    let history = load.stop().await;
    assert!(interrupted_in_all > 0, "no kill has interrupted anything");
    history
        .verify(&process.api(), &process.database_url())
        .await;
    process.terminate().await;
    assert_eq!(
        folder.server(),
        None,
        "the last user takes the server along"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_hang_up_cancel_nothing() {
    // Fewer than the pool has sessions: all are to be at work at once.
    const CALLERS: usize = 10;
    let folder = DataFolder::new().await;
    let mut process = Program::server(&folder).start().await;
    let mut database = session(&process.database_url()).await;
    let held = database.transaction().await.unwrap();
    held.execute("SELECT FROM fleet_quota FOR UPDATE", &[])
        .await
        .unwrap();

    let mut sockets = Vec::new();
    for number in 0..CALLERS {
        let body = json!({ "name": format!("p{number}") }).to_string();
        let request = format!(
            "POST /v1/projects HTTP/1.1\r\nhost: nexus\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let address = process.api().replace("http://", "");
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    let count = async |path: &str| {
        process.get(path).await.body["items"]
            .as_array()
            .unwrap()
            .len()
    };
    // Their operations are not durable yet: each waits in its first batch.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                   AND datname = current_database() AND application_name LIKE 'nexus/%'";
    let looker = session(&process.database_url()).await;
    nexus_tests::eventually("all operations have begun", async || {
        let row = looker.query_one(waiting, &[]).await.unwrap();
        row.get::<_, i64>(0) == i64::try_from(CALLERS).unwrap()
    })
    .await;
    assert_eq!(count("/v1/operations").await, 0);
    drop(sockets);
    held.rollback().await.unwrap();
    nexus_tests::eventually("all operations have succeeded", async || {
        count("/v1/operations?state=succeeded").await == CALLERS
    })
    .await;
    assert_eq!(count("/v1/projects").await, CALLERS);
    assert_balanced(&process.database_url()).await;
    process.terminate().await;
}
