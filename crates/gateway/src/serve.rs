//! Listeners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::connect;
use crate::dial::is_loopback;
use crate::gateway::{OpenError, Shared};
use crate::workers::Workers;

/// Connections the kernel may keep for us.
const BACKLOG: i32 = 4_096;
/// After an error of `accept` (out of descriptors): time for some to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener and what connects there.
pub(crate) struct Listener {
    socket: TcpListener,
    /// The resource whose port it is; `None`: chosen by database name.
    resource: Option<usize>,
    /// Whether tokens may be sent outside of TLS.
    clear: bool,
}

/// Binds every port. Refuses to take tokens in clear text from other hosts.
pub(crate) async fn bind(shared: &Arc<Shared>) -> Result<Vec<Listener>, OpenError> {
    let settings = &shared.settings;
    let own = settings.resources.iter().enumerate().filter_map(|(at, resource)| Some((resource.listen?, Some(at))));
    let mut listeners = Vec::new();
    for (address, resource) in settings.postgres.map(|address| (address, None)).into_iter().chain(own) {
        let loopback = is_loopback(address.ip());
        if !loopback && shared.tls.is_none() && !settings.clear_text {
            return Err(OpenError::ClearText(address));
        }
        let socket = listen(address).map_err(|error| OpenError::Listen(address, error))?;
        tracing::info!(%address, "listening for postgres");
        listeners.push(Listener { socket, resource, clear: loopback || settings.clear_text });
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes clients until it is aborted.
pub(crate) async fn accept(shared: Arc<Shared>, workers: Arc<Workers>, listener: Listener) {
    loop {
        match listener.socket.accept().await {
            Ok((socket, peer)) => {
                let Ok(login) = shared.logins.clone().try_acquire_owned() else {
                    tracing::warn!(%peer, "too many logins at once");
                    continue;
                };
                let (shared, workers) = (shared.clone(), workers.clone());
                let (resource, clear) = (listener.resource, listener.clear);
                tokio::spawn(async move {
                    if let Some(driver) = connect::client(shared, socket, peer, resource, clear, login).await {
                        workers.give(driver);
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
