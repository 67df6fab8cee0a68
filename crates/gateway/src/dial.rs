//! Logging in to a resource with the credential that only the gateway has.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chancery_secrets::{Credential, Purpose, Sealed};
use chancery_wire_pg::{Dial, DialConfig, DialError, DialReady, DialStep, DialTls, channel_binding_for};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::gateway::Shared;
use crate::settings::{ResourceSettings, UpstreamTls};
use crate::stream::Stream;
use crate::tls::Upstream;

/// A resource that does not let us in within this time is down.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a resource cannot be used. For logs; a client reads that it is unavailable, and which.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFailure {
    #[error("there is no credential named {0}")]
    NoCredential(String),
    #[error("the credential cannot be opened: {0}")]
    Credential(#[from] chancery_secrets::SecretsError),
    #[error("the catalog cannot be read: {0}")]
    Catalog(#[from] chancery_store::CatalogError),
    #[error("{0}")]
    Login(#[from] DialError),
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Socket(#[from] std::io::Error),
}

/// Opens and logs in. `parameters` are the client's that may be forwarded.
pub(crate) async fn dial(
    shared: &Arc<Shared>,
    resource: &ResourceSettings,
    parameters: Vec<(String, String)>,
) -> Result<(Stream, DialReady), DialFailure> {
    let login = tokio::time::timeout(DIAL_TIMEOUT, log_in(shared, resource, parameters));
    login.await.unwrap_or(Err(DialFailure::Timeout))
}

async fn log_in(
    shared: &Arc<Shared>,
    resource: &ResourceSettings,
    parameters: Vec<(String, String)>,
) -> Result<(Stream, DialReady), DialFailure> {
    let name = &resource.secret;
    let stored = shared.catalog.current_secret(name).await?;
    let stored = stored.ok_or_else(|| DialFailure::NoCredential(name.clone()))?;
    let sealed = Sealed::decode(&stored.envelope)?;
    let secret = sealed.open(&shared.kek, name, stored.version, Purpose::BackendCredential)?;
    let credential = Credential::decode(&secret)?;

    let mut nonce = [0; 18];
    chancery_store::random(&mut nonce)?;
    let password = Zeroizing::new(credential.password.expose().to_vec());
    let database = resource.resource.database.clone();
    let mut config = DialConfig::new(credential.username, database, password, nonce);
    config.parameters = parameters;
    config.tls = match resource.tls {
        UpstreamTls::Disable => DialTls::Disable,
        UpstreamTls::Prefer => DialTls::Prefer,
        UpstreamTls::Require | UpstreamTls::VerifyCa(_) | UpstreamTls::VerifyFull(_) => DialTls::Require,
    };
    let key = (name.clone(), stored.version);
    config.scram_keys = shared.scram_keys(&key);

    let socket = TcpStream::connect((resource.host.as_str(), resource.port)).await?;
    socket.set_nodelay(true)?;
    config.clear_password_allowed = socket.peer_addr().is_ok_and(|peer| is_loopback(peer.ip()));
    let upstream = shared.upstream_tls(&resource.resource.name);
    match drive(Dial::new(config)?, socket, upstream).await {
        Ok((stream, mut ready)) => {
            shared.keep_scram_keys(key, ready.scram_keys.take());
            Ok((stream, ready))
        }
        Err(failure) => {
            shared.keep_scram_keys(key, None);
            Err(failure)
        }
    }
}

pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Performs what the dial machine asks for.
async fn drive(mut dial: Dial, socket: TcpStream, tls: Option<Upstream>) -> Result<(Stream, DialReady), DialFailure> {
    let mut stream = Stream::Plain(socket);
    let mut step = DialStep::Wait;
    loop {
        if let Some(bytes) = dial.transmit() {
            stream.write_all(&bytes).await?;
        }
        step = match step {
            DialStep::Wait => {
                let chunk = stream.chunk().await?;
                if chunk.is_empty() {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                }
                dial.receive(&chunk)
            }
            DialStep::StartTls => {
                let (Some(tls), Stream::Plain(socket)) = (&tls, stream) else {
                    return Err(DialError::TlsRefused.into());
                };
                let secured = tls.connect(socket).await?;
                let certificate = secured.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let binding = certificate.and_then(|certificate| channel_binding_for(certificate));
                stream = Stream::Dialled(Box::new(secured));
                dial.secured(binding)
            }
            DialStep::Derive(work) => {
                let keys = tokio::task::spawn_blocking(move || work.run()).await;
                dial.derived(keys.map_err(std::io::Error::other)?)
            }
            DialStep::Ready(ready) => return Ok((stream, *ready)),
            DialStep::Failed(error) => return Err(error.into()),
        };
    }
}
