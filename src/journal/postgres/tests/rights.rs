//! Users with as few rights as they need, and journals that are made and migrated for them.

use super::{
    looks::{named, put_stuck},
    *,
};
use crate::{
    journal::{
        JournalDatabase, JournalError, JournalRights,
        postgres::{
            schema::FORMAT,
            setup::{Step, migrate_by},
            support::Person,
        },
    },
    task::TaskId,
};

/// A role of a test's own, which goes with it.
struct Role {
    name: String,
    person: Person,
}

impl Role {
    fn new(address: &Address, name: &str) -> Self {
        let name = format!("{} {name}", address.choices.schema.as_deref().unwrap());
        let person = address.person();
        person.does(&format!("CREATE ROLE \"{name}\" LOGIN"));
        Role { name, person }
    }

    /// The same journal as this user sees it.
    fn at(&self, address: &Address) -> Address {
        let server = address
            .server
            .replace("user=batrun", &format!("user='{}'", self.name));
        let mut own = Address::at(server);
        own.choices = address.choices.clone();
        own
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let name = &self.name;
        self.person
            .does(&format!("DROP OWNED BY \"{name}\"; DROP ROLE \"{name}\""));
    }
}

fn init(address: &Address, rights: JournalRights<'_>) -> Result<bool, JournalError> {
    JournalDatabase::init(&address.server, &named(address), rights)
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c9_a_user_who_may_only_run_makes_and_drops_nothing() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let role = Role::new(&address, "runner");
    let own = role.at(&address);
    let why = refused(own.open().map(drop));
    assert!(why.contains("permission denied for database"), "{why}");
    assert!(why.contains("batrun cluster init --schema"), "{why}");
    assert!(
        why.contains("GRANT this user CREATE on the database"),
        "{why}"
    );

    assert!(init(&address, JournalRights::none()).unwrap());
    let why = refused(own.open().map(drop));
    assert!(why.contains("permission denied for schema"), "{why}");
    assert!(why.contains("--for-user"), "{why}");
    assert!(!init(&address, JournalRights::none().run(&role.name)).unwrap());

    let mut store = own.open().unwrap();
    store.commit(&ops(1)).unwrap();
    store
        .commit(&[RowOp::KeepUndos { task: 1 }, put_stuck(2, None)])
        .unwrap();
    store.close(Writes::Succeeded);
    let mut next = own.open().unwrap();
    begins(&mut next);
    let mut claimer = next.claimer().unwrap().unwrap();
    let load = Load {
        room: 10,
        queued: 0,
    };
    claimer.claim(load).unwrap();
    let took = "SELECT tasks FROM @.takeover WHERE by_node = 2 AND from_node = 1";
    assert_eq!(address.person().counts(took), 2);
    let mut journal = JournalDatabase::look(&own.server, &named(&own)).unwrap();
    journal.retry(&[TaskId(2)], Duration::ZERO).unwrap();
    for not_allowed in [
        "CREATE TABLE @.mine (x int)",
        "DROP TABLE @.task",
        "DROP SCHEMA @ CASCADE",
        "ALTER TABLE @.task ADD COLUMN x int",
        "TRUNCATE @.task",
        "UPDATE @.batrun SET format = 7",
        "CREATE OR REPLACE FUNCTION @.tell(number bigint, its_task bigint, its_what text) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    ] {
        let statement = format!("{not_allowed};");
        let why = own.person().is_refused(&statement);
        assert_eq!(why.as_deref(), Some("42501"), "{not_allowed}");
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_user_who_may_only_look_decides_nothing() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let role = Role::new(&address, "looker");
    let own = role.at(&address);
    init(&address, JournalRights::none().look(&role.name)).unwrap();
    let mut store = address.open().unwrap();
    store.commit(&[put_stuck(2, None)]).unwrap();
    let mut journal = JournalDatabase::look(&own.server, &named(&own)).unwrap();
    journal.nodes().unwrap();
    journal.stranded().unwrap();
    journal.takeovers().unwrap();
    journal.upkeep().unwrap();
    for refused in [
        journal.retry(&[TaskId(2)], Duration::ZERO),
        journal.resolve(&[TaskId(2)], Duration::ZERO),
    ] {
        let why = refused.unwrap_err().to_string();
        assert!(why.contains("nothing was changed"), "{why}");
        assert!(why.contains("this user may look, and not decide"), "{why}");
    }
    // It still shows.
    let mut stuck = 0;
    journal.stuck(|_| stuck += 1).unwrap();
    assert_eq!(stuck, 1);
    let why = refused(own.open().map(drop));
    assert!(why.contains("permission denied"), "{why}");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_journal_is_not_made_in_somebody_elses_schema_or_for_nobody() {
    let address = Address::new();
    let refused = init(&address, JournalRights::none().run("no such role"));
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("there is no role \"no such role\""), "{why}");
    let person = address.person();
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = current_setting('x.schema')";
    let name = address.choices.schema.as_deref().unwrap();
    person.does(&format!("SET x.schema = '{name}'"));
    assert_eq!(person.counts(schemas), 0);
    person.does("CREATE SCHEMA @;");
    person.does("CREATE TABLE @.orders (id int)");
    for refused in [
        init(&address, JournalRights::none()).map(|_| 0),
        JournalDatabase::migrate(&address.server, &named(&address)),
    ] {
        assert!(matches!(refused, Err(JournalError::NotAJournal { .. })));
    }
    person.does("DROP TABLE @.orders");
    let why = JournalDatabase::migrate(&address.server, &named(&address)).unwrap_err();
    assert!(
        why.to_string().contains("`batrun cluster init` makes one"),
        "{why}"
    );
    // An empty one will do.
    assert!(init(&address, JournalRights::none()).unwrap());
    person.does("UPDATE @.batrun SET format = 7");
    let refused = init(&address, JournalRights::none());
    assert!(matches!(
        refused,
        Err(JournalError::Format { found: 7, .. })
    ));
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn a_journal_is_migrated_as_a_whole_or_not_at_all() {
    const STEPS: &[Step] = &[
        Step {
            from: FORMAT,
            statements: "CREATE TABLE @.news (x int)",
        },
        Step {
            from: FORMAT + 1,
            statements: "CREATE FUNCTION @.old() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM @.news'",
        },
    ];
    const BROKEN: &[Step] = &[
        Step {
            from: FORMAT,
            statements: "CREATE TABLE @.news (x int)",
        },
        Step {
            from: FORMAT + 1,
            statements: "ALTER TABLE @.nothing ADD COLUMN x int",
        },
    ];
    let address = Address::new();
    let (runs, looks) = (Role::new(&address, "runner"), Role::new(&address, "looker"));
    let rights = JournalRights::none().run(&runs.name).look(&looks.name);
    init(&address, rights).unwrap();
    let own = JournalDatabase::migrate(&address.server, &named(&address));
    assert_eq!(own.unwrap(), FORMAT);
    let migrate = |steps, to| {
        let server = Server::parse(&address.server).unwrap();
        migrate_by(server, &address.schema(), steps, to)
    };
    let person = address.person();
    let format = || person.counts("SELECT format::bigint FROM @.batrun");
    for (steps, to) in [
        (BROKEN, FORMAT + 2),
        (STEPS, FORMAT + 3),
        (STEPS, FORMAT - 1),
    ] {
        migrate(steps, to).unwrap_err();
        assert_eq!(format(), i64::from(FORMAT));
        assert!(person.is_refused("SELECT FROM @.news").is_some());
    }
    assert_eq!(migrate(STEPS, FORMAT + 2).unwrap(), FORMAT);
    assert_eq!(format(), i64::from(FORMAT + 2));
    assert_eq!(migrate(STEPS, FORMAT + 2).unwrap(), FORMAT + 2);
    // Both have kept their rights, and have got them for what is new.
    let write = "INSERT INTO @.news VALUES (1)";
    assert_eq!(runs.at(&address).person().is_refused(write), None);
    let denied = Some("42501".to_owned());
    assert_eq!(looks.at(&address).person().is_refused(write), denied);
    assert_eq!(
        looks
            .at(&address)
            .person()
            .counts("SELECT count(*) FROM @.news"),
        1
    );
    // This version is an older one now.
    let refused = JournalDatabase::migrate(&address.server, &named(&address));
    assert!(matches!(refused, Err(JournalError::Format { found, .. }) if found == FORMAT + 2));
}
