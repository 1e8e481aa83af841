//! Rows of things that were over long ago, made by the thousand.

use tokio_postgres::Client;
use uuid::Uuid;

/// Kinds of rows that a purge removes, with the condition for those made here that carry a mark.
pub const KINDS: [(&str, &str); 5] = [
    ("instance", "description"),
    ("project", "description"),
    ("saga", "request_id"),
    ("executor", "host"),
    ("event", "resource_name"),
];

/// Deleted instances of a project, one millisecond apart, the youngest `age` old.
pub async fn instances(client: &Client, project_id: Uuid, mark: &str, count: i64, age: &str) {
    let insert = "\
INSERT INTO instance (id, project_id, name, description, vcpus, memory_bytes, state, generation,
    changed_by, time_created, time_modified, time_deleted, time_over)
SELECT gen_random_uuid(), $1, 'i' || n, $2, 1, 1048576, 'deleting', 4, gen_random_uuid(), t, t, t, t
FROM (SELECT n, now() - $4::text::interval - n * interval '1 ms' AS t FROM generate_series(1, $3::bigint) n) AS past";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
        [&project_id, &mark, &count, &age];
    client.execute(insert, &values).await.unwrap();
}

/// So many of each kind that were over `age` ago: projects with their quota rows and one instance each,
/// operations with a log of four events each, of which every other one failed, the processes that
/// ran them, and published events that follow those that are there.
pub async fn everything(client: &Client, mark: &str, count: i64, age: &str) {
    let statement = format!(
        "\
CREATE TEMPORARY TABLE past AS SELECT n, now() - interval '{age}' - n * interval '1 ms' AS t,
    gen_random_uuid() AS project, gen_random_uuid() AS saga, gen_random_uuid() AS executor
    FROM generate_series(1, {count}) n;
INSERT INTO project (id, name, description, state, generation, changed_by, time_created, time_modified,
    time_deleted, time_over)
    SELECT project, 'p' || n, '{mark}', 'deleting', 4, saga, t, t, t, t FROM past;
INSERT INTO project_quota (project_id, open, instances_limit, instances_used, vcpus_limit, vcpus_used,
    memory_bytes_limit, memory_bytes_used, generation, changed_by, time_created, time_modified)
    SELECT project, false, 1, 0, 1, 0, 1048576, 0, 4, saga, t, t FROM past;
INSERT INTO instance (id, project_id, name, description, vcpus, memory_bytes, state, generation,
    changed_by, time_created, time_modified, time_deleted, time_over)
    SELECT gen_random_uuid(), project, 'i', '{mark}', 1, 1048576, 'deleting', 4, saga, t, t, t, t FROM past;
INSERT INTO executor (id, host, pid, version, backend_pid, backend_start, time_started, time_heartbeat,
    time_lease_expires, time_ended)
    SELECT executor, '{mark}', 1, '0', 1, t, t, t, t, t FROM past;
INSERT INTO saga (id, name, definition_hash, params, state, executor_id, generation, request_id,
    project_id, resource_kind, resource_id, resource_name, time_created, time_finished)
    SELECT saga, 'project-delete', '0', '{{}}', CASE WHEN n % 2 = 0 THEN 'failed' ELSE 'succeeded' END,
    executor, 1, '{mark}', project, 'project', project, 'p' || n, t, t FROM past;
INSERT INTO saga_event (saga_id, node_id, kind, phase, sequence, time_recorded)
    SELECT saga, node, kind, phase, 2 * node + phase, t FROM past, generate_series(0, 1) node,
    (VALUES ('started', 1), ('succeeded', 2)) AS of_node (kind, phase);
SELECT FROM event_feed FOR UPDATE;
INSERT INTO event (id, kind, project_id, resource_id, resource_name, resource_generation, operation_id,
    time_recorded, time_published, sequence)
    SELECT gen_random_uuid(), 'project.deleted', project, project, '{mark}', 4,
    CASE WHEN n % 2 = 1 THEN saga END, t, t, (SELECT last_sequence FROM event_feed) + {count} + 1 - n FROM past;
UPDATE event_feed SET last_sequence = last_sequence + {count};
DROP TABLE past; ANALYZE"
    );
    client.batch_execute(&statement).await.unwrap();
}
