//! The books: counters against the rows that they count.
//!
//! A counter changes in the same transaction as its row, so one statement, which reads one
//! snapshot, sees them agree at any instant, also beside a running service.

use std::fmt;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use crate::Database;
use crate::batch::{Batch, BatchError, Failure, Options, Step, Transaction, TransactionError};
use crate::model::FLEET_ID;
use crate::pool::WritePool;

/// A counter that does not say what the rows say.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Drift {
    /// `fleet` or `project`.
    #[diesel(sql_type = Text)]
    pub scope: String,
    /// The fleet's or the project's id.
    #[diesel(sql_type = SqlUuid)]
    pub scope_id: Uuid,
    /// `projects`, `instances`, `vcpus` or `memory_bytes`.
    #[diesel(sql_type = Text)]
    pub resource: String,
    /// What the counter says; `None` when the counter's row is missing.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub used: Option<i64>,
    /// What the rows say.
    #[diesel(sql_type = BigInt)]
    pub counted: i64,
}

impl fmt::Display for Drift {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scope,
            scope_id,
            resource,
            used,
            counted,
        } = self;
        match used {
            Some(used) => write!(
                formatter,
                "{scope} {scope_id}: the counter of {resource} says {used}, the rows say {counted}"
            ),
            None => write!(
                formatter,
                "{scope} {scope_id}: there is no quota row, the rows say {counted} {resource}"
            ),
        }
    }
}

/// A row that nothing stands for any more.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Orphan {
    /// `project` or `instance`.
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// The id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// What is wrong with it.
    #[diesel(sql_type = Text)]
    pub reason: String,
}

impl fmt::Display for Orphan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.kind, self.id, self.reason)
    }
}

/// How the books stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Counters that are wrong.
    pub drifts: Vec<Drift>,
    /// Rows that nothing stands for.
    pub orphans: Vec<Orphan>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn balanced(&self) -> bool {
        self.drifts.is_empty() && self.orphans.is_empty()
    }
}

const FLEET_LINE: &str = "\
SELECT 'fleet' AS scope, f.id AS scope_id, 'projects' AS resource, q.projects_used AS used,
       (SELECT count(*) FROM project WHERE time_deleted IS NULL) AS counted
FROM (SELECT $1::uuid AS id) f LEFT JOIN fleet_quota q ON q.id = f.id";

/// The lines of the projects for which `project_id` fulfils `of`.
fn project_lines(of: &str) -> String {
    format!(
        "\
SELECT 'project' AS scope, p.project_id AS scope_id, resource.name AS resource,
       CASE resource.name WHEN 'instances' THEN q.instances_used WHEN 'vcpus' THEN q.vcpus_used
       ELSE q.memory_bytes_used END AS used,
       coalesce(CASE resource.name WHEN 'instances' THEN u.instances WHEN 'vcpus' THEN u.vcpus
       ELSE u.memory_bytes END, 0) AS counted
FROM (SELECT project_id FROM (SELECT id AS project_id FROM project) every WHERE {of}) p
LEFT JOIN project_quota q ON q.project_id = p.project_id
LEFT JOIN (
    SELECT project_id, count(*) AS instances, sum(vcpus)::bigint AS vcpus,
           sum(memory_bytes)::bigint AS memory_bytes
    FROM instance WHERE time_deleted IS NULL AND {of} GROUP BY project_id
) u ON u.project_id = p.project_id
CROSS JOIN (VALUES ('instances'), ('vcpus'), ('memory_bytes')) AS resource (name)"
    )
}

const ORPHANS: &str = "\
SELECT 'instance' AS kind, i.id, 'lives in a project that is deleted' AS reason
FROM instance i JOIN project p ON p.id = i.project_id
WHERE i.time_deleted IS NULL AND p.time_deleted IS NOT NULL
UNION ALL
SELECT 'instance', i.id, 'is ' || i.state || ' and no operation is at work on it'
FROM instance i LEFT JOIN saga s ON s.id = i.changed_by
WHERE i.time_deleted IS NULL AND i.state IN ('creating', 'deleting')
AND (s.id IS NULL OR s.state IN ('succeeded', 'failed'))
UNION ALL
SELECT 'project', p.id, 'is ' || p.state || ' and no operation is at work on it'
FROM project p LEFT JOIN saga s ON s.id = p.changed_by
WHERE p.time_deleted IS NULL AND p.state IN ('creating', 'deleting')
AND (s.id IS NULL OR s.state IN ('succeeded', 'failed'))
UNION ALL
SELECT 'project', p.id, 'is ' || p.state || ', but its quota row is ' || CASE WHEN q.open THEN 'open' ELSE 'closed' END
FROM project p JOIN project_quota q ON q.project_id = p.id
WHERE q.open <> (p.state = 'active' AND p.time_deleted IS NULL)
ORDER BY kind, id";

