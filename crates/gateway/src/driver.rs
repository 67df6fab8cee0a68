//! One session between its sockets: feeds it what arrived, performs what it wants done. It decides nothing, and it never
//! waits: the engine calls each step for many sessions in turn.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chancery_ledger::{EntryKind, Recorded, Staged, StagedFrame};
use chancery_model::{CommandId, Refusal, RefusalCode, ReviewId, ReviewState, Timestamp};
use chancery_session::{Closing, Context, Desk, Effect, Input, Level, Original, Outcome, Ruling, Session, Tape};
use chancery_store::{
    Appending, CatalogError, Pending, SealFault, SealSpool, SessionNote, Spool, Stall, Unspooled, Untaken,
};
use chancery_wire::Leg;
use chancery_wire_pg::{CancelKey, PgRelay};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;

use crate::catalog::{Found, Lineage, Version};
use crate::gateway::{Note, Shared, lock, now};
use crate::mailbox::{Delivered, Mail, Mailbox};
use crate::reviews;
use crate::seals;
use crate::settings::ResourceSettings;
use crate::socket::{Arrived, Buffer, Outbox, Socket};
use crate::stream::Stream;

/// Bytes on their way out of a leg past which the other leg is not read.
const OUTBOX_MAX: usize = 1024 * 1024;
/// The client has this long to take the last words.
const GOODBYE: Duration = Duration::from_secs(5);
/// Words that are read in one turn. Who posts them without end does not keep the other sessions waiting.
const MAIL_MAX: usize = 8;
/// A full recorder has this long to make room before the session ends.
const RECORDER_PAUSE: Duration = Duration::from_secs(5);

type Work = Pin<Box<dyn Future<Output = Worked> + Send>>;

/// What came of something that a session waited for.
#[allow(clippy::large_enum_variant, reason = "moved once; nearly every one is the largest")]
enum Worked {
    Told(Input<Bytes>),
    Nothing,
    /// The recorder has room again, or never will.
    Room(bool),
}

/// The two sockets.
pub(crate) struct Legs {
    pub(crate) down: Socket,
    pub(crate) up: Socket,
}

/// What a session is made of when its handshakes are done.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Session<PgRelay>,
    pub(crate) legs: Legs,
    pub(crate) spool: Spool,
    /// Where its originals go, if they are kept.
    pub(crate) seal: Option<SealSpool>,
    pub(crate) mailbox: Mailbox,
    pub(crate) settings: ResourceSettings,
    pub(crate) context: Arc<Context>,
    /// What cancels its statements at the resource.
    pub(crate) backend: Option<CancelKey>,
    /// The process number of the key by which its client cancels.
    pub(crate) cancel: i32,
    /// Its place among the sessions, given back when everything of it is on record.
    pub(crate) place: OwnedSemaphorePermit,
}

/// Something for the ledger, in the order in which the session asked for it.
pub(crate) enum ForLedger {
    Ruling(CommandId, Staged<Box<Ruling>>, Level),
    Outcome(Staged<Outcome>, Level),
}

/// Something for a session's recording, or for its sealer.
enum ForRecording {
    Tape(StagedFrame<Tape>),
    Note(chancery_session::Note),
    Original(Original),
}

/// What the sessions of one turn want in the ledger, by session.
pub(crate) type Tray = Vec<(usize, ForLedger)>;

