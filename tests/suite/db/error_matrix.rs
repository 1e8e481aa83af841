//! What an error leaves of its transaction: the facts on which the table of SQLSTATEs stands, asked of
//! the server itself, without a driver between.

use nexus_tests::TestDatabase;

use super::raw::Raw;

const TABLES: &str = "\
CREATE TABLE item (id bigint CONSTRAINT item_pkey PRIMARY KEY, n bigint NOT NULL DEFAULT 0
    CONSTRAINT item_n_check CHECK (n < 100));
CREATE TABLE child (id bigint CONSTRAINT child_item_fkey REFERENCES item (id));
CREATE TABLE late (id bigint CONSTRAINT late_item_fkey REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED,
    key bigint CONSTRAINT late_key_key UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO item VALUES (1), (2)";

/// The question before a COMMIT that a failed transaction does not survive.
const PROBE: &str = "SELECT pg_current_xact_id_if_assigned()::text";

struct Matrix {
    database: TestDatabase,
}

impl Matrix {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let client = database.client().await;
        client.batch_execute(TABLES).await.unwrap();
        Self { database }
    }

    async fn session(&self) -> Raw {
        Raw::connect(&self.database.url().await).await
    }

    /// How many rows of the item there are.
    async fn items(&self, id: i64) -> i64 {
        let count = format!("SELECT count(*) FROM item WHERE id = {id}");
        self.database.number(&count).await
    }

    async fn end(self) {
        self.database.assert_books_balance().await;
    }

    /// A statement that fails with `sqlstate` ends its transaction: nothing else is done in it, COMMIT
    /// says ROLLBACK and no error, and a probe makes it one. Behind a savepoint the rest commits.
    async fn ends_the_transaction(&self, sqlstate: &str, prepare: &str, statement: &str) {
        let mut session = self.session().await;
        session.say(prepare).await.tag();
        let before = self.items(10).await;

        session
            .say("BEGIN; INSERT INTO item VALUES (10)")
            .await
            .tag();
        let failed = session.say(statement).await;
        assert_eq!(failed.error.as_deref(), Some(sqlstate), "{failed:?}");
        assert_eq!(failed.status, Some('E'));
        let next = session.say("SELECT 1").await;
        assert_eq!(
            (next.error.as_deref(), next.status),
            (Some("25P02"), Some('E'))
        );
        let commit = session.say("COMMIT").await;
        assert_eq!((commit.tag(), commit.status), ("ROLLBACK", Some('I')));
        assert_eq!(self.items(10).await, before);

        session
            .say("BEGIN; INSERT INTO item VALUES (10)")
            .await
            .tag();
        session.say(statement).await;
        let probed = session.say(&format!("{PROBE}; COMMIT")).await;
        assert_eq!(probed.error.as_deref(), Some("25P02"), "{probed:?}");
        session.say("ROLLBACK").await.tag();

        session
            .say("BEGIN; INSERT INTO item VALUES (10); SAVEPOINT s")
            .await
            .tag();
        let failed = session.say(statement).await;
        assert_eq!(failed.error.as_deref(), Some(sqlstate));
        assert_eq!(
            session.say("ROLLBACK TO SAVEPOINT s").await.status,
            Some('T')
        );
        assert_eq!(session.say("COMMIT").await.tag(), "COMMIT");
        assert_eq!(self.items(10).await, 1);
        self.database
            .client()
            .await
            .execute("DELETE FROM item WHERE id = 10", &[])
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_fails_ends_its_transaction_and_commit_does_not_say_so() {
    let matrix = Matrix::new().await;
    for (sqlstate, statement) in [
        ("23505", "INSERT INTO item VALUES (1)"),
        ("23514", "UPDATE item SET n = 100 WHERE id = 1"),
        ("23503", "INSERT INTO child VALUES (99)"),
        ("42601", "SELEC 1"),
        ("22012", "SELECT 1 / 0"),
        ("42P01", "SELECT 1 FROM nothing"),
    ] {
        matrix
            .ends_the_transaction(sqlstate, "SELECT 1", statement)
            .await;
    }
    matrix.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_ends_its_transaction() {
    let matrix = Matrix::new().await;
    let mut holder = matrix.session().await;
    holder
        .say("BEGIN; SELECT FROM item WHERE id = 1 FOR UPDATE")
        .await
        .tag();
    let update = "UPDATE item SET n = 1 WHERE id = 1";
    matrix
        .ends_the_transaction("55P03", "SET lock_timeout = 50", update)
        .await;
    let sleep = "SELECT pg_sleep(60)";
    matrix
        .ends_the_transaction("57014", "SET statement_timeout = 100", sleep)
        .await;
    holder.say("ROLLBACK").await.tag();
    matrix.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_in_a_read_only_transaction_ends_it() {
    let matrix = Matrix::new().await;
    let mut session = matrix.session().await;
    session.say("BEGIN READ ONLY; SAVEPOINT s").await.tag();
    let failed = session.say("INSERT INTO item VALUES (10)").await;
    assert_eq!(
        (failed.error.as_deref(), failed.status),
        (Some("25006"), Some('E'))
    );
    assert_eq!(
        session.say("ROLLBACK TO SAVEPOINT s").await.status,
        Some('T')
    );
    let again = session.say("INSERT INTO item VALUES (10)").await;
    assert_eq!(again.error.as_deref(), Some("25006"));
    assert_eq!(session.say("COMMIT").await.tag(), "ROLLBACK");
    matrix.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_ends_one_transaction_and_a_savepoint_goes_on_beside_the_other() {
    let matrix = Matrix::new().await;
    let (mut victim, mut other) = (matrix.session().await, matrix.session().await);
    // The one that is patient is not the one that looks for deadlocks.
    other.say("SET deadlock_timeout = '60s'").await.tag();
    victim.say("SET deadlock_timeout = '10ms'").await.tag();
    for behind_a_savepoint in [false, true] {
        other
            .say("BEGIN; UPDATE item SET n = 1 WHERE id = 2")
            .await
            .tag();
        victim
            .say("BEGIN; INSERT INTO item VALUES (10)")
            .await
            .tag();
        if behind_a_savepoint {
            victim.say("SAVEPOINT s").await.tag();
        }
        victim.say("UPDATE item SET n = 2 WHERE id = 1").await.tag();
        other.send("UPDATE item SET n = 1 WHERE id = 1").await;
        waits_for_a_lock(&matrix).await;
        let failed = victim.say("UPDATE item SET n = 2 WHERE id = 2").await;
        assert_eq!(
            (failed.error.as_deref(), failed.status),
            (Some("40P01"), Some('E'))
        );
        if behind_a_savepoint {
            assert_eq!(
                victim.say("ROLLBACK TO SAVEPOINT s").await.status,
                Some('T')
            );
            assert_eq!(victim.say("COMMIT").await.tag(), "COMMIT");
        } else {
            assert_eq!(victim.say("COMMIT").await.tag(), "ROLLBACK");
        }
        other.read().await.tag();
        assert_eq!(other.say("COMMIT").await.tag(), "COMMIT");
        assert_eq!(matrix.items(10).await, i64::from(behind_a_savepoint));
    }
    matrix.end().await;
}

async fn waits_for_a_lock(matrix: &Matrix) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    matrix
        .database
        .eventually("a session waits for a lock", async || {
            matrix.database.number(waiting).await > 0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_in_repeatable_read_goes_on_only_with_the_old_snapshot() {
    let matrix = Matrix::new().await;
    let mut session = matrix.session().await;
    let client = matrix.database.client().await;
    for behind_a_savepoint in [false, true] {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO item VALUES (10)";
        session.say(begin).await.tag();
        let seen = session.say("SELECT n FROM item WHERE id = 1").await.value;
        if behind_a_savepoint {
            session.say("SAVEPOINT s").await.tag();
        }
        let raise = "UPDATE item SET n = n + 1 WHERE id = 1";
        client.execute(raise, &[]).await.unwrap();
        let failed = session.say(raise).await;
        assert_eq!(
            (failed.error.as_deref(), failed.status),
            (Some("40001"), Some('E'))
        );
        if behind_a_savepoint {
            session.say("ROLLBACK TO SAVEPOINT s").await.tag();
            // What a program would go on with is not what there is.
            let still = session.say("SELECT n FROM item WHERE id = 1").await.value;
            assert_eq!(still, seen);
            assert_eq!(session.say("COMMIT").await.tag(), "COMMIT");
        } else {
            assert_eq!(session.say("COMMIT").await.tag(), "ROLLBACK");
        }
        assert_eq!(matrix.items(10).await, i64::from(behind_a_savepoint));
    }
    assert_eq!(
        matrix
            .database
            .number("SELECT n FROM item WHERE id = 1")
            .await,
        2
    );
    matrix.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_of_serializable_transactions_dooms_the_one_that_seems_recovered() {
    let matrix = Matrix::new().await;
    let mut session = matrix.session().await;
    let mut other = matrix.session().await;
    let begin = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT sum(n) FROM item";
    for behind_a_savepoint in [false, true] {
        session.say(begin).await.tag();
        other.say(begin).await.tag();
        other
            .say("UPDATE item SET n = n + 1 WHERE id = 1")
            .await
            .tag();
        if behind_a_savepoint {
            session
                .say("INSERT INTO item VALUES (10); SAVEPOINT s")
                .await
                .tag();
        }
        // Each has read what the other writes: a cycle, and the other one commits first.
        assert_eq!(other.say("COMMIT").await.tag(), "COMMIT");
        let failed = session.say("UPDATE item SET n = n + 1 WHERE id = 2").await;
        assert_eq!(
            (failed.error.as_deref(), failed.status),
            (Some("40001"), Some('E'))
        );
        if behind_a_savepoint {
            assert_eq!(
                session.say("ROLLBACK TO SAVEPOINT s").await.status,
                Some('T')
            );
            assert_eq!(session.say("SELECT 1").await.value.as_deref(), Some("1"));
            let commit = session.say("COMMIT").await;
            assert_eq!(commit.error.as_deref(), Some("40001"), "{commit:?}");
            assert_eq!(commit.status, Some('I'));
        } else {
            assert_eq!(session.say("COMMIT").await.tag(), "ROLLBACK");
        }
        assert_eq!(matrix.items(10).await, 0);
    }
    matrix.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_constraint_fails_the_commit_with_its_own_code() {
    let matrix = Matrix::new().await;
    let mut session = matrix.session().await;
    for (sqlstate, statement) in [
        ("23503", "INSERT INTO late VALUES (99, 1)"),
        ("23505", "INSERT INTO late VALUES (1, 1), (1, 1)"),
    ] {
        session
            .say("BEGIN; INSERT INTO item VALUES (10)")
            .await
            .tag();
        assert_eq!(session.say(statement).await.status, Some('T'));
        // The probe sees a transaction in order: it does not ask the deferred ones.
        assert!(session.say(PROBE).await.value.is_some());
        let commit = session.say("COMMIT").await;
        assert_eq!(
            (commit.error.as_deref(), commit.status),
            (Some(sqlstate), Some('I'))
        );
        assert_eq!(matrix.items(10).await, 0);
    }
    matrix.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_server_ends_takes_its_transaction_along() {
    let matrix = Matrix::new().await;
    let mut idle = matrix.session().await;
    idle.say("SET idle_in_transaction_session_timeout = 100")
        .await
        .tag();
    idle.say("BEGIN; INSERT INTO item VALUES (10)").await.tag();
    let ended = idle.read().await;
    assert_eq!(
        (ended.error.as_deref(), ended.status),
        (Some("25P03"), None)
    );

    let mut ended = matrix.session().await;
    let pid = ended
        .say("BEGIN; SAVEPOINT s; INSERT INTO item VALUES (10); SELECT pg_backend_pid()")
        .await;
    let pid: i32 = pid.value.unwrap().parse().unwrap();
    let client = matrix.database.client().await;
    client
        .execute("SELECT pg_terminate_backend($1)", &[&pid])
        .await
        .unwrap();
    let heard = ended.read().await;
    assert_eq!(
        (heard.error.as_deref(), heard.status),
        (Some("57P01"), None)
    );
    let next = ended.say("COMMIT").await;
    assert_eq!((next.tags.len(), next.status), (0, None), "{next:?}");
    assert_eq!(matrix.items(10).await, 0);
    matrix.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_begin_within_a_transaction_only_warns_and_one_commit_ends_both() {
    let matrix = Matrix::new().await;
    let mut session = matrix.session().await;
    session
        .say("BEGIN; INSERT INTO item VALUES (10)")
        .await
        .tag();
    let nested = session.say("BEGIN").await;
    assert_eq!(
        (nested.tag(), nested.warning.as_deref()),
        ("BEGIN", Some("25001"))
    );
    let commit = session.say("COMMIT").await;
    assert_eq!((commit.tag(), commit.status), ("COMMIT", Some('I')));
    assert_eq!(matrix.items(10).await, 1);
    matrix.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_probe_tells_a_transaction_that_has_written_from_one_that_has_not() {
    let matrix = Matrix::new().await;
    let mut session = matrix.session().await;
    session.say("BEGIN").await.tag();
    assert_eq!(session.say(PROBE).await.value, None);
    session.say("INSERT INTO item VALUES (10)").await.tag();
    let id = session.say(PROBE).await.value.unwrap();
    assert_eq!(session.say("COMMIT").await.tag(), "COMMIT");
    let status = format!("SELECT pg_xact_status('{id}'::xid8)");
    assert_eq!(
        session.say(&status).await.value.as_deref(),
        Some("committed")
    );
    matrix.end().await;
}
