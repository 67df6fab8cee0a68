//! From a client's first byte to a session that can be run: identity, the ruling on the opening, the dial.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use chancery_identity::Identity;
use chancery_ledger::{ActDeny, Entry, FrameKind, Recorded};
use chancery_model::{Durability, Refusal, RefusalCode, SessionId, Timestamp};
use chancery_policy::Permit;
use chancery_session::{Closing, Context, Grip, Opening, Ruling, Session, SessionLimits};
use chancery_store::{Appended, Level, SealSpool, SessionNote, SessionRecord, Stall};
use chancery_wire::{Limits, WireError};
use chancery_wire_pg::{Accept, AcceptConfig, AcceptStep, DialReady, Login, PgRelay, RelayConfig};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::dial::dial;
use crate::driver::{Driver, Legs, Parts};
use crate::gateway::{Live, LiveSession, Note, Shared, lock, now};
use crate::mailbox::{Mail, Mailbox};
use crate::seals;
use crate::settings::ResourceSettings;
use crate::socket::Socket;
use crate::stream::Stream;

/// A client has this long to say who it is.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The parameter by which clients name themselves.
const NAME: &str = "application_name";
/// PostgreSQL cuts it there (`NAMEDATALEN` less one).
const APPLICATION_NAME_BYTES_MAX: usize = 63;
/// What is known of the session's start, for the recording: bounded, because the client names parts of it.
const NAME_CHARS_MAX: usize = 128;

/// Why a client is not let in. The refusal is what it reads; the rest is for the ledger.
struct Rejected(Refusal);

/// Serves one client from its first byte until a session can be run, or there will be none.
pub(crate) async fn client(
    shared: Arc<Shared>,
    socket: TcpStream,
    peer: SocketAddr,
    resource: Option<usize>,
    clear: bool,
    login: OwnedSemaphorePermit,
) -> Option<Box<Driver>> {
    // Without it small answers wait for the client's delayed acknowledgement; a socket that refuses it is gone.
    socket.set_nodelay(true).ok()?;
    let limits = Limits::default();
    let arrived = tokio::time::timeout(LOGIN_TIMEOUT, greet(&shared, socket, clear, limits));
    let Ok(Some((mut stream, mut accept, credentials))) = arrived.await else { return None };
    let opened = open(&shared, &credentials, peer, resource).await;
    drop(login);
    // The place is given back when everything of this session is on record; the drain waits for it.
    let (context, grip, permit, settings, place) = match opened {
        Ok(opened) => opened,
        Err(Rejected(refusal)) => {
            accept.refuse(&refusal);
            if let Some(bytes) = accept.transmit() {
                // The client may be gone; then nobody needs the answer.
                let _ = stream.write_all(&bytes).await;
            }
            stream.shutdown().await;
            return None;
        }
    };
    let id = context.id;
    match establish(&shared, &context, settings, &credentials).await {
        Ok(established) => {
            let settings = settings.clone();
            assemble(shared.clone(), stream, accept, context, grip, permit, settings, established, peer, place).await
        }
        Err(refusal) => {
            accept.refuse(&refusal);
            if let Some(bytes) = accept.transmit() {
                let _ = stream.write_all(&bytes).await;
            }
            close(&shared, &context, "resource-unavailable");
            tracing::info!(session = %id, "session not established");
            stream.shutdown().await;
            None
        }
    }
}

