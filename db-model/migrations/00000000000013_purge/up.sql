-- What the purge looks for, oldest first, so that it reads only what it removes. A stuck saga is not
-- among it: it stays until a person has looked.
CREATE INDEX IF NOT EXISTS instance_time_deleted_idx ON instance (time_deleted, id) WHERE time_deleted IS NOT NULL;
CREATE INDEX IF NOT EXISTS project_time_deleted_idx ON project (time_deleted, id) WHERE time_deleted IS NOT NULL;
CREATE INDEX IF NOT EXISTS saga_time_finished_idx ON saga (time_finished, id) WHERE state IN ('succeeded', 'failed');
CREATE INDEX IF NOT EXISTS executor_time_ended_idx ON executor (time_ended, id) WHERE time_ended IS NOT NULL;
-- Whether anything still names what is to be removed. The first also serves the foreign key, which
-- looks at deleted instances too.
CREATE INDEX IF NOT EXISTS instance_project_idx ON instance (project_id);
CREATE INDEX IF NOT EXISTS saga_finished_executor_idx ON saga (executor_id) WHERE time_finished IS NOT NULL;
