-- The rights to look into a journal, for people and dashboards.

GRANT USAGE ON SCHEMA @ TO :role;
GRANT SELECT ON ALL TABLES IN SCHEMA @ TO :role;
GRANT EXECUTE ON FUNCTION @.fitting(int) TO :role;