/// TLS and start-up, until the client has sent a credential.
async fn greet(
    shared: &Arc<Shared>,
    socket: TcpStream,
    clear: bool,
    limits: Limits,
) -> Option<(Stream, Accept, Box<Login>)> {
    let mut first = [0];
    if socket.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    let direct_tls = Accept::opens_with_tls(first[0]);
    let config = AcceptConfig { limits, tls: shared.tls.is_some(), clear_allowed: clear, direct_tls };
    let mut accept = Accept::new(config);
    let mut stream = match (direct_tls, &shared.tls) {
        (false, _) => Stream::Plain(socket),
        (true, Some(tls)) => Stream::Accepted(Box::new(tls.accept(socket, true).await.ok()?)),
        (true, None) => return None,
    };
    let mut step = AcceptStep::Wait;
    loop {
        if let Some(bytes) = accept.transmit() {
            stream.write_all(&bytes).await.ok()?;
        }
        step = match step {
            AcceptStep::Wait => {
                let chunk = stream.chunk().await.ok()?;
                if chunk.is_empty() {
                    return None;
                }
                accept.receive(&chunk)
            }
            AcceptStep::StartTls => {
                let (Some(tls), Stream::Plain(socket)) = (&shared.tls, stream) else { return None };
                stream = Stream::Accepted(Box::new(tls.accept(socket, false).await.ok()?));
                accept.secured()
            }
            AcceptStep::Cancel { key, .. } => {
                shared.cancel(&key).await;
                // Inside TLS a client takes a bare end for an error.
                stream.shutdown().await;
                return None;
            }
            AcceptStep::Login(login) => return Some((stream, accept, login)),
            AcceptStep::Refused(error) => {
                unreadable(shared, &error);
                stream.shutdown().await;
                return None;
            }
            AcceptStep::Closed => {
                stream.shutdown().await;
                return None;
            }
        };
    }
}

type Opened<'s> = (Arc<Context>, Grip, Recorded<Permit>, &'s ResourceSettings, OwnedSemaphorePermit);

/// Proves the identity, finds the resource, rules on the opening and has it on record.
async fn open<'s>(
    shared: &'s Arc<Shared>,
    login: &Login,
    peer: SocketAddr,
    listener: Option<usize>,
) -> Result<Opened<'s>, Rejected> {
    let now = now();
    let mut random = [0; 42];
    if chancery_store::random(&mut random).is_err() {
        let why = "record unavailable: no randomness to be had";
        return Err(Rejected(Refusal::new(RefusalCode::RecordUnavailable, why, "")));
    }
    let (mut id, mut seed) = ([0; 10], [0; 32]);
    id.copy_from_slice(&random[..10]);
    seed.copy_from_slice(&random[10..]);
    let id = SessionId::new(now, id);

    let identity = match shared.issuers.authenticate(login.password.trim(), now).await {
        Ok(identity) => identity.into_inner(),
        Err(error) => {
            tracing::info!(session = %id, reason = error.reason(), "authentication refused");
            let refusal = Refusal::new(RefusalCode::Unauthenticated, "authentication failed", id.to_string());
            return Err(deny(shared, id, None, refusal.hint("use a valid access token as the password")));
        }
    };
    let chain_id = shared.chain_id(&identity.chain).await.map_err(|error| {
        tracing::warn!(session = %id, %error, "the chain is not known");
        Rejected(Refusal::new(RefusalCode::RecordUnavailable, "record unavailable", id.to_string()))
    })?;
    let named = match listener {
        Some(at) => shared.settings.resources.get(at),
        None => shared.resource_by_database(&login.startup.database),
    };
    // A name that does not exist and one that this token is not for are the same answer.
    let Some(settings) = named.filter(|settings| identity.is_for(&settings.resource.name)) else {
        let why = "no such resource, or it is not for you";
        let refusal = Refusal::new(RefusalCode::Denied, why, id.to_string());
        return Err(deny(shared, id, Some(chain_id), refusal.hint("dbname must be the name of a resource")));
    };
    let context = Arc::new(context(shared, identity, id, chain_id, settings, login, peer, seed));
    let Ok(place) = shared.sessions.clone().try_acquire_owned() else {
        // A gateway that drains holds every place.
        let refusal = match shared.stopping(id) {
            Some(Mail::End(refusal, _)) => refusal,
            _ => Refusal::new(RefusalCode::Limit, "too many sessions; try again later", id.to_string()),
        };
        return Err(deny(shared, id, Some(chain_id), refusal));
    };
    let grip = Grip::new(shared.rules(), &context);
    let permit = opening(shared, &context, &grip, now).await?;
    Ok((context, grip, permit, settings, place))
}

