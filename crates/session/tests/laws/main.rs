//! The eight laws of the pipeline, in a simulated world: a toy client, the real relay and session, real rules and a
//! real ledger on a disk that may fail, a toy server, reviewers, and a clock that is an argument.
//!
//! `LAWS_SEED=n` repeats one run, `LAWS_RUNS=n` does more of them.

mod client;
mod dice;
mod rules;
mod server;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::{Climate, Seen, World};

/// Runs of each law unless the environment says otherwise.
const RUNS: u64 = 150;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Lives through many worlds of a climate and returns what was seen in all of them.
fn runs(climate: Climate) -> Seen {
    let seeds = match number("LAWS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LAWS_RUNS").unwrap_or(RUNS),
    };
    let mut seen = Seen::default();
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed, climate);
            world.run();
            world.seen
        }));
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
fn masked_before_recorded_before_released() {
    let mut climate = Climate { recorder_fails: 100, ..Climate::mild() };
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

impl Seen {
    fn add(&mut self, other: &Self) {
        self.executed += other.executed;
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
    }
}
