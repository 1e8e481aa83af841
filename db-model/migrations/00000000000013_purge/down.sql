DROP INDEX IF EXISTS saga_finished_executor_idx;
DROP INDEX IF EXISTS instance_project_idx;
DROP INDEX IF EXISTS executor_time_ended_idx;
DROP INDEX IF EXISTS saga_time_finished_idx;
DROP INDEX IF EXISTS project_time_deleted_idx;
DROP INDEX IF EXISTS instance_time_deleted_idx;