#[allow(clippy::too_many_arguments)]
fn context(
    shared: &Shared,
    identity: Identity,
    id: SessionId,
    chain_id: [u8; 16],
    settings: &ResourceSettings,
    login: &Login,
    peer: SocketAddr,
    seed: [u8; 32],
) -> Context {
    Context {
        id,
        chain: Arc::new(identity.chain),
        chain_id,
        authentication: identity.authentication,
        resource: settings.resource.clone(),
        client: peer.ip().to_canonical(),
        fingerprint_key: shared.fingerprint_key.clone(),
        mask: settings.mask.clone(),
        only_read: identity.read_only,
        seals: settings.seal.is_some(),
        wait: login.startup.wait,
        seed,
        limits: SessionLimits::default(),
    }
}

/// The ruling on the opening, on record before anything is dialled.
async fn opening(
    shared: &Arc<Shared>,
    context: &Arc<Context>,
    grip: &Grip,
    now: Timestamp,
) -> Result<Recorded<Permit>, Rejected> {
    let unavailable = |stall: Stall| {
        tracing::error!(session = %context.id, %stall, "session not on record");
        Rejected(Refusal::new(RefusalCode::RecordUnavailable, "record unavailable", context.id.to_string()))
    };
    let level = if context.resource.durability == Durability::Strict { Level::Durable } else { Level::Written };
    let staged = Opening::rule(context, grip, now);
    let recorded: Recorded<Box<Ruling>> = match shared.sequencer.append(staged, level).map_err(unavailable)? {
        Appended::Recorded(recorded) => recorded,
        Appended::Pending(pending) => pending.recorded().await.map_err(unavailable)?,
    };
    match recorded.narrow() {
        Ok(permit) => Ok(permit),
        Err(recorded) => match recorded.narrow() {
            Ok(refusal) => Err(Rejected(Recorded::<Refusal>::into_inner(refusal))),
            Err(_) => Err(Rejected(Refusal::new(RefusalCode::Denied, "not allowed", context.id.to_string()))),
        },
    }
}

/// A refusal before there is a context, with its entry.
fn deny(shared: &Shared, session: SessionId, chain: Option<[u8; 16]>, refusal: Refusal) -> Rejected {
    let entry = Entry::ActDeny(ActDeny {
        session,
        command: 0,
        chain,
        resource: None,
        rules: shared.rules().digest(),
        code: refusal.code,
        rule_ids: &[],
        digest: None,
    });
    if let Err(stall) = shared.sequencer.append_entry(&entry, Level::Written) {
        tracing::error!(%session, %stall, "a refusal is not on record");
    }
    Rejected(refusal)
}

/// A client that could not say who it is in a way that is spoken here.
fn unreadable(shared: &Shared, error: &WireError) {
    let mut random = [0; 10];
    if chancery_store::random(&mut random).is_err() {
        return;
    }
    let code = match error {
        WireError::PeerUnsupported(..) => RefusalCode::Unsupported,
        WireError::LimitReached(..) => RefusalCode::Limit,
        _ => RefusalCode::Malformed,
    };
    let id = SessionId::new(now(), random);
    tracing::info!(session = %id, reason = %error, "start-up refused");
    let Rejected(_) = deny(shared, id, None, Refusal::new(code, "", id.to_string()));
}

/// What a running session needs of the resource.
struct Established {
    upstream: Stream,
    ready: DialReady,
    catalog: Arc<chancery_mask::Catalog>,
    seal: Option<SealSpool>,
}

