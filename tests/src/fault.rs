//! Errors of the server on demand: any SQLSTATE, at a statement of the product.

use tokio_postgres::Client;

use crate::TestDatabase;

/// What raises; there is no error while the table is empty. A sequence counts across rollbacks.
const FAULT: &str = "\
CREATE TABLE fault (code text NOT NULL, name text NOT NULL, times bigint NOT NULL);
CREATE SEQUENCE fault_count;
CREATE FUNCTION fault() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    wanted fault%ROWTYPE;
BEGIN
    SELECT * INTO wanted FROM fault;
    IF FOUND AND (current_setting('transaction_read_only') = 'on' OR nextval('fault_count') <= wanted.times) THEN
        RAISE EXCEPTION 'a fault' USING ERRCODE = wanted.code, CONSTRAINT = wanted.name;
    END IF;
    RETURN true;
END $$;
CREATE FUNCTION fault_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fault();
    RETURN coalesce(NEW, OLD);
END $$";

/// Faults of one database.
#[derive(Debug)]
pub struct Faults {
    client: Client,
}

impl Faults {
    /// None yet, and nowhere.
    pub async fn new(database: &TestDatabase) -> Self {
        let client = database.client().await;
        client.batch_execute(FAULT).await.unwrap();
        Self { client }
    }

    /// A statement of SQL, as the database's owner.
    pub async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Errors at each row that a write of a table is about to touch: `UPDATE ON fleet_quota`.
    pub async fn at(&self, event: &str) {
        let name = event.to_lowercase().replace(' ', "_");
        let trigger = format!(
            "CREATE TRIGGER {name} BEFORE {event} FOR EACH ROW EXECUTE FUNCTION fault_trigger()"
        );
        self.sql(&trigger).await;
    }

    /// Errors of whoever reads a table. It cannot be written any more.
    pub async fn at_reads_of(&self, table: &str) {
        let view = format!(
            "ALTER TABLE {table} RENAME TO {table}_rows; \
             CREATE VIEW {table} AS SELECT * FROM {table}_rows WHERE (SELECT fault())"
        );
        self.sql(&view).await;
    }

    /// From now on, as often as said, an error with this SQLSTATE and constraint.
    pub async fn raise(&self, sqlstate: &str, constraint: &str, times: i64) {
        self.clear().await;
        let set = "INSERT INTO fault VALUES ($1, $2, $3)";
        self.client
            .execute(set, &[&sqlstate, &constraint, &times])
            .await
            .unwrap();
    }

    /// No error any more.
    pub async fn clear(&self) {
        self.sql("DELETE FROM fault; ALTER SEQUENCE fault_count RESTART")
            .await;
    }
}
