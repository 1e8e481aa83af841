-- Limits and use of one project in one row; `open` decides whether it may take instances.
CREATE TABLE IF NOT EXISTS project_quota (
    project_id uuid NOT NULL,
    open boolean NOT NULL,
    instances_limit bigint NOT NULL,
    instances_used bigint NOT NULL,
    vcpus_limit bigint NOT NULL,
    vcpus_used bigint NOT NULL,
    memory_bytes_limit bigint NOT NULL,
    memory_bytes_used bigint NOT NULL,
    generation bigint NOT NULL,
    changed_by uuid NOT NULL,
    time_created timestamptz NOT NULL,
    time_modified timestamptz NOT NULL,
    CONSTRAINT project_quota_pkey PRIMARY KEY (project_id),
    CONSTRAINT project_quota_project_id_fkey FOREIGN KEY (project_id) REFERENCES project (id),
    CONSTRAINT project_quota_instances_limit_check CHECK (instances_limit BETWEEN 0 AND 9007199254740992),
    CONSTRAINT project_quota_vcpus_limit_check CHECK (vcpus_limit BETWEEN 0 AND 9007199254740992),
    CONSTRAINT project_quota_memory_bytes_limit_check CHECK (memory_bytes_limit BETWEEN 0 AND 9007199254740992),
    CONSTRAINT project_quota_instances_used_check CHECK (instances_used >= 0),
    CONSTRAINT project_quota_vcpus_used_check CHECK (vcpus_used >= 0),
    CONSTRAINT project_quota_memory_bytes_used_check CHECK (memory_bytes_used >= 0),
    CONSTRAINT project_quota_generation_check CHECK (generation >= 1)
);
