//! The eight laws of the pipeline, in a simulated world: a toy client, the real relay and session, real rules and a
//! real ledger on a disk that may fail, a toy server, reviewers, and a clock that is an argument.
//!
//! `LAWS_SEED=n` repeats one run, `LAWS_RUNS=n` does more of them.

#![expect(clippy::ok_expect, reason = "a mismatch holds its subject, which has no Debug")]
#![expect(clippy::disallowed_methods, reason = "the seed and the number of runs come from the environment")]

mod again;
mod client;
mod dice;
mod rules;
mod server;
mod world;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use chancery_wire::Limits;
use world::{Climate, Seen, World};

/// Runs of each law unless the environment says otherwise.
const RUNS: u64 = 150;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Lives through many worlds of a climate.
fn runs(climate: Climate) -> Seen {
    lives(|seed| {
        let mut world = World::new(seed, climate);
        world.run();
        world
    })
}

/// Lives through many worlds and returns what was seen in all of them.
fn lives(live: impl Fn(u64) -> World) -> Seen {
    let seeds = match number("LAWS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LAWS_RUNS").unwrap_or(RUNS),
    };
    let mut seen = Seen::default();
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| live(seed).seen));
        match run {
            Ok(one) => seen.add(&one),
            Err(panic) => {
                println!("LAWS_SEED={seed} repeats this run");
                resume_unwind(panic);
            }
        }
    }
    println!("{seen:?}");
    seen
}

/// Whether enough runs were made for counts to mean something.
fn counts() -> bool {
    number("LAWS_SEED").is_none() && number("LAWS_RUNS").unwrap_or(RUNS) >= RUNS
}

#[test]
fn written_before_done() {
    let seen = runs(Climate { disk_fails: 40, crashes: 60, ..Climate::mild() });
    assert!(!counts() || seen.executed > 300 && seen.unrecorded > 10 && seen.crashes > 20, "{seen:?}");
}

#[test]
fn written_before_done_wherever_the_power_fails() {
    let climate = Climate { disk_fails: 40, ..Climate::mild() };
    let few = number("LAWS_SEED").map_or(0..number("LAWS_RUNS").unwrap_or(RUNS) / 12, |seed| seed..seed + 1);
    for seed in few {
        let mut whole = World::new(seed, climate);
        whole.run();
        for effect in 0..whole.effects() {
            let mut world = World::new(seed, climate);
            world.crash_at(effect);
            println!("LAWS_SEED={seed}, power fails in front of effect {effect}");
            world.run();
            assert_eq!(world.seen.crashes, 1);
        }
    }
}

#[test]
fn masked_before_recorded_before_released() {
    let mut climate = Climate { recorder_fails: 100, others_define: 200, ..Climate::mild() };
    climate.manners.reads_only = true;
    climate.manners.bursts = 14;
    let seen = runs(climate);
    assert!(!counts() || seen.masked > 200, "{seen:?}");
}

#[test]
fn approved_is_forwarded() {
    let mut climate = Climate { cancels: 20, ..Climate::mild() };
    climate.manners.deletes = 45;
    climate.waits = 60;
    let seen = runs(climate);
    assert!(!counts() || seen.released > 50 && seen.held > 100, "{seen:?}");
}

#[test]
fn every_forward_has_one_outcome() {
    let mut climate = Climate { crashes: 30, recorder_fails: 150, rules_change: 20, cancels: 20, ..Climate::mild() };
    climate.manners.garbage = true;
    let seen = runs(climate);
    assert!(!counts() || seen.executed > 300 && seen.crashes > 10, "{seen:?}");
}

#[test]
fn unreadable_is_refused() {
    let mut climate = Climate::mild();
    climate.manners.garbage = true;
    climate.manners.bursts = 20;
    let seen = runs(climate);
    assert!(!counts() || seen.denied > 200 && seen.undone > 20 && seen.committed > 100, "{seen:?}");
}

