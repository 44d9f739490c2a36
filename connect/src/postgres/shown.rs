//! An address as people see it: in a log, an error, a table.

use std::fmt;

use tokio_postgres::config::{Config, Host};

use super::address::Address;

/// The database and its servers: `database "shop" at db.example:5432`. The password is never in it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unclear || is_unclear(&self.config) {
            return f.write_str(
                "a database whose name is not shown, because an @ in its address may be part of a \
                 password (in a URL, write that as %40)",
            );
        }
        match database(&self.config) {
            Some(name) => write!(f, "database {name:?} at ")?,
            None => f.write_str("the default database at ")?,
        }
        let servers = servers(&self.config);
        if servers.is_empty() {
            return f.write_str("no host");
        }
        f.write_str(&servers.join(", "))
    }
}

/// No more than [`Display`](fmt::Display) shows.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address")
            .field(&format_args!("{self}"))
            .finish()
    }
}

/// The name of the database: without one of its own, it is the user's.
fn database(config: &Config) -> Option<&str> {
    let names = [config.get_dbname(), config.get_user()];
    names.into_iter().flatten().find(|name| !name.is_empty())
}

/// `true` if a whole address with its password may have got into a part that is shown.
fn is_unclear(config: &Config) -> bool {
    let host = |host: &Host| shown_host(host).contains('@');
    database(config).is_some_and(|name| name.contains('@')) || config.get_hosts().iter().any(host)
}

/// Each server with its port. A socket goes by its folder.
fn servers(config: &Config) -> Vec<String> {
    let (hosts, addresses, ports) = (
        config.get_hosts(),
        config.get_hostaddrs(),
        config.get_ports(),
    );
    let server = |at: usize| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let address = addresses.get(at).map(ToString::to_string);
        match (hosts.get(at), address) {
            (Some(host), Some(address)) => {
                format!("{}:{port} ({address})", shown_host(host))
            }
            (Some(host), None) => format!("{}:{port}", shown_host(host)),
            (None, Some(address)) => format!("{}:{port}", bracketed(&address)),
            (None, None) => format!("port {port}"),
        }
    };
    (0..hosts.len().max(addresses.len())).map(server).collect()
}

fn shown_host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => bracketed(&name.escape_debug().to_string()),
        #[cfg(unix)]
        Host::Unix(folder) => folder.to_string_lossy().escape_debug().to_string(),
    }
}

/// An IPv6 address in brackets, so that its end can be told from the port.
fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_database_and_all_its_servers_are_named() {
        for (text, shown) in [
            (
                "host=db.example dbname=shop",
                r#"database "shop" at db.example:5432"#,
            ),
            (
                "postgres://ada:secret@db.example/shop?sslmode=require",
                r#"database "shop" at db.example:5432"#,
            ),
            (
                "postgresql://ada:secret@a:1,b/shop",
                r#"database "shop" at a:1, b:5432"#,
            ),
            (
                "host=a,b port=7 dbname=shop password=secret",
                r#"database "shop" at a:7, b:7"#,
            ),
            (
                "host=/run/postgresql,a port=7,8 dbname='my shop'",
                r#"database "my shop" at /run/postgresql:7, a:8"#,
            ),
            (
                "postgres://%2Frun%2Fpostgresql/shop",
                r#"database "shop" at /run/postgresql:5432"#,
            ),
            ("postgres://[::1]:7/shop", r#"database "shop" at [::1]:7"#),
            (
                "host=localhost hostaddr=127.0.0.1 dbname=shop",
                r#"database "shop" at localhost:5432 (127.0.0.1)"#,
            ),
            (
                "hostaddr=::1 dbname=shop",
                r#"database "shop" at [::1]:5432"#,
            ),
            // The database that a server then takes.
            (
                "host=h user=ada password=secret",
                r#"database "ada" at h:5432"#,
            ),
            ("host=h", "the default database at h:5432"),
            ("dbname=shop", r#"database "shop" at no host"#),
            // No line of a log is torn.
            (
                "host='h\n' dbname='\n\u{1b}'",
                r#"database "\n\u{1b}" at h\n:5432"#,
            ),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(format!("{address:?}"), format!("Address({shown})"));
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let texts = [
            "host=h dbname=d user=u password=secret",
            "host=h dbname=d user=u password='my secret'",
            r"host=h password=my\ secret",
            "postgres://u:secret@h/d",
            "postgres://u:my%40secret@h/d",
            "postgres://:secret@h",
            "postgres://h/d?user=u&password=secret",
            "postgres://h/d?password=sec%40secret",
            // Passwords that were not encoded as they have to be.
            "postgres://u:my@secret@h/d",
            "postgres://u:my@secret/1@h/d",
            "postgres://u:my@1/secret@h/d",
            "postgres://u:my@1/d?application_name=secret@h/d",
            "postgres://u:my?secret@h/d",
            "postgres://u:my/secret@h/d",
            "postgres://h/d?password=secret@h",
            "postgres://h/d?password=1@secret",
            // An address in place of a name.
            "host=h dbname=postgres://u:secret@h/d",
            "host=u:secret@h dbname=d",
            "host=h user=u:secret@h",
        ];
        for text in texts {
            let address = Address::parse(text).unwrap_or_else(|shown| panic!("{text}: {shown}"));
            for shown in [
                address.to_string(),
                format!("{address:?} {address:#?}"),
                format!("{:?}", Some(&address)),
            ] {
                assert!(!shown.contains("secret"), "{text}: {shown}");
            }
        }
    }

    /// Such an address is used all the same.
    #[test]
    fn an_address_that_may_show_a_password_says_why_it_is_not_shown() {
        let address = Address::parse("postgres://u:my@secret@h/d").unwrap();
        assert!(address.to_string().contains("%40"), "{address}");
        let clear = Address::parse("postgres://u%40x:my%40secret@h/d?application_name=a%40b");
        let shown = clear.unwrap().to_string();
        assert_eq!(shown, r#"database "d" at h:5432"#);
    }
}
