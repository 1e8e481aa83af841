-- What the release before migration 15 left when its process died: a create half way, one that had not
-- begun, a delete that was being undone, and one of a shape that no later release has.
INSERT INTO executor (id, host, pid, version, backend_pid, backend_start, time_started, time_heartbeat,
    time_lease_expires, time_ended)
VALUES ('01990000-0000-7000-8000-0000000000e1', 'before', 1, '0.1.0', 1, '2026-06-01T08:00:00.123456Z', '2026-06-01T08:00:00.123456Z', '2026-06-01T08:00:09.123456Z', '2026-06-01T08:00:09.123456Z', '2026-06-01T08:00:09.123456Z');
INSERT INTO fleet_quota (id, projects_limit, projects_used, generation, changed_by, time_created, time_modified)
VALUES ('00000000-0000-0000-0000-000000000001', 7, 1, 2, '01990000-0000-7000-8000-000000000000', '2026-06-01T08:00:00.123456Z', '2026-06-01T08:00:00.123456Z');
INSERT INTO project (id, name, description, state, generation, changed_by, time_created, time_modified)
VALUES ('01990000-0000-7000-8000-0000000000a1', 'web', '', 'active', 2, '01990000-0000-7000-8000-000000000000', '2026-06-01T08:00:00.123456Z', '2026-06-01T08:00:00.123456Z');
INSERT INTO project_quota (project_id, open, instances_limit, instances_used, vcpus_limit, vcpus_used,
    memory_bytes_limit, memory_bytes_used, generation, changed_by, time_created, time_modified)
VALUES ('01990000-0000-7000-8000-0000000000a1', true, 10, 2, 10, 2, 10737418240, 2147483648, 3, '01990000-0000-7000-8000-000000000001', '2026-06-01T08:00:00.123456Z', '2026-06-01T08:00:01.123456Z');
INSERT INTO instance (id, project_id, name, description, vcpus, memory_bytes, state, generation, changed_by,
    time_created, time_modified)
VALUES
    ('01990000-0000-7000-8000-0000000000b1', '01990000-0000-7000-8000-0000000000a1', 'half', 'as it was', 1, 1073741824, 'creating', 1, '01990000-0000-7000-8000-000000000001', '2026-06-01T08:00:01.123456Z', '2026-06-01T08:00:01.123456Z'),
    ('01990000-0000-7000-8000-0000000000b3', '01990000-0000-7000-8000-0000000000a1', 'kept', '', 1, 1073741824, 'deleting', 3, '01990000-0000-7000-8000-000000000003', '2026-06-01T08:00:00.123456Z', '2026-06-01T08:00:03.123456Z');
INSERT INTO saga (id, name, definition_hash, params, state, executor_id, generation, request_id, project_id,
    resource_kind, resource_id, resource_name, error, time_created)
VALUES
    ('01990000-0000-7000-8000-000000000001', 'instance-create',
    'b1efdd33deae3ca9de478c117df098cd248185d5a92bc86ca769d2ee70f3f8d0',
    '{"project_id":"01990000-0000-7000-8000-0000000000a1","instance_id":"01990000-0000-7000-8000-0000000000b1","name":"half","description":"as it was","vcpus":1,"memory_bytes":1073741824,"time":"2026-06-01T08:00:01.123456Z"}',
    'running', '01990000-0000-7000-8000-0000000000e1', 1, 'before', '01990000-0000-7000-8000-0000000000a1', 'instance',
    '01990000-0000-7000-8000-0000000000b1', 'half', NULL, '2026-06-01T08:00:01.123456Z'),
    ('01990000-0000-7000-8000-000000000002', 'project-create',
    '7d2b031d1cf5cea9c19dcbc7b0d721f877e80d2e1a264087caa8a81073a77d77',
    '{"project_id":"01990000-0000-7000-8000-0000000000a2","name":"next","description":"","limits":{"instances":1,"vcpus":1,"memory_bytes":1073741824},"time":"2026-06-01T08:00:02.123456Z"}',
    'running', '01990000-0000-7000-8000-0000000000e1', 1, 'before', '01990000-0000-7000-8000-0000000000a2', 'project',
    '01990000-0000-7000-8000-0000000000a2', 'next', NULL, '2026-06-01T08:00:02.123456Z'),
    ('01990000-0000-7000-8000-000000000003', 'instance-delete',
    'dbaf851d3fe021a33023fc806f3eec5ba45e49ced873393c9577848c0abae0e2',
    '{"project_id":"01990000-0000-7000-8000-0000000000a1","instance_id":"01990000-0000-7000-8000-0000000000b3","name":"kept","from":"stopped","generation":null}',
    'unwinding', '01990000-0000-7000-8000-0000000000e1', 1, 'before', '01990000-0000-7000-8000-0000000000a1', 'instance',
    '01990000-0000-7000-8000-0000000000b3', 'kept',
    '{"node":"delete","step":"project_quota.release","cause":{"unexpected":{"message":"step project_quota.release: a constraint that nobody mapped","sqlstate":"23514","constraint":"project_quota_vcpus_used_check"}}}', '2026-06-01T08:00:03.123456Z'),
    ('01990000-0000-7000-8000-000000000004', 'instance-create',
    '3c08b2a9249ba1316d7971964e7ef5aeaf0e122814cd90877db987d47f478140',
    '{"project_id":"01990000-0000-7000-8000-0000000000a1","instance_id":"01990000-0000-7000-8000-0000000000b4","name":"other","description":"","vcpus":1,"memory_bytes":1073741824,"time":"2026-06-01T08:00:04.123456Z"}',
    'running', '01990000-0000-7000-8000-0000000000e1', 1, 'before', '01990000-0000-7000-8000-0000000000a1', 'instance',
    '01990000-0000-7000-8000-0000000000b4', 'other', NULL, '2026-06-01T08:00:04.123456Z');
INSERT INTO saga_event (saga_id, node_id, kind, data, time_recorded)
VALUES
    ('01990000-0000-7000-8000-000000000001', 0, 'started', NULL, '2026-06-01T08:00:01.123456Z'),
    ('01990000-0000-7000-8000-000000000001', 0, 'succeeded',
    '{"id":"01990000-0000-7000-8000-0000000000b1","project_id":"01990000-0000-7000-8000-0000000000a1","name":"half","description":"as it was","vcpus":1,"memory_bytes":1073741824,"state":"creating","generation":1,"changed_by":"01990000-0000-7000-8000-000000000001","time_created":"2026-06-01T08:00:01.123456Z","time_modified":"2026-06-01T08:00:01.123456Z","time_deleted":null}', '2026-06-01T08:00:02.123456Z'),
    ('01990000-0000-7000-8000-000000000001', 1, 'started', NULL, '2026-06-01T08:00:03.123456Z'),
    ('01990000-0000-7000-8000-000000000003', 0, 'started', NULL, '2026-06-01T08:00:03.123456Z'),
    ('01990000-0000-7000-8000-000000000003', 0, 'succeeded', 'null', '2026-06-01T08:00:03.123456Z'),
    ('01990000-0000-7000-8000-000000000003', 1, 'started', NULL, '2026-06-01T08:00:04.123456Z'),
    ('01990000-0000-7000-8000-000000000003', 1, 'failed', '{"node":"delete","step":"project_quota.release","cause":{"unexpected":{"message":"step project_quota.release: a constraint that nobody mapped","sqlstate":"23514","constraint":"project_quota_vcpus_used_check"}}}', '2026-06-01T08:00:05.123456Z'),
    ('01990000-0000-7000-8000-000000000003', 0, 'undo_started', NULL, '2026-06-01T08:00:06.123456Z');
