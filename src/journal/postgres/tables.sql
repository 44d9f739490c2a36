-- The tables of one pipeline's journal, in a schema of its own. `@` stands for that schema's name.
--
-- A number of up to 64 bits without a sign is kept as the bigint of the same bits, a checksum as the int of
-- the same bits. A text is escaped, as PostgreSQL has no NUL in texts: `\0` is NUL and `\\` is `\`.

CREATE TABLE @.batrun (format int NOT NULL);

CREATE TABLE @.word (name text PRIMARY KEY, value text NOT NULL, sum int NOT NULL);

-- The stages of each pipeline that has run here, with their versions and in their order: a revision. A stage's number
-- in another row is the one of that row's revision. Revision 0 has no stages: processes that only submit have it.
CREATE TABLE @.revision (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stages text NOT NULL);
CREATE UNIQUE INDEX revision_stages ON @.revision (md5(stages));
INSERT INTO @.revision OVERRIDING SYSTEM VALUE VALUES (0, '');

CREATE TABLE @.stage (
    revision int NOT NULL, number int NOT NULL, name text NOT NULL, version bigint NOT NULL, sum int NOT NULL,
    PRIMARY KEY (revision, number)
);

-- The processes that have run the pipeline, each start anew. `commits` counts what such a one has committed: who
-- doesn't know what came of a commit reads it here. `claims` is the number of its last claim. `room` says how many tasks it had room for at its last look,
-- `queued` how many of its own waited for a worker.
CREATE TABLE @.node (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'left', 'dead')),
    name text NOT NULL,
    revision int NOT NULL,
    commits bigint NOT NULL DEFAULT 0,
    claims bigint NOT NULL DEFAULT 0,
    lease interval NOT NULL,
    lease_until timestamptz NOT NULL,
    began timestamptz NOT NULL DEFAULT clock_timestamp(),
    room bigint NOT NULL DEFAULT 0,
    queued bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

-- The tasks that nobody has are those of node 0, which has left.
INSERT INTO @.node (id, state, name, revision, lease, lease_until) OVERRIDING SYSTEM VALUE
    VALUES (0, 'left', 'nobody', 0, '0', '-infinity');

-- Each node that has got tasks of another one that has gone, so many since it began, and `at` the last time. Their own
-- rows go once they have no tasks, so the names are here. `killed` says that the other one was dead.
CREATE TABLE @.takeover (
    by_node int NOT NULL, by_name text NOT NULL, from_node int NOT NULL, from_name text NOT NULL,
    killed boolean NOT NULL, tasks bigint NOT NULL, at timestamptz NOT NULL,
    PRIMARY KEY (by_node, from_node)
);
CREATE INDEX takeover_at ON @.takeover (at);

-- Half of each page is left free, so that a changed row finds room beside the old one and no index has to
-- change. That holds as long as no column that changes often has an index.
--
-- A task is its owner's, a node. Only that one writes it, until it has left or is dead; `killed` says that the
-- owner before was dead, `unowned` that it was nobody, `owners` how many there were before,
-- and `claim` is the number of the owner's claim that brought it.
CREATE TABLE @.task (
    id bigint PRIMARY KEY, key text, stage int, state text NOT NULL, stuck boolean NOT NULL,
    more bytea NOT NULL, sum int NOT NULL, context bytea NOT NULL, context_sum int NOT NULL,
    owner int NOT NULL, revision int NOT NULL, killed boolean NOT NULL DEFAULT false,
    unowned boolean NOT NULL DEFAULT false, owners int NOT NULL DEFAULT 0,
    claim bigint NOT NULL DEFAULT 0
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX task_owner ON @.task (owner, revision, id);
CREATE INDEX task_stuck ON @.task (id) WHERE stuck;

CREATE TABLE @.undo (
    task bigint NOT NULL, undo bigint NOT NULL, more bytea NOT NULL, sum int NOT NULL, value bytea NOT NULL,
    value_sum int NOT NULL, PRIMARY KEY (task, undo)
) WITH (
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE TABLE @.outcomes (
    number bigint PRIMARY KEY, at bigint NOT NULL, count bigint NOT NULL, body bytea NOT NULL, sum int NOT NULL
);
CREATE INDEX outcomes_at ON @.outcomes (at);

-- The keys that are taken, each by the task that came first. The task's outcome is in its row, once it has one, and
-- then `revision` is that of the undos that are kept.
CREATE TABLE @.key (
    key text PRIMARY KEY, task bigint NOT NULL, digest bigint, at bigint, "end" text, undos bigint,
    outcome bytea, output bytea, sum int, revision int
) WITH (fillfactor = 70);

CREATE TABLE @.kept_undo (
    task bigint NOT NULL, undo bigint NOT NULL, more bytea NOT NULL, sum int NOT NULL, value bytea NOT NULL,
    value_sum int NOT NULL, PRIMARY KEY (task, undo)
);

-- Decisions about tasks, for the nodes that have them, each with a random number. `node` is the one that was told, and
-- `answer` says what came of it.
CREATE TABLE @.command (
    id bigint PRIMARY KEY, task bigint NOT NULL,
    what text NOT NULL CHECK (what IN ('cancel', 'retry', 'resolve')),
    at timestamptz NOT NULL DEFAULT clock_timestamp(), node int, answer text, answered timestamptz
);

CREATE INDEX command_open ON @.command (task) WHERE answer IS NULL;
CREATE INDEX command_answered ON @.command (answered);