/// Everything of one session that is not its judgement.
pub(crate) struct Driver {
    parts: Parts,
    lineage: Option<Arc<Lineage>>,
    /// Wakes the engine for this session.
    waker: Waker,
    to_client: Outbox,
    to_server: Outbox,
    work: Vec<Work>,
    /// Something was begun and not looked at yet.
    begun: bool,
    waits_for: Vec<ReviewId>,
    /// Reviews on their way into the catalog.
    creating: Vec<(ReviewId, JoinHandle<()>)>,
    /// Whether a cancel request is on its way to the resource.
    cancelling: Arc<AtomicBool>,
    /// Whose cancel is being taken.
    delivered: Option<Delivered>,
    commands: u64,
    /// Which catalog the session was given.
    catalog: Version,
    /// Frames for which the recorder has no room now.
    unrecorded: VecDeque<ForRecording>,
    /// An original was not sealed, and never will be.
    originals_lost: bool,
    ending: Option<&'static str>,
    /// Last words are not waited for any longer than this.
    gone_at: Option<Timestamp>,
    gave_up: bool,
    /// Entries of this session's own are below this index.
    placed: u64,
    /// What waits for the client needs every entry below this index written.
    owes: u64,
    /// The ledger failed; nothing more is shown.
    mute: bool,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let lineage = parts.shared.lineage(&parts.context.resource.name).cloned();
        Self {
            parts,
            lineage,
            waker: Waker::noop().clone(),
            to_client: Outbox::default(),
            to_server: Outbox::default(),
            work: Vec::new(),
            begun: false,
            waits_for: Vec::new(),
            creating: Vec::new(),
            cancelling: Arc::default(),
            delivered: None,
            commands: 0,
            catalog: Version::default(),
            unrecorded: VecDeque::new(),
            originals_lost: false,
            ending: None,
            gone_at: None,
            gave_up: false,
            placed: 0,
            owes: 0,
            mute: false,
        }
    }

    pub(crate) fn attach(&mut self, waker: Waker) {
        self.waker = waker;
    }

    /// The sockets, to be registered and told of their readiness.
    pub(crate) fn leg_mut(&mut self, leg: Leg) -> &mut Socket {
        match leg {
            Leg::Downstream => &mut self.parts.legs.down,
            Leg::Upstream => &mut self.parts.legs.up,
        }
    }

    /// A leg cannot be used.
    pub(crate) fn lose(&mut self, leg: Leg, now: Timestamp) {
        self.begun = true;
        self.tell(Input::Gone(leg), now);
    }

    /// Whether the next turn has something to do for it without anybody's call.
    pub(crate) fn is_ready(&self) -> bool {
        self.begun || self.reads(Leg::Upstream) || self.reads(Leg::Downstream) || self.is_over()
    }

    /// Whether nothing more is to be done but to depart.
    pub(crate) fn is_over(&self) -> bool {
        let Legs { down, up } = &self.parts.legs;
        let said = || self.to_client.is_empty() && self.to_server.is_empty() && !down.owes() && !up.owes();
        self.ending.is_some() && (self.gave_up || (self.unrecorded.is_empty() && said()))
    }

    /// When it wants to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        if self.ending.is_some() { self.gone_at } else { self.parts.session.deadline() }
    }

    fn reads(&self, leg: Leg) -> bool {
        let (socket, other) = match leg {
            Leg::Upstream => (&self.parts.legs.up, &self.to_client),
            Leg::Downstream => (&self.parts.legs.down, &self.to_server),
        };
        socket.is_readable()
            && self.ending.is_none()
            && self.unrecorded.is_empty()
            && other.len() < OUTBOX_MAX
            && self.parts.session.wants(leg)
    }

    fn tell(&mut self, input: Input<Bytes>, now: Timestamp) {
        self.parts.session.handle(input, now);
    }

    /// Tells the session all that happened. `called`: mail or the result of some work may be there. `due`: its alarm rang.
    pub(crate) fn feed(&mut self, called: bool, due: bool, buffer: &mut Buffer, now: Timestamp) {
        if std::mem::take(&mut self.begun) || called {
            let waker = self.waker.clone();
            let mut cx = TaskContext::from_waker(&waker);
            // Before the legs: a resource that always has more to say must not outshout a word that ends the session.
            for _ in 0..MAIL_MAX {
                let Poll::Ready(mail) = self.parts.mailbox.poll(&mut cx) else { break };
                self.read_mail(mail, now);
                // Whether there is more is seen in the next turn at the latest.
                self.begun = true;
            }
            self.look_at_work(&mut cx, now);
        }
        for leg in [Leg::Upstream, Leg::Downstream] {
            if self.reads(leg) {
                match self.leg_mut(leg).read(buffer) {
                    Arrived::Chunk(bytes) => {
                        self.renew_catalog(now);
                        self.tell(Input::Unit(leg, bytes), now);
                    }
                    Arrived::Gone => self.tell(Input::Gone(leg), now),
                    Arrived::Nothing => {}
                }
            }
        }
        if due {
            self.tell(Input::Tick, now);
        }
        if due && self.gone_at.is_some_and(|at| at <= now) {
            // A peer that takes nothing does not keep the session.
            self.gave_up = true;
        }
    }

    #[inline(never)]
    fn look_at_work(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) {
        let mut at = 0;
        while at < self.work.len() {
            match self.work[at].as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(worked) => {
                    drop(self.work.remove(at));
                    match worked {
                        Worked::Told(input) => self.tell(input, now),
                        Worked::Nothing => {}
                        Worked::Room(true) => self.record_on(now),
                        Worked::Room(false) => self.stop_recording(now),
                    }
                }
            }
        }
    }

    fn begin(&mut self, work: impl Future<Output = Worked> + Send + 'static) {
        self.work.push(Box::pin(work));
        self.begun = true;
    }

    /// What other sessions did to the catalog counts before anything more is read.
    fn renew_catalog(&mut self, now: Timestamp) {
        match self.lineage.as_ref().and_then(|lineage| lineage.newer(&mut self.catalog)) {
            Some(Found::Newer(catalog)) => self.tell(Input::Newer(catalog), now),
            Some(Found::Outdated) => {
                self.tell(Input::Outdated, now);
                self.reread(true);
            }
            None => {}
        }
    }

    #[inline(never)]
    fn read_mail(&mut self, mail: Mail, now: Timestamp) {
        match mail {
            Mail::Cancel(delivered) => {
                self.delivered = Some(delivered);
                self.tell(Input::Cancel, now);
            }
            Mail::Rules => {
                let rules = self.parts.shared.rules();
                self.tell(Input::RulesChanged(rules), now);
            }
            Mail::End(refusal, reason) => self.tell(Input::End(refusal, reason), now),
            Mail::Review(id) => {
                let (shared, mailbox) = (self.parts.shared.clone(), self.parts.mailbox.clone());
                self.begin(async move {
                    match reviews::decided(&shared, id).await {
                        Ok(review) => {
                            review.map_or(Worked::Nothing, |review| Worked::Told(Input::Reviewed(Box::new(review))))
                        }
                        Err(error) => {
                            tracing::warn!(%id, %error, "a review cannot be read");
                            // Nobody says it a second time, and the client waits.
                            tokio::time::sleep(reviews::POLL).await;
                            mailbox.post(Mail::Review(id));
                            Worked::Nothing
                        }
                    }
                });
            }
        }
    }

    /// Performs what can be performed at once, and puts on the tray what is for the ledger.
    pub(crate) fn drain(&mut self, own: usize, tray: &mut Tray, desk: &mut Desk<Bytes>, now: Timestamp) {
        self.parts.session.exchange(desk);
        while let Some(effect) = self.parts.session.poll() {
            match effect {
                Effect::Transmit(Leg::Downstream, bytes) => self.show(bytes),
                Effect::Transmit(Leg::Upstream, bytes) => self.to_server.push(bytes),
                Effect::Rule(id, staged, level) => tray.push((own, ForLedger::Ruling(id, staged, level))),
                Effect::Conclude(staged, level) => tray.push((own, ForLedger::Outcome(staged, level))),
                Effect::Tape(staged) => self.spool(ForRecording::Tape(staged), now),
                Effect::Note(note) => self.spool(ForRecording::Note(note), now),
                Effect::Seal(original) => self.spool(ForRecording::Original(original), now),
                Effect::AwaitDisk(entry) => self.await_disk(entry),
                Effect::Find(command, digest) => self.find(command, digest),
                Effect::Ask(review) => self.ask(*review),
                Effect::Withdraw(id, state) => self.withdraw(id, state),
                Effect::Taint(tables) => {
                    if let Some(lineage) = &self.lineage {
                        lineage.taint(tables, &self.parts.settings.mask);
                    }
                }
                Effect::Refresh => self.reread(false),
                Effect::Outdate => {
                    if let Some(lineage) = &self.lineage {
                        lineage.outdate(&mut self.catalog);
                    }
                }
                Effect::CancelUpstream => self.cancel_upstream(),
                Effect::Close(reason) => {
                    let patience = i64::try_from(GOODBYE.as_micros()).unwrap_or(i64::MAX);
                    self.ending = Some(reason);
                    self.gone_at = Some(now.plus_micros(patience));
                }
            }
        }
        self.parts.session.exchange(desk);
    }

    /// Bytes go to the client when every ruling of this session so far is handed to the kernel: what a read returns is
    /// not seen before its entry survives this process. See `owes`.
    fn show(&mut self, bytes: Bytes) {
        if !self.mute {
            self.owes = self.placed;
            self.to_client.push(bytes);
        }
    }

    /// Entries below this index must be written before its bytes may leave for the client.
    pub(crate) fn owes(&self) -> u64 {
        if self.to_client.is_empty() { 0 } else { self.owes }
    }

    /// What it owes cannot be written: the client's bytes are destroyed, and the session ends.
    pub(crate) fn silence(&mut self, stall: &Stall, now: Timestamp) {
        self.mute = true;
        self.to_client = Outbox::default();
        match self.ending {
            None => self.tell(unrecorded(&self.parts.context.id.to_string(), stall), now),
            Some(_) => {
                tracing::error!(session = %self.parts.context.id, %stall, "the last words of a session are lost");
            }
        }
    }

    /// Writes what a leg's socket takes. What the session was told in this turn is carried out.
    pub(crate) fn flush(&mut self, leg: Leg, now: Timestamp) {
        self.delivered = None;
        let (socket, outbox) = match leg {
            Leg::Upstream => (&mut self.parts.legs.up, &mut self.to_server),
            Leg::Downstream => (&mut self.parts.legs.down, &mut self.to_client),
        };
        if (!outbox.is_empty() || socket.owes()) && socket.flush(outbox).is_err() {
            *outbox = Outbox::default();
            self.lose(leg, now);
        }
    }

    /// Recording is a copy in memory; only a recorder that falls behind makes the session wait.
    fn spool(&mut self, frame: ForRecording, now: Timestamp) {
        if !self.unrecorded.is_empty() {
            return self.unrecorded.push_back(frame);
        }
        let fault = match frame {
            ForRecording::Note(note) => match self.parts.spool.note(&note.frame()) {
                Ok(true) => return,
                Ok(false) => return self.await_room(ForRecording::Note(note)),
                Err(fault) => fault,
            },
            ForRecording::Tape(staged) => match self.parts.spool.append(staged) {
                Ok(recorded) => return self.tell(Input::Taped(recorded), now),
                Err(Unspooled::Full(staged)) => return self.await_room(ForRecording::Tape(staged)),
                Err(Unspooled::Fault(fault)) => fault,
            },
            ForRecording::Original(original) => return self.seal(original, now),
        };
        tracing::error!(session = %self.parts.context.id, %fault, "recording failed");
        self.stop_recording(now);
    }

    /// An original goes to the sealer, and nowhere else. What cannot be sealed ends the session, as what cannot be recorded
    /// does.
    #[inline(never)]
    fn seal(&mut self, original: Original, now: Timestamp) {
        let taken = match &self.parts.seal {
            Some(seal) => seal.take(original),
            None => Err(Untaken::Fault(SealFault::Closed)),
        };
        match taken {
            Ok(()) => {}
            Err(Untaken::Full(original)) => self.await_room(ForRecording::Original(original)),
            Err(Untaken::Fault(fault)) => {
                tracing::error!(session = %self.parts.context.id, %fault, "sealing failed");
                self.originals_lost = true;
                self.stop_recording(now);
            }
        }
    }

    #[inline(never)]
    fn await_room(&mut self, frame: ForRecording) {
        let seal = self.parts.seal.clone().filter(|_| matches!(frame, ForRecording::Original(_)));
        self.unrecorded.push_back(frame);
        let spool = self.parts.spool.clone();
        self.begin(async move {
            let room = async {
                match seal {
                    Some(seal) => seal.space().await.is_ok(),
                    None => spool.space().await.is_ok(),
                }
            };
            Worked::Room(tokio::time::timeout(RECORDER_PAUSE, room).await == Ok(true))
        });
    }

    /// Records what waited for room, as far as it goes.
    fn record_on(&mut self, now: Timestamp) {
        for frame in std::mem::take(&mut self.unrecorded) {
            self.spool(frame, now);
        }
    }

    #[inline(never)]
    fn stop_recording(&mut self, now: Timestamp) {
        self.originals_lost |= self.waits_for_sealer();
        self.unrecorded.clear();
        let why = "record unavailable: the recording cannot be written";
        let refusal = Refusal::new(RefusalCode::RecordUnavailable, why, self.parts.context.id.to_string());
        self.tell(Input::End(refusal, "record-unavailable"), now);
    }

    fn waits_for_sealer(&self) -> bool {
        self.unrecorded.iter().any(|frame| matches!(frame, ForRecording::Original(_)))
    }

    /// Puts an entry into the ledger.
    pub(crate) fn record(&mut self, entry: ForLedger, ledger: &mut Appending<'_>, now: Timestamp) {
        match entry {
            ForLedger::Ruling(id, staged, level) => self.rule(id, staged, level, ledger, now),
            ForLedger::Outcome(staged, level) => self.conclude(staged, level, ledger, now),
        }
    }

    fn rule(
        &mut self,
        id: CommandId,
        staged: Staged<Box<Ruling>>,
        level: Level,
        ledger: &mut Appending<'_>,
        now: Timestamp,
    ) {
        self.commands += 1;
        if let Some(fault) = self.parts.shared.recorder.stalled() {
            tracing::error!(session = %self.parts.context.id, %fault, "recording stalled");
            return self.tell(Input::Unrecorded(id), now);
        }
        let effect = level == Level::OnDisk && staged.kind() == EntryKind::ActStart;
        if effect && self.parts.shared.is_unwitnessed() {
            tracing::warn!(session = %self.parts.context.id, "refused: the ledger is without its witnesses");
            return self.tell(Input::Unrecorded(id), now);
        }
        let ruled = match level {
            Level::OnDisk => ledger.durable(staged).map(|pending| self.rule_on_disk(id, pending)),
            // Nothing goes to the client before `show` has it written.
            Level::Lazy | Level::Written => ledger.placed(staged).map(|recorded| {
                self.placed = recorded.entry_ref().map_or(self.placed, |entry| entry.index + 1);
                self.tell(Input::Ruled(recorded), now);
            }),
        };
        if let Err(stall) = ruled {
            tracing::error!(session = %self.parts.context.id, %stall, "a ruling is not on record");
            self.tell(Input::Unrecorded(id), now);
        }
    }

    /// A ruling that is carried out once its entry is on disk.
    #[inline(never)]
    fn rule_on_disk(&mut self, id: CommandId, pending: Pending<Box<Ruling>>) {
        let session = self.parts.context.id;
        self.begin(async move {
            match pending.recorded().await {
                Ok(recorded) => Worked::Told(Input::Ruled(recorded)),
                Err(stall) => {
                    tracing::error!(%session, %stall, "a ruling is not on disk");
                    Worked::Told(Input::Unrecorded(id))
                }
            }
        });
    }

    fn conclude(&mut self, staged: Staged<Outcome>, level: Level, ledger: &mut Appending<'_>, now: Timestamp) {
        let concluded = match level {
            Level::OnDisk => ledger.durable(staged).map(|pending| self.conclude_on_disk(pending)),
            // Nobody waits for what need not be on disk.
            Level::Lazy | Level::Written => ledger.leave(staged),
        };
        if let Err(stall) = concluded {
            self.tell(unrecorded(&self.parts.context.id.to_string(), &stall), now);
        }
    }

    #[inline(never)]
    fn conclude_on_disk(&mut self, pending: Pending<Outcome>) {
        let spool = self.parts.spool.clone();
        let reference = self.parts.context.id.to_string();
        self.begin(async move { Worked::Told(concluded(pending, spool, reference).await) });
    }

    #[inline(never)]
    fn find(&mut self, command: CommandId, digest: chancery_model::Digest) {
        let (shared, context) = (self.parts.shared.clone(), self.parts.context.clone());
        self.begin(async move {
            let found = find(&shared, digest, &context, command).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "approvals cannot be looked for");
                None
            });
            Worked::Told(Input::Found(command, found.map(Box::new)))
        });
    }

    #[inline(never)]
    fn await_disk(&mut self, entry: u64) {
        let sequencer = self.parts.shared.sequencer.clone();
        let reference = self.parts.context.id.to_string();
        self.begin(async move {
            Worked::Told(match sequencer.synced().await {
                Ok(()) => Input::OnDisk(entry + 1),
                Err(stall) => unrecorded(&reference, &stall),
            })
        });
    }

    #[inline(never)]
    fn ask(&mut self, review: chancery_model::Review) {
        let shared = self.parts.shared.clone();
        let id = review.id;
        if self.parts.context.wait {
            lock(&shared.waiting).insert(id, self.parts.mailbox.clone());
            self.waits_for.push(id);
        }
        let (tell, told) = oneshot::channel();
        let mut review = review;
        // Runs to its end without the session, so that whoever ends the review later finds it.
        let creating = tokio::spawn(async move {
            if let Err(error) = shared.catalog.create_review(&review).await {
                tracing::warn!(%id, %error, "a review cannot be put before its reviewers");
                reviews::ended(&shared, id, false);
                review.state = ReviewState::Withdrawn;
                // The session may be over; then nobody has to be told.
                let _ = tell.send(review);
            }
        });
        self.creating.retain(|(_, creating)| !creating.is_finished());
        self.creating.push((id, creating));
        self.begin(async move {
            told.await.ok().map_or(Worked::Nothing, |review| Worked::Told(Input::Reviewed(Box::new(review))))
        });
    }

    #[inline(never)]
    fn withdraw(&mut self, id: ReviewId, state: ReviewState) {
        self.waits_for.retain(|waiting| *waiting != id);
        let shared = self.parts.shared.clone();
        let creating = self.creating.iter().position(|(creating, _)| *creating == id);
        let creating = creating.map(|at| self.creating.swap_remove(at).1);
        // Outlives the session: a client that left withdraws its review, too.
        self.parts.shared.see_through(async move {
            if let Some(creating) = creating {
                // A panic in there left no review; ending it says so.
                let _ = creating.await;
            }
            reviews::withdraw(&shared, id, state).await;
        });
    }

    /// Has the catalog read, unless there is one that covers `definitions` of others.
    #[inline(never)]
    fn reread(&mut self, definitions: bool) {
        let (shared, settings) = (self.parts.shared.clone(), self.parts.settings.clone());
        let reference = self.parts.context.id.to_string();
        self.begin(async move {
            let name = settings.resource.name.clone();
            let Some(lineage) = shared.lineage(&name) else { return Worked::Nothing };
            let read = match definitions {
                true => lineage.renew(&shared, &settings).await,
                false => lineage.refresh(&shared, &settings).await,
            };
            match read {
                Ok(catalog) => Worked::Told(Input::Catalog(catalog)),
                Err(failure) => {
                    tracing::warn!(resource = %name, %failure, "catalog not read");
                    let why = format!("the catalog of the resource {name} cannot be read");
                    let refusal = Refusal::new(RefusalCode::ResourceUnavailable, why, reference);
                    Worked::Told(Input::End(refusal, "catalog-unavailable"))
                }
            }
        });
    }

    /// A cancel request goes over a connection of its own and has no answer.
    #[inline(never)]
    fn cancel_upstream(&mut self) {
        let Some(key) = &self.parts.backend else { return };
        // One at a time: a client that floods us with cancels does not make us flood the resource.
        if self.cancelling.swap(true, Ordering::Relaxed) {
            return;
        }
        let (cancelling, delivered) = (self.cancelling.clone(), self.delivered.take());
        let mut request = BytesMut::new();
        key.write_request(&mut request);
        let (host, port) = (self.parts.settings.host.clone(), self.parts.settings.port);
        self.parts.shared.see_through(async move {
            let sent = tokio::time::timeout(GOODBYE, async {
                let mut stream = Stream::Plain(TcpStream::connect((host.as_str(), port)).await?);
                stream.write_all(&request).await?;
                stream.shutdown().await;
                // The server closes when it has acted; until then the cancel may be on its way.
                stream.chunk().await.map(drop)
            });
            if !matches!(sent.await, Ok(Ok(()))) {
                tracing::debug!("a cancel request could not be sent");
            }
            cancelling.store(false, Ordering::Relaxed);
            drop(delivered);
        });
    }

    /// Closed sockets; then, apart from the engine, last records. `released` is given up when they are made. `broken`: it
    /// panicked, so what became of its commands is not known; the next start says so.
    #[inline(never)]
    pub(crate) fn depart<L: Send + 'static>(self, broken: bool, released: L) {
        let lost = self.originals_lost || self.waits_for_sealer();
        let Self { parts, waits_for, ending, commands, .. } = self;
        let Parts { shared, legs, spool, seal, context, cancel, place, .. } = parts;
        for id in waits_for {
            lock(&shared.waiting).remove(&id);
        }
        legs.down.close();
        legs.up.close();
        let reason = if broken { "internal-error" } else { ending.unwrap_or("ended") };
        if broken {
            tracing::error!(session = %context.id, "a session panicked");
        }
        tokio::spawn(async move {
            if let Some(seal) = seal {
                seals::end(&shared, context.id, &seal, lost).await;
            }
            close(&shared, &context, &spool, reason, commands).await;
            shared.drop_cancel_key(cancel);
            lock(&shared.live).remove(&context.id);
            drop((place, released));
        });
    }
}

