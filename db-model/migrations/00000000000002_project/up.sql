-- Projects. A name is free again once its project is deleted.
CREATE TABLE IF NOT EXISTS project (
    id uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    description text NOT NULL,
    state text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    changed_by uuid NOT NULL,
    time_created timestamptz NOT NULL,
    time_modified timestamptz NOT NULL,
    time_deleted timestamptz,
    CONSTRAINT project_pkey PRIMARY KEY (id),
    CONSTRAINT project_name_check CHECK (name ~ '^[a-z]([a-z0-9-]*[a-z0-9])?$' AND length(name) <= 63),
    CONSTRAINT project_description_check CHECK (length(description) <= 512),
    CONSTRAINT project_state_check CHECK (state IN ('creating', 'active', 'deleting')),
    CONSTRAINT project_generation_check CHECK (generation >= 1)
);
CREATE UNIQUE INDEX IF NOT EXISTS project_name_key ON project (name) WHERE time_deleted IS NULL;
CREATE INDEX IF NOT EXISTS project_time_created_idx ON project (time_created, id) WHERE time_deleted IS NULL;
