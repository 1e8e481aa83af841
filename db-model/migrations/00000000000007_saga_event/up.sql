-- The saga log. `data` is json and not jsonb: an output must come back as it was written.
-- There is no foreign key to saga: the fence in each insert reads the saga row anyway.
CREATE TABLE IF NOT EXISTS saga_event (
    saga_id uuid NOT NULL,
    node_id bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    data json,
    time_recorded timestamptz NOT NULL,
    CONSTRAINT saga_event_pkey PRIMARY KEY (saga_id, node_id, kind),
    CONSTRAINT saga_event_kind_check CHECK (
        kind IN ('started', 'succeeded', 'failed', 'undo_started', 'undo_finished', 'undo_failed')
    )
);
