//! The database, as the test sees it: past batrun, with triggers that write down who changed what.

use std::time::{Duration, Instant};

use crate::{
    child::{PATIENCE, SCHEMA},
    log::Undo,
    server::connect,
};

/// A row that a trigger wrote.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Audit {
    /// They are drawn while the node's row is locked, so they go up in the order of what that node did.
    pub(crate) number: i64,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A node has another state now.
    State { node: i32, state: String },
    /// A row of one owner was written, with the state of that node then.
    Write {
        table: String,
        id: i64,
        owner: i32,
        state: Option<String>,
    },
    /// An undo of a task was recorded.
    Undo {
        undo: Option<Undo>,
        owner: i32,
        state: Option<String>,
    },
    /// A task went from one node to another one.
    Claim {
        task: i64,
        from: i32,
        from_state: Option<String>,
        to: i32,
        to_state: Option<String>,
    },
}

/// A row of the table `key`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) number: u64,
    pub(crate) task: u64,
    /// The end of the task, if it has ended.
    pub(crate) end: Option<String>,
}

/// Everything that counts in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) keys: Vec<Key>,
    pub(crate) audits: Vec<Audit>,
    /// The tasks that are left, and whether they are stuck.
    pub(crate) left: Vec<(u64, bool)>,
    /// The undos of tasks that are gone.
    pub(crate) orphans: i64,
}

const TRIGGERS: &str = "
CREATE TABLE @.audit (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(),
    what text NOT NULL, id bigint, owner int, state text, commits bigint, before int, before_state text,
    value bytea
);
CREATE INDEX ON @.audit (id);

CREATE FUNCTION @.audit_task() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    its_owner int := CASE TG_OP WHEN 'DELETE' THEN OLD.owner ELSE NEW.owner END;
    was_owner int := CASE TG_OP WHEN 'INSERT' THEN NULL ELSE OLD.owner END;
BEGIN
    INSERT INTO @.audit (what, id, owner, state, commits, before, before_state)
        SELECT 'task', CASE TG_OP WHEN 'DELETE' THEN OLD.id ELSE NEW.id END, its_owner,
            (SELECT state FROM @.node WHERE node.id = its_owner),
            (SELECT commits FROM @.node WHERE node.id = its_owner), nullif(was_owner, its_owner),
            (SELECT state FROM @.node WHERE node.id = nullif(was_owner, its_owner));
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON @.task FOR EACH ROW EXECUTE FUNCTION @.audit_task();

CREATE FUNCTION @.audit_outcomes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO @.audit (what, id, owner, state, commits)
        SELECT 'outcomes', NEW.number, NEW.number >> 36,
            (SELECT state FROM @.node WHERE node.id = NEW.number >> 36),
            (SELECT commits FROM @.node WHERE node.id = NEW.number >> 36);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT ON @.outcomes FOR EACH ROW EXECUTE FUNCTION @.audit_outcomes();

CREATE FUNCTION @.audit_undo() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO @.audit (what, id, owner, state, commits, value)
        SELECT 'undo', NEW.task, owner, (SELECT state FROM @.node WHERE node.id = owner),
            (SELECT commits FROM @.node WHERE node.id = owner), NEW.value
        FROM @.task WHERE task.id = NEW.task;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT ON @.undo FOR EACH ROW EXECUTE FUNCTION @.audit_undo();

CREATE FUNCTION @.audit_node() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO @.audit (what, owner, state, commits) VALUES ('node', NEW.id, NEW.state, NEW.commits);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON @.node FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION @.audit_node();
";

fn in_it(statement: &str) -> String {
    statement.replace('@', &format!("\"{SCHEMA}\""))
}

/// Writes down who changes what from now on.
pub(crate) async fn audit(server: &str) {
    let client = connect(server).await;
    client.batch_execute(&in_it(TRIGGERS)).await.unwrap();
}

