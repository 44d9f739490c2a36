-- The rights that a pipeline's processes need on a journal, and nothing else: they read and write rows, and make
-- nothing and drop nothing.

GRANT USAGE ON SCHEMA @ TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA @ TO :role;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA @ TO :role;
-- The format is the owner's.
REVOKE INSERT, UPDATE, DELETE ON @.batrun FROM :role;
