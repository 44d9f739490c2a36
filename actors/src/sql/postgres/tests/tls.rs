//! TLS, and who is let in.

use super::*;

fn folder() -> String {
    match std::env::var("BATRUN_POSTGRES_TLS") {
        Ok(folder) => folder,
        Err(_) => panic!("the folder is not in BATRUN_POSTGRES_TLS; see .ci/postgres"),
    }
}

/// The server's address for that user, with these options; `{}` in them is the folder.
fn address_of(user: &str, options: &str) -> String {
    let address = address().replace("user=batrun", &format!("user={user}"));
    format!("{address} {}", options.replace("{}", &folder()))
}

/// The options by which the server has the name of its certificate.
const NAMED: &str = "host=localhost hostaddr=127.0.0.1";

async fn roles(world: &World) {
    for role in ["certain", "secure", "plain", "keeper"] {
        world
            .sql(format!(
                "DO $$ BEGIN CREATE ROLE {role} LOGIN PASSWORD 'hidden';
                 EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            ))
            .await;
    }
}

/// `true` if the connection is encrypted; the error says why there is none.
async fn encrypted(address: &str) -> Result<bool, Failure> {
    let session = Session::open(address).await?;
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = session.client.query_one(query, &[]).await.unwrap();
    Ok(row.get(0))
}

/// The text says whose string it is, and what is wrong with it.
#[test]
fn a_mistake_in_the_connection_string_fails_for_good() {
    actix_rt::System::new().block_on(async {
        for (options, text) in [
            (
                "sslmode=secret",
                "the connection string of Sql::postgres: sslmode has to be disable, prefer, \
                 require, verify-ca or verify-full",
            ),
            (
                "port=secret",
                "the connection string of Sql::postgres: invalid connection string: invalid value \
                 for option `port`",
            ),
            // No mistake in the string.
            (
                "sslmode=require sslcert=/missing/pem sslkey=/missing/key",
                "/missing/pem: ",
            ),
        ] {
            let opened = Session::open(&format!("host=h {options}")).await;
            let failure = opened.err().unwrap();
            assert!(failure.to_string().starts_with(text), "{failure}");
            assert!(!failure.is_retryable(), "{failure}");
        }
    });
}

fn with_host(address: &str) -> String {
    address.replace("host=127.0.0.1", NAMED)
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn sslmode_decides_about_encryption_and_trust() {
    world("sql_tls", async |world| {
        roles(world).await;
        for (user, options, expected) in [
            ("batrun", "", Ok(true)),
            ("batrun", "sslmode=disable", Ok(false)),
            ("batrun", "sslmode=prefer", Ok(true)),
            ("batrun", "sslmode=require", Ok(true)),
            ("batrun", "sslmode=require sslrootcert={}/ca.pem", Ok(true)),
            (
                "batrun",
                "sslmode=require sslrootcert={}/other.pem",
                Err("UnknownIssuer"),
            ),
            (
                "batrun",
                "sslmode=verify-ca sslrootcert={}/ca.pem",
                Ok(true),
            ),
            (
                "batrun",
                "sslmode=verify-ca sslrootcert={}/other.pem",
                Err("UnknownIssuer"),
            ),
            // The server's own certificate, without its authority.
            (
                "batrun",
                "sslmode=verify-ca sslrootcert={}/localhost.pem",
                Ok(true),
            ),
            (
                "batrun",
                "sslmode=verify-full sslrootcert={}/ca.pem",
                Err("not valid for name"),
            ),
            (
                "batrun",
                "sslmode=verify-full sslrootcert={}/missing.pem",
                Err("missing.pem"),
            ),
            (
                "batrun",
                "sslmode=verify-full sslrootcert={}/certain.key",
                Err("no certificate"),
            ),
            (
                "batrun",
                "sslmode=disable sslrootcert={}/missing.pem",
                Ok(false),
            ),
            ("secure", "", Ok(true)),
            ("secure", "sslmode=disable", Err("rejects")),
            ("plain", "sslmode=disable", Ok(false)),
        ] {
            let found = encrypted(&address_of(user, options)).await;
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{user} {options}"),
                (Err(failure), Err(why)) => {
                    let shown = failure.to_string();
                    assert!(shown.contains(why), "{user} {options}: {shown}");
                    assert!(!failure.is_retryable(), "{shown}");
                }
                _ => panic!("{user} {options}: {found:?}"),
            }
        }
        for (root, trusted) in [
            ("{}/ca.pem", true),
            ("{}/localhost.pem", true),
            ("{}/other.pem", false),
            ("system", false),
        ] {
            let options = format!("sslmode=verify-full sslrootcert={root}");
            let address = with_host(&address_of("batrun", &options));
            assert_eq!(encrypted(&address).await.is_ok(), trusted, "{root}");
        }
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_client_is_known_by_its_certificate() {
    world("sql_certain", async |world| {
        roles(world).await;
        let pair = "sslcert={}/certain.pem sslkey={}/certain.key sslmode=require";
        assert!(encrypted(&address_of("certain", pair)).await.unwrap());
        for other in [
            "sslmode=require",
            "sslcert={}/localhost.pem sslkey={}/certain.key sslmode=require",
            "sslcert={}/certain.pem sslkey={}/missing.key sslmode=require",
        ] {
            let failure = encrypted(&address_of("certain", other)).await.unwrap_err();
            assert!(!failure.is_retryable(), "{other}: {failure}");
        }
    });
}

#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_password_is_bound_to_the_channel_and_never_shown() {
    world("sql_keeper", async |world| {
        roles(world).await;
        let right = "password=hidden channel_binding=require";
        assert!(encrypted(&address_of("keeper", right)).await.unwrap());
        for wrong in ["password=secret", "password='secret' sslmode=disable"] {
            let failure = encrypted(&address_of("keeper", wrong)).await.unwrap_err();
            assert!(!failure.is_retryable(), "{failure}");
            let shown = format!("{failure} {failure:?}");
            assert!(!shown.contains("secret"), "{shown}");
        }
    });
}

/// A request to stop a statement goes over a connection of its own, with the same strictness.
#[test]
#[ignore = "needs a PostgreSQL server; its address is in BATRUN_POSTGRES"]
fn a_stop_reaches_a_server_over_tls() {
    world("sql_tls_stop", async |world| {
        let options = "application_name=sql_tls_stop sslmode=verify-full sslrootcert={}/ca.pem";
        let address = with_host(&address_of("batrun", options));
        let sleeping = [world.insert(1), Statement::new("SELECT pg_sleep(1000)")];
        let stage =
            Sql::postgres(address, move |_: &i64| sleeping.clone()).cancel_with(world.delete());
        let end = stop(world, stage, "wait_event = 'PgSleep'", false).await;
        assert_eq!(end, "cancelled in Postgres");
        assert_eq!(world.ids().await, [0; 0]);
    });
}