/// Compares all counters with their rows, and looks for rows that nothing stands for.
///
/// # Errors
/// [`BatchError`], when the database gives no answer.
pub async fn check(writes: &WritePool) -> Result<Report, BatchError> {
    let lines = format!("{FLEET_LINE} UNION ALL {}", project_lines("true"));
    let (drifts, orphans) = Batch::new()
        .step(drifts(&lines, FLEET_ID))
        .step(Step::rows("books.orphans", diesel::sql_query(ORPHANS)))
        .commit(writes)
        .await?;
    Ok(Report { drifts, orphans })
}

/// Those of `lines` that are wrong; `id` is their `$1`.
fn drifts(lines: &str, id: Uuid) -> Step<Vec<Drift>> {
    let drifts = diesel::sql_query(format!(
        "SELECT scope, scope_id, resource, used, counted FROM ({lines}) AS line \
         WHERE used IS DISTINCT FROM counted ORDER BY scope, scope_id, resource"
    ));
    Step::rows("books.drifts", drifts.bind::<SqlUuid, _>(id))
}

/// Sets each wrong counter to what the rows say, one scope at a time, and adds what it mended to `mended`,
/// so that the caller knows of it also when a later scope fails.
///
/// The quota row is locked in one step and the rows are counted in the next: a sum in the locking
/// statement itself would wait for a create and then write the sum from before it. Under the lock it
/// looks once more, at this scope alone, for what was wrong before may be right by now.
///
/// # Errors
/// [`RepairError`], when the database refuses; what was mended before stays mended.
pub async fn repair(database: &mut Database, mended: &mut Vec<Drift>) -> Result<(), RepairError> {
    let mut drifts = check(&database.writes).await?.drifts;
    // A quota row that is missing had limits that nobody knows: that is for a person to mend.
    drifts.retain(|drift| drift.used.is_some());
    let mut scopes: Vec<_> = drifts
        .into_iter()
        .map(|drift| (drift.scope, drift.scope_id))
        .collect();
    scopes.dedup();
    for (scope, id) in scopes {
        let repaired = database.transact(Options::new("books.repair"), |transaction| {
            repair_scope(transaction, &scope, id)
        });
        mended.extend(repaired.await.into_result()?);
    }
    Ok(())
}

/// Why the books could not be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// They could not be read.
    #[error(transparent)]
    Check(#[from] BatchError),
    /// A counter could not be set.
    #[error(transparent)]
    Repair(#[from] TransactionError),
}

async fn repair_scope(
    transaction: Transaction,
    scope: &str,
    id: Uuid,
) -> Result<(Transaction, Vec<Drift>), Failure> {
    let (lock, lines, count) = match scope {
        "fleet" => (LOCK_FLEET, FLEET_LINE.to_owned(), COUNT_FLEET),
        _ => (
            LOCK_PROJECT,
            project_lines("project_id = $1"),
            COUNT_PROJECT,
        ),
    };
    let of_scope = |sql| diesel::sql_query(sql).bind::<SqlUuid, _>(id);
    let lock = Step::statement("books.lock", of_scope(lock));
    let (transaction, ()) = transaction.run(lock).await?;
    let (transaction, drifts) = transaction.run(drifts(&lines, id)).await?;
    if drifts.is_empty() {
        return Ok((transaction, drifts));
    }
    let count = Step::exactly_one("books.count", of_scope(count));
    let (transaction, ()) = transaction.run(count).await?;
    Ok((transaction, drifts))
}

const LOCK_FLEET: &str = "SELECT id FROM fleet_quota WHERE id = $1 FOR UPDATE";
const COUNT_FLEET: &str = "\
UPDATE fleet_quota SET generation = generation + 1, projects_used =
    (SELECT count(*) FROM project WHERE time_deleted IS NULL)
WHERE id = $1";
const LOCK_PROJECT: &str = "SELECT project_id FROM project_quota WHERE project_id = $1 FOR UPDATE";
const COUNT_PROJECT: &str = "\
UPDATE project_quota SET generation = generation + 1,
    instances_used = (SELECT count(*) FROM instance
        WHERE project_id = $1 AND time_deleted IS NULL),
    vcpus_used = (SELECT coalesce(sum(vcpus), 0)::bigint FROM instance
        WHERE project_id = $1 AND time_deleted IS NULL),
    memory_bytes_used = (SELECT coalesce(sum(memory_bytes), 0)::bigint FROM instance
        WHERE project_id = $1 AND time_deleted IS NULL)
WHERE project_id = $1";
