DROP INDEX IF EXISTS saga_event_outcome_key;
