//! The driver of one session: feeds one input, drains all effects, sleeps until a socket, an answer or the deadline.
//! It decides nothing.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chancery_ledger::{Recorded, Staged, StagedFrame};
use chancery_model::{CommandId, Refusal, RefusalCode, ReviewId, ReviewState, Timestamp};
use chancery_session::{Closing, Context, Effect, Input, Level, Outcome, Ruling, Session, Tape};
use chancery_store::{Appended, CatalogError, Pending, Spool, Stall, Unspooled};
use chancery_wire::Leg;
use chancery_wire_pg::{CancelKey, PgRelay};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

use crate::catalog::{Found, Lineage, Version};
use crate::gateway::{Note, Shared, lock, now};
use crate::mailbox::{Delivered, Mail, Mailbox};
use crate::reviews;
use crate::settings::ResourceSettings;
use crate::stream::{Outbox, Stream};

/// Bytes on their way out of a leg past which the other leg is not read.
const OUTBOX_MAX: usize = 1024 * 1024;
/// The client has this long to take the last words.
const GOODBYE: Duration = Duration::from_secs(5);
/// A full recorder has this long to make room before the session ends.
const RECORDER_PAUSE: Duration = Duration::from_secs(5);
/// Without a deadline of the session's own, it is looked at this often.
const IDLE: Duration = Duration::from_secs(3600);

type Work = Pin<Box<dyn Future<Output = Option<Input<Bytes>>> + Send>>;

/// The two sockets.
pub(crate) struct Legs {
    pub(crate) down: Stream,
    pub(crate) up: Stream,
}

/// What woke the driver.
#[allow(
    clippy::large_enum_variant,
    reason = "lives for one turn of the loop; a box would be an allocation per wake-up"
)]
enum Wake {
    Chunk(Leg, Bytes),
    Gone(Leg),
    Mail(Mail),
    Worked(Option<Input<Bytes>>),
    Stalled(Stall),
    Deadline,
}

/// Everything of one session that is not its judgement.
struct Driver<'a> {
    shared: &'a Arc<Shared>,
    context: &'a Arc<Context>,
    settings: &'a ResourceSettings,
    lineage: Option<&'a Lineage>,
    session: Session<PgRelay>,
    spool: Spool,
    legs: Legs,
    to_client: Outbox,
    to_server: Outbox,
    work: Vec<Work>,
    mailbox: Mailbox,
    backend: Option<CancelKey>,
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
    ending: Option<&'static str>,
    /// Entries of this session's own are below this index.
    placed: u64,
    /// What waits for the client needs every entry below this index written.
    owes: u64,
    /// The other sessions of this worker had their turn since bytes began to wait.
    turned: bool,
    /// The ledger failed; nothing more is shown.
    mute: bool,
}

/// Runs a session to its end.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn run(
    shared: &Arc<Shared>,
    session: Session<PgRelay>,
    legs: Legs,
    spool: Spool,
    mailbox: Mailbox,
    settings: &ResourceSettings,
    context: &Arc<Context>,
    backend: Option<CancelKey>,
) {
    let driver = Driver {
        shared,
        context,
        settings,
        lineage: shared.lineage(&context.resource.name),
        session,
        spool,
        legs,
        to_client: Outbox::default(),
        to_server: Outbox::default(),
        work: Vec::new(),
        mailbox,
        backend,
        waits_for: Vec::new(),
        creating: Vec::new(),
        cancelling: Arc::default(),
        delivered: None,
        commands: 0,
        catalog: Version::default(),
        placed: 0,
        owes: 0,
        turned: false,
        mute: false,
        ending: None,
    };
    driver.drive().await;
}

