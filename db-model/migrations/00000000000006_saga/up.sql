-- Sagas: what was asked, who runs it, how it stands and how it ended.
CREATE TABLE IF NOT EXISTS saga (
    id uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    definition_hash text COLLATE "C" NOT NULL,
    params json NOT NULL,
    state text COLLATE "C" NOT NULL,
    executor_id uuid NOT NULL,
    generation bigint NOT NULL,
    request_id text NOT NULL,
    project_id uuid,
    resource_kind text COLLATE "C" NOT NULL,
    resource_id uuid NOT NULL,
    resource_name text COLLATE "C" NOT NULL,
    output json,
    error json,
    time_created timestamptz NOT NULL,
    time_finished timestamptz,
    CONSTRAINT saga_pkey PRIMARY KEY (id),
    CONSTRAINT saga_state_check CHECK (state IN ('running', 'unwinding', 'succeeded', 'failed', 'stuck')),
    CONSTRAINT saga_finished_check CHECK ((time_finished IS NULL) = (state IN ('running', 'unwinding'))),
    CONSTRAINT saga_generation_check CHECK (generation >= 1)
);
CREATE INDEX IF NOT EXISTS saga_unfinished_idx ON saga (executor_id, id) WHERE time_finished IS NULL;
CREATE INDEX IF NOT EXISTS saga_time_created_idx ON saga (time_created, id);
CREATE INDEX IF NOT EXISTS saga_project_time_created_idx ON saga (project_id, time_created, id);
