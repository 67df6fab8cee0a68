//! The operator's way to the state directory: directly while no gateway runs, else through its control socket. Either
//! way a change stands in the ledger before it takes effect.
//!
//! The socket is in the state directory and for its owner alone; whoever reaches it could write the files, too.

mod originals;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use chancery_ledger::{Alert, Entry, Export, LogSigner, PrincipalEntry, SecretChange, View};
use chancery_model::{Delegation, Digest, Principal, PrincipalKind, ResourceName, SessionId, Timestamp};
use chancery_policy::RuleSet;
use chancery_store::{
    Catalog, Directory, HoldScope, LegalHold, Level, Lift, Options, Planned, Retention, RetentionLimits,
    RetentionProgress, ReviewerKey, Sequencer, Shelves, StateDir, StateError, system_clock,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::output::Failure;

/// The control socket's name in the state directory.
pub(crate) const SOCKET: &str = "control.sock";
/// The file of the gateway's own witness in the state directory.
pub(crate) const WITNESS: &str = "witness";
/// The issuer of the chains of local operators; no token can have it, since it is no URL.
const LOCAL: &str = "local";
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How often a gateway is asked how far it is.
const POLL: Duration = Duration::from_millis(200);

/// A credential's new version, sealed.
#[derive(Deserialize, Serialize)]
pub(crate) struct NewSecret {
    /// The credential's name.
    pub(crate) name: String,
    /// The version that it is sealed for.
    pub(crate) version: u32,
    /// The envelope, base64.
    pub(crate) envelope: String,
    /// The version to retire, if one is.
    pub(crate) retire: Option<u32>,
    /// The resources whose credential it is.
    pub(crate) resources: Vec<String>,
}

/// A reviewer's public key.
#[derive(Deserialize, Serialize)]
pub(crate) struct NewKey {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) line: String,
    pub(crate) fingerprint: String,
}

/// A look at something that is recorded.
#[derive(Deserialize, Serialize)]
pub(crate) struct NewView {
    pub(crate) what: String,
    pub(crate) session: Option<String>,
}

/// Evidence that leaves in a pack.
#[derive(Deserialize, Serialize)]
pub(crate) struct NewExport {
    /// The period, in microseconds since 1970 UTC.
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// SHA-256 of the pack's manifest.
    pub(crate) manifest: String,
}

/// Sealed originals that are to be handed out.
#[derive(Deserialize, Serialize)]
pub(crate) struct NewUnseal {
    pub(crate) session: String,
    pub(crate) review: String,
}

/// Sealed originals that are to be destroyed.
#[derive(Deserialize, Serialize)]
pub(crate) struct NewShred {
    pub(crate) session: String,
    /// On whose authority, in words.
    pub(crate) authority: String,
}

/// A hold to be put in force.
#[derive(Deserialize, Serialize)]
pub(crate) struct NewHold {
    /// 32 hexadecimal digits.
    pub(crate) id: String,
    /// 64 of them.
    pub(crate) salt: String,
    pub(crate) session: Option<String>,
    /// Issuer and subject.
    pub(crate) principal: Option<(String, String)>,
    /// In microseconds.
    pub(crate) period: Option<(i64, i64)>,
    pub(crate) reason: String,
}

/// A hold to be ended.
#[derive(Deserialize, Serialize)]
pub(crate) struct EndHold {
    pub(crate) id: String,
    pub(crate) salt: String,
    pub(crate) reason: String,
}

/// One thing that the operator does.
pub(crate) enum Deed {
    Export(NewExport),
    Hold(NewHold),
    Lift(EndHold),
    Secret(NewSecret),
    Key(NewKey),
    View(NewView),
    /// With the rules by which its approval is judged; a gateway that runs takes its own.
    Unseal(NewUnseal, Option<Arc<RuleSet>>),
    Shred(NewShred),
}

