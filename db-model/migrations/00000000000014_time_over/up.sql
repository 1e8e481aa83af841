-- When it was over, by the database's clock: what the purge goes by. `time_deleted` is a process's, drawn
-- before the batch, and part of what the saga gives; a process whose clock is wrong may give any. What was
-- over before this counts from now.
ALTER TABLE instance ADD COLUMN IF NOT EXISTS time_over timestamptz;
ALTER TABLE project ADD COLUMN IF NOT EXISTS time_over timestamptz;
UPDATE instance SET time_over = clock_timestamp() WHERE time_deleted IS NOT NULL AND time_over IS NULL;
UPDATE project SET time_over = clock_timestamp() WHERE time_deleted IS NOT NULL AND time_over IS NULL;
ALTER TABLE instance ADD CONSTRAINT instance_over_check CHECK ((time_over IS NULL) = (time_deleted IS NULL));
ALTER TABLE project ADD CONSTRAINT project_over_check CHECK ((time_over IS NULL) = (time_deleted IS NULL));
DROP INDEX IF EXISTS instance_time_deleted_idx;
DROP INDEX IF EXISTS project_time_deleted_idx;
CREATE INDEX IF NOT EXISTS instance_time_over_idx ON instance (time_over, id) WHERE time_over IS NOT NULL;
CREATE INDEX IF NOT EXISTS project_time_over_idx ON project (time_over, id) WHERE time_over IS NOT NULL;
-- When readers could first see an event. It may have waited for long to be published.
ALTER TABLE event ADD COLUMN IF NOT EXISTS time_published timestamptz;
UPDATE event SET time_published = clock_timestamp() WHERE sequence IS NOT NULL AND time_published IS NULL;
ALTER TABLE event ADD CONSTRAINT event_published_check CHECK ((time_published IS NULL) = (sequence IS NULL));