async fn establish(
    shared: &Arc<Shared>,
    context: &Context,
    settings: &ResourceSettings,
    login: &Login,
) -> Result<Established, Refusal> {
    let name = &settings.resource.name;
    let refusal = |why: String| {
        Refusal::new(RefusalCode::ResourceUnavailable, why, context.id.to_string())
            .hint("try again later; the operator finds the cause in the log under this reference")
    };
    let claimed = login.startup.application_name.clone().unwrap_or_default();
    let mut parameters = login.startup.parameters.clone();
    parameters.retain(|(name, _)| name != NAME);
    parameters.push((NAME.to_owned(), planted(context.id, &claimed)));
    let (upstream, mut ready) = dial(shared, settings, parameters).await.map_err(|failure| {
        tracing::warn!(session = %context.id, resource = %name, %failure, "resource refused");
        refusal(format!("the resource {name} is not available"))
    })?;
    // The client is told its own name; the resource's log has the session's.
    ready.parameters.iter_mut().filter(|(name, _)| name == NAME).for_each(|(_, value)| value.clone_from(&claimed));
    let Some(lineage) = shared.lineage(name) else { return Err(refusal(format!("the resource {name} is not known"))) };
    let catalog = lineage.current(shared, settings).await.map_err(|failure| {
        tracing::warn!(session = %context.id, resource = %name, %failure, "catalog not read");
        refusal(format!("the catalog of the resource {name} cannot be read"))
    })?;
    let seal = match &settings.seal {
        None => None,
        Some(kept) => Some(seals::begin(shared, context, kept).await.map_err(|why| {
            tracing::error!(session = %context.id, resource = %name, why, "originals cannot be sealed");
            let why = "record unavailable: what the resource sends cannot be kept as it must be";
            Refusal::new(RefusalCode::RecordUnavailable, why, context.id.to_string())
        })?),
    };
    Ok(Established { upstream, ready, catalog, seal })
}

#[allow(clippy::too_many_arguments)]
async fn assemble(
    shared: Arc<Shared>,
    mut stream: Stream,
    accept: Accept,
    context: Arc<Context>,
    grip: Grip,
    permit: Recorded<Permit>,
    settings: ResourceSettings,
    established: Established,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
) -> Option<Box<Driver>> {
    let Established { upstream, ready, catalog, seal } = established;
    let mailbox = Mailbox::default();
    let minor_secret = |length: usize| {
        let mut secret = vec![0; length];
        chancery_store::random(&mut secret).ok().map(|()| secret)
    };
    let started = now();
    let Some((relay, cancel, admitted)) = admit(&shared, accept, ready, &mailbox, minor_secret, &context) else {
        close(&shared, &context, "handshake");
        return None;
    };
    if stream.write_all(&admitted.transmit).await.is_err() {
        shared.drop_cancel_key(cancel);
        close(&shared, &context, "client-gone");
        return None;
    }
    let legs = match (Socket::of(stream), Socket::of(upstream)) {
        (Ok(down), Ok(up)) => Legs { down, up },
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(session = %context.id, %error, "a socket cannot be taken over");
            shared.drop_cancel_key(cancel);
            close(&shared, &context, "handshake");
            return None;
        }
    };
    let view = LiveSession {
        id: context.id,
        resource: context.resource.name.clone(),
        chain: context.chain.clone(),
        client: peer,
        started_at: started,
    };
    lock(&shared.live).insert(context.id, Live { view, mailbox: mailbox.clone() });
    // What changed for everybody before this session was among those that are told.
    if shared.rules().digest() != grip.rules.digest() {
        mailbox.post(Mail::Rules);
    }
    if let Some(end) = shared.stopping(context.id) {
        mailbox.post(end);
    }
    note_opened(&shared, &context, peer, started).await;
    let mut session = Session::new(context.clone(), grip, permit, relay, catalog, started);
    for (name, value) in &admitted.said {
        session.client_said(name, value);
    }
    let spool = shared.recorder.spool(context.id);
    let header = header(&context, peer, &admitted.claimed);
    session.begin(FrameKind::Header, header.into(), started);
    let backend = admitted.backend;
    let parts = Parts { shared, session, legs, spool, seal, mailbox, settings, context, backend, cancel, place };
    Some(Box::new(Driver::new(parts)))
}

/// What came out of the handshakes besides the relay.
struct Admitted {
    transmit: bytes::Bytes,
    said: Vec<(String, String)>,
    claimed: String,
    backend: Option<chancery_wire_pg::CancelKey>,
}

