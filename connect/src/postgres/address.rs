//! A connection string as users of libpq write it.
//!
//! tokio-postgres parses most of it, but of TLS only a part, so the options of TLS are taken out here
//! first. Errors never show a value, and no word that may be a part of one.

use std::{borrow::Cow, path::PathBuf};

use tokio_postgres::config::{Config, Host, SslMode};

/// A server's address, and what has to hold for a connection to it.
pub struct Address {
    pub(super) config: Config,
    pub(super) trust: Trust,
    /// The client's certificate and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
    /// `true` if what was read as a host, a name or an option may be a part of a password.
    pub(super) unclear: bool,
}

/// The servers that are trusted, if TLS is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Anyone,
    /// Those with a certificate of an authority in this file; with this name, if it says so.
    File {
        path: PathBuf,
        name: bool,
    },
    /// Those that the system trusts, with this name.
    System,
}

/// Options of libpq that can't be honoured. An option that is none may be a part of a password.
const UNSUPPORTED: &[&str] = &[
    "channel_binding_type",
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "max_protocol_version",
    "min_protocol_version",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkeylogfile",
    "sslpassword",
    "sslsni",
];

/// The options of TLS.
#[derive(Default)]
struct Options {
    mode: Option<String>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Options {
    /// `true` if the option was one of them.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let option = match key {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            _ if UNSUPPORTED.contains(&key) => {
                return Err(format!("the option {key} is not supported: leave it out"));
            }
            _ => return Ok(false),
        };
        // An empty value is none, as in libpq.
        *option = Some(value.to_owned()).filter(|value| !value.is_empty());
        Ok(true)
    }
}

impl Address {
    /// Reads a connection string: `key=value` words, or a URL.
    ///
    /// # Errors
    /// There is a mistake in the string, or an option that can't be honoured. The text doesn't say
    /// whose string it is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Options::default();
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let rest = if is_url {
            without_tls_of_url(text, &mut options)?
        } else {
            without_tls_of_words(text, &mut options)?
        };
        let config = rest.parse::<Config>().map_err(|error| {
            let text = error.to_string();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            match source.filter(|source| !source.contains("unknown option")) {
                Some(source) => format!("{text}: {source}"),
                // It may be a part of a password with a space in it.
                None => "an option is unknown; quote values that contain spaces".to_owned(),
            }
        })?;
        let mut address = options.apply(config)?;
        address.unclear = is_url && is_unclear_url(text);
        Ok(address)
    }

    /// The server, the user and all else that tokio-postgres needs to know. The servers that are
    /// trusted are not in it: they are up to the [`connector`](super::connector()).
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl Options {
    fn apply(self, mut config: Config) -> Result<Address, String> {
        let system = self.root.as_deref() == Some("system");
        let mode = match self.mode.as_deref() {
            None if system => "verify-full",
            None => "prefer",
            Some(mode) => mode,
        };
        let file = |name| match &self.root {
            Some(path) => Ok(Trust::File {
                path: path.into(),
                name,
            }),
            None => Err(format!(
                "sslmode={mode} needs sslrootcert: the file with the authorities' certificates, or \
                 system for those that the system trusts; ~/.postgresql is not looked into"
            )),
        };
        let (tls, trust) = match mode {
            "disable" => (SslMode::Disable, Trust::Anyone),
            "verify-full" if system => (SslMode::Require, Trust::System),
            "prefer" | "require" | "verify-ca" if system => {
                let text = "sslrootcert=system needs sslmode=verify-full: anybody can have a \
                            certificate of an authority that the system trusts";
                return Err(text.to_owned());
            }
            "prefer" if self.root.is_some() => (SslMode::Prefer, file(false)?),
            "prefer" => (SslMode::Prefer, Trust::Anyone),
            "require" if self.root.is_some() => (SslMode::Require, file(false)?),
            "require" => (SslMode::Require, Trust::Anyone),
            "verify-ca" => (SslMode::Require, file(false)?),
            "verify-full" => (SslMode::Require, file(true)?),
            "allow" => {
                let text = "sslmode=allow is not supported: use prefer or disable";
                return Err(text.to_owned());
            }
            _ => {
                let text = "sslmode has to be disable, prefer, require, verify-ca or verify-full";
                return Err(text.to_owned());
            }
        };
        config.ssl_mode(tls);
        let hosts = config.get_hosts();
        let is_network = hosts.is_empty() || !config.get_hostaddrs().is_empty();
        if !is_network && hosts.iter().all(is_local) {
            // As in libpq: there is no TLS in a socket of the machine's own.
            config.ssl_mode(SslMode::Disable);
        }
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (None, None) => None,
            _ => {
                return Err("sslcert and sslkey need each other: name both files".to_owned());
            }
        };
        Ok(Address {
            config,
            trust,
            identity,
            unclear: false,
        })
    }
}

fn is_local(host: &Host) -> bool {
    !matches!(host, Host::Tcp(_))
}

/// `true` if the URL can be read in two ways: whoever wrote it may have meant more of it to be the
/// password than what is before the first `@`.
fn is_unclear_url(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    match after_scheme.split_once('@') {
        Some((credentials, rest)) => credentials.contains(['/', '?']) || rest.contains('@'),
        None => false,
    }
}

/// The URL without these options in its query.
fn without_tls_of_url(text: &str, options: &mut Options) -> Result<String, String> {
    // A password may contain a question mark.
    let host = text.find('@').unwrap_or_default();
    let Some(query) = text[host..].find('?').map(|at| host + at) else {
        return Ok(text.to_owned());
    };
    let mut kept = Vec::new();
    for pair in text[query + 1..].split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !options.take(&decoded(key)?, &decoded(value)?)? {
            kept.push(pair);
        }
    }
    Ok(format!("{}?{}", &text[..query], kept.join("&")))
}

