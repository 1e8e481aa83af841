DROP FUNCTION IF EXISTS guard_project_quota_update(bigint, uuid, bigint);
DROP FUNCTION IF EXISTS guard_fleet_quota_update(bigint, bigint);

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