impl Driver<'_> {
    async fn drive(mut self) {
        let sleep = tokio::time::sleep(IDLE);
        tokio::pin!(sleep);
        let mut now = now();
        let mut due = self.arm(sleep.as_mut(), now, None);
        loop {
            self.perform(now).await;
            self.delivered = None;
            if self.ending.is_some() {
                break;
            }
            due = self.arm(sleep.as_mut(), now, due);
            let wake = poll_fn(|cx| self.poll_wake(cx, sleep.as_mut())).await;
            now = crate::gateway::now();
            match wake {
                Wake::Chunk(leg, bytes) => {
                    self.renew_catalog(now);
                    self.session.handle(Input::Unit(leg, bytes), now);
                }
                Wake::Gone(leg) => self.session.handle(Input::Gone(leg), now),
                Wake::Mail(mail) => self.read_mail(mail, now),
                Wake::Worked(Some(input)) => self.session.handle(input, now),
                Wake::Worked(None) => {}
                Wake::Stalled(stall) => {
                    let end = unrecorded(&self.context.id.to_string(), &stall);
                    self.session.handle(end, now);
                }
                Wake::Deadline => {
                    due = None;
                    self.session.handle(Input::Tick, now);
                }
            }
            // The alarm is polled last; a busy leg must not put off an expiry.
            if self.session.deadline().is_some_and(|deadline| deadline <= now) {
                self.session.handle(Input::Tick, now);
            }
        }
        self.end().await;
    }

    /// Sets the alarm if the session's deadline moved.
    fn arm(&self, sleep: Pin<&mut Sleep>, now: Timestamp, due: Option<Timestamp>) -> Option<Timestamp> {
        let deadline = self.session.deadline();
        if deadline != due || due.is_none() {
            let micros = deadline.map_or(IDLE.as_micros() as u64, |at| u64::try_from(at.0 - now.0).unwrap_or(0));
            sleep.reset(Instant::now() + Duration::from_micros(micros).min(IDLE));
        }
        deadline
    }

    /// Writes what can be written, then looks for the next thing that happened.
    fn poll_wake(&mut self, cx: &mut TaskContext<'_>, sleep: Pin<&mut Sleep>) -> Poll<Wake> {
        if self.has_bytes_to_send() && !std::mem::replace(&mut self.turned, true) {
            // Whoever else is ready goes first: judging many and then sending for many keeps the caches warm, wakes the
            // peers when the work is done, and lets one write to the ledger serve them all.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Err(stall) = self.pay() {
            return Poll::Ready(Wake::Stalled(stall));
        }
        for (leg, outbox, stream) in [
            (Leg::Upstream, &mut self.to_server, &mut self.legs.up),
            (Leg::Downstream, &mut self.to_client, &mut self.legs.down),
        ] {
            if !outbox.is_empty()
                && let Poll::Ready(Err(_)) = outbox.poll_flush(stream, cx)
            {
                return Poll::Ready(Wake::Gone(leg));
            }
        }
        self.turned = self.has_bytes_to_send();
        // Before the legs: a resource that always has more to say must not outshout a word that ends the session.
        if let Poll::Ready(mail) = self.mailbox.poll(cx) {
            return Poll::Ready(Wake::Mail(mail));
        }
        if self.to_client.len() < OUTBOX_MAX
            && self.session.wants(Leg::Upstream)
            && let Poll::Ready(read) = self.legs.up.poll_chunk(cx)
        {
            return Poll::Ready(chunk(Leg::Upstream, read));
        }
        if self.to_server.len() < OUTBOX_MAX
            && self.session.wants(Leg::Downstream)
            && let Poll::Ready(read) = self.legs.down.poll_chunk(cx)
        {
            return Poll::Ready(chunk(Leg::Downstream, read));
        }
        for at in 0..self.work.len() {
            if let Poll::Ready(input) = self.work[at].as_mut().poll(cx) {
                drop(self.work.remove(at));
                return Poll::Ready(Wake::Worked(input));
            }
        }
        sleep.poll(cx).map(|()| Wake::Deadline)
    }

    fn has_bytes_to_send(&self) -> bool {
        !self.to_client.is_empty() || !self.to_server.is_empty()
    }

    /// What other sessions did to the catalog counts before anything more is read.
    fn renew_catalog(&mut self, now: Timestamp) {
        match self.lineage.and_then(|lineage| lineage.newer(&mut self.catalog)) {
            Some(Found::Newer(catalog)) => self.session.handle(Input::Newer(catalog), now),
            Some(Found::Outdated) => {
                self.session.handle(Input::Outdated, now);
                self.reread(true);
            }
            None => {}
        }
    }

    fn read_mail(&mut self, mail: Mail, now: Timestamp) {
        match mail {
            Mail::Cancel(delivered) => {
                self.delivered = Some(delivered);
                self.session.handle(Input::Cancel, now);
            }
            Mail::Rules => self.session.handle(Input::RulesChanged(self.shared.rules()), now),
            Mail::End(refusal, reason) => self.session.handle(Input::End(refusal, reason), now),
            Mail::Review(id) => {
                let (shared, mailbox) = (self.shared.clone(), self.mailbox.clone());
                self.work.push(Box::pin(async move {
                    match reviews::decided(&shared, id).await {
                        Ok(review) => review.map(Input::Reviewed),
                        Err(error) => {
                            tracing::warn!(%id, %error, "a review cannot be read");
                            // Nobody says it a second time, and the client waits.
                            tokio::time::sleep(reviews::POLL).await;
                            mailbox.post(Mail::Review(id));
                            None
                        }
                    }
                }));
            }
        }
    }

    /// Performs every effect, and those that follow from their results.
    async fn perform(&mut self, now: Timestamp) {
        while let Some(effect) = self.session.poll() {
            match effect {
                Effect::Transmit(Leg::Downstream, bytes) => self.show(bytes),
                Effect::Transmit(Leg::Upstream, bytes) => self.to_server.push(bytes),
                Effect::Rule(id, staged, level) => self.rule(id, staged, level, now),
                Effect::Conclude(staged, level) => self.conclude(staged, level, now),
                Effect::AwaitDisk(entry) => self.await_disk(entry),
                Effect::Tape(staged) => self.tape(staged, now).await,
                Effect::Find(command, digest) => {
                    let (shared, context) = (self.shared.clone(), self.context.clone());
                    self.work.push(Box::pin(async move {
                        let found = find(&shared, digest, &context, command).await.unwrap_or_else(|error| {
                            tracing::warn!(%error, "approvals cannot be looked for");
                            None
                        });
                        Some(Input::Found(command, found))
                    }));
                }
                Effect::Ask(review) => self.ask(*review),
                Effect::Withdraw(id, state) => self.withdraw(id, state),
                Effect::Taint(tables) => {
                    if let Some(lineage) = self.lineage {
                        lineage.taint(tables, &self.settings.mask);
                    }
                }
                Effect::Refresh => self.reread(false),
                Effect::Outdate => {
                    if let Some(lineage) = self.lineage {
                        lineage.outdate(&mut self.catalog);
                    }
                }
                Effect::CancelUpstream => self.cancel_upstream(),
                Effect::Close(reason) => {
                    self.ending = Some(reason);
                    return;
                }
            }
        }
    }

    /// Bytes go to the client when every ruling of this session so far is handed to the kernel: what a read returns is
    /// not seen before its entry survives this process. See `pay`.
    fn show(&mut self, bytes: Bytes) {
        if !self.mute {
            self.owes = self.placed;
            self.to_client.push(bytes);
        }
    }

    /// Has everything written that must be before the client's bytes may leave. Without that they are destroyed.
    fn pay(&mut self) -> Result<(), Stall> {
        if self.to_client.is_empty() || self.owes <= self.shared.sequencer.written() {
            return Ok(());
        }
        self.shared.sequencer.write_through(self.owes).inspect_err(|_| {
            self.mute = true;
            self.to_client = Outbox::default();
        })
    }

    fn rule(&mut self, id: CommandId, staged: Staged<Box<Ruling>>, level: Level, now: Timestamp) {
        self.commands += 1;
        if let Some(fault) = self.shared.recorder.stalled() {
            tracing::error!(session = %self.context.id, %fault, "recording stalled");
            self.session.handle(Input::Unrecorded(id), now);
            return;
        }
        match self.shared.sequencer.append(staged, of(level)) {
            Ok(Appended::Recorded(recorded)) => {
                self.placed = recorded.entry_ref().map_or(self.placed, |entry| entry.index + 1);
                self.session.handle(Input::Ruled(recorded), now);
            }
            Ok(Appended::Pending(pending)) => {
                let session = self.context.id;
                self.work.push(Box::pin(async move {
                    match pending.recorded().await {
                        Ok(recorded) => Some(Input::Ruled(recorded)),
                        Err(stall) => {
                            tracing::error!(%session, %stall, "a ruling is not on disk");
                            Some(Input::Unrecorded(id))
                        }
                    }
                }));
            }
            Err(stall) => {
                tracing::error!(session = %self.context.id, %stall, "a ruling is not on record");
                self.session.handle(Input::Unrecorded(id), now);
            }
        }
    }

    fn conclude(&mut self, staged: Staged<Outcome>, level: Level, now: Timestamp) {
        let sequencer = &self.shared.sequencer;
        let appended = match level {
            Level::OnDisk => sequencer.append(staged, chancery_store::Level::Durable).map(Some),
            // Nobody waits for what need not be on disk.
            Level::Lazy | Level::Written => sequencer.leave(staged).map(|()| None),
        };
        match appended {
            Ok(None) => {}
            Ok(Some(Appended::Recorded(recorded))) => self.session.handle(Input::Concluded(recorded), now),
            Ok(Some(Appended::Pending(pending))) => {
                let spool = self.spool.clone();
                let reference = self.context.id.to_string();
                self.work.push(Box::pin(async move { Some(concluded(pending, spool, reference).await) }));
            }
            Err(stall) => {
                let end = unrecorded(&self.context.id.to_string(), &stall);
                self.session.handle(end, now);
            }
        }
    }

    fn await_disk(&mut self, entry: u64) {
        let sequencer = self.shared.sequencer.clone();
        let reference = self.context.id.to_string();
        self.work.push(Box::pin(async move {
            match sequencer.synced().await {
                Ok(()) => Some(Input::OnDisk(entry + 1)),
                Err(stall) => Some(unrecorded(&reference, &stall)),
            }
        }));
    }

    /// Recording is a copy in memory; only a recorder that falls behind makes the session wait.
    async fn tape(&mut self, staged: StagedFrame<Tape>, now: Timestamp) {
        let mut staged = staged;
        loop {
            staged = match self.spool.append(staged) {
                Ok(recorded) => return self.session.handle(Input::Taped(recorded), now),
                Err(Unspooled::Full(staged)) => {
                    let room = tokio::time::timeout(RECORDER_PAUSE, self.spool.space()).await;
                    if !matches!(room, Ok(Ok(()))) {
                        return self.stop_recording(now);
                    }
                    staged
                }
                Err(Unspooled::Fault(fault)) => {
                    tracing::error!(session = %self.context.id, %fault, "recording failed");
                    return self.stop_recording(now);
                }
            };
        }
    }

    fn stop_recording(&mut self, now: Timestamp) {
        let why = "record unavailable: the recording cannot be written";
        let refusal = Refusal::new(RefusalCode::RecordUnavailable, why, self.context.id.to_string());
        self.session.handle(Input::End(refusal, "record-unavailable"), now);
    }

    fn ask(&mut self, review: chancery_model::Review) {
        let shared = self.shared.clone();
        let id = review.id;
        if self.context.wait {
            lock(&shared.waiting).insert(id, self.mailbox.clone());
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
        self.work.push(Box::pin(async move { told.await.ok().map(Input::Reviewed) }));
    }

    fn withdraw(&mut self, id: ReviewId, state: ReviewState) {
        self.waits_for.retain(|waiting| *waiting != id);
        let shared = self.shared.clone();
        let creating = self.creating.iter().position(|(creating, _)| *creating == id);
        let creating = creating.map(|at| self.creating.swap_remove(at).1);
        // Outlives the session: a client that left withdraws its review, too.
        self.shared.see_through(async move {
            if let Some(creating) = creating {
                // A panic in there left no review; ending it says so.
                let _ = creating.await;
            }
            reviews::withdraw(&shared, id, state).await;
        });
    }

    /// Has the catalog read, unless there is one that covers `definitions` of others.
    fn reread(&mut self, definitions: bool) {
        let (shared, settings) = (self.shared.clone(), self.settings.clone());
        let reference = self.context.id.to_string();
        self.work.push(Box::pin(async move {
            let name = settings.resource.name.clone();
            let lineage = shared.lineage(&name)?;
            let read = match definitions {
                true => lineage.renew(&shared, &settings).await,
                false => lineage.refresh(&shared, &settings).await,
            };
            match read {
                Ok(catalog) => Some(Input::Catalog(catalog)),
                Err(failure) => {
                    tracing::warn!(resource = %name, %failure, "catalog not read");
                    let why = format!("the catalog of the resource {name} cannot be read");
                    let refusal = Refusal::new(RefusalCode::ResourceUnavailable, why, reference);
                    Some(Input::End(refusal, "catalog-unavailable"))
                }
            }
        }));
    }

    /// A cancel request goes over a connection of its own and has no answer.
    fn cancel_upstream(&mut self) {
        let Some(key) = &self.backend else { return };
        // One at a time: a client that floods us with cancels does not make us flood the resource.
        if self.cancelling.swap(true, Ordering::Relaxed) {
            return;
        }
        let (cancelling, delivered) = (self.cancelling.clone(), self.delivered.take());
        let mut request = BytesMut::new();
        key.write_request(&mut request);
        let (host, port) = (self.settings.host.clone(), self.settings.port);
        self.shared.see_through(async move {
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

    /// Last words, last records, closed sockets.
    async fn end(mut self) {
        let reason = self.ending.unwrap_or("ended");
        for id in std::mem::take(&mut self.waits_for) {
            lock(&self.shared.waiting).remove(&id);
        }
        if let Err(stall) = self.pay() {
            tracing::error!(session = %self.context.id, %stall, "the last words of a session are lost");
        }
        let (legs, to_client, to_server) = (&mut self.legs, &mut self.to_client, &mut self.to_server);
        let flush = poll_fn(|cx| {
            let down = to_client.poll_flush(&mut legs.down, cx);
            let up = to_server.poll_flush(&mut legs.up, cx);
            if down.is_ready() && up.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        });
        // A peer that takes nothing does not keep the session.
        let _ = tokio::time::timeout(GOODBYE, flush).await;
        self.legs.down.shutdown().await;
        self.legs.up.shutdown().await;
        let recording = match self.spool.sync().await {
            Ok(head) => head,
            Err(fault) => {
                tracing::error!(session = %self.context.id, %fault, "the end of a recording is lost");
                None
            }
        };
        let closing = Closing::of(self.context.clone(), reason, recording);
        if let Err(stall) = self.shared.sequencer.append(closing, chancery_store::Level::Written) {
            tracing::error!(session = %self.context.id, %stall, "the end of a session is not on record");
        }
        let note = Note::Closed(self.context.id, reason, self.commands, now());
        if self.shared.notes.send(note).await.is_err() {
            tracing::error!(session = %self.context.id, "the session list is not kept any more");
        }
        tracing::info!(session = %self.context.id, reason, "session ended");
    }
}

fn chunk(leg: Leg, read: io::Result<Bytes>) -> Wake {
    match read {
        Ok(bytes) if !bytes.is_empty() => Wake::Chunk(leg, bytes),
        // End of stream and a broken socket are the same to the session.
        Ok(_) | Err(_) => Wake::Gone(leg),
    }
}

fn of(level: Level) -> chancery_store::Level {
    match level {
        Level::Lazy => chancery_store::Level::Lazy,
        // Nothing goes to the client before `show` has it written.
        Level::Written => chancery_store::Level::Placed,
        Level::OnDisk => chancery_store::Level::Durable,
    }
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
