//! A database per test, copied from a template that has the schema.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_model::connect::{self, ConnectOptions};
use db_model::pool::PoolOptions;
use db_model::query::executor::session_name;
use db_model::{Database, books, migrate};
use tokio::sync::OnceCell;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::proxy::Proxy;
use crate::{feed, quiet, server};

/// The lock under which one process at a time makes the template.
const TEMPLATE_LOCK: i64 = 0x7465_6d70_6c61_7465;

/// How many projects the template's fleet may hold.
pub const FLEET_PROJECTS: i64 = 1_000;

/// The pools of one process.
const POOLS: PoolOptions = PoolOptions {
    write_size: 8,
    read_size: 4,
    wait: Duration::from_secs(10),
    audit: false,
};

static TEMPLATE: OnceCell<String> = OnceCell::const_new();
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A database of one test. The test must end in [`TestDatabase::assert_books_balance`].
#[derive(Debug)]
pub struct TestDatabase {
    options: ConnectOptions,
    name: String,
    balanced: AtomicBool,
    /// What the audits of its pools found.
    soiled: Mutex<Vec<Arc<AtomicU64>>>,
}

impl TestDatabase {
    /// A database with the schema, the fleet's quota row, and nothing else.
    pub async fn new() -> Self {
        Self::copy_of(TEMPLATE.get_or_init(template).await).await
    }

    /// A database with nothing in it, for tests of the migrations.
    pub async fn empty() -> Self {
        Self::copy_of("template0").await
    }

