//! A database that is away, has lost commits, or is not batrun's.

use super::*;

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c6_a_server_that_is_started_anew_is_waited_for() {
    let restart = env::var("BATRUN_POSTGRES_RESTART").unwrap();
    let mut address = Address::at(env::var("BATRUN_POSTGRES_OWN").unwrap());
    address.choices.lease = LONG;
    let mut store = address.open().unwrap();
    let mut number = 0;
    for how in ["immediate", "fast"] {
        thread::scope(|scope| {
            let restarted = scope.spawn(|| Command::new(&restart).arg(how).status().unwrap());
            while !restarted.is_finished() {
                number += 1;
                store.commit(&ops(number)).unwrap();
            }
            assert!(restarted.join().unwrap().success());
        });
    }
    has_committed(&address, number as i64);
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c6_waiting_for_a_database_that_is_away_ends() {
    let direct = Address::new();
    let proxy = proxy_before(&direct.server);
    let mut address = Address::at(through(&proxy, &direct.server));
    address.choices.lease = LONG;
    address.choices.answer = Duration::from_millis(50);
    address.choices.patience = Duration::from_millis(300);
    let mut store = address.open().unwrap();
    proxy.mute(Way::ToServer, true);
    let why = refused(store.commit(&ops(1)));
    assert!(why.contains("tried again for 300ms"), "{why}");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c7_a_database_that_has_lost_commits_is_noticed() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut store = address.open().unwrap();
    for number in 1..=3 {
        store.commit(&ops(number)).unwrap();
    }
    address
        .person()
        .does("UPDATE @.node SET commits = 1 WHERE id > 0");
    let why = refused(store.commit(&ops(4)));
    assert!(why.contains("has lost commits"), "{why}");
    assert!(why.contains("it knows 1, and 3 were confirmed"), "{why}");
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c7_rows_that_somebody_else_has_deleted_are_noticed() {
    let mut address = Address::new();
    address.choices.lease = LONG;
    let mut store = address.open().unwrap();
    store.commit(&ops(1)).unwrap();
    let row = |op| match op {
        RowOp::InsertTask(row, context) => RowOp::UpdateTask(row, Some(context)),
        RowOp::PutUndo(row, _) => RowOp::UpdateUndo(row),
        other => other,
    };
    address.person().does("DELETE FROM @.undo");
    let changed = ops(1).into_iter().map(row).take(2).collect::<Vec<_>>();
    let why = refused(store.commit(&changed));
    assert!(why.contains("somebody else has deleted undos"), "{why}");
    address.person().does("DELETE FROM @.task");
    let why = refused(store.commit(&changed));
    assert!(
        why.contains("tasks of this node are another one's, or were deleted: 0 of 1 are left"),
        "{why}"
    );
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c7_a_schema_that_is_not_a_journal_or_of_another_version_is_refused() {
    let address = Address::new();
    let person = address.person();
    person.does(
        &address
            .schema()
            .in_it("CREATE SCHEMA @.")
            .replace("\".", "\""),
    );
    person.does("CREATE TABLE @.task (mine int)");
    let refused = address.open().map(drop);
    assert!(matches!(refused, Err(StoreError::NotAJournal)));
    // An empty one will do: a person may have made it for a user who can't.
    person.does("DROP TABLE @.task");
    drop(address.open().unwrap());
    person.does("UPDATE @.batrun SET format = 7");
    let refused = address.open().map(drop);
    let (found, known) = (7, crate::journal::postgres::schema::FORMAT);
    assert!(
        matches!(refused, Err(StoreError::Format { found: f, known: k }) if (f, k) == (found, known))
    );
}

/// Nothing in batrun says something else than the address, the user and the database do.
#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c9_a_commit_is_as_durable_as_the_database_says() {
    let of_server = Address::new();
    for setting in ["on", "remote_apply", "local"] {
        let server = of_server.server.clone();
        let mut address = Address::at(format!(
            "{server} options='-c synchronous_commit={setting}'"
        ));
        address.choices.lease = LONG;
        let mut store = address.open().unwrap();
        let person = address.person();
        person.does(
            "CREATE TABLE @.seen (setting text NOT NULL);
             CREATE FUNCTION @.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO @.seen VALUES (current_setting('synchronous_commit'));
                 RETURN NULL;
             END $$;
             CREATE TRIGGER see AFTER INSERT ON @.task EXECUTE FUNCTION @.see()",
        );
        store.commit(&ops(1)).unwrap();
        let mut several = ops(2);
        let (key, task) = ("another key".into(), 1_000_000);
        several.insert(2, RowOp::DeleteKey { key, task });
        store.commit(&several).unwrap();
        let seen = person.sees("SELECT setting FROM @.seen");
        let seen: Vec<String> = seen.iter().map(|row| row.get(0)).collect();
        assert_eq!(seen, [setting, setting]);
    }
}

#[test]
#[ignore = "needs a server: .ci/postgres"]
fn c7_a_server_is_known_by_its_certificate_and_no_password_is_told() {
    let certificates = env::var("BATRUN_POSTGRES_TLS").unwrap();
    let plain = Address::new();
    let with = |root: &str| {
        let server = plain.server.replace("host=127.0.0.1", "host=localhost");
        let mut address = Address::at(format!(
            "{server} password=hunter2 application_name=known sslmode=verify-full \
             sslrootcert={certificates}/{root}.pem"
        ));
        address.choices.schema = plain.choices.schema.clone();
        address
    };
    let mut store = with("ca").open().unwrap();
    store.commit(&ops(1)).unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND application_name = 'known'";
    assert!(plain.person().counts(encrypted) > 0);
    let server = Server::parse(&with("other").server).unwrap();
    let path = server.path().display().to_string();
    let refused = Postgres::connect(server, plain.choices.clone()).map(drop);
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("certificate"), "{why}");
    assert!(path.contains("localhost"), "{path}");
    assert!(!format!("{why} {path}").contains("hunter2"));
}
