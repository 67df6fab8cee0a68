//! Serves routers over connections: HTTPS for everybody, the control socket for the operator, a witness for logs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Connections at once; past it, new ones wait in the kernel's queue. Each costs some tens of kilobytes.
pub(in crate::commands) const CONNECTIONS_MAX: usize = 512;
/// For the TLS handshake, and for a request's head, which also bounds how long a connection may be idle.
pub(in crate::commands) const PATIENCE: Duration = Duration::from_secs(10);
/// For one connection as a whole: nothing of the API takes longer.
const CONNECTION: Duration = Duration::from_secs(600);

/// Accepts connections until the end, each with a permit of `room`. In clear text only where the caller has seen to it that
/// nobody else listens.
pub(in crate::commands) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    room: Arc<Semaphore>,
    router: Router,
    mut ended: watch::Receiver<bool>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = super::end(&mut ended) => return,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                // Out of file descriptors, most likely: without a pause this would spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, router, ended) = (acceptor.clone(), router.clone(), ended.clone());
        tokio::spawn(async move {
            let peer: SocketAddr = peer;
            let router = router.layer(Extension(ConnectInfo(peer)));
            match acceptor {
                None => connection(socket, router, ended).await,
                Some(acceptor) => match tokio::time::timeout(PATIENCE, acceptor.accept(socket)).await {
                    Ok(Ok(stream)) => connection(stream, router, ended).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake took too long"),
                },
            }
            drop(permit);
        });
    }
}

/// One connection, until it or the process ends.
pub(super) async fn connection<S>(stream: S, router: Router, mut ended: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let deadline = tokio::time::sleep(CONNECTION);
    tokio::pin!(deadline);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%error, "an HTTP connection broke");
            }
            return;
        }
        () = super::end(&mut ended) => {}
        () = &mut deadline => {}
    }
    connection.as_mut().graceful_shutdown();
    if tokio::time::timeout(PATIENCE, connection).await.is_err() {
        tracing::debug!("an HTTP connection was cut off");
    }
}
