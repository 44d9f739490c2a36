//! The monitor alone, for programs that have no web server.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, mpsc},
    thread,
};

use actix_web::{App, HttpServer, dev::ServerHandle, rt};

use crate::{mount::Mount, shared::Inner};

/// A monitor that serves itself; made by [`Monitor::serve`](crate::Monitor::serve). It stops when this is
/// dropped. It prints as its URL.
#[must_use = "it stops when this is dropped"]
pub struct Serving {
    address: SocketAddr,
    _server: Running,
}

impl Serving {
    /// The address that it serves on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of its page.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Serves on an address.
pub(crate) fn start(
    inner: Arc<Inner>,
    mount: impl Fn() -> Mount + Clone + Send + 'static,
    address: impl ToSocketAddrs,
    is_guarded: bool,
) -> io::Result<Serving> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let open = addresses
        .iter()
        .find(|address| !address.ip().to_canonical().is_loopback());
    if let Some(open) = open.filter(|_| !is_guarded) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{open} can be reached from elsewhere: say .access(|request| ..) before .serve(..), or serve on 127.0.0.1"
            ),
        ));
    }
    let (server, address) = Running::start(inner, mount, At::Addresses(addresses))?;
    let address = address.ok_or_else(|| io::Error::other("the server has no address"))?;
    log::info!("the monitor serves on http://{address}/");
    Ok(Serving {
        address,
        _server: server,
    })
}

/// The place where it is served.
pub(crate) enum At {
    Addresses(Vec<SocketAddr>),
    #[cfg(unix)]
    Socket(std::os::unix::net::UnixListener),
}

/// A server on a thread of its own, until this is dropped.
pub(crate) struct Running {
    inner: Arc<Inner>,
    server: ServerHandle,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.close();
        // The command is sent at once; its future only says when it is done.
        drop(self.server.stop(false));
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Running {
    /// Returns the first address, too, if it is served on any.
    pub(crate) fn start(
        inner: Arc<Inner>,
        mount: impl Fn() -> Mount + Clone + Send + 'static,
        at: At,
    ) -> io::Result<(Self, Option<SocketAddr>)> {
        let (started, ready) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("batrun-monitor-web".to_owned())
            .spawn(move || {
                rt::System::new().block_on(async move {
                    let mount = mount.clone();
                    let server = HttpServer::new(move || App::new().service(mount()))
                        .workers(1)
                        .disable_signals()
                        .shutdown_timeout(1);
                    let server = match at {
                        At::Addresses(addresses) => server.bind(addresses.as_slice()),
                        #[cfg(unix)]
                        At::Socket(socket) => server.listen_uds(socket),
                    };
                    let server = match server {
                        Ok(server) => server,
                        Err(error) => return drop(started.send(Err(error))),
                    };
                    let address = server.addrs().first().copied();
                    let server = server.run();
                    started.send(Ok((address, server.handle()))).ok();
                    if let Err(error) = server.await {
                        log::error!("the monitor's server ended: {error}");
                    }
                });
            })?;
        let gone = || io::Error::other("the monitor's thread ended before it served");
        let (address, server) = ready.recv().map_err(|_| gone())??;
        let running = Running {
            inner,
            server,
            thread: Some(thread),
        };
        Ok((running, address))
    }
}
