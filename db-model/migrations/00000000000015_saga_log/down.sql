DROP INDEX IF EXISTS saga_stuck_idx;
ALTER TABLE saga DROP COLUMN IF EXISTS last_duration_us;
ALTER TABLE saga DROP COLUMN IF EXISTS last_attempts;
DELETE FROM saga_event WHERE phase > 4;
ALTER TABLE saga_event DROP CONSTRAINT saga_event_pkey;
ALTER TABLE saga_event ADD CONSTRAINT saga_event_pkey PRIMARY KEY (saga_id, node_id, kind);
CREATE UNIQUE INDEX IF NOT EXISTS saga_event_outcome_key ON saga_event (saga_id, node_id)
    WHERE kind IN ('succeeded', 'failed');
ALTER TABLE saga_event ALTER COLUMN time_recorded DROP DEFAULT;
ALTER TABLE saga_event DROP COLUMN IF EXISTS duration_us;
ALTER TABLE saga_event DROP COLUMN IF EXISTS attempts;
ALTER TABLE saga_event DROP COLUMN IF EXISTS sequence;
ALTER TABLE saga_event DROP COLUMN IF EXISTS phase;
