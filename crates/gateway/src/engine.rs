//! The loop of one worker, which drives all sessions it was given.
//!
//! A turn goes through its sessions in phases: read what arrived, judge, put entries into the ledger, carry out, have the
//! ledger written, send. Each phase is done for every session before the next begins. What a phase executes then stays in the
//! caches, one write to the ledger serves all, and peers are woken when the work is done. The session decides; this only
//! orders the steps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;
use std::time::Duration;

use bytes::Bytes;
use chancery_model::Timestamp;
use chancery_session::Desk;
use chancery_store::Sequencer;
use chancery_wire::Leg;
use mio::{Events, Poll, Token};

use crate::driver::{Driver, Tray};
use crate::gateway::{lock, now};
use crate::socket::Buffer;

/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// The loop looks at the clock this often at least: a wall clock may be set.
const LOOK: Duration = Duration::from_secs(60);
/// Alarms beyond two a session: those of sessions that left are swept out when there are more.
const ALARMS: usize = 1024;
/// The token of calls from other threads; those of sockets are small.
const CALL: Token = Token(usize::MAX);

/// Where an engine is reached from other threads.
pub(crate) struct Porch {
    waker: mio::Waker,
    waiting: Mutex<Waiting>,
    /// Sessions given to this engine and not departed.
    load: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    arrivals: Vec<(Box<Driver>, Load)>,
    /// Sessions that are called, each once.
    called: Vec<usize>,
    stopping: bool,
}

/// Counts one session of an engine until it is dropped.
pub(crate) struct Load(Arc<Porch>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Porch {
    /// How many sessions it has.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Hands a session over. How many there may be is bounded by their places.
    pub(crate) fn give(self: &Arc<Self>, driver: Box<Driver>) {
        self.load.fetch_add(1, Ordering::Relaxed);
        let load = Load(self.clone());
        let mut waiting = lock(&self.waiting);
        // Who comes when all have ended is dropped, as it is when the process ends.
        if !waiting.stopping {
            waiting.arrivals.push((driver, load));
            drop(waiting);
            self.call();
        }
    }

    /// Ends the loop. Sessions that still run are dropped; the caller has drained them.
    pub(crate) fn stop(&self) {
        lock(&self.waiting).stopping = true;
        self.call();
    }

    fn call(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "an engine cannot be woken");
        }
    }
}

/// Calls an engine for one of its sessions. One that rings after the session left does no harm.
struct Bell {
    porch: Arc<Porch>,
    session: usize,
    /// It was rung, and the engine has not answered since.
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            lock(&self.porch.waiting).called.push(self.session);
            self.porch.call();
        }
    }
}

/// A session and what the engine knows of it.
struct Seat {
    driver: Box<Driver>,
    bell: Arc<Bell>,
    load: Load,
    /// It takes part in the turn at hand, or the next.
    active: bool,
    /// Its bell was rung: there is mail, or the result of some work.
    called: bool,
    /// Its alarm rang.
    due: bool,
    /// It panicked.
    broken: bool,
    /// The alarm that is set for it.
    alarm: Option<Timestamp>,
}

/// The sessions, by their numbers, which are given again.
#[derive(Default)]
struct Seats {
    all: Vec<Option<Seat>>,
    free: Vec<usize>,
}

impl Seats {
    /// The number that the next session gets.
    fn next(&mut self) -> usize {
        self.free.pop().unwrap_or(self.all.len())
    }

    fn put(&mut self, at: usize, seat: Seat) {
        match self.all.get_mut(at) {
            Some(free) => *free = Some(seat),
            None => self.all.push(Some(seat)),
        }
    }

