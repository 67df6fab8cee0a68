//! One single-threaded runtime a core, for sessions. A session stays where it was put: nothing of it is ever handed from
//! core to core, which for small statements costs more than ruling on them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

/// Clients that may wait for a worker to take them.
const INBOX: usize = 1_024;
/// More would not help: listeners feed them all.
const WORKERS_MAX: usize = 64;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Job = Box<dyn FnOnce() -> Task + Send>;

struct Worker {
    inbox: mpsc::Sender<(Job, Load)>,
    load: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// Counts one client of a worker until it is dropped.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The runtimes that sessions live on.
pub(crate) struct Workers(Vec<Worker>);

impl Workers {
    /// Starts one for each core.
    pub(crate) fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores.min(WORKERS_MAX)).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// Gives a client to the worker that has the fewest. `job` is called there and makes the client's whole task.
    pub(crate) async fn give<F>(&self, job: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = self.0.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)) else { return };
        worker.load.fetch_add(1, Ordering::Relaxed);
        let load = Load(worker.load.clone());
        let job: Job = Box::new(move || Box::pin(job()));
        if worker.inbox.send((job, load)).await.is_err() {
            tracing::error!("a worker is gone; a client was turned away");
        }
    }

    /// Ends them. Tasks that still run are dropped; the caller has drained them.
    pub(crate) async fn stop(self) {
        let threads: Vec<_> = self.0.into_iter().map(|worker| worker.thread).collect();
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
        if !matches!(joined.await, Ok(true)) {
            tracing::error!("a worker panicked");
        }
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (inbox, mut jobs) = mpsc::channel::<(Job, Load)>(INBOX);
        let thread = std::thread::Builder::new().name(format!("sessions-{number}")).spawn(move || {
            runtime.block_on(async move {
                while let Some((job, load)) = jobs.recv().await {
                    tokio::spawn(async move {
                        job().await;
                        drop(load);
                    });
                }
            });
        })?;
        Ok(Self { inbox, load: Arc::default(), thread })
    }
}
