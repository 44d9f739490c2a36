-- The functions of nodes: entry, leases, tasks that go from one to another, decisions. `@` stands for the schema's name.

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

-- Forgets takeovers of long ago, and all but the newest ones. Of two that do so at once neither waits for the other.
CREATE FUNCTION @.forget_takeovers() RETURNS void LANGUAGE sql AS $$
    DELETE FROM @.takeover WHERE (by_node, from_node) IN (
        SELECT by_node, from_node FROM @.takeover
            WHERE at < clock_timestamp() - interval '30 days' OR (by_node, from_node) IN (
                SELECT by_node, from_node FROM @.takeover ORDER BY at DESC, by_node, from_node OFFSET 1000
            ) FOR UPDATE SKIP LOCKED
    )
$$;

-- Makes a node of the caller. The first one with stages gets all tasks that there are and that it can go on with.
-- Until its first commit the journal is still what the nodes before have left, so that others have to come again:
-- they get no number. None of them has a row meanwhile, or those that wait would take each other for the first one
-- should that be gone.
CREATE FUNCTION @.enter(its_lease interval, its_name text, its_stages text,
    names text[], versions bigint[], sums int[],
    OUT entered int, OUT first boolean, OUT its_revision int, OUT clock bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    clock := extract(epoch FROM clock_timestamp()) * 1000;
    -- One after the other, beside the commits of those that live.
    PERFORM pg_advisory_xact_lock(tableoid::bigint) FROM @.node WHERE id = 0;
    PERFORM @.bury(0);
    first := cardinality(names) > 0
        AND NOT EXISTS (SELECT FROM @.node WHERE state = 'live' AND revision > 0);
    IF cardinality(names) > 0 AND NOT first
        AND NOT EXISTS (SELECT FROM @.node WHERE state = 'live' AND revision > 0 AND commits > 0)
    THEN
        RETURN;
    END IF;
    SELECT id INTO its_revision FROM @.revision WHERE md5(stages) = md5(its_stages) AND stages = its_stages;
    IF NOT FOUND THEN
        INSERT INTO @.revision (stages) VALUES (its_stages) RETURNING id INTO its_revision;
        INSERT INTO @.stage SELECT its_revision, number - 1, name, version, sum
            FROM unnest(names, versions, sums) WITH ORDINALITY n(name, version, sum, number);
    END IF;
    INSERT INTO @.node (name, revision, lease, lease_until)
        VALUES (its_name, its_revision, its_lease, clock_timestamp() + its_lease) RETURNING id INTO entered;
    IF first THEN
        WITH taken AS (
            UPDATE @.task SET owner = entered, killed = node.state = 'dead', unowned = node.id = 0,
                    owners = owners + 1, claim = 0
                FROM @.node WHERE node.id = owner AND node.state <> 'live'
                    AND task.revision IN (SELECT @.fitting(its_revision))
                RETURNING node.id
        ) INSERT INTO @.takeover
            SELECT entered, its_name, n.id, n.name, n.state = 'dead', count(*), clock_timestamp()
                FROM taken JOIN @.node n ON n.id = taken.id WHERE n.id > 0 GROUP BY n.id;
        IF FOUND THEN
            PERFORM @.forget_takeovers();
        END IF;
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
-- Those of others are written down as a takeover, in the same transaction.
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
        SELECT t.id, n.id AS node, n.state FROM (
            -- Those that were left in the middle come first.
            SELECT id, state FROM @.node WHERE state <> 'live' AND NOT (leaves AND id = 0) ORDER BY id = 0, id
        ) n CROSS JOIN @.fitting(mine) f(revision) CROSS JOIN LATERAL (
            -- As ranges, so that the order is that of the index. With equalities the table's own order would do, in
            -- which those of one node may be the last of all.
            SELECT id FROM @.task
                WHERE (owner, revision) >= (n.id, f.revision) AND (owner, revision) <= (n.id, f.revision)
                ORDER BY owner, revision, id LIMIT its_room FOR UPDATE SKIP LOCKED
        ) t LIMIT its_room
    ), taken AS (
        UPDATE @.task t SET owner = me, killed = open.state = 'dead', unowned = open.node = 0,
                owners = owners + 1, claim = number
            FROM open WHERE t.id = open.id
            RETURNING t.id, open.node
    ), noted AS (
        INSERT INTO @.takeover AS all_of_them
            SELECT me, own.name, n.id, n.name, n.state = 'dead', count(*), clock_timestamp()
                FROM taken JOIN @.node n ON n.id = taken.node JOIN @.node own ON own.id = me
                WHERE n.id > 0 GROUP BY own.id, n.id
            ON CONFLICT (by_node, from_node)
                DO UPDATE SET tasks = all_of_them.tasks + excluded.tasks, at = excluded.at
    ) SELECT taken.id FROM taken;
    IF FOUND THEN
        PERFORM @.forget_takeovers();
    END IF;
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
