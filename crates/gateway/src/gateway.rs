//! A running gateway: what all sessions share, and the doors that the console and the cli use.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use aws_lc_rs::{digest, hmac};
use chancery_identity::{Authenticated, Identity};
use chancery_ledger::{Alert, Boot, Entry, PolicyApply, PrincipalEntry, Shutdown};
use chancery_model::{Delegation, Digest, Durability, Refusal, ResourceName, ReviewId, SessionId, Timestamp};
use chancery_policy::{RuleSet, command_salt};
use chancery_secrets::Kek;
use chancery_store::{
    Catalog, CatalogError, Directory, Level, Options, Recorder, RecorderOptions, Retention, Seals, Sequencer,
    SessionNote, Shelves, Stall, StateDir, system_clock,
};
use chancery_wire_pg::{CancelKey, ScramKeys};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::archive::{ArchiveStatus, Uploads};
use crate::catalog::Lineage;
use crate::issuers::{AuthenticateError, Issuers, Save, Seed};
use crate::mailbox::{Mail, Mailbox};
use crate::settings::{Bounds, ResourceSettings, Settings};
use crate::tls::{Tls, Upstream};
use crate::workers::Workers;
use crate::{retention, reviews, seals, serve, witnesses};

/// Clients that may be in the middle of their login.
const LOGINS_MAX: usize = 1_024;
/// Sessions that may live at once.
const SESSIONS_MAX: usize = 20_000;
/// Catalog notes about sessions that may wait.
const NOTES_MAX: usize = 8_192;
/// How many of them go into one transaction.
const NOTES_TOGETHER: usize = 256;
/// How long a note waits for others.
const NOTES_WAIT: Duration = Duration::from_millis(20);
/// Chains remembered as known to the directory.
const CHAINS_MAX: usize = 65_536;
/// From this lag of the witnesses on, readiness speaks of it.
const UNWITNESSED_WARN: Duration = Duration::from_secs(60);
/// How long live sessions may go on after the gateway was asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The ledger cannot be opened.
    #[error("ledger: {0}")]
    Ledger(#[from] chancery_store::OpenError),
    /// The ledger does not take the first entry.
    #[error("ledger: {0}")]
    Stall(#[from] Stall),
    /// The catalog cannot be opened.
    #[error("catalog: {0}")]
    Catalog(#[from] CatalogError),
    /// The state directory cannot be used.
    #[error("state: {0}")]
    State(#[from] chancery_store::StateError),
    /// The key that wraps credentials cannot be used.
    #[error("wrap key: {0}")]
    Secrets(#[from] chancery_secrets::SecretsError),
    /// The issuers are not as they should be.
    #[error("{0}")]
    Issuers(#[from] crate::issuers::ConfigError),
    /// A certificate or key cannot be used.
    #[error("tls: {0}")]
    Tls(String),
    /// The witnesses cannot be asked.
    #[error("witnesses: {0}")]
    Witnesses(String),
    /// The archive cannot be used as it is configured.
    #[error("archive: {0}")]
    Archive(String),
    /// A listener would take tokens in clear text from other hosts.
    #[error("{0} is not a loopback address and there is no TLS")]
    ClearText(SocketAddr),
    /// A port cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The file system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// One live session, for lists.
#[derive(Clone, Debug)]
pub struct LiveSession {
    /// Its id.
    pub id: SessionId,
    /// On what.
    pub resource: ResourceName,
    /// On whose behalf, through whom.
    pub chain: Arc<Delegation>,
    /// From where.
    pub client: SocketAddr,
    /// Since when.
    pub started_at: Timestamp,
}

pub(crate) struct Live {
    pub(crate) view: LiveSession,
    pub(crate) mailbox: Mailbox,
}

/// Whether the gateway can do its work, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// True if new commands are taken.
    pub ready: bool,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
}

/// A gateway. Clones are the same gateway.
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Shared>);

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) catalog: Catalog,
    pub(crate) sequencer: Sequencer,
    pub(crate) recorder: Recorder,
    /// Where originals go; `None` where no resource keeps them.
    pub(crate) seals: Option<Seals>,
    pub(crate) retention: Arc<Retention>,
    rules: ArcSwap<RuleSet>,
    rejected: AtomicBool,
    /// When this began. What is counted from it, no change of the wall clock makes longer or shorter.
    began: Instant,
    /// When enough witnesses knew all that was signed, in milliseconds from `began`.
    witnessed_at: AtomicU64,
    /// How far the archive is.
    pub(crate) archived: Mutex<ArchiveStatus>,
    /// The ledger's own witnesses were asked once since the start, and none of them knows another history.
    uncontradicted: AtomicBool,
    stopping: AtomicBool,
    /// What outlives its session and must come to its end: ends of reviews, cancels on their way to a resource.
    ends: Mutex<JoinSet<()>>,
    pub(crate) issuers: Arc<Issuers>,
    pub(crate) kek: Kek,
    pub(crate) fingerprint_key: hmac::Key,
    pub(crate) live: Mutex<HashMap<SessionId, Live>>,
    cancels: Mutex<HashMap<i32, (CancelKey, Mailbox)>>,
    next_process: AtomicI32,
    lineage: HashMap<ResourceName, Arc<Lineage>>,
    upstream: HashMap<ResourceName, Option<Upstream>>,
    scram: Mutex<HashMap<(String, u32), ScramKeys>>,
    pub(crate) tls: Option<Tls>,
    chains: Mutex<HashSet<[u8; 16]>>,
    /// Which session waits for which review.
    pub(crate) waiting: Mutex<HashMap<ReviewId, Mailbox>>,
    /// Exports of events that are not delivered, and why.
    pub(crate) undelivered: Mutex<BTreeMap<String, String>>,
    pub(crate) logins: Arc<Semaphore>,
    pub(crate) sessions: Arc<Semaphore>,
    pub(crate) notes: mpsc::Sender<Note>,
    /// Held for as long as the gateway lives: it locks the state directory.
    pub(crate) state: StateDir,
}

/// A client that cancels takes the end of its connection for the end of the cancel; it has to wait this long at most.
const CANCEL_WAIT: Duration = Duration::from_secs(1);

/// What the catalog is told about sessions, in order and apart from their way.
pub(crate) enum Note {
    Session(SessionNote),
    Flush(oneshot::Sender<()>),
}

/// How TLS is spoken with a resource, if it is, under its name.
fn upstream(resource: &ResourceSettings) -> Result<(ResourceName, Option<Upstream>), OpenError> {
    let name = resource.resource.name.clone();
    match Upstream::new(&resource.tls, &resource.host) {
        Ok(tls) => Ok((name, tls)),
        Err(why) => Err(OpenError::Tls(format!("resource {name}: {why}"))),
    }
}

impl Gateway {
    /// Opens the state, recovers the ledger, closes what a former process left open, and writes `boot`.
    pub async fn open(state: StateDir, settings: Settings) -> Result<Self, OpenError> {
        Self::open_within(state, settings, Bounds::default()).await
    }

    /// The same, with other bounds.
    pub async fn open_within(state: StateDir, settings: Settings, bounds: Bounds) -> Result<Self, OpenError> {
        let mut boot = [0; 16];
        chancery_store::random(&mut boot)?;
        let ledger = Arc::new(Directory::exclusive(&state.ledger())?);
        let mut options = Options::new(system_clock(), boot);
        options.reserve_bytes = bounds.reserve_bytes.unwrap_or(options.reserve_bytes);
        let (sequencer, recovery) = Sequencer::open(
            ledger.clone(),
            Arc::new(Directory::shared(&state.keys())?),
            state.log_signer()?,
            state.origin(),
            options,
        )?;
        let (recordings, recorder) = record(&state, &sequencer)?;
        let seals = seals::open(&state, &settings, &sequencer)?;
        let catalog = Catalog::open(&state.catalog()).await?;
        let mut shelves = Shelves::new(catalog.clone(), recordings, ledger, settings.retention);
        if let Some(sealed) = Directory::shared_if_there(&state.sealed())? {
            shelves = shelves.with_originals(Arc::new(sealed));
        }
        let retention = Arc::new(Retention::new(shelves, sequencer.clone()));

        let seeds = seeds(&catalog, &settings).await?;
        let issuers = Arc::new(Issuers::new(settings.issuers.clone(), &seeds, Some(save(catalog.clone())))?);
        let tls = settings.tls.as_ref().map(Tls::new).transpose().map_err(OpenError::Tls)?;
        let upstream = settings.resources.iter().map(upstream).collect::<Result<HashMap<_, _>, _>>()?;
        let fingerprint = Zeroizing::new(state.fingerprint_key()?);
        let fingerprint_key = hmac::Key::new(hmac::HMAC_SHA256, fingerprint.as_slice());
        let (notes, inbox) = mpsc::channel(NOTES_MAX);
        let lineage = |r: &ResourceSettings| (r.resource.name.clone(), Arc::new(Lineage::new(bounds.catalog_wait)));
        let lineage = settings.resources.iter().map(lineage).collect();
        let shared = Arc::new(Shared {
            rules: ArcSwap::new(settings.rules.clone()),
            rejected: AtomicBool::new(false),
            began: Instant::now(),
            witnessed_at: AtomicU64::new(0),
            archived: Mutex::default(),
            uncontradicted: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            ends: Mutex::default(),
            live: Mutex::default(),
            cancels: Mutex::default(),
            next_process: AtomicI32::new(1),
            scram: Mutex::default(),
            chains: Mutex::default(),
            waiting: Mutex::default(),
            undelivered: Mutex::default(),
            logins: Arc::new(Semaphore::new(LOGINS_MAX)),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            settings,
            catalog,
            sequencer,
            recorder,
            seals,
            retention,
            issuers,
            kek: Kek::new(Zeroizing::new(state.wrap_key()?))?,
            fingerprint_key,
            lineage,
            upstream,
            tls,
            notes,
            state,
        });
        tokio::spawn(keep_notes(shared.catalog.clone(), inbox));
        shared.boot(recovery.size, recovery.root)?;
        shared.sequencer.synced().await?;
        reviews::close_abandoned(&shared).await?;
        Ok(Self(shared))
    }

    /// Whether this state directory may vouch for others: its own witnesses were asked since the start, and the ledger takes
    /// entries. One that was put back to an earlier state has forgotten what it cosigned.
    pub fn may_witness(&self) -> bool {
        self.0.uncontradicted.load(Ordering::SeqCst) && self.0.sequencer.stalled().is_none()
    }

    /// Binds the listeners, serves until `shutdown`, then drains.
    pub async fn serve(&self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), OpenError> {
        let mut witnesses = witnesses::Rounds::new(&self.0).map_err(OpenError::Witnesses)?;
        if let Some(rounds) = &mut witnesses {
            // Before anybody is let in: a ledger that was put back to an earlier state takes nothing.
            rounds.round().await;
            if self.0.sequencer.stalled() == Some(Stall::Frozen) {
                return Err(OpenError::Stall(Stall::Frozen));
            }
        }
        self.0.uncontradicted.store(true, Ordering::SeqCst);
        let uploads = Uploads::new(&self.0).map_err(OpenError::Archive)?;
        let listeners = serve::bind(&self.0).await?;
        let workers = Arc::new(Workers::start(&self.0.sequencer)?);
        let tasks: Vec<_> = listeners
            .into_iter()
            .map(|listener| tokio::spawn(serve::accept(self.0.clone(), workers.clone(), listener)))
            .chain([
                tokio::spawn(reviews::watch(self.0.clone())),
                tokio::spawn(refresh_issuers(self.0.issuers.clone())),
                tokio::spawn(retention::daily(self.0.clone())),
            ])
            .chain(witnesses.map(|rounds| tokio::spawn(rounds.run())))
            .collect();
        let (end, ended) = watch::channel(false);
        let uploads = uploads.map(|uploads| tokio::spawn(uploads.run(ended)));
        shutdown.await;
        for task in tasks {
            task.abort();
            // Aborted, as it should be; its hold on the workers is gone then.
            let _ = task.await;
        }
        self.drain().await;
        workers.stop().await;
        // The last head, which closes everything, is witnessed too.
        if let Ok(Some(mut rounds)) = witnesses::Rounds::new(&self.0)
            && tokio::time::timeout(DRAIN, rounds.round()).await.is_err()
        {
            tracing::warn!("the last head was not witnessed in time");
        }
        // And archived, with what its witnesses said.
        let _ = end.send(true);
        if let Some(mut uploads) = uploads
            && tokio::time::timeout(DRAIN, &mut uploads).await.is_err()
        {
            tracing::warn!("the last entries were not archived in time");
            uploads.abort();
        }
        Ok(())
    }

    /// Ends what lives, writes everything out, closes ledger and recordings.
    async fn drain(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        for live in lock(&self.0.live).values() {
            if let Some(end) = self.0.stopping(live.view.id) {
                live.mailbox.post(end);
            }
        }
        // Every place is free when every session, those on their way in included, has its end on record.
        let places = u32::try_from(SESSIONS_MAX).unwrap_or(u32::MAX);
        let ended = tokio::time::timeout(DRAIN, self.0.sessions.acquire_many(places)).await;
        if ended.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
        let ends = std::mem::take(&mut *lock(&self.0.ends));
        if tokio::time::timeout(DRAIN, ends.join_all()).await.is_err() {
            tracing::warn!("some reviews or statements were not ended in time");
        }
        let (done, flushed) = oneshot::channel();
        if self.0.notes.send(Note::Flush(done)).await.is_ok() {
            let _ = tokio::time::timeout(DRAIN, flushed).await;
        }
        let shared = self.0.clone();
        let closed = tokio::task::spawn_blocking(move || {
            shared.recorder.close();
            if let Some(seals) = &shared.seals {
                seals.close();
            }
            if let Err(stall) =
                shared.sequencer.append_entry(&Entry::Shutdown(Shutdown { reason: "asked" }), Level::Durable)
            {
                tracing::error!(%stall, "shutdown is not on record");
            }
            shared.sequencer.close();
        });
        if closed.await.is_err() {
            tracing::error!("closing the ledger failed");
        }
    }

    /// Puts a rule set in force: on record first, then for every command from now on. Live sessions are asked again.
    pub fn apply_rules(&self, rules: Arc<RuleSet>, source: &'static str) -> Result<(), Stall> {
        self.0.keep_rules(&rules);
        let entry = Entry::PolicyApply(PolicyApply { rules: rules.digest(), source, by: None });
        self.0.sequencer.append_entry(&entry, Level::Durable)?;
        // On disk before it takes effect; rules change rarely, and a worker can wait the few milliseconds.
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.0.sequencer.synced()))?;
        self.0.rules.store(rules);
        self.0.rejected.store(false, Ordering::Relaxed);
        for live in lock(&self.0.live).values() {
            live.mailbox.post(Mail::Rules);
        }
        Ok(())
    }

    /// Notes that a rule set was offered that is not valid; the one in force stays.
    pub fn reject_rules(&self) {
        self.0.rejected.store(true, Ordering::Relaxed);
        self.0.alert("policy-rejected");
    }

    /// The rule set in force.
    pub fn rules(&self) -> Arc<RuleSet> {
        self.0.rules()
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The catalog of reviews, sessions, credentials.
    pub fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// The ledger's one writer.
    pub fn sequencer(&self) -> &Sequencer {
        &self.0.sequencer
    }

    /// Its state directory.
    pub fn state(&self) -> &std::path::Path {
        self.0.state.path()
    }

    /// Deletes what is past its time now, and not only when the day is over. `by` asked for it.
    pub async fn run_retention(&self, by: [u8; 16]) {
        retention::run(&self.0, Some(by)).await;
    }

    /// What deletes, and what is held.
    pub fn retention(&self) -> &Arc<Retention> {
        &self.0.retention
    }

    /// The issuers and their keys.
    pub fn issuers(&self) -> &Arc<Issuers> {
        &self.0.issuers
    }

    /// Verifies a token.
    pub async fn authenticate(&self, token: &str) -> Result<Authenticated<Identity>, AuthenticateError> {
        self.0.issuers.authenticate(token, now()).await
    }

    /// The id of a chain in entries; at its first sight the directory and the ledger are told.
    pub async fn chain_id(&self, chain: &Delegation) -> Result<[u8; 16], CatalogError> {
        self.0.chain_id(chain).await
    }

    /// The salt of a chain's command digests.
    pub fn command_salt(&self, chain: &Delegation) -> [u8; 32] {
        command_salt(&self.0.fingerprint_key, chain)
    }

    /// The sessions that live now.
    pub fn sessions(&self) -> Vec<LiveSession> {
        lock(&self.0.live).values().map(|live| live.view.clone()).collect()
    }

    /// Ends a session. False: it does not live here.
    pub fn end_session(&self, id: SessionId) -> bool {
        let live = lock(&self.0.live);
        let Some(live) = live.get(&id) else { return false };
        let refusal = Refusal::new(
            chancery_model::RefusalCode::SessionEnded,
            "the session was ended by an administrator",
            id.to_string(),
        );
        live.mailbox.post(Mail::End(refusal, "terminated"));
        true
    }

    /// How far the archive is; `None` if there is none.
    pub fn archive_status(&self) -> Option<ArchiveStatus> {
        self.0.settings.archive.as_ref()?;
        let status = lock(&self.0.archived).clone();
        Some(ArchiveStatus { all: status.all.or(Some(self.0.began)), ..status })
    }

    /// Whether work can be done, and why not.
    pub fn health(&self) -> Health {
        let mut problems = Vec::new();
        let mut ready = true;
        if let Some(stall) = self.0.sequencer.stalled() {
            ready = false;
            problems.push(stall.to_string());
        }
        if let Some(fault) = self.0.recorder.stalled() {
            ready = false;
            problems.push(fault.to_string());
        }
        if self.0.rejected.load(Ordering::Relaxed) {
            ready = false;
            problems.push("the rule files are not valid; the last valid rules are in force".to_owned());
        }
        let most = self.0.settings.max_unwitnessed;
        if let Some(lag) = self.0.unwitnessed_for().filter(|lag| *lag > UNWITNESSED_WARN.min(most)) {
            ready &= lag <= most;
            problems.push(format!("too few witnesses cosigned the ledger in the last {} s", lag.as_secs()));
        }
        problems.extend(self.0.unarchived());
        for issuer in self.0.issuers.status(now()) {
            if !issuer.usable {
                problems.push(format!("the keys of issuer {} cannot be had", issuer.issuer));
            }
        }
        for (export, why) in lock(&self.0.undelivered).iter() {
            problems.push(format!("events of export {export} are not delivered: {why}"));
        }
        Health { ready, problems }
    }
}

impl Shared {
    /// Enough witnesses know all that was signed until `at`.
    pub(crate) fn note_witnessed(&self, at: Instant) {
        let at = at.saturating_duration_since(self.began).as_millis();
        self.witnessed_at.store(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    /// How long ago enough witnesses knew all; `None` if nobody is to.
    fn unwitnessed_for(&self) -> Option<Duration> {
        self.settings.witnesses.as_ref()?;
        Some(self.began.elapsed().saturating_sub(Duration::from_millis(self.witnessed_at.load(Ordering::Relaxed))))
    }
    /// Whether the ledger went too long without its witnesses for anything new to have an effect.
    pub(crate) fn is_unwitnessed(&self) -> bool {
        self.unwitnessed_for().is_some_and(|lag| lag > self.settings.max_unwitnessed)
    }
    /// What is wrong with the archive. Work goes on without it: the record is on this disk.
    fn unarchived(&self) -> Option<String> {
        let every = self.settings.archive.as_ref()?.every;
        lock(&self.archived).behind(self.began, Instant::now(), every)
    }
    fn boot(&self, size: u64, root: Digest) -> Result<(), Stall> {
        let dangerous: Vec<&str> = self.settings.dangerous.iter().map(String::as_str).collect();
        let balanced = self.settings.resources.iter().any(|r| r.resource.durability == Durability::Balanced);
        let (profile, loss_window_ms) = if balanced { (Durability::Balanced, 20) } else { (Durability::Strict, 0) };
        let version = self.settings.version;
        let config = self.settings.config;
        let boot = Boot { version, config, dangerous: &dangerous, profile, loss_window_ms, size, root };
        self.sequencer.append_entry(&Entry::Boot(boot), Level::Durable)?;
        let rules = self.rules();
        self.keep_rules(&rules);
        let apply = PolicyApply { rules: rules.digest(), source: "start", by: None };
        self.sequencer.append_entry(&Entry::PolicyApply(apply), Level::Durable)?;
        Ok(())
    }

    /// The text of a rule set, for evidence. Its digest binds without it, so a failure keeps nobody from working.
    fn keep_rules(&self, rules: &RuleSet) {
        if let Err(error) = self.state.keep_rules(&rules.digest(), rules.text()) {
            tracing::error!(%error, rules = %rules.digest(), "the text of a rule set is not kept");
        }
    }

    pub(crate) fn state_path(&self) -> &std::path::Path {
        self.state.path()
    }

    pub(crate) fn rules(&self) -> Arc<RuleSet> {
        self.rules.load_full()
    }

    /// The last word to a session while the gateway stops.
    pub(crate) fn stopping(&self, session: SessionId) -> Option<Mail> {
        self.stopping.load(Ordering::SeqCst).then(|| {
            let code = chancery_model::RefusalCode::SessionEnded;
            Mail::End(Refusal::new(code, "the gateway is shutting down", session.to_string()), "shutdown")
        })
    }

    /// Runs something to its end, whatever becomes of its session.
    pub(crate) fn see_through(&self, end: impl Future<Output = ()> + Send + 'static) {
        let mut ends = lock(&self.ends);
        while ends.try_join_next().is_some() {}
        ends.spawn(end);
    }

    pub(crate) fn alert(&self, code: &str) {
        if let Err(stall) = self.sequencer.append_entry(&Entry::Alert(Alert { code, session: None }), Level::Written) {
            tracing::error!(code, %stall, "an alert is not on record");
        }
    }

    pub(crate) fn alert_of(&self, code: &str, session: SessionId) {
        let alert = Entry::Alert(Alert { code, session: Some(session) });
        if let Err(stall) = self.sequencer.append_entry(&alert, Level::Written) {
            tracing::error!(code, %session, %stall, "an alert is not on record");
        }
    }

    pub(crate) fn lineage(&self, resource: &ResourceName) -> Option<&Arc<Lineage>> {
        self.lineage.get(resource)
    }

    pub(crate) fn upstream_tls(&self, resource: &ResourceName) -> Option<Upstream> {
        self.upstream.get(resource).cloned().flatten()
    }

    pub(crate) fn resource_by_database(&self, name: &str) -> Option<&ResourceSettings> {
        self.settings.resources.iter().find(|resource| resource.resource.name.as_str() == name)
    }

    pub(crate) fn scram_keys(&self, key: &(String, u32)) -> Option<ScramKeys> {
        lock(&self.scram).get(key).cloned()
    }

    /// Keeps the keys of a login for the next one; `None` drops what is kept.
    pub(crate) fn keep_scram_keys(&self, key: (String, u32), keys: Option<ScramKeys>) {
        let mut kept = lock(&self.scram);
        match keys {
            Some(keys) => drop(kept.insert(key, keys)),
            None => drop(kept.remove(&key)),
        }
    }

    /// A cancel key of our own for a new session.
    pub(crate) fn cancel_key(&self, secret: &[u8], mailbox: Mailbox) -> Option<CancelKey> {
        let process = self.next_process.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let key = CancelKey::new(process, secret)?;
        lock(&self.cancels).insert(process, (CancelKey::new(process, secret)?, mailbox));
        Some(key)
    }

    pub(crate) fn drop_cancel_key(&self, process: i32) {
        lock(&self.cancels).remove(&process);
    }

    /// Tells the session that has this key, and waits until it was delivered, within bounds.
    pub(crate) async fn cancel(&self, key: &CancelKey) {
        let delivered = {
            let cancels = lock(&self.cancels);
            let session = cancels.get(&key.process_id()).filter(|(own, _)| own.matches(key));
            session.map(|(_, mailbox)| mailbox.cancel())
        };
        if let Some(mut delivered) = delivered {
            // Ends when the other side is dropped; a resource that takes no cancel keeps nobody waiting.
            let _ = tokio::time::timeout(CANCEL_WAIT, delivered.changed()).await;
        }
    }

    pub(crate) async fn chain_id(&self, chain: &Delegation) -> Result<[u8; 16], CatalogError> {
        let canonical = chain.canonical();
        let tag = hmac::sign(&self.fingerprint_key, &[b"chancery/chain/1", canonical.as_slice()].concat());
        let mut id = [0; 16];
        id.copy_from_slice(&tag.as_ref()[..16]);
        if lock(&self.chains).contains(&id) {
            return Ok(id);
        }
        // On record before the directory knows it. If we crash or run out of space in between, it is told again.
        if self.catalog.chain(id).await?.is_none() {
            let salt = hmac::sign(&self.fingerprint_key, &[b"chancery/salt/1", id.as_slice()].concat());
            let mut commitment = digest::Context::new(&digest::SHA256);
            commitment.update(b"chancery/principal/1");
            commitment.update(salt.as_ref());
            commitment.update(&canonical);
            let mut value = Digest::default();
            value.0.copy_from_slice(commitment.finish().as_ref());
            let entry = Entry::Principal(PrincipalEntry { chain: id, commitment: value });
            if let Err(stall) = self.sequencer.append_entry(&entry, Level::Written) {
                tracing::error!(%stall, "a chain is not on record");
                return Err(CatalogError::Busy);
            }
        }
        self.catalog.remember_chain(id, chain, now()).await?;
        let mut chains = lock(&self.chains);
        if chains.len() >= CHAINS_MAX {
            chains.clear();
        }
        chains.insert(id);
        Ok(id)
    }
}

/// A lock whose holders never leave it in a state of their own making: a poisoned one is used on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The recordings and their one writer, which states the files that it closes in the ledger.
fn record(state: &StateDir, sequencer: &Sequencer) -> Result<(Arc<Directory>, Recorder), std::io::Error> {
    let recordings = Arc::new(Directory::exclusive(&state.recordings())?);
    let told = sequencer.clone();
    let on_closed =
        Box::new(move |segment| told.append_entry(&Entry::RecordingSegment(segment), Level::Written).is_ok());
    let recorder = Recorder::open(recordings.clone(), RecorderOptions::default(), on_closed)?;
    Ok((recordings, recorder))
}

async fn seeds(catalog: &Catalog, settings: &Settings) -> Result<Vec<Seed>, CatalogError> {
    let mut seeds = Vec::new();
    for source in &settings.issuers {
        if let Some(cached) = catalog.jwks(&source.rules.url).await? {
            let jwks = cached.json.into_bytes();
            seeds.push(Seed { issuer: source.rules.url.clone(), jwks, fetched_at: cached.fetched_at });
        }
    }
    Ok(seeds)
}

/// Keeps fetched keys, so that a start during an outage of the issuer works.
fn save(catalog: Catalog) -> Arc<Save> {
    Arc::new(move |issuer, jwks, fetched_at| {
        let (catalog, issuer) = (catalog.clone(), issuer.to_owned());
        let Ok(json) = String::from_utf8(jwks.to_vec()) else { return };
        tokio::spawn(async move {
            if let Err(error) = catalog.put_jwks(&issuer, &json, fetched_at).await {
                tracing::warn!(issuer, %error, "issuer keys are not kept");
            }
        });
    })
}

async fn refresh_issuers(issuers: Arc<Issuers>) {
    loop {
        issuers.refresh(now()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

/// Writes session rows down, one after the other. They are for lists; the evidence is in the ledger.
async fn keep_notes(catalog: Catalog, mut inbox: mpsc::Receiver<Note>) {
    let (mut waiting, mut sessions, mut flushed) = (Vec::new(), Vec::new(), Vec::new());
    while inbox.recv_many(&mut waiting, NOTES_TOGETHER).await > 0 {
        let hurried = waiting.iter().any(|note| matches!(note, Note::Flush(_)));
        if !hurried && waiting.len() < NOTES_TOGETHER {
            // Clients come and go in crowds: each commit is a sync of the disk.
            tokio::time::sleep(NOTES_WAIT).await;
            while waiting.len() < NOTES_TOGETHER
                && let Ok(note) = inbox.try_recv()
            {
                waiting.push(note);
            }
        }
        for note in waiting.drain(..) {
            match note {
                Note::Session(note) => sessions.push(note),
                Note::Flush(done) => flushed.push(done),
            }
        }
        if !sessions.is_empty()
            && let Err(error) = catalog.note_sessions(&sessions).await
        {
            tracing::warn!(%error, rows = sessions.len(), "session rows are not kept");
        }
        sessions.clear();
        for done in flushed.drain(..) {
            // Nobody waits any more if the drain timed out.
            let _: Result<(), ()> = done.send(());
        }
    }
}
