-- What happened, written in the transaction that made it happen: outbox and change feed at once.
-- `time_recorded` is the database's, drawn under the lock of the resource's row, so that the events
-- of one resource ascend. `sequence` is the place in the feed; it is empty until the event is published.
CREATE TABLE IF NOT EXISTS event (
    id uuid NOT NULL,
    kind text COLLATE "C" NOT NULL,
    project_id uuid,
    resource_id uuid NOT NULL,
    resource_name text COLLATE "C" NOT NULL,
    resource_generation bigint NOT NULL,
    operation_id uuid,
    time_recorded timestamptz NOT NULL DEFAULT clock_timestamp(),
    sequence bigint,
    CONSTRAINT event_pkey PRIMARY KEY (id),
    CONSTRAINT event_sequence_key UNIQUE (sequence),
    CONSTRAINT event_kind_check CHECK (kind IN (
        'project.created', 'project.deleted', 'project.quota_updated',
        'instance.created', 'instance.deleted', 'fleet.quota_updated'
    )),
    CONSTRAINT event_sequence_check CHECK (sequence >= 1)
);
CREATE INDEX IF NOT EXISTS event_unpublished_idx ON event (time_recorded, id) WHERE sequence IS NULL;