/// The tasks that have not ended, each with its owner.
pub(crate) async fn unfinished(server: &str) -> Vec<(i64, i32)> {
    let client = connect(server).await;
    let left = in_it("SELECT id, owner FROM @.task WHERE NOT stuck ORDER BY id");
    let rows = client.query(&left, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Keeps a transaction open for this long that has a snapshot and locks some tasks, and a node if it is told to.
/// Returns the number of rows.
pub(crate) async fn hold_rows(server: &str, time: Duration, with_a_node: bool) -> u64 {
    let client = connect(server).await;
    // With a node it holds a snapshot, too.
    let begin = match with_a_node {
        true => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        false => "BEGIN",
    };
    let tasks = in_it("SELECT id FROM @.task ORDER BY random() LIMIT 20 FOR UPDATE SKIP LOCKED");
    let node = in_it("SELECT id FROM @.node WHERE state = 'live' LIMIT 1 FOR UPDATE SKIP LOCKED");
    let mut locked = 0;
    // There may be none just now, and a row that has changed since the snapshot can't be locked: another snapshot.
    for _ in 0..100 {
        client.batch_execute(begin).await.unwrap();
        let lock = if with_a_node { &node } else { &tasks };
        locked = client.query(lock, &[]).await.map_or(0, |rows| rows.len());
        if locked > 0 {
            break;
        }
        client.batch_execute("ROLLBACK").await.unwrap();
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
    if with_a_node && locked > 0 {
        client.batch_execute("SAVEPOINT s").await.unwrap();
        match client.query(&tasks, &[]).await {
            Ok(rows) => locked += rows.len(),
            Err(_) => client.batch_execute("ROLLBACK TO s").await.unwrap(),
        }
    }
    actix_rt::time::sleep(time).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    locked as u64
}

/// The number of connections of nodes.
pub(crate) async fn connections(server: &str) -> u64 {
    let client = connect(server).await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'batrun'";
    let row = client.query_one(count, &[]).await.unwrap();
    row.get::<_, i64>(0) as u64
}

/// Waits until all tasks of live nodes go on, and returns those that don't.
pub(crate) async fn still(server: &str) -> Vec<(i64, i32)> {
    let client = connect(server).await;
    let still = in_it(STILL);
    let until = Instant::now() + PATIENCE / 3;
    loop {
        let rows = client.query(&still, &[]).await.unwrap();
        if rows.is_empty() || Instant::now() > until {
            return rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        }
        actix_rt::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Tasks of live nodes of which nothing was recorded for a while, each with its owner.
const STILL: &str = "
SELECT t.id, t.owner FROM @.task t JOIN @.node n ON n.id = t.owner
    WHERE NOT t.stuck AND n.state = 'live' AND n.lease_until > clock_timestamp()
        AND (SELECT max(at) FROM @.audit a WHERE a.id = t.id) < clock_timestamp() - interval '3 s'";

/// Reads everything that the checker needs.
pub(crate) async fn found(server: &str) -> Found {
    let client = connect(server).await;
    let rows = async |statement: &str| client.query(&in_it(statement), &[]).await.unwrap();
    let keys = rows("SELECT key, task, \"end\" FROM @.key").await;
    let keys = keys.iter().map(|row| Key {
        number: row.get::<_, String>(0).parse().unwrap(),
        task: row.get::<_, i64>(1) as u64,
        end: row.get(2),
    });
    let audits = "SELECT number, what, id, owner, state, before, before_state, value \
                  FROM @.audit ORDER BY number";
    let audits = rows(audits).await;
    let audits = audits.iter().map(|row| {
        let table: String = row.get(1);
        let (owner, state): (i32, Option<String>) = (row.get(3), row.get(4));
        let what = match (&*table, row.get(5)) {
            ("node", _) => What::State {
                node: owner,
                state: state.unwrap_or_default(),
            },
            ("undo", _) => What::Undo {
                undo: rmp_serde::from_slice(row.get(7)).ok(),
                owner,
                state,
            },
            (_, Some(from)) => What::Claim {
                task: row.get(2),
                from,
                from_state: row.get(6),
                to: owner,
                to_state: state,
            },
            (_, None) => What::Write {
                table,
                id: row.get(2),
                owner,
                state,
            },
        };
        let number = row.get(0);
        Audit { number, what }
    });
    let left = rows("SELECT id, stuck FROM @.task ORDER BY id").await;
    let left = left
        .iter()
        .map(|row| (row.get::<_, i64>(0) as u64, row.get(1)));
    let orphans = "SELECT count(*) FROM @.undo WHERE task NOT IN (SELECT id FROM @.task)";
    let orphans = rows(orphans).await[0].get(0);
    Found {
        keys: keys.collect(),
        audits: audits.collect(),
        left: left.collect(),
        orphans,
    }
}
