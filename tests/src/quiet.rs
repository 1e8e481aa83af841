//! What faults must not leave behind: sessions that nobody holds, open transactions, locks.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::proxy::Proxy;

/// Waits until no session of the database but this is at work, is inside a transaction, or holds a lock.
pub async fn settles(client: &Client) {
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND pid <> pg_backend_pid() AND backend_type = 'client backend' \
                AND (state <> 'idle' OR xact_start IS NOT NULL)";
    let what = "no session is at work or has a transaction open";
    crate::eventually(what, async || count(client, open).await == 0).await;
    let locks = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                 WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() \
                 AND a.backend_type = 'client backend'";
    crate::eventually("no lock is held", async || count(client, locks).await == 0).await;
}

/// The same, once the server has noticed each connection that a proxy before it has closed: until then its
/// process looks idle, and may have a batch to read.
pub async fn settles_behind(proxy: &Proxy, client: &Client) {
    let left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)";
    let closed = proxy.left_behind();
    let ended = async || {
        let row = client.query_one(left, &[&closed]).await.unwrap();
        row.get::<_, i64>(0) == 0
    };
    crate::eventually("the server has ended what was cut off", ended).await;
    settles(client).await;
}

/// How many sessions each process has, by the name that it gives them.
pub async fn sessions(client: &Client) -> BTreeMap<String, i64> {
    let select = "SELECT application_name, count(*) FROM pg_stat_activity \
                  WHERE datname = current_database() AND application_name LIKE 'nexus/%' \
                  GROUP BY application_name";
    let rows = client.query(select, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn count(client: &Client, what: &str) -> i64 {
    client.query_one(what, &[]).await.unwrap().get(0)
}