/// A gateway's state, for the operator.
pub(crate) struct Local {
    /// Reading it needs no lock.
    pub(crate) catalog: Catalog,
    path: PathBuf,
    way: Way,
}

enum Way {
    /// The ledger is opened, and recovered if need be, when something is to be written.
    Direct {
        state: StateDir,
        sequencer: OnceCell<Sequencer>,
    },
    Running,
}

impl Local {
    /// Opens the state directory, or finds the gateway that has it.
    pub(crate) async fn open(path: &Path) -> Result<Self, Failure> {
        let way = match StateDir::open(path) {
            Ok(state) => Way::Direct { state, sequencer: OnceCell::new() },
            Err(StateError::InUse(_)) => Way::Running,
            Err(error) => return Err(state_failure(&error)),
        };
        let catalog = Catalog::open(&path.join("catalog.sqlite")).await;
        let catalog = catalog.map_err(|error| Failure::no(format!("the catalog: {error}")))?;
        Ok(Self { catalog, path: path.to_owned(), way })
    }

    /// Does it, written down before.
    pub(crate) async fn do_it(&self, deed: &Deed) -> Result<(), Failure> {
        match &self.way {
            Way::Running => ask(&self.path.join(SOCKET), deed).await,
            Way::Direct { state, sequencer } => {
                let sequencer = sequencer.get_or_try_init(async || open_ledger(state)).await?;
                let key = state.fingerprint_key().map_err(|error| state_failure(&error))?;
                let operator = operator(rustix::process::getuid().as_raw());
                let by = remember(&self.catalog, sequencer, &key, &operator).await?;
                let retention = retention(state, &self.catalog, sequencer, RetentionLimits::default())?;
                let ground = Ground { catalog: &self.catalog, sequencer, retention: &retention, state: &self.path };
                perform(deed, &ground, by, &operator).await
            }
        }
    }

    /// Deletes what is past its time: here, or by the gateway that runs. `each` sees every file as it is decided, if that
    /// is here; `tell` is told of every step.
    pub(crate) async fn run_retention(
        &self,
        limits: RetentionLimits,
        each: impl FnMut(&Planned),
        tell: impl FnMut(&RetentionStep),
    ) -> Result<(), Failure> {
        match &self.way {
            Way::Running => run_there(&self.path.join(SOCKET), tell).await,
            Way::Direct { state, sequencer } => {
                let sequencer = sequencer.get_or_try_init(async || open_ledger(state)).await?;
                let key = state.fingerprint_key().map_err(|error| state_failure(&error))?;
                let operator = operator(rustix::process::getuid().as_raw());
                let by = remember(&self.catalog, sequencer, &key, &operator).await?;
                let retention = retention(state, &self.catalog, sequencer, limits)?;
                let mut progress = retention.progress();
                let run = retention.run(Some(by), now, Duration::ZERO, each);
                let mut run = std::pin::pin!(run);
                let mut tell = tell;
                loop {
                    tokio::select! {
                        done = &mut run => return done.map(drop).map_err(|error| Failure::unsure(format!("retention: {error}"))),
                        Ok(()) = progress.changed() => tell(&RetentionStep::of(&progress.borrow_and_update())),
                    }
                }
            }
        }
    }

    /// The key that wraps credentials. Read from its file where a gateway has the lock, with the same checks.
    pub(crate) fn wrap_key(&self) -> Result<Zeroizing<[u8; 32]>, Failure> {
        match &self.way {
            Way::Direct { state, .. } => state.wrap_key().map(Zeroizing::new).map_err(|error| state_failure(&error)),
            Way::Running => self.key("keys/wrap.key"),
        }
    }

    /// The key of statement fingerprints and of the directory's salts, in the same way.
    pub(crate) fn fingerprint_key(&self) -> Result<Zeroizing<[u8; 32]>, Failure> {
        match &self.way {
            Way::Direct { state, .. } => {
                state.fingerprint_key().map(Zeroizing::new).map_err(|error| state_failure(&error))
            }
            Way::Running => self.key("keys/fingerprint-hmac.key"),
        }
    }

