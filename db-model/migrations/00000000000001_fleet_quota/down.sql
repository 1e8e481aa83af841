DROP TABLE IF EXISTS fleet_quota;
