//! The way of a process into a journal: it becomes a node.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicI64},
    thread,
    time::{Duration, Instant},
};

use super::{
    lease::{EnteredNode, Renewal, enter},
    node::Node,
    schema::{self, FORMAT, Found},
    server::Schema,
    session::Connected,
    store::Postgres,
};
use crate::{
    journal::{
        lease::now,
        rows::stage::StageRow,
        store::{Begin, Begun, StoreError},
    },
    logging,
    task::TaskId,
};

/// The longest time for a first node to get all tasks.
const ENTRY: Duration = Duration::from_secs(600);

/// The pause before another look whether the first node has begun.
const NEXT_TRY: Duration = Duration::from_millis(20);

impl Postgres {
    /// Makes this process a node of the pipeline's journal, which is made if there is none.
    pub(super) fn enter(&mut self, begin: &Begin<'_>) -> Result<Begun, StoreError> {
        let schema = match &self.choices.schema {
            Some(name) => Schema::named(name),
            None => Schema::of(begin.pipeline),
        };
        let schema = schema.map_err(StoreError::Failed)?;
        let lease = self.choices.lease;
        let found = self
            .session
            .run_patiently(lease, async |connected: &mut Connected| {
                schema::open(&connected.client, &schema).await
            });
        match found? {
            Found::Journal => {}
            Found::NotAJournal => return Err(StoreError::NotAJournal),
            Found::Format(found) => {
                return Err(StoreError::Format {
                    found,
                    known: FORMAT,
                });
            }
        }
        // With many tasks it takes a while to make them this node's.
        self.session.answers_within(ENTRY);
        let entered = self.enter_with_others(&schema, begin.stages);
        self.session.answers_within(self.choices.answer);
        let entered = entered?;
        let (id, first) = (entered.id, entered.first);
        let revision = entered.revision;
        let length = self.choices.lease;
        let sent = self.renew(&schema, entered.id)?;
        let lease = Arc::new(entered.lease(length));
        lease.renew(sent);
        let confirmed = Arc::<AtomicI64>::default();
        let renewal = Renewal::start(
            &self.server,
            &schema,
            id,
            length,
            lease.clone(),
            confirmed.clone(),
        );
        self.node = Some(Node {
            renewal: renewal.map_err(|error| StoreError::Failed(error.to_string()))?,
            lease,
            schema,
            id,
            revision,
            reuses: begin.reuses_keys,
            commits: 0,
            confirmed,
            owners: HashMap::new(),
        });
        let after = (id as u64) << TaskId::SERIES_BITS;
        Ok(Begun {
            after: Some(after),
            joined: !first,
        })
    }

    /// Makes this process a node. If others live, the first of them has begun by then.
    fn enter_with_others(
        &mut self,
        schema: &Schema,
        stages: &[StageRow],
    ) -> Result<EnteredNode, StoreError> {
        let lease = self.choices.lease;
        let (began, mut said) = (Instant::now(), false);
        loop {
            // One that entered and did not hear of it is dead soon: then there is another first one.
            let entered = self
                .session
                .run_patiently(lease, async |connected: &mut Connected| {
                    enter(connected, schema, lease, stages).await
                })?;
            match entered {
                Some(entered) => return Ok(entered),
                None if !said && began.elapsed() > lease => {
                    said = true;
                    logging::warning!(
                        "the start of this process waits for another one, which is the first and has not begun: it \
                         takes all tasks over, or hangs; see `batrun cluster nodes`"
                    );
                }
                None => thread::sleep(NEXT_TRY),
            }
        }
    }

    /// Renews the lease. Returns the time before that.
    fn renew(&mut self, schema: &Schema, id: i32) -> Result<u64, StoreError> {
        let renew = schema.in_it("SELECT @.renew($1, 0)");
        let (mut sent, lease) = (now(), self.choices.lease);
        self.session
            .run_patiently(lease, async |connected: &mut Connected| {
                sent = now();
                Ok(connected.client.query(&renew, &[&id]).await?)
            })?;
        Ok(sent)
    }
}
