//! Reads the rules again when somebody says so (SIGHUP) or a file changes: valid rules are put in force, others are
//! reported and the old ones stay. Review rules come from the configuration file; its other keys wait for a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chancery_gateway::Gateway;
use chancery_policy::{Problem, RuleSet};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::config::{Configuration, load, load_rules};
use crate::output::Failure;

/// Editors write a file in several steps; they are taken for one.
const SETTLE: Duration = Duration::from_millis(200);

/// The task that reloads. Watching files may be impossible (too many watches); then SIGHUP alone remains.
pub(super) fn watch(
    path: PathBuf,
    running: Configuration,
    gateway: Gateway,
    mut ended: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| Failure::unsure(format!("no signals: {error}")))?;
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = watcher(&path, &running.rules, changed);
    Ok(async move {
        let watcher = watcher.inspect_err(|error| tracing::warn!(%error, "files are not watched; use SIGHUP"));
        let mut reloader = Reloader { path, running: Arc::new(running), gateway, rejected: false };
        loop {
            tokio::select! {
                () = super::end(&mut ended) => break,
                Some(()) = hangup.recv() => {}
                Some(()) = changes.recv() => {
                    tokio::time::sleep(SETTLE).await;
                    while changes.try_recv().is_ok() {}
                }
            }
            reloader.reload().await;
        }
        drop(watcher);
    })
}

fn watcher(path: &Path, rules: &Path, changed: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let file = path.file_name().map(ToOwned::to_owned);
    let concerns = move |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "cedar") || path.file_name() == file.as_deref()
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        if !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(&concerns) {
            // Full: a reload is due anyhow.
            let _ = changed.try_send(());
        }
    })?;
    watcher.watch(rules, RecursiveMode::NonRecursive)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(parent, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

struct Reloader {
    path: PathBuf,
    running: Arc<Configuration>,
    gateway: Gateway,
    rejected: bool,
}

impl Reloader {
    async fn reload(&mut self) {
        let (path, running) = (self.path.clone(), self.running.clone());
        let read = tokio::task::spawn_blocking(move || read(&path, &running)).await;
        match read {
            Err(error) => tracing::error!(%error, "reading the rules failed"),
            Ok(Err(problems)) => {
                self.rejected = true;
                problems.iter().for_each(|problem| tracing::error!(%problem, "rules are not valid; the old ones stay"));
                self.gateway.reject_rules();
            }
            Ok(Ok(rules)) => self.apply(rules),
        }
    }

    fn apply(&mut self, rules: Arc<RuleSet>) {
        let old = self.gateway.rules();
        if old.digest() == rules.digest() && !self.rejected {
            return;
        }
        let (digest, changes) = (rules.digest(), rules.diff(&old).len());
        match self.gateway.apply_rules(rules, "file") {
            Ok(()) => {
                self.rejected = false;
                tracing::info!(rules = %digest, changes, "rules are in force");
            }
            Err(stall) => tracing::error!(%stall, "new rules cannot be put on record; the old ones stay"),
        }
    }
}

/// The rules as the files say now, for the resources and issuers that run.
fn read(path: &Path, running: &Configuration) -> Result<Arc<RuleSet>, Vec<Problem>> {
    let mut fresh = load(path)?;
    if fresh.digest != running.digest {
        tracing::warn!("the configuration changed; keys other than [[review]] and [policy] wait for a restart");
    }
    fresh.resources.clone_from(&running.resources);
    fresh.issuers.clone_from(&running.issuers);
    load_rules(&fresh)
}
