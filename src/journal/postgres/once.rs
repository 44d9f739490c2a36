//! A commit happens once, whatever becomes of the connection.

use super::{
    changes::{Param, Part},
    commit::{Fence, lost_row, send},
    error::Trouble,
    node::Node,
    session::{Connected, Pauses},
    store::{Postgres, closed},
};
use crate::journal::{
    lease::now,
    store::{Lost, StoreError},
};

/// A node's row.
struct NodeRow {
    commits: i64,
    lives: bool,
}

impl Postgres {
    /// The row of this node; `None` if there is none any more.
    fn own_row(&mut self) -> Result<Option<NodeRow>, StoreError> {
        let id = self.node.as_ref().ok_or_else(closed)?.id;
        let statement = "SELECT commits, state = 'live' FROM @.node WHERE id = $1";
        let rows = self.rows(statement, &[&id])?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(NodeRow {
            commits: row.try_get(0)?,
            lives: row.try_get(1)?,
        }))
    }

    /// Makes the commit with this number once.
    pub(super) fn commit_parts(
        &mut self,
        number: i64,
        parts: &[Part<'_>],
    ) -> Result<Vec<Lost>, StoreError> {
        let mut pauses = Pauses::new(self.choices.patience);
        loop {
            let node = self.node.as_ref().ok_or_else(closed)?;
            let Node {
                schema,
                id,
                revision,
                reuses,
                lease,
                ..
            } = node;
            let fence = Fence {
                node: *id,
                revision: *revision,
                number,
                reuses: *reuses,
            };
            let (sent_at, lease) = (now(), lease.clone());
            if lease.is_over() {
                return Err(Trouble::Fenced.into());
            }
            let sent = self
                .session
                .run(async |connected: &mut Connected| send(connected, schema, fence, parts).await);
            match sent {
                Ok(lost) => {
                    lease.renew(sent_at);
                    return Ok(lost);
                }
                Err(Trouble::Refused(why)) => return Err(StoreError::Failed(why)),
                Err(Trouble::Fenced) => {}
                Err(trouble) => pauses.after(trouble)?,
            }
            // It may have happened: an answer was lost, or an attempt before this one was slow.
            match self.own_row()? {
                Some(row) if row.commits == number => return self.lost(parts),
                Some(row) if row.lives && row.commits == number - 1 => {}
                Some(row) if row.lives => {
                    let (found, confirmed) = (row.commits, number - 1);
                    let found = format!("it knows {found}, and {confirmed} were confirmed");
                    return Err(Trouble::Missing(found).into());
                }
                _ => return Err(Trouble::Fenced.into()),
            }
        }
    }

    /// The tasks that were left out of a commit that has happened, as it is now.
    fn lost(&mut self, parts: &[Part<'_>]) -> Result<Vec<Lost>, StoreError> {
        let mut lost = Vec::new();
        for part in parts {
            if let Part::Bulk(bulk) = part
                && bulk.takes_keys()
            {
                let id = self.node.as_ref().ok_or_else(closed)?.id;
                let [keys, tasks, backs] = bulk.taken();
                let taken: [Param<'_>; 4] = [&id, keys, tasks, backs];
                let rows = self.rows("SELECT * FROM @.lost($1, $2, $3, $4)", &taken)?;
                for row in &rows {
                    lost.push(lost_row(row)?);
                }
            }
        }
        Ok(lost)
    }
}
