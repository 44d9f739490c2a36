-- The functions of commits. `@` stands for the schema's name.

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
    up_context bytea[], up_context_sum int[],
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
        INSERT INTO @.task (id, key, stage, state, stuck, more, sum, context, context_sum, owner, revision)
            SELECT n.*, CASE its_revision WHEN 0 THEN 0 ELSE me END, its_revision FROM unnest(
                put_id, put_key, put_stage, put_state, put_stuck, put_more, put_sum, put_context,
                put_context_sum
            ) n(id) WHERE losers IS NULL OR n.id <> ALL (losers);
    END IF;
    IF cardinality(up_id) > 0 THEN
        UPDATE @.task t SET stage = n.stage, state = n.state, stuck = n.stuck, more = n.more, sum = n.sum,
                context = coalesce(n.context, t.context),
                context_sum = coalesce(n.context_sum, t.context_sum), revision = its_revision
            FROM unnest(up_id, up_stage, up_state, up_stuck, up_more, up_sum, up_context, up_context_sum)
                n(id, stage, state, stuck, more, sum, context, context_sum)
            WHERE t.id = n.id AND t.owner + 0 = me;
        GET DIAGNOSTICS changed = ROW_COUNT;
        IF changed <> cardinality(up_id) THEN
            RAISE EXCEPTION 'tasks of this node are another one''s, or were deleted: % of % are left', changed, cardinality(up_id)
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
