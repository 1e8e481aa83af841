-- What the release before migration 15 had written when its process died: parameters without a version, the
-- whole hash of a definition, and logs with `started` and without numbers.
INSERT INTO fleet_quota VALUES ('00000000-0000-0000-0000-000000000001', 100, 1, 2,
    '01a1ffce-0000-7000-8000-000000000001', '2026-11-21T20:31:02Z', '2026-11-21T20:31:02Z');
INSERT INTO project (id, name, description, state, generation, changed_by, time_created, time_modified)
VALUES ('01a1ffce-0000-7000-8000-0000000000a1', 'web', '', 'active', 2,
    '01a1ffce-0000-7000-8000-000000000001', '2026-11-21T20:31:02Z', '2026-11-21T20:31:02Z');
INSERT INTO project_quota VALUES ('01a1ffce-0000-7000-8000-0000000000a1', true, 10, 2, 40, 3, 1099511627776, 2147483648,
    4, '01a1ffce-0000-7000-8000-000000000001', '2026-11-21T20:31:02Z', '2026-11-21T20:31:02Z');

-- An instance-create whose first node is done.
INSERT INTO instance (id, project_id, name, description, vcpus, memory_bytes, state, generation, changed_by,
    time_created, time_modified)
VALUES ('01a1ffce-0000-7000-8000-0000000000b1', '01a1ffce-0000-7000-8000-0000000000a1', 'half', 'half made', 2,
    1073741824, 'creating', 1, '01a1ffce-0000-7000-8000-0000000000c1', '2026-11-21T20:31:02.231919Z',
    '2026-11-21T20:31:02.231919Z');
INSERT INTO saga VALUES ('01a1ffce-0000-7000-8000-0000000000c1', 'instance-create',
    'b1efdd33deae3ca9de478c117df098cd248185d5a92bc86ca769d2ee70f3f8d0',
    '{"project_id": "01a1ffce-0000-7000-8000-0000000000a1", "instance_id": "01a1ffce-0000-7000-8000-0000000000b1",
      "name": "half", "description": "half made", "vcpus": 2, "memory_bytes": 1073741824,
      "time": "2026-11-21T20:31:02.231919Z"}',
    'running', '01a1ffce-0000-7000-8000-0000000000e1', 1, 'recorded', '01a1ffce-0000-7000-8000-0000000000a1', 'instance',
    '01a1ffce-0000-7000-8000-0000000000b1', 'half', NULL, NULL, '2026-11-21T20:31:02.231919Z', NULL);
INSERT INTO saga_event VALUES
    ('01a1ffce-0000-7000-8000-0000000000c1', 0, 'started', NULL, '2026-11-21T20:31:02.240000Z'),
    ('01a1ffce-0000-7000-8000-0000000000c1', 0, 'succeeded',
     '{"id": "01a1ffce-0000-7000-8000-0000000000b1", "project_id": "01a1ffce-0000-7000-8000-0000000000a1",
       "name": "half", "description": "half made", "vcpus": 2, "memory_bytes": 1073741824, "state": "creating",
       "generation": 1, "changed_by": "01a1ffce-0000-7000-8000-0000000000c1",
       "time_created": "2026-11-21T20:31:02.231919Z", "time_modified": "2026-11-21T20:31:02.231919Z",
       "time_deleted": null}', '2026-11-21T20:31:02.240001Z');

-- A project-create that had not begun.
INSERT INTO saga VALUES ('01a1ffce-0000-7000-8000-0000000000c2', 'project-create',
    '7d2b031d1cf5cea9c19dcbc7b0d721f877e80d2e1a264087caa8a81073a77d77',
    '{"project_id": "01a1ffce-0000-7000-8000-0000000000a2", "name": "later", "description": "",
      "limits": {"instances": 1, "vcpus": 1, "memory_bytes": 1073741824}, "time": "2026-11-21T20:31:03.000000Z"}',
    'running', '01a1ffce-0000-7000-8000-0000000000e1', 1, 'recorded', '01a1ffce-0000-7000-8000-0000000000a2', 'project',
    '01a1ffce-0000-7000-8000-0000000000a2', 'later', NULL, NULL, '2026-11-21T20:31:03Z', NULL);

-- An instance-delete that unwinds: its second node has failed, and nothing is undone yet.
INSERT INTO instance (id, project_id, name, description, vcpus, memory_bytes, state, generation, changed_by,
    time_created, time_modified)
VALUES ('01a1ffce-0000-7000-8000-0000000000b3', '01a1ffce-0000-7000-8000-0000000000a1', 'kept', '', 1, 1073741824,
    'deleting', 3, '01a1ffce-0000-7000-8000-0000000000c3', '2026-11-21T20:31:02Z', '2026-11-21T20:31:02Z');
INSERT INTO saga VALUES ('01a1ffce-0000-7000-8000-0000000000c3', 'instance-delete',
    'dbaf851d3fe021a33023fc806f3eec5ba45e49ced873393c9577848c0abae0e2',
    '{"project_id": "01a1ffce-0000-7000-8000-0000000000a1", "instance_id": "01a1ffce-0000-7000-8000-0000000000b3",
      "name": "kept", "from": "stopped", "generation": null}',
    'unwinding', '01a1ffce-0000-7000-8000-0000000000e1', 2, 'recorded', '01a1ffce-0000-7000-8000-0000000000a1', 'instance',
    '01a1ffce-0000-7000-8000-0000000000b3', 'kept', NULL,
    '{"node": "delete", "step": null, "cause": {"unexpected": {"message": "recorded", "sqlstate": null, "constraint": null}}}',
    '2026-11-21T20:31:04Z', NULL);
INSERT INTO saga_event VALUES
    ('01a1ffce-0000-7000-8000-0000000000c3', 0, 'started', NULL, '2026-11-21T20:31:04.000001Z'),
    ('01a1ffce-0000-7000-8000-0000000000c3', 0, 'succeeded', 'null', '2026-11-21T20:31:04.000002Z'),
    ('01a1ffce-0000-7000-8000-0000000000c3', 1, 'started', NULL, '2026-11-21T20:31:04.000003Z'),
    ('01a1ffce-0000-7000-8000-0000000000c3', 1, 'failed',
     '{"node": "delete", "step": null, "cause": {"unexpected": {"message": "recorded", "sqlstate": null, "constraint": null}}}',
     '2026-11-21T20:31:04.000004Z');

-- One whose definition no program has any more.
INSERT INTO saga VALUES ('01a1ffce-0000-7000-8000-0000000000c4', 'instance-create', repeat('0', 64), '{}',
    'running', '01a1ffce-0000-7000-8000-0000000000e1', 1, 'recorded', NULL, 'instance',
    '01a1ffce-0000-7000-8000-0000000000b4', 'unknown', NULL, NULL, '2026-11-21T20:31:05Z', NULL);
