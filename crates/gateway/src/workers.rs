//! One engine a core, for sessions. A session stays where it was put: nothing of it is ever handed from core to core,
//! which for small statements costs more than ruling on them.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use chancery_store::Sequencer;
use tokio::runtime::Handle;

use crate::driver::Driver;
use crate::engine::{Engine, Porch};
use crate::gateway::lock;

/// More would not help: listeners feed them all.
const WORKERS_MAX: usize = 64;

/// The engines that sessions live on.
pub(crate) struct Workers {
    porches: Vec<Arc<Porch>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    /// Starts one for each core. What sessions wait for (the disk, reviews, catalogs) runs on the runtime of the caller.
    pub(crate) fn start(sequencer: &Sequencer) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut porches, mut threads) = (Vec::new(), Vec::new());
        for number in 0..cores.min(WORKERS_MAX) {
            let engine = Engine::new(sequencer.clone())?;
            porches.push(engine.porch());
            let runtime = Handle::current();
            threads.push(std::thread::Builder::new().name(format!("sessions-{number}")).spawn(move || {
                let _context = runtime.enter();
                engine.run();
            })?);
        }
        Ok(Self { porches, threads: Mutex::new(threads) })
    }

    /// Gives a session to the worker that has the fewest.
    pub(crate) fn give(&self, driver: Box<Driver>) {
        if let Some(porch) = self.porches.iter().min_by_key(|porch| porch.load()) {
            porch.give(driver);
        }
    }

    /// Ends them. Sessions that still run are dropped; the caller has drained them.
    pub(crate) async fn stop(&self) {
        self.porches.iter().for_each(|porch| porch.stop());
        let threads = std::mem::take(&mut *lock(&self.threads));
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
        if !matches!(joined.await, Ok(true)) {
            tracing::error!("a worker panicked");
        }
    }
}
