//! Has the heads of the ledger cosigned by its witnesses (C2SP tlog-witness). A witness that saw another history freezes
//! the ledger: nothing may be added to what is not the record any more. Not here: what a cosignature is and how many are
//! enough, which is `chancery-ledger`'s.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chancery_ledger::{AddCheckpoint, Alert, Entry, LogVerifier, Roots, SignedCheckpoint, WitnessKey, WitnessPolicy};
use chancery_store::Level;
use reqwest::{Client, StatusCode, redirect};

use crate::gateway::{Shared, now};

/// How often witnesses are asked.
const EVERY: Duration = Duration::from_secs(5);
/// A witness has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read: a few signature lines, or a number.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
const SIZE_TYPE: &str = "text/x.tlog.size";

/// What came of asking one witness.
enum Answer {
    /// Its signature lines, which hold.
    Cosigned(String),
    /// It cosigned another size last.
    Knows(u64),
    /// It saw another history.
    Conflict(String),
    /// No answer that says anything.
    Unheard(String),
}

/// Asks the witnesses, round by round.
pub(crate) struct Rounds {
    shared: Arc<Shared>,
    client: Client,
    policy: Arc<WitnessPolicy>,
    log: LogVerifier,
    /// What each cosigned last, as far as is known.
    known: BTreeMap<String, u64>,
    /// The head that enough cosigned, and their lines.
    done: u64,
}

impl Rounds {
    /// `None` if no witness is configured.
    pub(crate) fn new(shared: &Arc<Shared>) -> Result<Option<Self>, String> {
        let Some(policy) = shared.settings.witnesses.clone() else { return Ok(None) };
        let here = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .referer(false)
            .no_proxy()
            .resolve_to_addrs("localhost", &here)
            .user_agent("chancery");
        let client = client.build().map_err(|error| error.to_string())?;
        let roots = Roots::parse(&shared.sequencer.roots()).map_err(|error| error.to_string())?;
        let (shared, log) = (shared.clone(), roots.log().clone());
        Ok(Some(Self { shared, client, policy, log, known: BTreeMap::new(), done: 0 }))
    }