    /// The signer of the log, in the same way.
    pub(crate) fn log_signer(&self) -> Result<LogSigner, Failure> {
        match &self.way {
            Way::Direct { state, .. } => state.log_signer().map_err(|error| state_failure(&error)),
            Way::Running => {
                let origin =
                    read_small(&self.path.join("origin"), 4096).map_err(|_| state_failure(&StateError::Origin))?;
                let origin = String::from_utf8_lossy(&origin);
                let seed = self.key("keys/log-ed25519.seed")?;
                LogSigner::from_seed(origin.trim_end(), &seed).map_err(|_| state_failure(&StateError::Origin))
            }
        }
    }

    fn key(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let path = self.path.join(name);
        let unusable = || state_failure(&StateError::Key(path.clone()));
        let mut file = File::open(&path).map_err(|_| unusable())?;
        let meta = file.metadata().map_err(|_| unusable())?;
        if meta.len() != 32 || meta.permissions().mode() & 0o077 != 0 {
            return Err(unusable());
        }
        let mut key = Zeroizing::new([0; 32]);
        file.read_exact(&mut *key).map_err(|_| unusable())?;
        Ok(key)
    }

    /// Ends it in order: what was written is on disk and signed.
    pub(crate) async fn close(self) {
        if let Way::Direct { sequencer, .. } = &self.way
            && let Some(sequencer) = sequencer.get()
        {
            sequencer.close();
        }
        self.catalog.close().await;
    }
}

/// Opens the ledger for writing; recovers what an earlier process left.
pub(crate) fn open_ledger(state: &StateDir) -> Result<Sequencer, Failure> {
    let ledger = Directory::exclusive(&state.ledger()).map_err(|error| ledger_failure(&error))?;
    let mut boot = [0; 16];
    chancery_store::random(&mut boot).map_err(|error| Failure::unsure(format!("no randomness: {error}")))?;
    let signer = state.log_signer().map_err(|error| state_failure(&error))?;
    let options = Options::new(system_clock(), boot);
    let keys = Directory::shared(&state.keys()).map_err(|error| ledger_failure(&error))?;
    let opened = Sequencer::open(Arc::new(ledger), Arc::new(keys), signer, state.origin(), options);
    opened.map(|(sequencer, _)| sequencer).map_err(|error| ledger_failure(&error))
}

/// What a deed works on.
pub(crate) struct Ground<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) sequencer: &'a Sequencer,
    pub(crate) retention: &'a Retention,
    /// The state directory.
    pub(crate) state: &'a Path,
}

/// The deletions of a state directory that no gateway has.
fn retention(
    state: &StateDir,
    catalog: &Catalog,
    sequencer: &Sequencer,
    limits: RetentionLimits,
) -> Result<Retention, Failure> {
    let recordings = Directory::exclusive(&state.recordings());
    let recordings = recordings.map_err(|error| Failure::unsure(format!("the recordings: {error}")))?;
    // The writer has its lock; segments that it closed are nobody's but ours.
    let ledger = Directory::shared(&state.ledger()).map_err(|error| ledger_failure(&error))?;
    let mut shelves = Shelves::new(catalog.clone(), Arc::new(recordings), Arc::new(ledger), limits);
    let sealed = Directory::shared_if_there(&state.sealed());
    if let Some(sealed) = sealed.map_err(|error| Failure::unsure(format!("the sealed originals: {error}")))? {
        shelves = shelves.with_originals(Arc::new(sealed));
    }
    Ok(Retention::new(shelves, sequencer.clone()))
}

/// How far a run has come, as the control socket says it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct RetentionStep {
    pub(crate) running: bool,
    pub(crate) phase: String,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) runs: u64,
    pub(crate) failed: Option<String>,
}

