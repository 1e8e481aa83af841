-- Instances. What a row records here is what its quota row was charged.
CREATE TABLE IF NOT EXISTS instance (
    id uuid NOT NULL,
    project_id uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    description text NOT NULL,
    vcpus bigint NOT NULL,
    memory_bytes bigint NOT NULL,
    state text COLLATE "C" NOT NULL,
    generation bigint NOT NULL,
    changed_by uuid NOT NULL,
    time_created timestamptz NOT NULL,
    time_modified timestamptz NOT NULL,
    time_deleted timestamptz,
    CONSTRAINT instance_pkey PRIMARY KEY (id),
    CONSTRAINT instance_project_id_fkey FOREIGN KEY (project_id) REFERENCES project (id),
    CONSTRAINT instance_name_check CHECK (name ~ '^[a-z]([a-z0-9-]*[a-z0-9])?$' AND length(name) <= 63),
    CONSTRAINT instance_description_check CHECK (length(description) <= 512),
    CONSTRAINT instance_vcpus_check CHECK (vcpus BETWEEN 1 AND 1024),
    CONSTRAINT instance_memory_bytes_check CHECK (
        memory_bytes BETWEEN 1048576 AND 17592186044416 AND memory_bytes % 1048576 = 0
    ),
    CONSTRAINT instance_state_check CHECK (state IN (
        'creating', 'starting', 'running', 'stopping', 'stopped', 'rebooting', 'deleting', 'failed'
    )),
    CONSTRAINT instance_generation_check CHECK (generation >= 1)
);
CREATE UNIQUE INDEX IF NOT EXISTS instance_name_key ON instance (project_id, name) WHERE time_deleted IS NULL;
CREATE INDEX IF NOT EXISTS instance_project_time_created_idx
    ON instance (project_id, time_created, id) WHERE time_deleted IS NULL;
CREATE INDEX IF NOT EXISTS instance_name_idx ON instance (name, id) WHERE time_deleted IS NULL;
CREATE INDEX IF NOT EXISTS instance_time_created_idx ON instance (time_created, id) WHERE time_deleted IS NULL;