    fn take(&mut self, at: usize) -> Option<Seat> {
        let seat = self.all.get_mut(at).and_then(Option::take)?;
        self.free.push(at);
        Some(seat)
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut Seat> {
        self.all.get_mut(at).and_then(Option::as_mut)
    }

    /// The alarms that are set.
    fn alarms(&self) -> impl Iterator<Item = Reverse<(Timestamp, usize)>> {
        let set = |(at, seat): (usize, &Option<Seat>)| Some(Reverse((seat.as_ref()?.alarm?, at)));
        self.all.iter().enumerate().filter_map(set)
    }

    /// Has a session do something, unless it panicked before.
    fn call<T>(&mut self, at: usize, act: impl FnOnce(&mut Seat) -> T) -> Option<T> {
        let seat = self.get_mut(at)?;
        let mut broken = seat.broken;
        let done = guarded(seat, &mut broken, act);
        seat.broken = broken;
        done
    }
}

/// A panic ends the session that caused it, and no other of the worker: nothing that it wants done is done any more.
fn guarded<S, T>(session: &mut S, broken: &mut bool, act: impl FnOnce(&mut S) -> T) -> Option<T> {
    if *broken {
        return None;
    }
    // What the session left half done is not looked at again.
    let done = catch_unwind(AssertUnwindSafe(|| act(session)));
    *broken = done.is_err();
    done.ok()
}

/// One worker's sessions.
pub(crate) struct Engine {
    poll: Poll,
    porch: Arc<Porch>,
    sequencer: Sequencer,
    seats: Seats,
    active: Vec<usize>,
    /// Alarms that are set; one that was moved rings in vain.
    alarms: BinaryHeap<Reverse<(Timestamp, usize)>>,
    buffer: Buffer,
    desk: Desk<Bytes>,
    tray: Tray,
    /// What the tray held before it was carried out.
    carried: Vec<usize>,
}

impl Engine {
    pub(crate) fn new(sequencer: Sequencer) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), CALL)?;
        let porch = Arc::new(Porch { waker, waiting: Mutex::default(), load: AtomicUsize::new(0) });
        Ok(Self {
            poll,
            porch,
            sequencer,
            seats: Seats::default(),
            active: Vec::new(),
            alarms: BinaryHeap::new(),
            buffer: Buffer::new(),
            desk: Desk::default(),
            tray: Tray::new(),
            carried: Vec::new(),
        })
    }

    pub(crate) fn porch(&self) -> Arc<Porch> {
        self.porch.clone()
    }

    /// Runs until it is stopped.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let patience = if self.active.is_empty() { self.patience() } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(patience)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return tracing::error!(%error, "a worker cannot wait for its sockets"),
            }
            let mut called = false;
            for event in &events {
                match event.token() {
                    CALL => called = true,
                    Token(token) => self.note(token, event),
                }
            }
            if called && self.answer() {
                return;
            }
            let now = now();
            self.ring(now);
            self.turn(now);
        }
    }

    /// How long nothing is due.
    fn patience(&self) -> Duration {
        let due = self.alarms.peek().map(|Reverse((due, _))| due.0.saturating_sub(now().0));
        due.map_or(LOOK, |micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0)).min(LOOK))
    }

    fn note(&mut self, token: usize, event: &mio::event::Event) {
        let at = token / 2;
        if let Some(seat) = self.seats.get_mut(at) {
            let leg = if token.is_multiple_of(2) { Leg::Downstream } else { Leg::Upstream };
            seat.driver.leg_mut(leg).note(event);
            self.activate(at);
        }
    }

    fn activate(&mut self, at: usize) {
        if let Some(seat) = self.seats.get_mut(at)
            && !std::mem::replace(&mut seat.active, true)
        {
            self.active.push(at);
        }
    }

    /// Takes what other threads left. True: stop.
    fn answer(&mut self) -> bool {
        let (arrivals, called) = {
            let mut waiting = lock(&self.porch.waiting);
            if waiting.stopping {
                return true;
            }
            (std::mem::take(&mut waiting.arrivals), std::mem::take(&mut waiting.called))
        };
        for at in called {
            if let Some(seat) = self.seats.get_mut(at) {
                // From here on it can ring again. An exchange, not a store: what is read behind it must not be read before
                // it, or the word of one who found it rung would be missed.
                seat.bell.rung.swap(false, Ordering::AcqRel);
                seat.called = true;
                self.activate(at);
            }
        }
        for (driver, load) in arrivals {
            self.seat(driver, load);
        }
        false
    }

    fn seat(&mut self, mut driver: Box<Driver>, load: Load) {
        let at = self.seats.next();
        for (leg, token) in [(Leg::Downstream, 2 * at), (Leg::Upstream, 2 * at + 1)] {
            if let Err(error) = driver.leg_mut(leg).register(self.poll.registry(), Token(token)) {
                tracing::error!(%error, "a socket cannot be waited for");
                driver.lose(leg, now());
            }
        }
        let bell = Arc::new(Bell { porch: self.porch.clone(), session: at, rung: AtomicBool::new(false) });
        driver.attach(bell.clone().into());
        let seat = Seat { driver, bell, load, active: false, called: true, due: false, broken: false, alarm: None };
        self.seats.put(at, seat);
        self.activate(at);
    }

    /// Lets those take part whose alarm is due.
    fn ring(&mut self, now: Timestamp) {
        while let Some(Reverse((due, at))) = self.alarms.peek().copied().filter(|Reverse((due, _))| *due <= now) {
            self.alarms.pop();
            if let Some(seat) = self.seats.get_mut(at)
                && seat.alarm == Some(due)
            {
                seat.alarm = None;
                seat.due = true;
                self.activate(at);
            }
        }
    }

    fn turn(&mut self, now: Timestamp) {
        let turn = std::mem::take(&mut self.active);
        for at in &turn {
            self.seats.call(*at, |seat| {
                let (called, due) = (std::mem::take(&mut seat.called), std::mem::take(&mut seat.due));
                seat.driver.feed(called, due, &mut self.buffer, now);
            });
        }
        self.drain(&turn, now);
        self.perform(now);
        while self.pay(&turn, now) {
            self.drain(&turn, now);
            self.perform(now);
        }
        // Clients share threads, servers do not: what is woken by the first of several words hears the others, too.
        for leg in [Leg::Downstream, Leg::Upstream] {
            for at in &turn {
                self.seats.call(*at, |seat| seat.driver.flush(leg, now));
            }
        }
        for at in turn {
            self.let_go(at);
        }
    }

    /// Puts into the ledger what is on the tray, and performs what follows from that.
    fn perform(&mut self, now: Timestamp) {
        while !self.tray.is_empty() {
            let mut carried = std::mem::take(&mut self.carried);
            carried.clear();
            let mut ledger = self.sequencer.appending();
            for (at, entry) in self.tray.drain(..) {
                self.seats.call(at, |seat| seat.driver.record(entry, &mut ledger, now));
                if carried.last() != Some(&at) {
                    carried.push(at);
                }
            }
            drop(ledger);
            self.drain(&carried, now);
            self.carried = carried;
        }
    }

    /// Performs what these sessions want done.
    fn drain(&mut self, sessions: &[usize], now: Timestamp) {
        for at in sessions {
            self.seats.call(*at, |seat| seat.driver.drain(*at, &mut self.tray, &mut self.desk, now));
        }
    }

    /// Has everything written that must be before bytes may leave for clients. True: it could not be, and sessions were
    /// told so.
    fn pay(&mut self, turn: &[usize], now: Timestamp) -> bool {
        let most = turn.iter().filter_map(|at| self.seats.call(*at, |seat| seat.driver.owes())).max().unwrap_or(0);
        if most <= self.sequencer.written() {
            return false;
        }
        let Err(stall) = self.sequencer.write_through(most) else { return false };
        let written = self.sequencer.written();
        for at in turn {
            self.seats.call(*at, |seat| {
                if seat.driver.owes() > written {
                    seat.driver.silence(&stall, now);
                }
            });
        }
        true
    }

    /// Ends a session's part in a turn: it departs, goes on in the next turn, or waits for its sockets, a call or its alarm.
    fn let_go(&mut self, at: usize) {
        let Some(seat) = self.seats.get_mut(at) else { return };
        if seat.broken || seat.driver.is_over() {
            if let Some(Seat { driver, load, broken, .. }) = self.seats.take(at) {
                driver.depart(broken, load);
            }
            return;
        }
        seat.active = false;
        let deadline = seat.driver.deadline();
        // An alarm that rings too early is set again; one that would ring too late is not kept.
        if let Some(due) = deadline.filter(|due| seat.alarm.is_none_or(|alarm| *due < alarm)) {
            seat.alarm = Some(due);
            self.alarms.push(Reverse((due, at)));
        }
        let ready = seat.driver.is_ready();
        if self.alarms.len() > 2 * self.seats.all.len() + ALARMS {
            self.alarms = self.seats.alarms().collect();
        }
        if ready {
            self.activate(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_one_session_for_good() {
        let (mut calls, mut broken) = (0, false);
        assert_eq!(guarded(&mut calls, &mut broken, |calls| *calls += 1), Some(()));
        assert_eq!(
            guarded(&mut calls, &mut broken, |_| -> () { std::panic::panic_any("as a fault of ours would") }),
            None
        );
        assert_eq!(guarded(&mut calls, &mut broken, |calls| *calls += 1), None);
        assert_eq!((calls, broken), (1, true));
    }
}
