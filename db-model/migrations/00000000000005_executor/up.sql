-- Running processes. A lease in database time says which of them are alive.
CREATE TABLE IF NOT EXISTS executor (
    id uuid NOT NULL,
    host text NOT NULL,
    pid bigint NOT NULL,
    version text NOT NULL,
    backend_pid integer NOT NULL,
    backend_start timestamptz NOT NULL,
    time_started timestamptz NOT NULL,
    time_heartbeat timestamptz NOT NULL,
    time_lease_expires timestamptz NOT NULL,
    time_ended timestamptz,
    CONSTRAINT executor_pkey PRIMARY KEY (id)
);
CREATE INDEX IF NOT EXISTS executor_live_idx ON executor (id) WHERE time_ended IS NULL;