impl RetentionStep {
    pub(crate) fn of(progress: &RetentionProgress) -> Self {
        let RetentionProgress { running, phase, done, total, runs, failed, .. } = progress.clone();
        Self { running, phase: phase.to_owned(), done, total, runs, failed }
    }
}

/// Has the gateway make a run, or waits for the one that it makes.
async fn run_there(socket: &Path, mut tell: impl FnMut(&RetentionStep)) -> Result<(), Failure> {
    let step = async |path| -> Result<RetentionStep, Failure> {
        let answer = post(socket, path, b"{}".to_vec()).await?;
        serde_json::from_slice(&answer).map_err(|error| Failure::unsure(format!("the gateway's answer: {error}")))
    };
    let before = step("/local/retention/run").await?;
    loop {
        let now = step("/local/retention/progress").await?;
        if now.runs > before.runs {
            let failed = now.failed.map(|why| Failure::unsure(format!("retention: {why}")));
            return failed.map_or(Ok(()), Err);
        }
        tell(&now);
        tokio::time::sleep(POLL).await;
    }
}

/// Carries a deed out: its entry is on disk first. If we crash between the two, the ledger speaks of a change that was
/// not made; never the other way round.
pub(crate) async fn perform(
    deed: &Deed,
    ground: &Ground<'_>,
    by: [u8; 16],
    operator: &Delegation,
) -> Result<(), Failure> {
    let Ground { catalog, sequencer, retention, .. } = *ground;
    match deed {
        Deed::Export(export) => {
            let manifest = Digest::from_hex(&export.manifest).ok_or_else(|| malformed("manifest"))?;
            let entry = Export { by, from: Timestamp(export.from), to: Timestamp(export.to), manifest };
            append(sequencer, &Entry::Export(entry)).await
        }
        Deed::Hold(hold) => {
            let hold = parsed(hold, operator)?;
            retention.set_hold(&hold, by).await.map_err(|error| Failure::no(format!("the hold is not set: {error}")))
        }
        Deed::Lift(lift) => {
            let id = digits(&lift.id).ok_or_else(|| malformed("id"))?;
            let salt = digits(&lift.salt).ok_or_else(|| malformed("salt"))?;
            let by_name = operator.principal.display.clone();
            let lift = Lift { at: now(), by: by_name, reason: lift.reason.clone(), salt };
            let lifted = retention.lift_hold(id, &lift, by).await;
            lifted.map_err(|error| Failure::no(format!("the hold is not lifted: {error}")))
        }
        Deed::View(view) => {
            let session = view.session.as_deref().map(|id| SessionId::parse(id).ok_or_else(|| malformed("session")));
            let entry = View { by, what: view_word(&view.what)?, session: session.transpose()? };
            append(sequencer, &Entry::View(entry)).await
        }
        Deed::Key(key) => {
            append(sequencer, &Entry::Alert(Alert { code: "reviewer-key-added", session: None })).await?;
            let key = ReviewerKey {
                issuer: key.issuer.clone(),
                subject: key.subject.clone(),
                line: key.line.clone(),
                fingerprint: key.fingerprint.clone(),
                added_at: now(),
                added_by: operator.principal.display.clone(),
            };
            catalog.add_reviewer_key(&key).await.map_err(|error| Failure::no(format!("the key is not kept: {error}")))
        }
        Deed::Secret(secret) => new_secret(secret, catalog, sequencer, by).await,
        Deed::Unseal(unseal, rules) => originals::unseal(unseal, rules.as_deref(), ground, by).await,
        Deed::Shred(shred) => originals::shred(shred, ground, by).await,
    }
}

