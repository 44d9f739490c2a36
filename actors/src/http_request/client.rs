//! The client of one worker: its connections, and how it is set.

use std::sync::{Arc, OnceLock};

use batrun_connect::certificates;
use hyper_util::{
    client::{legacy, proxy::matcher::Matcher},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};

use super::{
    body::Outgoing,
    connect::{Connector, Proxies},
    tls::Tls,
};

/// The version of HTTP that a stage speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpVersion {
    /// HTTP/2 where an `https` server offers it in its TLS handshake (ALPN), HTTP/1.1 otherwise. The
    /// default.
    #[default]
    Negotiated,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, also over `http`: the server is known to speak it.
    Http2,
}

/// The way in which a stage reaches servers. Its clones share the TLS settings that were read.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) tls: Tls,
    pub(super) version: HttpVersion,
    pub(super) redirects: u32,
    pub(super) proxies: bool,
    pub(super) decompress: bool,
    config: Arc<OnceLock<Result<ClientConfig, String>>>,
}

impl Default for Wire {
    fn default() -> Self {
        Wire {
            tls: Tls::system_roots(),
            version: HttpVersion::default(),
            redirects: 0,
            proxies: false,
            decompress: false,
            config: Arc::default(),
        }
    }
}

impl Wire {
    pub(super) fn set_tls(&mut self, tls: Tls) {
        self.tls = tls;
        self.config = Arc::default();
    }
}

pub(super) struct Client {
    pub(super) http: legacy::Client<Connector, Outgoing>,
    pub(super) proxies: Proxies,
    pub(super) redirects: u32,
    pub(super) decompress: bool,
    /// The reason for which `https` can't be used.
    pub(super) no_tls: Option<String>,
}

impl Client {
    pub(super) fn new(wire: &Wire) -> Self {
        // Read once a stage: a system may have hundreds of roots.
        let read = || wire.tls.client_config().map_err(|error| error.to_string());
        let (config, no_tls) = match wire.config.get_or_init(read) {
            Ok(config) => (config.clone(), None),
            Err(error) => (trusting_nobody(), Some(error.clone())),
        };
        let proxies = wire.proxies.then(|| Arc::new(Matcher::from_env()));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_only(wire.version == HttpVersion::Http2)
            .build(Connector::new(config, wire.version, proxies.clone()));
        Client {
            http,
            proxies,
            redirects: wire.redirects,
            decompress: wire.decompress,
            no_tls,
        }
    }
}

/// For a client that is used for `http` only.
fn trusting_nobody() -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(certificates::provider());
    // The provider has cipher suites for each of these versions.
    let builder = builder
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|error| unreachable!("{error}"));
    builder
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}
