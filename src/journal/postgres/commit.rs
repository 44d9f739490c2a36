//! The way of a commit to the database: in one round trip, and in one transaction.

use std::{future::poll_fn, task::Poll};

use futures::future::LocalBoxFuture;
use tokio_postgres::{Error, Statement};

use super::{
    changes::{CHANGE_PARAMS, Param, Part},
    error::Trouble,
    server::Schema,
    session::Connected,
};

/// Makes a commit of several parts the node's next one.
const FENCE: &str = "SELECT @.fence($1, $2)";

/// Sends a commit and waits for the answers. It is all sent before the first answer is looked at, so that no
/// transaction waits for its client.
pub(super) async fn send(
    connected: &mut Connected,
    schema: &Schema,
    (node, number): (i32, i64),
    parts: &[Part<'_>],
) -> Result<(), Trouble> {
    let change = prepare_change(connected, schema).await?;
    let client = &connected.client;
    if let [Part::Bulk(bulk)] = parts {
        // A statement is a transaction.
        let mut params: Vec<Param<'_>> = vec![&node, &number];
        params.extend(bulk.params());
        client.query(&change, &params).await?;
        return Ok(());
    }
    let mut statements = vec![(
        client.prepare(&schema.in_it(FENCE)).await?,
        vec![&node as _, &number as _],
    )];
    for part in parts {
        statements.push(match part {
            Part::Bulk(bulk) => {
                let mut params: Vec<Param<'_>> = vec![&node, &None::<i64>];
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
    let control =
        |text| -> LocalBoxFuture<'_, Result<(), Error>> { Box::pin(client.batch_execute(text)) };
    let mut sent = vec![control("BEGIN")];
    for (statement, params) in &statements {
        sent.push(Box::pin(async move {
            client.query(statement, params).await.map(drop)
        }));
    }
    // After a failed statement it rolls back.
    sent.push(control("COMMIT"));
    Ok(in_their_order(sent).await?)
}

/// Polls all of these until each is done, always in their order: a statement is sent when it is polled for the
/// first time. Returns the first error, at the end.
async fn in_their_order(mut all: Vec<LocalBoxFuture<'_, Result<(), Error>>>) -> Result<(), Error> {
    let mut result = Ok(());
    poll_fn(|context| {
        all.retain_mut(|one| match one.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(done) => {
                if result.is_ok() {
                    result = done;
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
    let call = format!("SELECT @.change({})", params.join(", "));
    let change = connected.client.prepare(&schema.in_it(&call)).await?;
    connected.change = Some(change.clone());
    Ok(change)
}
