-- A node succeeds or fails, never both: a batch that the network kept until after its node was recorded
-- as failed takes no effect, and a node whose batch has arrived is not recorded as failed.
CREATE UNIQUE INDEX IF NOT EXISTS saga_event_outcome_key ON saga_event (saga_id, node_id)
    WHERE kind IN ('succeeded', 'failed');
