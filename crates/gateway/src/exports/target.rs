//! Where events go, and how they get there: all of what is handed over, or an error.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use reqwest::{Client, ClientBuilder, header};
use tokio::sync::oneshot;

use super::ExportTarget;
use crate::outbound::{self, Trust};

/// Whoever takes events has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest token.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

pub(super) enum Target {
    File(PathBuf),
    Stdout(SyncSender<(String, oneshot::Sender<io::Result<()>>)>),
    Http { client: Client, url: String, token: Option<PathBuf> },
}

impl Target {
    pub(super) fn new(target: &ExportTarget) -> Result<Self, String> {
        match target {
            ExportTarget::File(path) => Ok(Self::File(path.clone())),
            ExportTarget::Stdout => stdout().map_err(|error| error.to_string()),
            ExportTarget::Http { url, token, ca } => {
                let client = outbound::client(TIMEOUT, Trust::of(url, ca.as_deref()));
                let client = client.and_then(ClientBuilder::build).map_err(|error| error.to_string())?;
                Ok(Self::Http { client, url: url.clone(), token: token.clone() })
            }
        }
    }

    /// Sends whole lines.
    pub(super) async fn send(&self, lines: &str) -> Result<(), String> {
        match self {
            Self::File(path) => {
                let (path, lines) = (path.clone(), lines.to_owned());
                let written = tokio::task::spawn_blocking(move || append(&path, &lines));
                written.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
            }
            Self::Stdout(writer) => {
                let (done, written) = oneshot::channel();
                writer.try_send((lines.to_owned(), done)).map_err(|_| "nobody reads standard output".to_owned())?;
                let gone = |_| "standard output is closed".to_owned();
                written.await.map_err(gone)?.map_err(|error| error.to_string())
            }
            Self::Http { client, url, token } => post(client, url, token.as_deref(), lines).await,
        }
    }
}

/// Appends to a regular file. A line that a crash or a full disk cut is ended first; its event comes again whole.
fn append(path: &Path, lines: &str) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(io::Error::other(format!("{} is not a file", path.display())));
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o640).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    file.write_all(lines.as_bytes())?;
    file.sync_data()
}

/// A thread of its own: who reads standard output may stop reading, and no end of the process waits for a thread.
fn stdout() -> io::Result<Target> {
    let (sender, receiver) = sync_channel::<(String, oneshot::Sender<io::Result<()>>)>(1);
    std::thread::Builder::new().name("export-stdout".into()).spawn(move || {
        for (lines, done) in receiver {
            let mut out = io::stdout().lock();
            // Nobody who would hear of it: the export was ended.
            let _ = done.send(out.write_all(lines.as_bytes()).and_then(|()| out.flush()));
        }
    })?;
    Ok(Target::Stdout(sender))
}

/// What the other end says besides its status is not read: it may repeat what it was sent.
async fn post(client: &Client, url: &str, token: Option<&Path>, lines: &str) -> Result<(), String> {
    let mut request = client.post(url).header(header::CONTENT_TYPE, "application/x-ndjson").body(lines.to_owned());
    if let Some(path) = token {
        let token = tokio::fs::read_to_string(path).await;
        let token = token.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let token = token.trim();
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return Err(format!("{} holds no token", path.display()));
        }
        request = request.bearer_auth(token);
    }
    // Without its address, which may hold a secret.
    let answer = request.send().await.map_err(|error| chain(&error.without_url()))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answered {}", status.as_u16())),
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_is_ended_before_the_next() {
        let path = std::env::temp_dir().join(format!("chancery-export-{}", std::process::id()));
        std::fs::write(&path, "{\"a\":1}\n{\"b\":").expect("written");
        append(&path, "{\"b\":2}\n").expect("appended");
        append(&path, "{\"c\":3}\n").expect("appended");
        let text = std::fs::read_to_string(&path).expect("read");
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(text, "{\"a\":1}\n{\"b\":\n{\"b\":2}\n{\"c\":3}\n");
        let refused = append(&std::env::temp_dir(), "x\n").expect_err("a directory");
        assert!(refused.to_string().contains("is not a file"), "{refused}");
    }
}
