//! The way of a commit to the database: in one round trip, and in one transaction.

use std::{future::poll_fn, task::Poll};

use futures::future::LocalBoxFuture;
use tokio_postgres::{Error, Row, Statement};

use super::{
    changes::{CHANGE_PARAMS, Param, Part},
    error::Trouble,
    server::Schema,
    session::Connected,
};
use crate::journal::store::Lost;

/// Makes a commit of several parts the node's next one.
const FENCE: &str = "SELECT @.fence($1, $2)";

/// The commit's node and number, by which it happens once or not at all.
#[derive(Clone, Copy)]
pub(super) struct Fence {
    pub(super) node: i32,
    pub(super) revision: i32,
    pub(super) number: i64,
    /// The key of a task that has failed is free.
    pub(super) reuses: bool,
}

/// Sends a commit and waits for the answers. It is all sent before the first answer is looked at, so that no
/// transaction waits for its client.
pub(super) async fn send(
    connected: &mut Connected,
    schema: &Schema,
    fence: Fence,
    parts: &[Part<'_>],
) -> Result<Vec<Lost>, Trouble> {
    let Fence {
        node,
        revision,
        number,
        reuses,
    } = fence;
    let change = prepare_change(connected, schema).await?;
    let client = &connected.client;
    if let [Part::Bulk(bulk)] = parts {
        // A statement is a transaction.
        let mut params: Vec<Param<'_>> = vec![&node, &revision, &number, &reuses];
        params.extend(bulk.params());
        let rows = client.query(&change, &params).await?;
        return Ok(rows.iter().map(lost_row).collect::<Result<_, _>>()?);
    }
    let mut statements = vec![(
        client.prepare(&schema.in_it(FENCE)).await?,
        vec![&node as _, &number as _],
    )];
    for part in parts {
        statements.push(match part {
            Part::Bulk(bulk) => {
                let mut params: Vec<Param<'_>> = vec![&node, &revision, &None::<i64>, &reuses];
                params.extend(bulk.params());
                (change.clone(), params)
            }
            Part::Single(text, values) => {
                let values = values.iter().map(|value| &**value as _);
                let statement = client.prepare(&schema.in_it(text)).await?;
                (statement, values.collect())
            }
        });
    }
    let control = |text| -> Sent<'_> {
        Box::pin(async move { client.batch_execute(text).await.map(|()| Vec::new()) })
    };
    let mut sent = vec![control("BEGIN")];
    for (statement, params) in &statements {
        sent.push(Box::pin(
            async move { client.query(statement, params).await },
        ));
    }
    // After a failed statement it rolls back.
    sent.push(control("COMMIT"));
    let rows = in_their_order(sent).await?;
    // Those of changes: the others have one column, or none.
    let lost = rows.iter().filter(|row| row.len() == 4).map(lost_row);
    Ok(lost.collect::<Result<_, _>>()?)
}

/// A statement that was sent, or is to be.
type Sent<'a> = LocalBoxFuture<'a, Result<Vec<Row>, Error>>;

pub(super) fn lost_row(row: &Row) -> Result<Lost, Error> {
    let digest: Option<i64> = row.try_get(3)?;
    Ok(Lost {
        task: row.try_get::<_, i64>(1)? as u64,
        owner: row.try_get::<_, Option<i64>>(2)?.map(|task| task as u64),
        digest: digest.map(|digest| digest as u64),
        own_digest: None,
    })
}

/// Polls all of these until each is done, always in their order: a statement is sent when it is polled for the
/// first time. Returns all rows, or the first error at the end.
async fn in_their_order(mut all: Vec<Sent<'_>>) -> Result<Vec<Row>, Error> {
    let mut result = Ok(Vec::new());
    poll_fn(|context| {
        all.retain_mut(|one| match one.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(done) => {
                match (&mut result, done) {
                    (Ok(all), Ok(rows)) => all.extend(rows),
                    (Ok(_), Err(error)) => result = Err(error),
                    (Err(_), _) => {}
                }
                false
            }
        });
        match all.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    result
}

/// Prepares the statement that makes commits, once for each connection.
async fn prepare_change(connected: &mut Connected, schema: &Schema) -> Result<Statement, Trouble> {
    if let Some(change) = &connected.change {
        return Ok(change.clone());
    }
    let params: Vec<_> = (1..=CHANGE_PARAMS).map(|n| format!("${n}")).collect();
    let call = format!("SELECT * FROM @.change({})", params.join(", "));
    let change = connected.client.prepare(&schema.in_it(&call)).await?;
    connected.change = Some(change.clone());
    Ok(change)
}
