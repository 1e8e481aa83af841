ALTER TABLE event DROP COLUMN IF EXISTS time_published;
ALTER TABLE project DROP COLUMN IF EXISTS time_over;
ALTER TABLE instance DROP COLUMN IF EXISTS time_over;
CREATE INDEX IF NOT EXISTS instance_time_deleted_idx ON instance (time_deleted, id) WHERE time_deleted IS NOT NULL;
CREATE INDEX IF NOT EXISTS project_time_deleted_idx ON project (time_deleted, id) WHERE time_deleted IS NOT NULL;
