//! The database, as the test sees it: past batrun, with triggers that write down who changed what.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use crate::child::{PATIENCE, SCHEMA};

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
    what text NOT NULL, id bigint, owner int, state text, commits bigint, before int, before_state text
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

pub(crate) async fn connect(server: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(server, NoTls).await.unwrap();
    actix_rt::spawn(connection);
    client
}

/// Removes what an earlier test has left.
pub(crate) async fn clear(server: &str) {
    let client = connect(server).await;
    let drop = in_it("DROP SCHEMA IF EXISTS @ CASCADE");
    client.batch_execute(&drop).await.unwrap();
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

/// Locks some tasks for this long. Returns how many.
pub(crate) async fn lock_some(server: &str, time: Duration) -> usize {
    let client = connect(server).await;
    client.batch_execute("BEGIN").await.unwrap();
    let lock = in_it("SELECT id FROM @.task ORDER BY random() LIMIT 20 FOR UPDATE SKIP LOCKED");
    let locked = client.query(&lock, &[]).await.unwrap();
    actix_rt::time::sleep(time).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    locked.len()
}

/// Waits until a node has claimed tasks, and cuts its connection before it can have read them. Returns how many
/// connections were cut, none if nobody claims for a while, and the tasks that stood still from then on.
pub(crate) async fn cut_claims(server: &str) -> (usize, Vec<i64>) {
    let client = connect(server).await;
    let last = in_it("SELECT coalesce(max(number), 0) FROM @.audit");
    let last: i64 = client.query_one(&last, &[]).await.unwrap().get(0);
    client.batch_execute(&in_it(CUT)).await.unwrap();
    let cut = in_it("SELECT count(*) FROM @.audit WHERE what = 'cut'");
    let cut: i64 = client.query_one(&cut, &[]).await.unwrap().get(0);
    let still = in_it(STILL);
    let until = Instant::now() + PATIENCE / 3;
    loop {
        let still = client.query(&still, &[&last]).await.unwrap();
        if still.is_empty() || Instant::now() > until {
            let still = still.iter().map(|row| row.get(0));
            return (cut as usize, still.collect());
        }
        actix_rt::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Claimed tasks of which nothing was recorded since.
const STILL: &str = "
SELECT a.id FROM @.audit a JOIN @.task t ON t.id = a.id WHERE a.number > $1 AND a.before IS NOT NULL
    AND NOT t.stuck AND NOT EXISTS (SELECT FROM @.audit b WHERE b.id = a.id AND b.number > a.number)";

/// It runs on the server, which alone is fast enough.
const CUT: &str = "
DO $$ DECLARE
    last bigint := (SELECT max(number) FROM @.audit);
    until timestamptz := clock_timestamp() + interval '3 s';
BEGIN
    WHILE clock_timestamp() < until LOOP
        IF EXISTS (SELECT FROM @.audit WHERE number > last AND before IS NOT NULL) THEN
            WITH claimers AS MATERIALIZED (
                SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                    AND (query LIKE '%.claim($1%' OR query LIKE '%WHERE id = ANY%' OR query LIKE '%WHERE task = ANY%')
            ) INSERT INTO @.audit (what, id) SELECT 'cut', pid FROM claimers WHERE pg_terminate_backend(pid);
            EXIT;
        END IF;
    END LOOP;
END $$";

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
    let audits = "SELECT number, what, id, owner, state, before, before_state FROM @.audit \
                  WHERE what <> 'cut' ORDER BY number";
    let audits = rows(audits).await;
    let audits = audits.iter().map(|row| {
        let table: String = row.get(1);
        let (owner, state): (i32, Option<String>) = (row.get(3), row.get(4));
        let what = match (&*table, row.get(5)) {
            ("node", _) => What::State {
                node: owner,
                state: state.unwrap_or_default(),
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
