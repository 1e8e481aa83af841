-- The one row that says how far the feed goes: its last number, and up to which number its events have
-- been purged. Whoever numbers or purges events holds this row's lock.
CREATE TABLE IF NOT EXISTS event_feed (
    id uuid NOT NULL,
    last_sequence bigint NOT NULL,
    purged_sequence bigint NOT NULL,
    time_created timestamptz NOT NULL,
    time_modified timestamptz NOT NULL,
    CONSTRAINT event_feed_pkey PRIMARY KEY (id),
    CONSTRAINT event_feed_single_check CHECK (id = '00000000-0000-0000-0000-000000000001'),
    CONSTRAINT event_feed_purged_sequence_check CHECK (purged_sequence BETWEEN 0 AND last_sequence)
);
INSERT INTO event_feed (id, last_sequence, purged_sequence, time_created, time_modified)
VALUES ('00000000-0000-0000-0000-000000000001', 0, 0, clock_timestamp(), clock_timestamp())
ON CONFLICT DO NOTHING;
