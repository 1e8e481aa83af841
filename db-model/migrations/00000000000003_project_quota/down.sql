DROP TABLE IF EXISTS project_quota;
