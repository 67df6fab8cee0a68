//! Has the heads of the ledger cosigned by its witnesses (C2SP tlog-witness). A witness that saw another history freezes
//! the ledger: nothing may be added to what is not the record any more. Not here: what a cosignature is and how many are
//! enough, which is `chancery-ledger`'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_ledger::{
    AddCheckpoint, Alert, Checkpoint, Entry, LogVerifier, Roots, SignedCheckpoint, WitnessKey, WitnessPolicy,
};
use chancery_model::Digest;
use chancery_store::Level;
use futures_util::future::join_all;
use reqwest::{Client, ClientBuilder, StatusCode};

use crate::gateway::Shared;
use crate::outbound::{self, Trust};

/// How often witnesses are asked.
const EVERY: Duration = Duration::from_secs(5);
/// A witness has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read: a few signature lines, or a number.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
const SIZE_TYPE: &str = "text/x.tlog.size";

/// What came of asking one witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its signature line, which holds.
    Cosigned(String),
    /// It cosigned another size last.
    Knows(u64),
    /// It saw another history.
    Conflict(String),
    /// No answer that says anything.
    Unheard(String),
}

/// Speaks to witnesses as a log does.
#[derive(Clone, Debug)]
pub struct WitnessClient(Client);

impl WitnessClient {
    /// A client for the witnesses that the policy gives an address. Their TLS is checked against the system's certificates
    /// and those of `ca` (PEM).
    pub fn new(policy: &WitnessPolicy, ca: Option<&[u8]>) -> Result<Self, String> {
        let trust = match ca {
            _ if policy.reachable().all(|(.., url)| url.starts_with("http:")) => Trust::Nobody,
            Some(pem) => Trust::Also(pem),
            None => Trust::System,
        };
        let client = outbound::client(TIMEOUT, trust).and_then(ClientBuilder::build);
        client.map(Self).map_err(|error| error.to_string())
    }

    /// Asks a witness that is thought to have cosigned `known` entries for `head`; `prove` makes the proof from a size on.
    /// A witness says where it is if it is somewhere else; then it is asked once more.
    pub async fn ask<P, F>(&self, known: u64, key: &WitnessKey, url: &str, head: &SignedCheckpoint, prove: P) -> Answer
    where
        P: Fn(u64) -> F,
        F: Future<Output = Result<Vec<Digest>, String>>,
    {
        let size = head.checkpoint.size;
        match self.ask_from(known, key, url, head, &prove).await {
            Answer::Knows(longer) if longer > size => {
                Answer::Conflict(format!("it cosigned {longer} entries, and there are {size}"))
            }
            Answer::Knows(other) if other != known => {
                if other < known {
                    tracing::error!(
                        witness = key.name(),
                        was = known,
                        now = other,
                        "a witness forgot what it cosigned"
                    );
                }
                match self.ask_from(other, key, url, head, &prove).await {
                    Answer::Knows(again) if again == other => {
                        Answer::Conflict(format!("it has another root for {other} entries"))
                    }
                    answer => answer,
                }
            }
            Answer::Knows(same) => Answer::Conflict(format!("it has another root for {same} entries")),
            answer => answer,
        }
    }

    async fn ask_from<P, F>(&self, old: u64, key: &WitnessKey, url: &str, head: &SignedCheckpoint, prove: &P) -> Answer
    where
        P: Fn(u64) -> F,
        F: Future<Output = Result<Vec<Digest>, String>>,
    {
        let proof = match old {
            0 => Vec::new(),
            old => match prove(old).await {
                Ok(proof) => proof,
                Err(error) => return Answer::Unheard(error),
            },
        };
        let body = AddCheckpoint { old, proof, note: head.note.clone() }.encode();
        let to = format!("{}/add-checkpoint", url.trim_end_matches('/'));
        let response = match self.0.post(to).body(body).send().await {
            Ok(response) => response,
            Err(error) => return Answer::Unheard(error.without_url().to_string()),
        };
        let (status, is_size) = (response.status(), content_type(&response) == Some(SIZE_TYPE));
        let Some(text) = bounded(response).await else { return Answer::Unheard("no readable answer".into()) };
        match status {
            StatusCode::OK => match cosignature(&text, key, &head.checkpoint) {
                Some(line) => Answer::Cosigned(line),
                None => Answer::Unheard("it answered without a cosignature of its own that holds".into()),
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
}

/// Asks the witnesses, round by round.
pub(crate) struct Rounds {
    shared: Arc<Shared>,
    client: WitnessClient,
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
        let client = WitnessClient::new(&policy, shared.settings.witness_ca.as_deref())?;
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

    /// Asks every witness once for the head that was published last; all at the same time, so that those that are away
    /// keep nobody waiting for longer than one of them does.
    pub(crate) async fn round(&mut self) {
        let began = Instant::now();
        let head = match self.published().await {
            Ok(Some(head)) if head.checkpoint.size != self.done => head,
            Ok(_) => return self.shared.note_witnessed(began),
            Err(why) => return tracing::warn!(why, "no head to be witnessed"),
        };
        let mut lines = String::new();
        let policy = self.policy.clone();
        let asked = policy.reachable().map(|(name, key, url)| self.ask(name, key, url, &head));
        let answers = join_all(asked).await;
        for ((name, ..), answer) in policy.reachable().zip(answers) {
            match answer {
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
                self.shared.note_witnessed(began);
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

    async fn ask(&self, name: &str, key: &WitnessKey, url: &str, head: &SignedCheckpoint) -> Answer {
        let size = head.checkpoint.size;
        let known = self.known.get(name).copied().unwrap_or(0);
        let prove = |old| {
            let sequencer = self.shared.sequencer.clone();
            async move {
                let proof = tokio::task::spawn_blocking(move || sequencer.consistency(old, size)).await;
                proof.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
            }
        };
        self.client.ask(known, key, url, head, prove).await
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

/// The line of a witness that holds; what else came with it is not kept.
fn cosignature(text: &str, key: &WitnessKey, head: &Checkpoint) -> Option<String> {
    let mut lines = text.lines();
    let line = lines.find(|line| matches!(key.signed_at(head, line), Ok(Some(_))))?;
    Some(format!("{line}\n"))
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

#[cfg(test)]
mod tests {
    use chancery_ledger::Cosigner;
    use chancery_model::Digest;

    use super::*;

    #[test]
    fn one_line_of_an_answer_is_kept_and_it_holds() {
        let cosigner = |name: &str, seed: u8| Cosigner::from_seed(name, &[seed; 32]).expect("a seed");
        let (own, other, namesake) = (cosigner("w.test/a", 1), cosigner("w.test/b", 2), cosigner("w.test/a", 3));
        let key = WitnessKey::parse(&own.verifier_key()).expect("own key");
        let head = |size| Checkpoint { origin: "gw.test/a".into(), size, root: Digest([7; 32]) };
        let (now, line) = (head(5), own.cosign(&head(5), 9));
        let around =
            [other.cosign(&now, 9), namesake.cosign(&now, 9), own.cosign(&head(4), 9), "\u{2014} w.test/a =\n".into()];
        assert_eq!(cosignature(&around.concat(), &key, &now), None);
        let flood = format!("{}{line}{}{}", around.concat(), line.repeat(100), around.concat());
        assert_eq!(cosignature(&flood, &key, &now), Some(line));
    }
}