    /// Asks for ever.
    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.round().await;
        }
    }

    /// Asks every witness once for the head that was published last.
    pub(crate) async fn round(&mut self) {
        let head = match self.published().await {
            Ok(Some(head)) if head.checkpoint.size != self.done => head,
            Ok(_) => return self.shared.note_witnessed(now()),
            Err(why) => return tracing::warn!(why, "no head to be witnessed"),
        };
        let mut lines = String::new();
        let policy = self.policy.clone();
        for (name, key, url) in policy.reachable() {
            match self.ask(name, key, url, &head).await {
                Answer::Cosigned(line) => {
                    self.known.insert(name.to_owned(), head.checkpoint.size);
                    lines.push_str(&line);
                }
                Answer::Conflict(why) => return self.freeze(name, &why),
                Answer::Knows(size) => tracing::warn!(witness = name, size, "a witness is somewhere else"),
                Answer::Unheard(why) => tracing::warn!(witness = name, why, "a witness did not cosign"),
            }
        }
        let quorum = self.policy.quorum(&head.checkpoint, &lines);
        if !quorum.met {
            return tracing::warn!(by = quorum.by.len(), "too few witnesses cosigned");
        }
        let (sequencer, note) = (self.shared.sequencer.clone(), format!("{}{lines}", head.note));
        match tokio::task::spawn_blocking(move || sequencer.keep_witnessed(&note)).await {
            Ok(Ok(())) => {
                self.done = head.checkpoint.size;
                self.shared.note_witnessed(now());
            }
            Ok(Err(error)) => tracing::error!(%error, "a witnessed head is not kept"),
            Err(error) => tracing::error!(%error, "a witnessed head is not kept"),
        }
    }

    async fn published(&self) -> Result<Option<SignedCheckpoint>, String> {
        let sequencer = self.shared.sequencer.clone();
        let note = tokio::task::spawn_blocking(move || sequencer.published());
        let note = note.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        note.map(|note| self.log.open(&note)).transpose().map_err(|error| error.to_string())
    }

    /// A witness says where it is if it is not where it was thought to be; then it is asked once more.
    async fn ask(&self, name: &str, key: &WitnessKey, url: &str, head: &SignedCheckpoint) -> Answer {
        let size = head.checkpoint.size;
        let known = self.known.get(name).copied().unwrap_or(0);
        match self.ask_from(known, key, url, head).await {
            Answer::Knows(longer) if longer > size => {
                Answer::Conflict(format!("it cosigned {longer} entries, and there are {size}"))
            }
            Answer::Knows(other) if other != known => match self.ask_from(other, key, url, head).await {
                Answer::Knows(again) if again == other => {
                    Answer::Conflict(format!("it has another root for {other} entries"))
                }
                answer => answer,
            },
            Answer::Knows(same) => Answer::Conflict(format!("it has another root for {same} entries")),
            answer => answer,
        }
    }

    async fn ask_from(&self, old: u64, key: &WitnessKey, url: &str, head: &SignedCheckpoint) -> Answer {
        let unheard = |error: &dyn std::fmt::Display| Answer::Unheard(error.to_string());
        let (sequencer, size) = (self.shared.sequencer.clone(), head.checkpoint.size);
        let proof = match old {
            0 => Vec::new(),
            old => match tokio::task::spawn_blocking(move || sequencer.consistency(old, size)).await {
                Ok(Ok(proof)) => proof,
                Ok(Err(error)) => return unheard(&error),
                Err(error) => return unheard(&error),
            },
        };
        let body = AddCheckpoint { old, proof, note: head.note.clone() }.encode();
        let to = format!("{}/add-checkpoint", url.trim_end_matches('/'));
        let response = match self.client.post(to).body(body).send().await {
            Ok(response) => response,
            Err(error) => return unheard(&error.without_url()),
        };
        let (status, is_size) = (response.status(), content_type(&response) == Some(SIZE_TYPE));
        let Some(text) = bounded(response).await else { return Answer::Unheard("no readable answer".into()) };
        match status {
            StatusCode::OK => match key.signed_at(&head.checkpoint, &text) {
                Ok(Some(_)) => Answer::Cosigned(own_lines(&text, key)),
                Ok(None) => Answer::Unheard("it answered without its signature".into()),
                Err(error) => unheard(&error),
            },
            StatusCode::CONFLICT if is_size => match text.trim_end().parse() {
                Ok(size) => Answer::Knows(size),
                Err(_) => Answer::Unheard("it answered with a conflict and no size".into()),
            },
            StatusCode::UNPROCESSABLE_ENTITY => {
                Answer::Conflict(format!("what it saw of {old} entries is not the beginning of these"))
            }
            other => Answer::Unheard(format!("it answered {other}")),
        }
    }

    fn freeze(&self, witness: &str, why: &str) {
        tracing::error!(witness, why, "a witness saw another history: the ledger is frozen");
        let entry = Entry::Alert(Alert { code: "witness-conflict", session: None });
        if let Err(stall) = self.shared.sequencer.append_entry(&entry, Level::Written) {
            tracing::error!(%stall, "the conflict is not on record");
        }
        self.shared.sequencer.freeze(&format!("witness {witness}: {why}"));
    }
}

/// The lines of one witness; what else came with them is not kept.
fn own_lines(text: &str, key: &WitnessKey) -> String {
    let begin = format!("\u{2014} {} ", key.name());
    text.lines().filter(|line| line.starts_with(&begin)).map(|line| format!("{line}\n")).collect()
}

fn content_type(response: &reqwest::Response) -> Option<&str> {
    let value = response.headers().get(reqwest::header::CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

async fn bounded(mut response: reqwest::Response) -> Option<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).ok()
}
