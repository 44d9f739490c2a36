-- The tables of one pipeline's journal, in a schema of its own. `@` stands for that schema's name.
--
-- A number of up to 64 bits without a sign is kept as the bigint of the same bits, a checksum as the int of
-- the same bits. A text is escaped, as PostgreSQL has no NUL in texts: `\0` is NUL and `\\` is `\`.

CREATE TABLE @.batrun (format int NOT NULL);

CREATE TABLE @.word (name text PRIMARY KEY, value text NOT NULL, sum int NOT NULL);

CREATE TABLE @.stage (number int PRIMARY KEY, name text NOT NULL, version bigint NOT NULL, sum int NOT NULL);

-- The processes that have had the journal, each start anew. `commits` counts what such a one has committed:
-- who doesn't know what came of a commit reads it here.
CREATE TABLE @.node (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state text NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'left', 'dead')),
    commits bigint NOT NULL DEFAULT 0,
    lease interval NOT NULL,
    lease_until timestamptz NOT NULL,
    began timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);

-- Half of each page is left free, so that a changed row finds room beside the old one and no index has to
-- change. That holds as long as no column that changes has an index.
CREATE TABLE @.task (
    id bigint PRIMARY KEY, key text, stage int, state text NOT NULL, stuck boolean NOT NULL,
    more bytea NOT NULL, sum int NOT NULL, context bytea NOT NULL, context_sum int NOT NULL
) WITH (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

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

CREATE TABLE @.kept (
    key text PRIMARY KEY, task bigint NOT NULL, at bigint NOT NULL, "end" text NOT NULL, digest bigint,
    undos bigint, outcome bytea NOT NULL, output bytea, sum int NOT NULL
);

CREATE TABLE @.kept_undo (
    task bigint NOT NULL, undo bigint NOT NULL, more bytea NOT NULL, sum int NOT NULL, value bytea NOT NULL,
    value_sum int NOT NULL, PRIMARY KEY (task, undo)
);

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

-- Makes a node of the caller, unless another one lives: then it says for how many seconds that one's lease
-- still runs. A node whose lease has run out is buried first, after a commit of its own that is under way. When
-- the server has just been started, all leases look old: they are given their time.
CREATE FUNCTION @.enter(its_lease interval, OUT entered int, OUT wait double precision)
LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE @.node IN SHARE ROW EXCLUSIVE MODE;
    UPDATE @.node SET state = 'dead' WHERE state = 'live' AND lease_until < clock_timestamp()
        AND pg_postmaster_start_time() < clock_timestamp() - lease;
    SELECT extract(epoch FROM
            max(greatest(lease_until, pg_postmaster_start_time() + lease)) - clock_timestamp())
        INTO wait FROM @.node WHERE state = 'live';
    IF wait IS NULL THEN
        DELETE FROM @.node WHERE state <> 'live';
        INSERT INTO @.node (lease, lease_until) VALUES (its_lease, clock_timestamp() + its_lease)
            RETURNING id INTO entered;
    END IF;
END $$;

-- The changes of a commit, or of a part of one, each kind as arrays that belong together. Without a number it
-- is the rest of a commit that began before in the same transaction.
--
-- The rows are few beside those in the tables, and the tables' statistics are often those of other times:
-- each one is looked up by its key.
CREATE FUNCTION @.change(
    me int, number bigint,
    revived bigint[],
    put_id bigint[], put_key text[], put_stage int[], put_state text[], put_stuck boolean[],
    put_more bytea[], put_sum int[], put_context bytea[], put_context_sum int[],
    up_id bigint[], up_stage int[], up_state text[], up_stuck boolean[], up_more bytea[], up_sum int[],
    new_task bigint[], new_undo bigint[], new_more bytea[], new_sum int[], new_value bytea[],
    new_value_sum int[],
    un_task bigint[], un_undo bigint[], un_more bytea[], un_sum int[],
    keep bigint[], gone bigint[], gone_undos bigint[],
    out_number bigint[], out_at bigint[], out_count bigint[], out_body bytea[], out_sum int[],
    kept_key text[], kept_task bigint[], kept_at bigint[], kept_end text[], kept_digest bigint[],
    kept_undos bigint[], kept_outcome bytea[], kept_output bytea[], kept_sum int[],
    old_number bigint[], old_key text[], old_task bigint[], old_at bigint[],
    word_name text[], word_value text[], word_sum int[]
) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off AS $$
DECLARE
    changed bigint;
BEGIN
    IF number IS NOT NULL THEN
        PERFORM @.fence(me, number);
    END IF;
    IF cardinality(revived) > 0 THEN
        INSERT INTO @.undo SELECT kept_undo.* FROM unnest(revived) n(id) JOIN @.kept_undo ON task = n.id
            ON CONFLICT (task, undo) DO UPDATE SET more = excluded.more, sum = excluded.sum,
                value = excluded.value, value_sum = excluded.value_sum;
        DELETE FROM @.kept_undo USING unnest(revived) n(id) WHERE task = n.id;
    END IF;
    IF cardinality(put_id) > 0 THEN
        INSERT INTO @.task AS t SELECT * FROM unnest(
            put_id, put_key, put_stage, put_state, put_stuck, put_more, put_sum, put_context, put_context_sum
        ) ON CONFLICT (id) DO UPDATE SET key = excluded.key, stage = excluded.stage, state = excluded.state,
            stuck = excluded.stuck, more = excluded.more, sum = excluded.sum, context = excluded.context,
            context_sum = excluded.context_sum;
    END IF;
    IF cardinality(up_id) > 0 THEN
        UPDATE @.task t SET stage = n.stage, state = n.state, stuck = n.stuck, more = n.more, sum = n.sum
            FROM unnest(up_id, up_stage, up_state, up_stuck, up_more, up_sum)
                n(id, stage, state, stuck, more, sum)
            WHERE t.id = n.id;
        GET DIAGNOSTICS changed = ROW_COUNT;
        IF changed <> cardinality(up_id) THEN
            RAISE EXCEPTION 'somebody else has deleted tasks: % of % are there', changed, cardinality(up_id)
                USING ERRCODE = 'BRROW';
        END IF;
    END IF;
    IF cardinality(new_task) > 0 THEN
        INSERT INTO @.undo AS u SELECT * FROM unnest(
            new_task, new_undo, new_more, new_sum, new_value, new_value_sum
        ) ON CONFLICT (task, undo) DO UPDATE SET more = excluded.more, sum = excluded.sum,
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
    IF cardinality(keep) > 0 THEN
        INSERT INTO @.kept_undo SELECT undo.* FROM unnest(keep) n(id) JOIN @.undo ON task = n.id
            ON CONFLICT (task, undo) DO UPDATE SET more = excluded.more, sum = excluded.sum,
                value = excluded.value, value_sum = excluded.value_sum;
        DELETE FROM @.undo USING unnest(keep) n(id) WHERE task = n.id;
    END IF;
    IF cardinality(gone) > 0 THEN
        DELETE FROM @.task t USING unnest(gone) n(id) WHERE t.id = n.id;
    END IF;
    IF cardinality(gone_undos) > 0 THEN
        DELETE FROM @.undo USING unnest(gone_undos) n(id) WHERE task = n.id;
    END IF;
    IF cardinality(out_number) > 0 THEN
        INSERT INTO @.outcomes SELECT * FROM unnest(out_number, out_at, out_count, out_body, out_sum);
    END IF;
    IF cardinality(kept_key) > 0 THEN
        INSERT INTO @.kept AS k SELECT * FROM unnest(
            kept_key, kept_task, kept_at, kept_end, kept_digest, kept_undos, kept_outcome, kept_output,
            kept_sum
        ) ON CONFLICT (key) DO UPDATE SET task = excluded.task, at = excluded.at, "end" = excluded."end",
            digest = excluded.digest, undos = excluded.undos, outcome = excluded.outcome,
            output = excluded.output, sum = excluded.sum;
    END IF;
    IF cardinality(old_number) > 0 THEN
        DELETE FROM @.outcomes o USING unnest(old_number) n(number) WHERE o.number = n.number;
    END IF;
    -- A key that has another outcome by now stays.
    IF cardinality(old_key) > 0 THEN
        WITH old AS (
            DELETE FROM @.kept k USING unnest(old_key, old_task, old_at) n(key, task, at)
                WHERE k.key = n.key AND k.task = n.task AND k.at = n.at RETURNING k.task
        ) DELETE FROM @.kept_undo u USING old WHERE u.task = old.task;
    END IF;
    IF cardinality(word_name) > 0 THEN
        INSERT INTO @.word SELECT * FROM unnest(word_name, word_value, word_sum)
            ON CONFLICT (name) DO UPDATE SET value = excluded.value, sum = excluded.sum;
    END IF;
END $$;