/// The text with `%` and two hexadecimal digits as the byte that they stand for.
fn decoded(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.contains('%') {
        return Ok(text.into());
    }
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes)
        .map(Cow::from)
        .map_err(|_| "an option of the URL is not UTF-8".to_owned())
}

/// The `key=value` words without those of these options.
fn without_tls_of_words(text: &str, options: &mut Options) -> Result<String, String> {
    let mut kept = String::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .ok_or("a word in it has no value; quote values with spaces")?;
        let key = key.trim_end();
        if key.contains(char::is_whitespace) {
            return Err("a word in it has no value; quote values with spaces".to_owned());
        }
        let (value, after) = value(after.trim_start())?;
        rest = after.trim_start();
        if !options.take(key, &value)? {
            let quoted = value.replace('\\', r"\\").replace('\'', r"\'");
            kept.push_str(&format!("{key}='{quoted}' "));
        }
    }
    Ok(kept)
}

/// The value at the beginning of a text, and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.extend(chars.next().map(|(_, char)| char)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            _ if !quoted && char.is_whitespace() => return Ok((value, &text[at..])),
            _ => value.push(char),
        }
    }
    if quoted {
        return Err("a quoted value in it has no end".to_owned());
    }
    Ok((value, ""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (SslMode, Trust) {
        let address = Address::parse(text).unwrap_or_else(|mistake| panic!("{text}: {mistake}"));
        (address.config.get_ssl_mode(), address.trust)
    }

    fn file(path: &str, name: bool) -> Trust {
        let path = path.into();
        Trust::File { path, name }
    }

    #[test]
    fn sslmode_means_what_it_means_in_libpq() {
        use SslMode::{Disable, Prefer, Require};
        for (options, expected) in [
            ("", (Prefer, Trust::Anyone)),
            ("sslmode=disable", (Disable, Trust::Anyone)),
            ("sslmode=disable sslrootcert=/ca", (Disable, Trust::Anyone)),
            ("sslmode=prefer", (Prefer, Trust::Anyone)),
            ("sslmode=require", (Require, Trust::Anyone)),
            (
                "sslmode=require sslrootcert=/ca",
                (Require, file("/ca", false)),
            ),
            (
                "sslmode = verify-ca sslrootcert = '/c a'",
                (Require, file("/c a", false)),
            ),
            (
                "sslrootcert=/ca sslmode=verify-full",
                (Require, file("/ca", true)),
            ),
            (
                "sslmode=verify-full sslrootcert=system",
                (Require, Trust::System),
            ),
            ("sslrootcert=system", (Require, Trust::System)),
            ("sslrootcert='' sslmode=require", (Require, Trust::Anyone)),
        ] {
            assert_eq!(parsed(&format!("host=h {options} user=u")), expected);
            if !options.contains([' ', '\'']) {
                assert_eq!(parsed(&format!("postgres://u:p?w@h/d?{options}")), expected);
            }
        }
        let url = "postgresql://h/d?sslrootcert=%2Fc%20a&application_name=x&sslmode=verify-ca";
        assert_eq!(parsed(url), (Require, file("/c a", false)));
        // There is no TLS in such a socket.
        assert_eq!(parsed("host=/run sslmode=require").0, Disable);
        // But an address beside it is gone to over the network.
        assert_eq!(
            parsed("host=/run hostaddr=10.0.0.1 sslmode=require").0,
            Require
        );
    }

    #[test]
    fn what_is_left_is_as_it_was() {
        for text in [
            r"host=h user='a b' password='it\'s \\ = a' sslmode=require dbname=d port=7",
            r"  user = a\ b password=it\'s\ \\\ =\ a host=h  port='7' dbname=d ",
            "postgres://a%20b:it's%20%5C%20=%20a@h:7/d?sslmode=disable",
        ] {
            let config = Address::parse(text).unwrap().config;
            assert_eq!(config.get_user(), Some("a b"), "{text}");
            assert_eq!(config.get_password(), Some(&br"it's \ = a"[..]), "{text}");
            assert_eq!(config.get_hosts(), [Host::Tcp("h".to_owned())], "{text}");
            assert_eq!(
                (config.get_ports(), config.get_dbname()),
                (&[7][..], Some("d"))
            );
        }
    }

    #[test]
    fn a_mistake_is_named_and_no_secret_is_shown() {
        for (text, named) in [
            ("sslmode=verify-full", "sslrootcert"),
            ("sslmode=verify-ca", "sslrootcert"),
            ("sslmode=require sslrootcert=system", "verify-full"),
            ("sslmode=allow", "allow"),
            ("sslmode=secret", "verify-full"),
            ("sslcert=/secret", "sslkey"),
            ("sslkey=/secret", "sslcert"),
            ("sslcrl=/secret", "sslcrl"),
            ("password=my secret", "quote"),
            ("password=my secret=1", "unknown"),
            ("password='secret", "no end"),
            ("port=secret", "port"),
        ] {
            let Err(shown) = Address::parse(&format!("host=h {text}")) else {
                panic!("{text}");
            };
            assert!(shown.contains(named), "{text}: {shown}");
            assert!(!shown.contains("secret"), "{text}: {shown}");
        }
        for url in [
            "postgres://u:secret@h?secret=1",
            "postgres://u:se/secret?x@h",
            "postgres://u:p@h:secret/",
            "postgres://u:p@h?sslmode=secret",
        ] {
            if let Err(shown) = Address::parse(url) {
                assert!(!shown.contains("secret"), "{shown}");
            }
        }
    }
}
