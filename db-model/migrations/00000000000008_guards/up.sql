-- The guards: what aborts a batch on the server when a step did not do exactly what it had to.
--
-- Each takes the number of rows its step touched and raises SQLSTATE NX001 when that is wrong,
-- with the guard's name in the CONSTRAINT field and what it read in DETAIL, as JSON.
-- They are VOLATILE, so that each query in them reads a fresh snapshot: a sub-select beside the
-- guarded UPDATE would report the numbers from before the wait for the row lock.
-- PL/pgSQL stands here and nowhere else.

CREATE OR REPLACE FUNCTION guard_affected(touched bigint, wanted bigint, label text) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF touched = wanted THEN
        RETURN touched;
    END IF;
    RAISE EXCEPTION 'step % touched % rows, not %', label, touched, wanted
        USING ERRCODE = 'NX001', CONSTRAINT = 'affected',
            DETAIL = json_build_object('label', label, 'touched', touched, 'wanted', wanted)::text;
END $$;

CREATE OR REPLACE FUNCTION guard_fleet_quota_charge(touched bigint, asked_projects bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    quota fleet_quota%ROWTYPE;
BEGIN
    IF touched = 1 THEN
        RETURN touched;
    END IF;
    SELECT * INTO quota FROM fleet_quota;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the fleet has no quota row' USING ERRCODE = 'NX001', CONSTRAINT = 'fleet_quota_missing';
    END IF;
    -- Room came free between the refused update and this read: the whole batch is worth another try.
    IF quota.projects_used + asked_projects <= quota.projects_limit THEN
        RAISE EXCEPTION 'the fleet quota changed meanwhile' USING ERRCODE = '40001';
    END IF;
    RAISE EXCEPTION 'the fleet quota is used up' USING ERRCODE = 'NX001', CONSTRAINT = 'quota_exceeded',
        DETAIL = json_build_object('scope', 'fleet', 'scope_id', quota.id, 'resource', 'projects',
            'limit', quota.projects_limit, 'used', quota.projects_used, 'requested', asked_projects)::text;
END $$;

CREATE OR REPLACE FUNCTION guard_project_quota_charge(
    touched bigint, project uuid, asked_instances bigint, asked_vcpus bigint, asked_memory_bytes bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    quota project_quota%ROWTYPE;
    short record;
BEGIN
    IF touched = 1 THEN
        RETURN touched;
    END IF;
    SELECT * INTO quota FROM project_quota WHERE project_id = project;
    IF NOT FOUND OR NOT quota.open THEN
        RAISE EXCEPTION 'the project takes no instances' USING ERRCODE = 'NX001', CONSTRAINT = 'project_state',
            DETAIL = (SELECT json_build_object('id', project,
                'state', (SELECT p.state FROM project p WHERE p.id = project AND p.time_deleted IS NULL))::text);
    END IF;
    SELECT resource, "limit", used, requested INTO short FROM (VALUES
        (1, 'instances', quota.instances_limit, quota.instances_used, asked_instances),
        (2, 'vcpus', quota.vcpus_limit, quota.vcpus_used, asked_vcpus),
        (3, 'memory_bytes', quota.memory_bytes_limit, quota.memory_bytes_used, asked_memory_bytes)
    ) AS line (position, resource, "limit", used, requested)
    WHERE used + requested > "limit" ORDER BY position LIMIT 1;
    -- Room came free between the refused update and this read: the whole batch is worth another try.
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the project quota changed meanwhile' USING ERRCODE = '40001';
    END IF;
    RAISE EXCEPTION 'the project quota is used up' USING ERRCODE = 'NX001', CONSTRAINT = 'quota_exceeded',
        DETAIL = json_build_object('scope', 'project', 'scope_id', project, 'resource', short.resource,
            'limit', short."limit", 'used', short.used, 'requested', short.requested)::text;
END $$;

CREATE OR REPLACE FUNCTION guard_project_quota_close(touched bigint, project uuid, blockers_max bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    quota project_quota%ROWTYPE;
BEGIN
    IF touched = 1 THEN
        RETURN touched;
    END IF;
    SELECT * INTO quota FROM project_quota WHERE project_id = project;
    IF NOT FOUND OR NOT quota.open THEN
        RAISE EXCEPTION 'the project is not open' USING ERRCODE = 'NX001', CONSTRAINT = 'project_state',
            DETAIL = (SELECT json_build_object('id', project,
                'state', (SELECT p.state FROM project p WHERE p.id = project AND p.time_deleted IS NULL))::text);
    END IF;
    -- The last instance went between the refused update and this read: worth another try.
    IF quota.instances_used = 0 THEN
        RAISE EXCEPTION 'the project became empty meanwhile' USING ERRCODE = '40001';
    END IF;
    RAISE EXCEPTION 'the project is not empty' USING ERRCODE = 'NX001', CONSTRAINT = 'not_empty',
        DETAIL = (SELECT json_build_object('id', project, 'instances', quota.instances_used, 'first', coalesce((
            SELECT json_agg(json_build_object('id', i.id, 'name', i.name) ORDER BY i.name) FROM (
                SELECT id, name FROM instance WHERE project_id = project AND time_deleted IS NULL
                ORDER BY name LIMIT blockers_max
            ) AS i), '[]'::json))::text);
END $$;

CREATE OR REPLACE FUNCTION guard_project_name(touched bigint, wanted_name text) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    holder uuid;
BEGIN
    IF touched = 1 THEN
        RETURN touched;
    END IF;
    SELECT id INTO holder FROM project WHERE name = wanted_name AND time_deleted IS NULL;
    -- Whoever held the name has gone between the refused insert and this read: worth another try.
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the name became free meanwhile' USING ERRCODE = '40001';
    END IF;
    RAISE EXCEPTION 'the project name is taken' USING ERRCODE = '23505', CONSTRAINT = 'project_name_key',
        TABLE = 'project', DETAIL = json_build_object('id', holder, 'name', wanted_name)::text;
END $$;

CREATE OR REPLACE FUNCTION guard_instance_name(touched bigint, project uuid, wanted_name text) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    holder uuid;
BEGIN
    IF touched = 1 THEN
        RETURN touched;
    END IF;
    SELECT id INTO holder FROM instance
        WHERE project_id = project AND name = wanted_name AND time_deleted IS NULL;
    -- Whoever held the name has gone between the refused insert and this read: worth another try.
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the name became free meanwhile' USING ERRCODE = '40001';
    END IF;
    RAISE EXCEPTION 'the instance name is taken' USING ERRCODE = '23505', CONSTRAINT = 'instance_name_key',
        TABLE = 'instance', DETAIL = json_build_object('id', holder, 'name', wanted_name)::text;
END $$;

CREATE OR REPLACE FUNCTION guard_project_state(touched bigint, project uuid, wanted_generation bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found_row project%ROWTYPE;
BEGIN
    IF touched = 1 THEN
        RETURN touched;
    END IF;
    -- The alias: without it `project` would be the table as well as the argument.
    SELECT * INTO found_row FROM project AS p WHERE p.id = project AND p.time_deleted IS NULL;
    IF FOUND AND wanted_generation IS NOT NULL AND found_row.generation <> wanted_generation THEN
        RAISE EXCEPTION 'the project has changed' USING ERRCODE = 'NX001', CONSTRAINT = 'generation',
            DETAIL = json_build_object('kind', 'project', 'id', project,
                'expected', wanted_generation, 'found', found_row.generation)::text;
    END IF;
    RAISE EXCEPTION 'the project is in another state' USING ERRCODE = 'NX001', CONSTRAINT = 'project_state',
        DETAIL = json_build_object('id', project, 'state', found_row.state)::text;
END $$;

CREATE OR REPLACE FUNCTION guard_instance_state(touched bigint, instance_id uuid, wanted_generation bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found_row instance%ROWTYPE;
BEGIN
    IF touched = 1 THEN
        RETURN touched;
    END IF;
    SELECT * INTO found_row FROM instance WHERE id = instance_id AND time_deleted IS NULL;
    IF FOUND AND wanted_generation IS NOT NULL AND found_row.generation <> wanted_generation THEN
        RAISE EXCEPTION 'the instance has changed' USING ERRCODE = 'NX001', CONSTRAINT = 'generation',
            DETAIL = json_build_object('kind', 'instance', 'id', instance_id,
                'expected', wanted_generation, 'found', found_row.generation)::text;
    END IF;
    RAISE EXCEPTION 'the instance is in another state' USING ERRCODE = 'NX001', CONSTRAINT = 'instance_state',
        DETAIL = json_build_object('id', instance_id, 'state', found_row.state)::text;
END $$;

-- A change of one batch that is run again after a lost reply touches no row, for the generation
-- has moved; that its own key stands on the row then says that it is done.
CREATE OR REPLACE FUNCTION guard_fleet_quota_update(touched bigint, change uuid, wanted_generation bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    quota fleet_quota%ROWTYPE;
BEGIN
    IF touched = 1 THEN
        RETURN touched;
    END IF;
    SELECT * INTO quota FROM fleet_quota;
    IF quota.changed_by = change THEN
        RETURN 0;
    END IF;
    IF quota.generation IS DISTINCT FROM wanted_generation THEN
        RAISE EXCEPTION 'the fleet quota has changed' USING ERRCODE = 'NX001', CONSTRAINT = 'generation',
            DETAIL = json_build_object('kind', 'fleet_quota', 'id', quota.id,
                'expected', wanted_generation, 'found', quota.generation)::text;
    END IF;
    RAISE EXCEPTION 'the fleet has no quota row' USING ERRCODE = 'NX001', CONSTRAINT = 'fleet_quota_missing';
END $$;

CREATE OR REPLACE FUNCTION guard_project_quota_update(
    touched bigint, project uuid, change uuid, wanted_generation bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    quota project_quota%ROWTYPE;
BEGIN
    IF touched = 1 THEN
        RETURN touched;
    END IF;
    SELECT * INTO quota FROM project_quota WHERE project_id = project;
    IF FOUND AND quota.changed_by = change THEN
        RETURN 0;
    END IF;
    -- The quota was opened between the refused update and this read: worth another try.
    IF FOUND AND quota.open AND (wanted_generation IS NULL OR quota.generation = wanted_generation) THEN
        RAISE EXCEPTION 'the project quota was opened meanwhile' USING ERRCODE = '40001';
    END IF;
    IF FOUND AND quota.open AND quota.generation IS DISTINCT FROM wanted_generation THEN
        RAISE EXCEPTION 'the project quota has changed' USING ERRCODE = 'NX001', CONSTRAINT = 'generation',
            DETAIL = json_build_object('kind', 'project_quota', 'id', project,
                'expected', wanted_generation, 'found', quota.generation)::text;
    END IF;
    RAISE EXCEPTION 'the project takes no changes' USING ERRCODE = 'NX001', CONSTRAINT = 'project_state',
        DETAIL = json_build_object('id', project,
            'state', (SELECT p.state FROM project p WHERE p.id = project AND p.time_deleted IS NULL))::text;
END $$;
