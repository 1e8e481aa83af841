-- The log tells each thing once. A node is tried (`attempts`) for a while (`duration_us`, until its batch
-- was sent), and what became of it has one `phase`: 1 it began, 2 it succeeded or failed, 3 its undo
-- began, 4 its undo ended or was given up, 5 and more an undo that was given up and tried again since.
-- So one key says both that a thing is recorded once, and that a node succeeds or fails, never both: a
-- batch that the network kept until after its node was recorded as failed takes no effect.
-- `sequence` is the place in the saga's log, from 1 and without gaps once the saga has ended.
ALTER TABLE saga_event ADD COLUMN IF NOT EXISTS phase smallint;
ALTER TABLE saga_event ADD COLUMN IF NOT EXISTS sequence bigint;
ALTER TABLE saga_event ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 1;
ALTER TABLE saga_event ADD COLUMN IF NOT EXISTS duration_us bigint;
UPDATE saga_event SET phase = CASE kind
    WHEN 'started' THEN 1 WHEN 'succeeded' THEN 2 WHEN 'failed' THEN 2 WHEN 'undo_started' THEN 3 ELSE 4 END
WHERE phase IS NULL;
UPDATE saga_event e SET sequence = n.sequence
FROM (
    SELECT saga_id, node_id, phase,
        row_number() OVER (PARTITION BY saga_id ORDER BY time_recorded, node_id, phase) AS sequence
    FROM saga_event
) AS n
WHERE n.saga_id = e.saga_id AND n.node_id = e.node_id AND n.phase = e.phase AND e.sequence IS NULL;
ALTER TABLE saga_event ALTER COLUMN phase SET NOT NULL;
ALTER TABLE saga_event ALTER COLUMN sequence SET NOT NULL;
ALTER TABLE saga_event ALTER COLUMN time_recorded SET DEFAULT clock_timestamp();
ALTER TABLE saga_event DROP CONSTRAINT saga_event_pkey;
ALTER TABLE saga_event ADD CONSTRAINT saga_event_pkey PRIMARY KEY (saga_id, node_id, phase);
ALTER TABLE saga_event ADD CONSTRAINT saga_event_phase_check CHECK (phase >= 1);
ALTER TABLE saga_event ADD CONSTRAINT saga_event_sequence_check CHECK (sequence >= 1);
DROP INDEX IF EXISTS saga_event_outcome_key;
-- What the last node took: its success is the saga's own row.
ALTER TABLE saga ADD COLUMN IF NOT EXISTS last_attempts integer;
ALTER TABLE saga ADD COLUMN IF NOT EXISTS last_duration_us bigint;
-- What waits for a person: few, and looked for often.
CREATE INDEX IF NOT EXISTS saga_stuck_idx ON saga (time_finished, id) WHERE state = 'stuck';