    async fn copy_of(template: &str) -> Self {
        let admin = server::options().await;
        let client = connect::client(&admin).await.unwrap();
        let name = format!(
            "t_{}_{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        client
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .await
            .unwrap();
        Self {
            options: admin.with_database(&name),
            name,
            balanced: AtomicBool::new(false),
            soiled: Mutex::default(),
        }
    }

    /// How to reach it.
    pub fn options(&self) -> ConnectOptions {
        self.options.clone()
    }

    /// Its URL.
    pub async fn url(&self) -> String {
        server::url(&self.name).await
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pools of a new process on it. What a session has left in it when it is handed out again
    /// fails the test.
    pub fn pools(&self) -> Database {
        let pools = PoolOptions {
            audit: true,
            ..POOLS
        };
        let pools = Database::new(self.options(), &pools, Uuid::now_v7());
        let counts = [
            pools.writes.soiled(),
            pools.reads.soiled(),
            pools.lease.soiled(),
            pools.recovery.soiled(),
        ];
        self.soiled.lock().unwrap().extend(counts);
        pools
    }

    /// The same by another way, such as through a proxy, and without a question more on the wire.
    pub fn pools_with(&self, options: ConnectOptions) -> Database {
        Database::new(options, &POOLS, Uuid::now_v7())
    }

    /// A proxy before it.
    pub async fn proxy(&self) -> Proxy {
        let url = server::url(&self.name).await;
        Proxy::start(&url).await.unwrap()
    }

    /// The pools of a new process on it whose sessions lead through a proxy.
    pub fn pools_through(&self, proxy: &Proxy) -> Database {
        self.pools_with(ConnectOptions::parse(proxy.url()).unwrap())
    }

    /// A plain session for looking and meddling.
    pub async fn client(&self) -> Client {
        connect::client(&self.options).await.unwrap()
    }

    /// The first column of the one row of a query.
    pub async fn number(&self, sql: &str) -> i64 {
        self.client()
            .await
            .query_one(sql, &[])
            .await
            .unwrap()
            .get(0)
    }

    /// What holds after every test: counters equal rows, no orphan, no undo that failed, a feed that
    /// tells each change once, no transaction or advisory lock left open, and nothing left in a session
    /// that was handed out again.
    pub async fn assert_books_balance(&self) {
        let pools = self.pools();
        let report = books::check(&pools.writes).await.unwrap();
        assert!(report.balanced(), "the books do not balance: {report:#?}");
        let stuck = self
            .number("SELECT count(*) FROM saga WHERE state = 'stuck'")
            .await;
        assert_eq!(stuck, 0, "sagas are stuck");
        feed::assert_true(&self.client().await).await;
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND state LIKE 'idle in transaction%'";
        self.eventually("no transaction is open", async || {
            self.number(open).await == 0
        })
        .await;
        let locks = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                     WHERE l.locktype = 'advisory' AND d.datname = current_database()";
        assert_eq!(self.number(locks).await, 0, "advisory locks are held");
        let soiled = self.soiled.lock().unwrap();
        let soiled: u64 = soiled
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum();
        assert_eq!(
            soiled, 0,
            "sessions went from hand to hand with something in them"
        );
        self.balanced.store(true, Ordering::Relaxed);
    }

    /// What holds once nobody does anything: the pools' sessions are those that the pools hold, all of
    /// them idle and there are no others of any pool; no session has a transaction open; no lock is held.
    /// `pools` are all that live on this database.
    pub async fn assert_database_quiet(&self, pools: &[&Database]) {
        let client = self.client().await;
        let idle = || {
            pools.iter().all(|pools| {
                let states = [
                    pools.writes.state(),
                    pools.reads.state(),
                    pools.lease.state(),
                    pools.recovery.state(),
                ];
                states.iter().all(|state| state.slots == state.idle)
            })
        };
        self.eventually("every session is back in its pool", async || idle())
            .await;
        // A slot whose session was lost keeps its place, so there may be fewer sessions than slots.
        let slots: BTreeMap<String, i64> = pools
            .iter()
            .map(|pools| {
                let slots = pools.writes.state().slots
                    + pools.reads.state().slots
                    + pools.lease.state().slots
                    + pools.recovery.state().slots;
                (session_name(pools.executor_id()), i64::from(slots))
            })
            .collect();
        self.eventually("no session is left that no pool holds", async || {
            let sessions = quiet::sessions(&client).await;
            let held = |(name, count): (&String, &i64)| {
                slots.get(name).is_some_and(|slots| count <= slots)
            };
            sessions.iter().all(held)
        })
        .await;
        quiet::settles(&client).await;
    }

    /// Waits, for at most [`crate::SOON`], until a condition holds.
    pub async fn eventually(&self, what: &str, condition: impl AsyncFn() -> bool) {
        crate::eventually(what, condition).await;
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let checked = self.balanced.load(Ordering::Relaxed);
        assert!(
            checked || std::thread::panicking(),
            "a test ended without a look at the books: call assert_books_balance()"
        );
    }
}

/// The name of the template for this schema, made if there is none yet.
async fn template() -> String {
    let admin = server::options().await;
    let client = connect::client(&admin).await.unwrap();
    let lock = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = 0; \
                SET LOCAL statement_timeout = 0;";
    client
        .batch_execute(&format!(
            "{lock} SELECT pg_advisory_xact_lock({TEMPLATE_LOCK})"
        ))
        .await
        .unwrap();
    let maker = connect::client(&admin).await.unwrap();
    drop_leftovers(&maker).await;
    let name = format!("template_{:016x}", schema_hash());
    let known = maker
        .query("SELECT 1 FROM pg_database WHERE datname = $1", &[&name])
        .await
        .unwrap();
    if known.is_empty() {
        let raw = format!("raw_{}", std::process::id());
        maker
            .batch_execute(&format!("CREATE DATABASE {raw}"))
            .await
            .unwrap();
        migrate::run(&admin.clone().with_database(&raw), FLEET_PROJECTS)
            .await
            .unwrap();
        feed::watch(&admin.clone().with_database(&raw)).await;
        let ended = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
        crate::eventually("the migration's sessions end", async || {
            maker
                .query_one(ended, &[&raw])
                .await
                .unwrap()
                .get::<_, i64>(0)
                == 0
        })
        .await;
        maker
            .batch_execute(&format!("ALTER DATABASE {raw} RENAME TO {name}"))
            .await
            .unwrap();
        let close = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
        maker.batch_execute(&close).await.unwrap();
    }
    client.batch_execute("COMMIT").await.unwrap();
    name
}

/// Drops the databases of test processes that are gone: at the next start, for a drop takes long.
async fn drop_leftovers(client: &Client) {
    let names = "SELECT datname FROM pg_database WHERE datname ~ '^(t|raw)_[0-9]+'";
    for row in client.query(names, &[]).await.unwrap() {
        let name: String = row.get(0);
        let pid = name.split('_').nth(1).unwrap();
        if !std::path::Path::new("/proc").join(pid).exists() {
            client
                .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
                .await
                .unwrap();
        }
    }
}

/// A hash over all migrations and what the harness adds.
fn schema_hash() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    feed::WATCH.hash(&mut hasher);
    for file in migration_files() {
        std::fs::read(file).unwrap().hash(&mut hasher);
    }
    hasher.finish()
}

fn migration_files() -> Vec<std::path::PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../db-model/migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("up.sql"))
        .collect();
    files.sort();
    files
}