async fn new_secret(secret: &NewSecret, catalog: &Catalog, sequencer: &Sequencer, by: [u8; 16]) -> Result<(), Failure> {
    let failed = |error| Failure::no(format!("the credential is not kept: {error}"));
    let envelope = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &secret.envelope)
        .map_err(|_| malformed("envelope"))?;
    chancery_secrets::Sealed::decode(&envelope).map_err(|error| Failure::no(error.to_string()))?;
    let next = catalog.next_secret_version(&secret.name).await.map_err(failed)?;
    if next != secret.version {
        return Err(Failure::no("somebody else changed this credential meanwhile").hint("try again"));
    }
    let change = if secret.version == 1 { "set" } else { "rotated" };
    for resource in &secret.resources {
        let resource = ResourceName::parse(resource).ok_or_else(|| malformed("resource"))?;
        let entry = SecretChange { resource: &resource, change, version: u64::from(secret.version), by: Some(by) };
        append(sequencer, &Entry::SecretChange(entry)).await?;
    }
    catalog.put_secret(&secret.name, secret.version, &envelope, now()).await.map_err(failed)?;
    if let Some(old) = secret.retire {
        catalog.retire_secret(&secret.name, old).await.map_err(failed)?;
    }
    Ok(())
}

fn parsed(hold: &NewHold, operator: &Delegation) -> Result<LegalHold, Failure> {
    let session = hold.session.as_deref().map(|id| SessionId::parse(id).ok_or_else(|| malformed("session")));
    let scope = match (session.transpose()?, &hold.principal, hold.period) {
        (Some(session), None, None) => HoldScope::Session(session),
        (None, Some((issuer, subject)), None) => {
            HoldScope::Principal { issuer: issuer.clone(), subject: subject.clone() }
        }
        (None, None, Some((from, to))) if from < to => HoldScope::Period(Timestamp(from), Timestamp(to)),
        _ => return Err(malformed("scope")),
    };
    Ok(LegalHold {
        id: digits(&hold.id).ok_or_else(|| malformed("id"))?,
        scope,
        reason: hold.reason.clone(),
        salt: digits(&hold.salt).ok_or_else(|| malformed("salt"))?,
        set_at: now(),
        set_by: operator.principal.display.clone(),
        lifted: None,
    })
}

/// Bytes from hexadecimal digits.
pub(crate) fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn view_word(word: &str) -> Result<&'static str, Failure> {
    ["recording", "entries", "review", "export"]
        .into_iter()
        .find(|known| *known == word)
        .ok_or_else(|| malformed("what"))
}

fn malformed(field: &str) -> Failure {
    Failure::usage(format!("`{field}` is malformed"))
}

async fn append(sequencer: &Sequencer, entry: &Entry<'_>) -> Result<(), Failure> {
    let stalled = |stall| Failure::unsure(format!("the ledger does not take the entry: {stall}"));
    sequencer.append_entry(entry, Level::Durable).map_err(stalled)?;
    sequencer.synced().await.map_err(stalled)
}

/// The chain of a local operator: a user of this host, by number.
pub(crate) fn operator(uid: u32) -> Delegation {
    let principal = Principal {
        issuer: LOCAL.to_owned(),
        subject: format!("uid-{uid}"),
        kind: PrincipalKind::User,
        display: user_name(uid).unwrap_or_else(|| format!("uid-{uid}")),
        groups: Vec::new(),
    };
    Delegation { principal, actors: Vec::new() }
}

fn user_name(uid: u32) -> Option<String> {
    let mut text = String::new();
    File::open("/etc/passwd").ok()?.take(1 << 20).read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The chain's id while no gateway runs. It is made as the gateway makes it, so that one operator has one id.
async fn remember(
    catalog: &Catalog,
    sequencer: &Sequencer,
    fingerprint_key: &[u8; 32],
    chain: &Delegation,
) -> Result<[u8; 16], Failure> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, fingerprint_key);
    let canonical = chain.canonical();
    let mut id = [0; 16];
    let tag = hmac::sign(&key, &[b"chancery/chain/1", canonical.as_slice()].concat());
    id.copy_from_slice(tag.as_ref().get(..16).unwrap_or(&[0; 16]));
    let new = catalog.remember_chain(id, chain, now()).await;
    if new.map_err(|error| Failure::no(format!("the directory: {error}")))? {
        let row = [b"chancery/principal/1", salt(&key, id).as_slice(), canonical.as_slice()].concat();
        let mut commitment = Digest::default();
        commitment.0.copy_from_slice(digest::digest(&digest::SHA256, &row).as_ref());
        append(sequencer, &Entry::Principal(PrincipalEntry { chain: id, commitment })).await?;
    }
    Ok(id)
}

