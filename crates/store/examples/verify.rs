//! Measures the verifier: writes ENTRIES (1,000,000) entries of sessions with commands, then reads and checks them all.
//! Prints entries a second of both, on one thread, and the most memory that the process had.
//!
//! `cargo run --release -p chancery-store --example verify -- DIRECTORY [ENTRIES]` (the directory is made and left).

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chancery_ledger::{
    ActDone, ActStart, Entry, LogSigner, Outcome, Roots, SessionClose, SessionOpen, ToEntry, Verdict, stage,
};
use chancery_model::{Digest, Durability, Effect, ResourceName, RuleId, SessionId};
use chancery_store::{Directory, LedgerReader, Options, Sequencer, system_clock, verify};

const ORIGIN: &str = "bench/verify";
/// Commands of one session.
const COMMANDS: u64 = 1_000;
/// Sessions that are open at once.
const SESSIONS: u64 = 32;

enum Subject<'a> {
    Open(SessionId, &'a ResourceName, &'a [RuleId]),
    Start(SessionId, u64, &'a ResourceName, &'a [RuleId]),
    Done(SessionId, u64),
    Close(SessionId),
}

impl ToEntry for Subject<'_> {
    fn entry(&self) -> Entry<'_> {
        match self {
            Self::Open(session, resource, rule_ids) => Entry::SessionOpen(SessionOpen {
                session: *session,
                chain: [1; 16],
                resource,
                rules: Digest([2; 32]),
                rule_ids,
                protocol: "postgres",
                method: "oidc",
                profile: Durability::Balanced,
            }),
            Self::Start(session, command, resource, rule_ids) => Entry::ActStart(ActStart {
                session: *session,
                command: *command,
                chain: [1; 16],
                resource,
                rules: Digest([2; 32]),
                decision: "allow",
                rule_ids,
                effect: Effect::Read,
                fingerprint: Digest([3; 32]),
                digest: Digest([4; 32]),
                review: None,
                profile: Durability::Balanced,
            }),
            Self::Done(session, command) => Entry::ActDone(ActDone {
                session: *session,
                command: *command,
                outcome: Outcome::Completed,
                sqlstate: None,
                rows: 1,
                bytes: 12,
                masked: 0,
                duration_us: 400,
                recording: None,
            }),
            Self::Close(session) => {
                Entry::SessionClose(SessionClose { session: *session, reason: "client-closed", recording: None })
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: verify DIRECTORY [ENTRIES]")?;
    let entries: u64 = arguments.next().as_deref().unwrap_or("1000000").parse()?;
    let signer = LogSigner::from_seed(ORIGIN, &[1; 32])?;
    let volume = Arc::new(Directory::exclusive(Path::new(&path))?);
    let options = Options { reserve_bytes: 64 << 20, ..Options::new(system_clock(), [1; 16]) };
    let (sequencer, _) = Sequencer::open(volume.clone(), volume.clone(), signer, ORIGIN, options)?;
    let roots = Roots::parse(&sequencer.roots())?;
    let resource = ResourceName::parse("shop").ok_or("a name")?;
    let rules = [RuleId("rules.cedar#1".into())];

    let start = Instant::now();
    let (mut first, mut commands) = (0, 0);
    while sequencer.size() < entries {
        let ids = (first..first + SESSIONS).map(|number| SessionId((u128::from(number) << 64).to_be_bytes()));
        let ids: Vec<SessionId> = ids.collect();
        let mut ledger = sequencer.appending();
        for id in &ids {
            ledger.leave(stage(Subject::Open(*id, &resource, &rules)))?;
        }
        drop(ledger);
        for command in 1..=COMMANDS {
            let mut ledger = sequencer.appending();
            for id in &ids {
                ledger.leave(stage(Subject::Start(*id, command, &resource, &rules)))?;
                ledger.leave(stage(Subject::Done(*id, command)))?;
            }
            commands += SESSIONS;
        }
        let mut ledger = sequencer.appending();
        for id in &ids {
            ledger.leave(stage(Subject::Close(*id)))?;
        }
        drop(ledger);
        first += SESSIONS;
    }
    let size = sequencer.size();
    sequencer.write_through(size)?;
    println!("appended: {:.0} entries/s ({commands} commands)", size as f64 / start.elapsed().as_secs_f64());
    sequencer.close();

    let start = Instant::now();
    let report = verify(&LedgerReader::new(volume), None, roots)?;
    if report.verdict() == Verdict::Fail || report.size != size {
        return Err(format!("it does not verify: {:?}", report.findings).into());
    }
    println!("verified: {:.0} entries/s", size as f64 / start.elapsed().as_secs_f64());
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim();
    println!("memory at its most: {peak} (with the writing)");
    Ok(())
}
