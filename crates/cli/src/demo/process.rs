//! Child processes of the demo: found, run, ended.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::output::Failure;

/// How long a child may take to end in order.
const ENDING: Duration = Duration::from_secs(10);
/// How long one command of the story may take.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);

/// What a finished command left.
pub(super) struct Finished {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Finished {
    pub(super) fn ok(&self) -> bool {
        self.code == Some(0)
    }
    /// Both streams, for the reader.
    pub(super) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Finds a program on the PATH.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Runs a command to its end, without input.
pub(super) async fn run(command: &mut Command, what: &str) -> Result<Finished, Failure> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let failed = |error| Failure::unsure(format!("{what} cannot be run: {error}"));
    let output = tokio::time::timeout(COMMAND_TIME_MAX, command.output()).await;
    let output = output.map_err(|_| Failure::no(format!("{what} does not come to an end")))?.map_err(failed)?;
    Ok(Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The same, and it must succeed.
pub(super) async fn must(command: &mut Command, what: &str) -> Result<Finished, Failure> {
    let done = run(command, what).await?;
    if done.ok() { Ok(done) } else { Err(Failure::no(format!("{what} failed: {}", done.text().trim_end()))) }
}

/// Starts a child whose output goes to a file. A group of its own keeps the terminal's Ctrl-C from it: the demo ends its
/// children itself, in order. Dropped, it is killed.
pub(super) fn start(command: &mut Command, log: &Path, what: &str) -> Result<Child, Failure> {
    let failed = |error| Failure::unsure(format!("{what} cannot be started: {error}"));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
    let errors = file.try_clone().map_err(failed)?;
    let command = command.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0).kill_on_drop(true);
    command.spawn().map_err(failed)
}

/// Asks a child to end, and ends it if it does not.
pub(super) async fn stop(child: &mut Child, signal: Signal) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(id) = id else { return };
    // It may have ended in between, which is what is wanted.
    let _ = kill_process(id, signal);
    if tokio::time::timeout(ENDING, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
