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

-- Half of each page is left free, so that a changed row finds room beside the old one and no index has to
-- change. That holds as long as no column that changes often has an index.
--
-- A task is its owner's, a node. Only that one writes it, until it has left or is dead; `killed` says that the
-- owner before was dead, `owners` how many there were before,
-- and `claim` is the number of the owner's claim that brought it.
CREATE TABLE @.task (
    id bigint PRIMARY KEY, key text, stage int, state text NOT NULL, stuck boolean NOT NULL,
    more bytea NOT NULL, sum int NOT NULL, context bytea NOT NULL, context_sum int NOT NULL,
    owner int NOT NULL, revision int NOT NULL, killed boolean NOT NULL DEFAULT false,
    owners int NOT NULL DEFAULT 0, claim bigint NOT NULL DEFAULT 0
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

-- Makes a commit this node's next one, and renews its lease. It fails if the node was buried, or if the
-- commit with this number has happened already.
CREATE FUNCTION @.fence(me int, number bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE @.node SET commits = number, lease_until = clock_timestamp() + lease
        WHERE id = me AND state = 'live' AND commits = number - 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'commit % of node % is refused', number, me USING ERRCODE = 'BRFEN';
    END IF;
END $$;

-- Buries nodes whose lease has run out, but for those that are just committing. When the server has just been
-- started all leases look old: they are given their time.
-- Nodes that have gone and have no task any more are forgotten.
CREATE FUNCTION @.bury(me int) RETURNS void LANGUAGE sql AS $$
    -- The caller has its own row locked, which doesn't keep itself out.
    UPDATE @.node SET state = 'dead' WHERE id IN (
        SELECT id FROM @.node WHERE state = 'live' AND id <> me AND lease_until < clock_timestamp()
            AND pg_postmaster_start_time() < clock_timestamp() - lease
            ORDER BY id FOR UPDATE SKIP LOCKED
    );
    DELETE FROM @.node WHERE id IN (
        SELECT id FROM @.node n WHERE state <> 'live' AND id > 0
            AND NOT EXISTS (SELECT FROM @.task WHERE owner = n.id)
            ORDER BY id FOR UPDATE SKIP LOCKED
    )
$$;

-- Renews a lease, and buries others. It fails if this node was buried itself, or if commits are missing that had been
-- confirmed to it.
CREATE FUNCTION @.renew(me int, confirmed bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    there bigint;
BEGIN
    UPDATE @.node SET lease_until = clock_timestamp() + lease WHERE id = me AND state = 'live'
        RETURNING commits INTO there;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the renewal of node % is refused', me USING ERRCODE = 'BRFEN';
    END IF;
    IF there < confirmed THEN
        RAISE EXCEPTION 'it knows %, and % were confirmed', there, confirmed USING ERRCODE = 'BRLST';
    END IF;
    PERFORM @.bury(me);
END $$;

-- The revisions whose tasks a pipeline with this one can go on with: it has all of their stages in the same versions
-- and the same order, and maybe others in between.
CREATE FUNCTION @.fitting(mine int) RETURNS SETOF int LANGUAGE sql STABLE AS $$
    SELECT r.id FROM @.revision r WHERE NOT EXISTS (
        SELECT FROM @.stage s
            LEFT JOIN @.stage m ON m.revision = mine AND m.name = s.name AND m.version = s.version
            WHERE s.revision = r.id AND (m.number IS NULL OR EXISTS (
                SELECT FROM @.stage t
                    JOIN @.stage n ON n.revision = mine AND n.name = t.name AND n.version = t.version
                    WHERE t.revision = r.id AND t.number < s.number AND n.number > m.number
            ))
    )
$$;

-- Makes a node of the caller. The first one with stages gets all tasks that there are and that it can go on with.
CREATE FUNCTION @.enter(its_lease interval, its_name text, its_stages text,
    names text[], versions bigint[], sums int[],
    OUT entered int, OUT first boolean, OUT its_revision int, OUT clock bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    clock := extract(epoch FROM clock_timestamp()) * 1000;
    -- One after the other, beside the commits of those that live.
    PERFORM pg_advisory_xact_lock(tableoid::bigint) FROM @.node WHERE id = 0;
    PERFORM @.bury(0);
    SELECT id INTO its_revision FROM @.revision WHERE md5(stages) = md5(its_stages) AND stages = its_stages;
    IF NOT FOUND THEN
        INSERT INTO @.revision (stages) VALUES (its_stages) RETURNING id INTO its_revision;
        INSERT INTO @.stage SELECT its_revision, number - 1, name, version, sum
            FROM unnest(names, versions, sums) WITH ORDINALITY n(name, version, sum, number);
    END IF;
    first := its_revision > 0
        AND NOT EXISTS (SELECT FROM @.node WHERE state = 'live' AND revision > 0);
    INSERT INTO @.node (name, revision, lease, lease_until)
        VALUES (its_name, its_revision, its_lease, clock_timestamp() + its_lease) RETURNING id INTO entered;
    IF first THEN
        UPDATE @.task SET owner = entered, killed = node.state = 'dead', owners = owners + 1, claim = 0
            FROM @.node WHERE node.id = owner AND node.state <> 'live'
                AND task.revision IN (SELECT @.fitting(its_revision));
        DELETE FROM @.node n WHERE state <> 'live' AND id > 0
            AND NOT EXISTS (SELECT FROM @.task WHERE owner = n.id);
        -- With many tasks that has taken a while.
        UPDATE @.node SET lease_until = clock_timestamp() + lease WHERE id = entered;
    END IF;
END $$;

-- The number of tasks that no node that lives can go on with, as far as a thousand.
CREATE FUNCTION @.stranded() RETURNS bigint LANGUAGE sql STABLE
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
    SELECT count(*) FROM (
        SELECT FROM @.node n CROSS JOIN @.revision r JOIN @.task t ON t.owner = n.id AND t.revision = r.id
            WHERE n.state <> 'live' AND r.id NOT IN (
                SELECT @.fitting(revision) FROM @.node WHERE state = 'live' AND revision > 0
            ) LIMIT 1000
    ) some_of_them
$$;

-- Gives a node tasks of others that have left or are dead, as many as it has room for, and says which. Each claim has
-- a higher number than the one before, so that one that was on its way for long gives it nothing any more. A node that
-- doesn't know what came of claims since a number gets what those gave it, if it was anything. Tasks that nobody has are for nodes that have none waiting, as long as there are such nodes.
CREATE FUNCTION @.claim(me int, its_room bigint, its_queued bigint, number bigint, since bigint)
RETURNS SETOF bigint LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off AS $$
DECLARE
    mine int;
    leaves boolean;
BEGIN
    UPDATE @.node SET room = its_room, queued = its_queued, claims = number
        WHERE id = me AND state = 'live' AND claims < number RETURNING revision INTO mine;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the claim of node % is refused', me USING ERRCODE = 'BRFEN';
    END IF;
    IF since < number THEN
        RETURN QUERY SELECT t.id FROM @.task t WHERE t.owner = me AND t.claim >= since ORDER BY t.id;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    PERFORM @.bury(me);
    IF its_room = 0 THEN
        RETURN;
    END IF;
    leaves := its_queued > 0 AND EXISTS (
        SELECT FROM @.node n WHERE n.state = 'live' AND n.queued = 0 AND n.room > 0
            AND n.lease_until > clock_timestamp() AND mine IN (SELECT @.fitting(n.revision))
    );
    RETURN QUERY WITH open AS MATERIALIZED (
        SELECT t.id, n.state FROM (
            -- Those that were left in the middle come first.
            SELECT id, state FROM @.node WHERE state <> 'live' AND NOT (leaves AND id = 0) ORDER BY id = 0, id
        ) n CROSS JOIN @.fitting(mine) f(revision) CROSS JOIN LATERAL (
            SELECT id FROM @.task WHERE owner = n.id AND revision = f.revision
                ORDER BY id LIMIT its_room FOR UPDATE SKIP LOCKED
        ) t LIMIT its_room
    ) UPDATE @.task t SET owner = me, killed = open.state = 'dead', owners = owners + 1, claim = number
        FROM open WHERE t.id = open.id
        RETURNING t.id;
END $$;

-- The nodes that have room for tasks of this one, and nothing waiting unless `busy`, and how many tasks they have room
-- for in all. None as long as there are tasks for them that nobody has.
CREATE FUNCTION @.idle(me int, busy boolean, OUT nodes bigint, OUT room bigint) LANGUAGE sql STABLE AS $$
    SELECT count(*), coalesce(sum(n.room), 0)::bigint FROM @.node n
        JOIN @.node own ON own.id = me
        WHERE n.state = 'live' AND n.id <> me AND (busy OR n.queued = 0) AND n.room > 0
            AND n.lease_until > clock_timestamp() AND own.revision IN (SELECT @.fitting(n.revision))
            AND NOT EXISTS (SELECT FROM @.task WHERE owner = 0 AND revision IN (0, own.revision))
$$;

-- Leaves a decision about a task to the node that has it, or will. False if there is no such task. The number is the
-- caller's, who may not know if this has happened already.
CREATE FUNCTION @.tell(number bigint, its_task bigint, its_what text) RETURNS boolean LANGUAGE sql AS $$
    INSERT INTO @.command (id, task, what) SELECT number, its_task, its_what
        WHERE EXISTS (SELECT FROM @.task WHERE id = its_task) ON CONFLICT DO NOTHING;
    SELECT EXISTS (SELECT FROM @.command WHERE id = number)
$$;

-- The decisions about a node's tasks that have no answer yet, in their order; `gone` says that the task has ended
-- since this node was told.
CREATE FUNCTION @.told(me int) RETURNS TABLE (id bigint, task bigint, what text, gone boolean) LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM @.command) THEN
        RETURN;
    END IF;
    DELETE FROM @.command WHERE answered < clock_timestamp() - interval '1 hour';
    -- The node that was told answers itself, as long as it lives.
    UPDATE @.command c SET answer = 'ended', answered = clock_timestamp()
        WHERE answer IS NULL AND NOT EXISTS (SELECT FROM @.task t WHERE t.id = c.task)
            AND NOT EXISTS (SELECT FROM @.node n WHERE n.id = c.node AND n.state = 'live');
    UPDATE @.command c SET node = me FROM @.task t
        WHERE c.answer IS NULL AND t.id = c.task AND t.owner = me AND c.node IS DISTINCT FROM me;
    RETURN QUERY SELECT c.id, c.task, c.what, NOT EXISTS (SELECT FROM @.task t WHERE t.id = c.task)
        FROM @.command c WHERE c.answer IS NULL AND c.node = me ORDER BY c.at, c.id;
END $$;

-- Says what came of a decision, once a cancel is recorded. False if it isn't, or if another node decides by now.
CREATE FUNCTION @.answer(me int, number bigint, its_answer text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM @.node WHERE id = me AND state = 'live' FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE @.command c SET answer = its_answer, answered = clock_timestamp()
        WHERE id = number AND answer IS NULL AND node = me AND (its_answer <> 'cancelled' OR NOT EXISTS (
            SELECT FROM @.task t WHERE t.id = c.task AND t.state <> 'rolling back' AND NOT t.stuck
        ));
    RETURN FOUND;
END $$;

-- Of these keys of a commit that has happened, those that another task has; and those of tasks to be taken back
-- that this node does not take back.
CREATE FUNCTION @.lost(
    me int, take_key text[], take_task bigint[], take_back boolean[],
    OUT key text, OUT task bigint, OUT owner bigint, OUT digest bigint
) RETURNS SETOF record LANGUAGE sql STABLE AS $$
    SELECT n.key, n.task, k.task, k.digest FROM unnest(take_key, take_task, take_back) n(key, task, back)
        LEFT JOIN @.key k ON k.key = n.key
        WHERE k.task IS DISTINCT FROM n.task
            OR n.back AND NOT EXISTS (SELECT FROM @.task t WHERE t.id = n.task AND t.owner = me)
$$;

-- The changes of a commit, or of a part of one, each kind as arrays that belong together. Without a number it
-- is the rest of a commit that began before in the same transaction. Returns the keys that other tasks have: the
-- tasks that were to have them are left out. With `reuse` the key of a task that failed is free.
--
-- The rows are few beside those in the tables, and the tables' statistics are often those of other times:
-- each one is looked up by its key.
CREATE FUNCTION @.change(
    me int, its_revision int, number bigint, reuse boolean,
    take_key text[], take_task bigint[], take_digest bigint[], take_back boolean[],
    revived bigint[],
    put_id bigint[], put_key text[], put_stage int[], put_state text[], put_stuck boolean[],
    put_more bytea[], put_sum int[], put_context bytea[], put_context_sum int[],
    up_id bigint[], up_stage int[], up_state text[], up_stuck boolean[], up_more bytea[], up_sum int[],
    new_task bigint[], new_undo bigint[], new_more bytea[], new_sum int[], new_value bytea[],
    new_value_sum int[],
    un_task bigint[], un_undo bigint[], un_more bytea[], un_sum int[],
    released bigint[], keep bigint[], gone bigint[], gone_undos bigint[],
    out_number bigint[], out_at bigint[], out_count bigint[], out_body bytea[], out_sum int[],
    kept_key text[], kept_task bigint[], kept_at bigint[], kept_end text[], kept_digest bigint[],
    kept_undos bigint[], kept_outcome bytea[], kept_output bytea[], kept_sum int[],
    re_task bigint[], re_undo bigint[], re_more bytea[], re_sum int[],
    old_number bigint[], old_key text[], old_task bigint[], old_at bigint[],
    word_name text[], word_value text[], word_sum int[],
    OUT key text, OUT task bigint, OUT owner bigint, OUT digest bigint
) RETURNS SETOF record LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    changed bigint;
    losers bigint[];
    backs bigint[];
BEGIN
    IF number IS NOT NULL THEN
        PERFORM @.fence(me, number);
    END IF;
    IF cardinality(take_key) > 0 THEN
        -- In their order, so that two that take the same ones wait for each other in one direction only.
        INSERT INTO @.key (key, task, digest)
            SELECT n.key, n.task, n.digest FROM unnest(take_key, take_task, take_digest, take_back)
                n(key, task, digest, back) WHERE NOT n.back ORDER BY n.key
            ON CONFLICT (key) DO NOTHING;
        IF reuse THEN
            UPDATE @.key k SET task = n.task, digest = n.digest, at = NULL, "end" = NULL, undos = NULL,
                    outcome = NULL, output = NULL, sum = NULL
                FROM unnest(take_key, take_task, take_digest, take_back) n(key, task, digest, back)
                WHERE NOT n.back AND k.key = n.key AND k.outcome IS NOT NULL AND k."end" <> 'done'
                    AND NOT EXISTS (SELECT FROM @.task t WHERE t.id = k.task);
        END IF;
        IF true = ANY (take_back) THEN
            WITH took AS (
                UPDATE @.key k SET at = NULL, "end" = NULL, undos = NULL, outcome = NULL, output = NULL,
                        sum = NULL
                    FROM unnest(take_key, take_task, take_back) n(key, task, back)
                    WHERE n.back AND k.key = n.key AND k.task = n.task AND k."end" = 'done'
                    RETURNING k.task
            ) SELECT array_agg(took.task) INTO backs FROM took;
        END IF;
        FOR key, task, owner, digest IN
            SELECT n.key, n.task, k.task, k.digest FROM unnest(take_key, take_task, take_back) n(key, task, back)
                LEFT JOIN @.key k ON k.key = n.key
                WHERE k.task IS DISTINCT FROM n.task OR n.back AND (backs IS NULL OR n.task <> ALL (backs))
        LOOP
            RETURN NEXT;
            losers := array_append(losers, task);
        END LOOP;
    END IF;
    IF cardinality(revived) > 0 THEN
        INSERT INTO @.undo SELECT kept_undo.* FROM unnest(revived) n(id) JOIN @.kept_undo ON task = n.id
            WHERE losers IS NULL OR n.id <> ALL (losers)
            ON CONFLICT (task, undo) DO UPDATE SET more = excluded.more, sum = excluded.sum,
                value = excluded.value, value_sum = excluded.value_sum;
        DELETE FROM @.kept_undo USING unnest(revived) n(id)
            WHERE task = n.id AND (losers IS NULL OR n.id <> ALL (losers));
    END IF;
    IF cardinality(put_id) > 0 THEN
        -- A process without stages leaves its tasks to the others.
        INSERT INTO @.task AS t (id, key, stage, state, stuck, more, sum, context, context_sum, owner, revision)
            SELECT n.*, CASE its_revision WHEN 0 THEN 0 ELSE me END, its_revision FROM unnest(
                put_id, put_key, put_stage, put_state, put_stuck, put_more, put_sum, put_context,
                put_context_sum
            ) n(id) WHERE losers IS NULL OR n.id <> ALL (losers)
            ON CONFLICT (id) DO UPDATE SET key = excluded.key, stage = excluded.stage,
                state = excluded.state, stuck = excluded.stuck, more = excluded.more, sum = excluded.sum,
                context = excluded.context, context_sum = excluded.context_sum,
                revision = excluded.revision
            WHERE t.owner + 0 = me;
        GET DIAGNOSTICS changed = ROW_COUNT;
        IF changed <> cardinality(put_id) - coalesce(cardinality(losers), 0) THEN
            RAISE EXCEPTION 'tasks of this node are those of another one: % of % are left',
                changed, cardinality(put_id) USING ERRCODE = 'BRROW';
        END IF;
    END IF;
    IF cardinality(up_id) > 0 THEN
        UPDATE @.task t SET stage = n.stage, state = n.state, stuck = n.stuck, more = n.more, sum = n.sum,
                revision = its_revision
            FROM unnest(up_id, up_stage, up_state, up_stuck, up_more, up_sum)
                n(id, stage, state, stuck, more, sum)
            WHERE t.id = n.id AND t.owner + 0 = me;
        GET DIAGNOSTICS changed = ROW_COUNT;
        IF changed <> cardinality(up_id) THEN
            RAISE EXCEPTION 'somebody else has deleted tasks: % of % are there', changed, cardinality(up_id)
                USING ERRCODE = 'BRROW';
        END IF;
    END IF;
    IF cardinality(new_task) > 0 THEN
        INSERT INTO @.undo AS u SELECT * FROM unnest(
            new_task, new_undo, new_more, new_sum, new_value, new_value_sum
        ) n(task) WHERE losers IS NULL OR n.task <> ALL (losers)
        ON CONFLICT (task, undo) DO UPDATE SET more = excluded.more, sum = excluded.sum,
            value = excluded.value, value_sum = excluded.value_sum;
    END IF;
    IF cardinality(un_task) > 0 THEN
        UPDATE @.undo u SET more = n.more, sum = n.sum
            FROM unnest(un_task, un_undo, un_more, un_sum) n(task, undo, more, sum)
            WHERE u.task = n.task AND u.undo = n.undo;
        GET DIAGNOSTICS changed = ROW_COUNT;
        IF changed <> cardinality(un_task) THEN
            RAISE EXCEPTION 'somebody else has deleted undos: % of % are there', changed, cardinality(un_task)
                USING ERRCODE = 'BRROW';
        END IF;
    END IF;
    IF cardinality(released) > 0 THEN
        UPDATE @.task t SET owner = 0 FROM unnest(released) n(id) WHERE t.id = n.id AND t.owner + 0 = me;
        GET DIAGNOSTICS changed = ROW_COUNT;
        IF changed <> cardinality(released) THEN
            RAISE EXCEPTION 'tasks of this node are those of another one: % of % are left',
                changed, cardinality(released) USING ERRCODE = 'BRROW';
        END IF;
    END IF;
    IF cardinality(keep) > 0 THEN
        INSERT INTO @.kept_undo SELECT undo.* FROM unnest(keep) n(id) JOIN @.undo ON task = n.id
            ON CONFLICT (task, undo) DO UPDATE SET more = excluded.more, sum = excluded.sum,
                value = excluded.value, value_sum = excluded.value_sum;
        DELETE FROM @.undo USING unnest(keep) n(id) WHERE task = n.id;
    END IF;
    IF cardinality(gone) > 0 THEN
        DELETE FROM @.task t USING unnest(gone) n(id) WHERE t.id = n.id AND t.owner + 0 = me;
    END IF;
    IF cardinality(gone_undos) > 0 THEN
        DELETE FROM @.undo USING unnest(gone_undos) n(id) WHERE task = n.id;
    END IF;
    IF cardinality(out_number) > 0 THEN
        INSERT INTO @.outcomes SELECT * FROM unnest(out_number, out_at, out_count, out_body, out_sum);
    END IF;
    IF cardinality(kept_key) > 0 THEN
        INSERT INTO @.key AS k (key, task, at, "end", digest, undos, outcome, output, sum, revision)
            SELECT n.*, its_revision FROM unnest(
            kept_key, kept_task, kept_at, kept_end, kept_digest, kept_undos, kept_outcome, kept_output,
            kept_sum
        ) n(key, task) WHERE losers IS NULL OR n.task <> ALL (losers)
        ON CONFLICT (key) DO UPDATE SET task = excluded.task, at = excluded.at, "end" = excluded."end",
            digest = excluded.digest, undos = excluded.undos, outcome = excluded.outcome,
            output = excluded.output, sum = excluded.sum, revision = excluded.revision
        -- Never that of another task which is in flight.
        WHERE k.task = excluded.task OR k.outcome IS NOT NULL;
    END IF;
    IF cardinality(re_task) > 0 THEN
        UPDATE @.kept_undo u SET more = n.more, sum = n.sum
            FROM unnest(re_task, re_undo, re_more, re_sum) n(task, undo, more, sum)
            WHERE u.task = n.task AND u.undo = n.undo;
    END IF;
    IF cardinality(old_number) > 0 THEN
        DELETE FROM @.outcomes o USING unnest(old_number) n(number) WHERE o.number = n.number;
    END IF;
    -- A key that has another outcome by now stays, and that of a task that is stuck.
    IF cardinality(old_key) > 0 THEN
        WITH old AS (
            DELETE FROM @.key k USING unnest(old_key, old_task, old_at) n(key, task, at)
                WHERE k.key = n.key AND k.task = n.task AND k.at = n.at
                    AND NOT EXISTS (SELECT FROM @.task t WHERE t.id = k.task)
                RETURNING k.task
        ) DELETE FROM @.kept_undo u USING old WHERE u.task = old.task;
    END IF;
    IF cardinality(word_name) > 0 THEN
        INSERT INTO @.word SELECT * FROM unnest(word_name, word_value, word_sum)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value, sum = excluded.sum;
    END IF;
END $$;