/// The salt of a chain's commitment.
pub(crate) fn salt(fingerprint_key: &hmac::Key, chain: [u8; 16]) -> [u8; 32] {
    let mut salt = [0; 32];
    let tag = hmac::sign(fingerprint_key, &[b"chancery/salt/1", chain.as_slice()].concat());
    salt.copy_from_slice(tag.as_ref());
    salt
}

/// What the control socket answers when it says no.
#[derive(Deserialize, Serialize)]
pub(crate) struct Refused {
    pub(crate) error: String,
    pub(crate) hint: Option<String>,
}

async fn ask(socket: &Path, deed: &Deed) -> Result<(), Failure> {
    let (path, body) = match deed {
        Deed::Hold(hold) => ("/local/holds", serde_json::to_vec(hold)),
        Deed::Lift(lift) => ("/local/holds/lift", serde_json::to_vec(lift)),
        Deed::Secret(secret) => ("/local/secrets", serde_json::to_vec(secret)),
        Deed::Key(key) => ("/local/reviewer-keys", serde_json::to_vec(key)),
        Deed::View(view) => ("/local/views", serde_json::to_vec(view)),
        Deed::Export(export) => ("/local/exports", serde_json::to_vec(export)),
        Deed::Unseal(unseal, _) => ("/local/unseals", serde_json::to_vec(unseal)),
        Deed::Shred(shred) => ("/local/shreds", serde_json::to_vec(shred)),
    };
    post(socket, path, body.map_err(|error| Failure::no(error.to_string()))?).await.map(drop)
}

async fn post(socket: &Path, path: &str, body: Vec<u8>) -> Result<Bytes, Failure> {
    let silent = |error: &dyn std::fmt::Display| {
        Failure::unsure(format!("the process that has the state directory does not answer: {error}"))
            .hint("another `chancery` command may be using it; a gateway answers on control.sock")
    };
    let stream = UnixStream::connect(socket).await.map_err(|error| silent(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| silent(&error))?;
    // It ends with the connection; an error of it is seen by the request.
    drop(tokio::spawn(connection));
    let request = Request::post(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| silent(&error))?;
    let response = sender.send_request(request).await.map_err(|error| silent(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| silent(&error))?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let refused = serde_json::from_slice(&body).unwrap_or(Refused { error: format!("status {status}"), hint: None });
    Err(Failure { hint: refused.hint, ..Failure::no(format!("the gateway says no: {}", refused.error)) })
}

/// A state directory that cannot be used, with what to do.
pub(crate) fn state_failure(error: &StateError) -> Failure {
    let hint = match error {
        StateError::NotState(_) => "`chancery init` makes one; `state` in [gateway] says where it is",
        StateError::InUse(_) => "a gateway or another command has it open",
        StateError::Exists(_) => "choose another directory, or use the one that is there",
        StateError::Key(_) => "keys are 32 bytes and of mode 0600; without them nothing sealed can be opened",
        StateError::Origin => "the name must be 1 to 63 of a-z 0-9 - .",
        _ => "is it the right directory, and are you its owner?",
    };
    Failure::no(error).hint(hint)
}

fn ledger_failure(error: &dyn std::fmt::Display) -> Failure {
    Failure::no(format!("the ledger: {error}")).hint("`chancery ledger verify` says more")
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Reads at most `max` bytes of a file.
pub(crate) fn read_small(path: &Path, max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too large"));
    }
    Ok(bytes)
}
