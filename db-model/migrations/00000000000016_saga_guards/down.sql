DROP FUNCTION IF EXISTS guard_saga_progress(bigint, uuid, uuid, bigint);
