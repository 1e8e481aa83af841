-- A saga's row is changed by who holds it and while it has not ended. Of the two reasons not to, the
-- caller must know which: that it lost the saga, or that an earlier try of its own has ended it.
CREATE OR REPLACE FUNCTION guard_saga_progress(
    touched bigint, saga uuid, executor uuid, wanted_generation bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found_row saga%ROWTYPE;
BEGIN
    IF touched = 1 THEN
        RETURN touched;
    END IF;
    SELECT * INTO found_row FROM saga AS s WHERE s.id = saga;
    IF FOUND AND found_row.executor_id = executor AND found_row.generation = wanted_generation
        AND found_row.time_finished IS NOT NULL THEN
        RAISE EXCEPTION 'the saga has ended' USING ERRCODE = 'NX001', CONSTRAINT = 'saga_ended';
    END IF;
    RAISE EXCEPTION 'the saga is held by another process, or unwinds'
        USING ERRCODE = 'NX001', CONSTRAINT = 'saga_fenced';
END $$;
