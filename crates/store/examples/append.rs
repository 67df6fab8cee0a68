//! Measures the sequencer: appends a second at `Written`, and at `Durable` with 1 and 32 waiters.
//!
//! `cargo run --release -p chancery-store --example append -- DIRECTORY` (the directory is made and left).

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chancery_ledger::{Entry, LogSigner, ToEntry, stage};
use chancery_store::{Appended, Directory, Level, Options, Sequencer, system_clock};

struct Beat;

impl ToEntry for Beat {
    fn entry(&self) -> Entry<'_> {
        Entry::Heartbeat
    }
}

const WRITTEN: u32 = 200_000;
const DURABLE: u32 = 2_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: append DIRECTORY")?;
    let signer = LogSigner::from_seed("bench/append", &[1; 32])?;
    let volume = Arc::new(Directory::exclusive(Path::new(&path))?);
    let options = Options { reserve_bytes: 64 << 20, ..Options::new(system_clock(), [1; 16]) };
    let (sequencer, _) = Sequencer::open(volume.clone(), volume, signer, "bench/append", options)?;

    let start = Instant::now();
    for _ in 0..WRITTEN {
        let _ = sequencer.append(stage(Beat), Level::Written)?;
    }
    println!("written: {:.0}/s", f64::from(WRITTEN) / start.elapsed().as_secs_f64());

    for waiters in [1, 32] {
        let start = Instant::now();
        let mut tasks = Vec::new();
        for _ in 0..waiters {
            let sequencer = sequencer.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..DURABLE / waiters {
                    if let Appended::Pending(pending) = sequencer.append(stage(Beat), Level::Durable)? {
                        let _ = pending.recorded().await?;
                    }
                }
                Ok::<_, chancery_store::Stall>(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        let total = f64::from(DURABLE / waiters * waiters);
        println!("durable, {waiters} waiters: {:.0}/s", total / start.elapsed().as_secs_f64());
    }
    sequencer.close();
    Ok(())
}