fn admit(
    shared: &Arc<Shared>,
    accept: Accept,
    ready: DialReady,
    mailbox: &Mailbox,
    secret: impl Fn(usize) -> Option<Vec<u8>>,
    context: &Context,
) -> Option<(PgRelay, i32, Admitted)> {
    let secret = secret(accept.cancel_secret_bytes()?)?;
    let key = shared.cancel_key(&secret, mailbox.clone())?;
    let process = key.process_id();
    let admitted = accept.admit(&ready.parameters, &key, ready.tx_status).ok()?;
    let describe = !context.mask.is_idle();
    let claimed = admitted.startup.application_name.clone().unwrap_or_default();
    // Without the client's part: the server writes what is not ASCII in another way.
    let renamed = Some((planted(context.id, ""), claimed.clone()));
    let config = RelayConfig { limits: Limits::default(), describe, status: ready.tx_status, renamed };
    let relay = PgRelay::new(config, BytesMut::from(&admitted.leftover[..]), BytesMut::from(&ready.leftover[..]));
    let mut said = admitted.startup.parameters;
    said.extend(ready.parameters);
    let transmit = admitted.transmit;
    match relay {
        Ok(relay) => Some((relay, process, Admitted { transmit, said, claimed, backend: ready.key })),
        Err(_) => {
            shared.drop_cancel_key(process);
            None
        }
    }
}

/// What a session is called at the resource, so that the resource's own log says which session each line is of:
/// `chancery/` and the session's id, then what the client calls itself, as far as there is room.
fn planted(session: SessionId, claimed: &str) -> String {
    let mut name = String::from("chancery/");
    session.0.iter().for_each(|byte| name.push_str(&format!("{byte:02x}")));
    name.push(' ');
    name.extend(claimed.chars().scan(name.len(), |length, c| {
        *length += c.len_utf8();
        (*length <= APPLICATION_NAME_BYTES_MAX).then_some(c)
    }));
    name.truncate(name.trim_end().len());
    name
}

/// The first frame of the recording, JSON.
fn header(context: &Context, peer: SocketAddr, claimed: &str) -> Vec<u8> {
    let claimed: String = claimed.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    let actors: Vec<_> =
        context.chain.actors.iter().map(|a| serde_json::json!({ "iss": a.issuer, "sub": a.subject })).collect();
    serde_json::json!({
        "session": context.id.to_string(),
        "resource": context.resource.name.as_str(),
        "protocol": context.resource.protocol.to_string(),
        "database": context.resource.database,
        "principal": { "iss": context.chain.principal.issuer, "sub": context.chain.principal.subject,
                       "display": context.chain.principal.display },
        "actors": actors,
        "client": peer.to_string(),
        "application_name": claimed,
        "profile": context.resource.durability.to_string(),
    })
    .to_string()
    .into_bytes()
}

async fn note_opened(shared: &Shared, context: &Context, peer: SocketAddr, at: Timestamp) {
    let record = SessionRecord {
        id: context.id,
        resource: context.resource.name.clone(),
        chain_id: context.chain_id,
        chain: context.chain.to_string(),
        client: peer.to_string(),
        started_at: at,
        ended_at: None,
        ending: None,
        commands: 0,
        last_activity: at,
    };
    if shared.notes.send(Note::Session(SessionNote::Opened(record))).await.is_err() {
        tracing::error!(session = %context.id, "the session list is not kept any more");
    }
}

/// The end of a session that never ran.
fn close(shared: &Shared, context: &Arc<Context>, reason: &'static str) {
    let closing = Closing::of(context.clone(), reason, None);
    if let Err(stall) = shared.sequencer.append(closing, Level::Written) {
        tracing::error!(session = %context.id, %stall, "the end of a session is not on record");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_at_the_resource_within_its_limit() {
        let session = SessionId([0xab; 16]);
        let prefix = format!("chancery/{}", "ab".repeat(16));
        assert_eq!(planted(session, ""), prefix);
        assert_eq!(planted(session, "psql"), format!("{prefix} psql"));
        let long = planted(session, &"é".repeat(40));
        assert!(long.len() <= APPLICATION_NAME_BYTES_MAX && long.starts_with(&format!("{prefix} éé")), "{long}");
    }
}
