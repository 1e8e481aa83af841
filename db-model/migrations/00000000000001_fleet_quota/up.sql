-- The one row that limits how many projects the fleet may hold.
CREATE TABLE IF NOT EXISTS fleet_quota (
    id uuid NOT NULL,
    projects_limit bigint NOT NULL,
    projects_used bigint NOT NULL,
    generation bigint NOT NULL,
    changed_by uuid NOT NULL,
    time_created timestamptz NOT NULL,
    time_modified timestamptz NOT NULL,
    CONSTRAINT fleet_quota_pkey PRIMARY KEY (id),
    CONSTRAINT fleet_quota_single_check CHECK (id = '00000000-0000-0000-0000-000000000001'),
    CONSTRAINT fleet_quota_projects_limit_check CHECK (projects_limit BETWEEN 0 AND 9007199254740992),
    CONSTRAINT fleet_quota_projects_used_check CHECK (projects_used >= 0),
    CONSTRAINT fleet_quota_generation_check CHECK (generation >= 1)
);