async fn close(shared: &Shared, context: &Arc<Context>, spool: &Spool, reason: &'static str, commands: u64) {
    let recording = match spool.sync().await {
        Ok(head) => head,
        Err(fault) => {
            tracing::error!(session = %context.id, %fault, "the end of a recording is lost");
            None
        }
    };
    let closing = Closing::of(context.clone(), reason, recording);
    if let Err(stall) = shared.sequencer.append(closing, chancery_store::Level::Written) {
        tracing::error!(session = %context.id, %stall, "the end of a session is not on record");
    }
    let note = Note::Session(SessionNote::Closed { id: context.id, ending: reason, commands, at: now() });
    if shared.notes.send(note).await.is_err() {
        tracing::error!(session = %context.id, "the session list is not kept any more");
    }
    tracing::info!(session = %context.id, reason, "session ended");
}

/// An effect is told to the client when its outcome and the last of its recording are on disk.
async fn concluded(pending: Pending<Outcome>, spool: Spool, reference: String) -> Input<Bytes> {
    let recorded: Result<Recorded<Outcome>, Stall> = pending.recorded().await;
    match (recorded, spool.sync().await) {
        (Ok(recorded), Ok(_)) => Input::Concluded(recorded),
        (Err(stall), _) => unrecorded(&reference, &stall),
        (_, Err(fault)) => {
            tracing::error!(session = reference, %fault, "an outcome is not on disk");
            let why = "record unavailable: the recording cannot be written";
            Input::End(Refusal::new(RefusalCode::RecordUnavailable, why, reference), "record-unavailable")
        }
    }
}

fn unrecorded(reference: &str, stall: &Stall) -> Input<Bytes> {
    tracing::error!(session = reference, %stall, "an outcome is not on record");
    let why = "record unavailable: the ledger cannot be written";
    Input::End(Refusal::new(RefusalCode::RecordUnavailable, why, reference), "record-unavailable")
}

/// An approval that was given before, used up now; for a client that does not wait also the review that is still open.
async fn find(
    shared: &Arc<Shared>,
    digest: chancery_model::Digest,
    context: &Context,
    command: CommandId,
) -> Result<Option<chancery_model::Review>, CatalogError> {
    if let Some(review) = shared.catalog.find_approved(digest, &context.chain, now()).await? {
        return reviews::use_up(shared, review, context.id, command).await;
    }
    if context.wait {
        return Ok(None);
    }
    match shared.catalog.find_pending(digest, &context.chain, now()).await? {
        Some(id) => shared.catalog.review(id).await,
        None => Ok(None),
    }
}