/// An EXECUTE is ruled on, recorded and approved as what its name stands for in the server at that time.
#[test]
fn a_name_is_ruled_on_as_what_it_runs() {
    let mut climate = Climate { rules: 5, ..Climate::mild() };
    climate.manners.names = true;
    climate.manners.bursts = 30;
    let seen = runs(climate);
    assert!(!counts() || seen.named > 100 && seen.released > 5, "{seen:?}");
}

#[test]
fn secrets_flow_one_way() {
    let seen = runs(Climate { bytewise: true, ..Climate::mild() });
    assert!(!counts() || seen.executed > 300, "{seen:?}");
}

#[test]
fn rules_bind_now() {
    let mut climate = Climate { rules_change: 100, ..Climate::mild() };
    climate.manners.bursts = 20;
    climate.manners.deletes = 20;
    let seen = runs(climate);
    assert!(!counts() || seen.executed > 300, "{seen:?}");
}

#[test]
fn everything_has_a_limit() {
    let mut climate = Climate { deaf: true, waiting_bytes_max: 256, waits: 100, ..Climate::mild() };
    climate.manners.deletes = 30;
    climate.limits = || Limits {
        message_bytes_max: 60,
        commands_in_flight_max: 2,
        held_bytes_max: 128,
        statements_max: 2,
        ..Limits::default()
    };
    let (too_long, expired, too_many, over) = (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
    lives(|seed| {
        let mut world = World::new(seed, climate);
        world.run();
        let count = |cell: &Cell<usize>, more: usize| cell.set(cell.get() + more);
        count(&expired, world.refusals("review-expired"));
        count(&too_many, world.refusals("limit"));
        match world.ended() {
            Some("protocol-error") => count(&too_long, 1),
            Some("token-expired") => count(&over, 1),
            _ => {}
        }
        world
    });
    let seen = format!("{too_long:?} too long, {expired:?} expired, {too_many:?} too many, {over:?} over");
    println!("{seen}");
    let each = [&too_long, &expired, &too_many, &over];
    assert!(!counts() || each.iter().all(|cell| cell.get() > 5), "{seen}");
}

/// Originals are sealed before anything comes of them, and go nowhere else: every other law holds beside this one.
#[test]
fn originals_go_one_way() {
    let mut climate = Climate { seals: true, recorder_fails: 50, cancels: 20, bytewise: false, ..Climate::mild() };
    climate.manners.reads_only = true;
    let seen = runs(climate);
    assert!(!counts() || seen.sealed > 100 && seen.masked > 100 && seen.remasked > 100, "{seen:?}");
    let mut climate = Climate { seals: true, masks: false, rules: 4, crashes: 10, ..Climate::mild() };
    climate.manners.plain = true;
    let seen = runs(climate);
    assert!(!counts() || seen.executed > 300, "{seen:?}");
    let mut climate = Climate { seals: true, rules: 5, ..Climate::mild() };
    climate.manners.names = true;
    climate.manners.garbage = true;
    let seen = runs(climate);
    assert!(!counts() || seen.named > 20 && seen.denied > 50, "{seen:?}");
}

/// Where everything is allowed and nothing masked, the client hears what the server said.
#[test]
fn transparent() {
    for bytewise in [false, true] {
        let mut climate = Climate { masks: false, rules: 4, bytewise, others_define: 100, ..Climate::mild() };
        climate.manners.plain = true;
        let seen = lives(|seed| {
            let mut world = World::new(seed, climate);
            world.run();
            world.check_transparent();
            world
        });
        assert!(!counts() || seen.executed > 300, "{seen:?}");
    }
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.executed += other.executed;
        self.named += other.named;
        self.denied += other.denied;
        self.released += other.released;
        self.held += other.held;
        self.masked += other.masked;
        self.errors += other.errors;
        self.crashes += other.crashes;
        self.unrecorded += other.unrecorded;
        self.ended += other.ended;
        self.committed += other.committed;
        self.undone += other.undone;
        self.sealed += other.sealed;
        self.remasked += other.remasked;
    }
}
