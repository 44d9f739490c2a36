//! Connections: TCP, a proxy's tunnel if there is one, and TLS.

use std::{
    error::Error,
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{Uri, http::HeaderValue};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::{
        legacy::connect::{
            HttpConnector,
            proxy::{SocksV5, Tunnel},
        },
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioIo,
};
use rustls::ClientConfig;
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service;

use super::{HttpVersion, stream::Stream};

/// Maximum time until a connection is made, TLS included.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) type BoxError = Box<dyn Error + Send + Sync>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
type Tcp = TokioIo<TcpStream>;
type Secured = TokioIo<MaybeHttpsStream<Tcp>>;

/// The proxies that the environment names.
pub(super) type Proxies = Option<Arc<Matcher>>;

/// Makes connections for hyper's client.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Dial>,
    proxies: Proxies,
}

impl Connector {
    pub(super) fn new(tls: ClientConfig, version: HttpVersion, proxies: Proxies) -> Self {
        let mut tcp = HttpConnector::new();
        // The layer above knows `https`.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let dial = Dial {
            tcp,
            proxies: proxies.clone(),
        };
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        let https = match version {
            HttpVersion::Negotiated => builder.enable_all_versions().wrap_connector(dial),
            HttpVersion::Http1 => builder.enable_http1().wrap_connector(dial),
            HttpVersion::Http2 => builder.enable_http2().wrap_connector(dial),
        };
        Connector { https, proxies }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream<Secured>>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let proxied = plain_proxy(&self.proxies, &to).is_some();
        let connecting = self.https.call(to);
        Box::pin(async move {
            let secured = timeout(PATIENCE, connecting)
                .await
                .map_err(|_| format!("no connection within {PATIENCE:?}"))??;
            Ok(TokioIo::new(Stream::new(TokioIo::new(secured), proxied)))
        })
    }
}

/// The proxy that gets requests with whole URLs, because neither they nor it have TLS.
fn plain_proxy(proxies: &Proxies, to: &Uri) -> Option<Intercept> {
    let proxy = proxies.as_ref()?.intercept(to)?;
    let plain = to.scheme_str() == Some("http") && proxy.uri().scheme_str() == Some("http");
    plain.then_some(proxy)
}

/// The header by which such a proxy knows who asks.
pub(super) fn proxy_authorization(proxies: &Proxies, to: &Uri) -> Option<HeaderValue> {
    plain_proxy(proxies, to)?.basic_auth().cloned()
}

/// Makes TCP connections, through a proxy if there is one.
#[derive(Clone)]
struct Dial {
    tcp: HttpConnector,
    proxies: Proxies,
}

impl Service<Uri> for Dial {
    type Response = Tcp;
    type Error = BoxError;
    type Future = BoxFuture<Tcp>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let intercept = |proxies: &Arc<Matcher>| proxies.intercept(&to);
        let Some(proxy) = self.proxies.as_ref().and_then(intercept) else {
            return boxed(self.tcp.call(to));
        };
        let address = proxy.uri().clone();
        match address.scheme_str() {
            Some("http") if to.scheme_str() == Some("http") => boxed(self.tcp.call(address)),
            Some("http") => {
                let mut tunnel = Tunnel::new(address, self.tcp.clone());
                if let Some(user) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(user.clone());
                }
                boxed(tunnel.call(to))
            }
            Some(scheme @ ("socks5" | "socks5h")) => {
                let here = scheme == "socks5";
                let mut socks = SocksV5::new(address, self.tcp.clone()).local_dns(here);
                if let Some((user, password)) = proxy.raw_auth() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                boxed(socks.call(with_port(&to)))
            }
            scheme => {
                let scheme = scheme.unwrap_or_default().to_owned();
                Box::pin(ready(Err(UnknownProxy(scheme).into())))
            }
        }
    }
}

/// The URL with its port, which `SocksV5` takes for 443 where there is none.
fn with_port(url: &Uri) -> Uri {
    let port = match url.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    let mut parts = url.clone().into_parts();
    if let Some(host) = url.host().filter(|_| url.port().is_none()) {
        parts.authority = format!("{host}:{port}").parse().ok();
    }
    Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}

fn boxed<T, E: Into<BoxError>>(
    connecting: impl Future<Output = Result<T, E>> + Send + 'static,
) -> BoxFuture<T> {
    Box::pin(async move { connecting.await.map_err(Into::into) })
}

/// The environment names a proxy of a kind that can't be used.
#[derive(Debug)]
pub(super) struct UnknownProxy(String);

impl fmt::Display for UnknownProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnknownProxy(scheme) = self;
        write!(
            f,
            "the environment names a proxy of the kind {scheme}://, and only http, socks5 and \
             socks5h can be used: change HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or except the host \
             in NO_PROXY"
        )
    }
}

impl Error for UnknownProxy {}
