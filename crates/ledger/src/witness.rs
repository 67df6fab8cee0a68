//! Witnesses: whoever saw a log grow says so with a cosignature, and never says it of two histories. The protocol is C2SP
//! tlog-witness, the signature C2SP tlog-cosignature with Ed25519, the rule of who must have signed C2SP tlog-policy.
//!
//! Not here: sockets, clocks, and where a witness remembers what it signed.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chancery_model::Digest;

use crate::crypto::is_signed;
use crate::note::{NoteSigner, key_id, parse_verifier_key, verifier_key};
use crate::tree::sha256;
use crate::{Checkpoint, LedgerError, LogVerifier, verify_consistency};

/// The signature type of Ed25519 cosignatures.
const COSIGNATURE_TYPE: u8 = 4;
/// Hashes of the longest consistency proof.
const PROOF_MAX: usize = 63;
/// The longest request: 63 hashes of 45 bytes, and a note.
pub const ADD_CHECKPOINT_BYTES_MAX: usize = 96 * 1024;
/// The longest policy, and how many witnesses and groups it may name.
const POLICY_BYTES_MAX: usize = 64 * 1024;
const POLICY_NAMES_MAX: usize = 256;

/// The key of a witness.
pub struct Cosigner(NoteSigner);

impl std::fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cosigner").field("name", &self.0.name()).finish_non_exhaustive()
    }
}

impl Cosigner {
    /// The cosigner of this name from a 32-byte seed. The seed signs nothing else.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, LedgerError> {
        NoteSigner::from_seed(name.to_owned(), seed).map(Self)
    }
    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name()
    }
    /// Its key in the form of signed-note, with the type of cosignatures.
    pub fn verifier_key(&self) -> String {
        verifier_key(self.name(), COSIGNATURE_TYPE, &self.0.public_key())
    }
    /// The signature line that says: at `time` (seconds since 1970 UTC) this was the largest consistent head seen.
    pub fn cosign(&self, checkpoint: &Checkpoint, time: u64) -> String {
        let id = key_id(self.name(), COSIGNATURE_TYPE, &self.0.public_key());
        let signature = self.0.signature(message(&checkpoint.body(), time).as_bytes());
        let line = STANDARD.encode([id.as_slice(), &time.to_be_bytes(), &signature].concat());
        format!("\u{2014} {} {line}\n", self.name())
    }
}

fn message(body: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{body}")
}

/// The public key of a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl WitnessKey {
    /// Reads `name+id+base64` with the type of cosignatures.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let (name, id, key) =
            parse_verifier_key(text, COSIGNATURE_TYPE).ok_or(LedgerError::Unproven("the witness key is malformed"))?;
        Ok(Self { name: name.to_owned(), id, key })
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// When it cosigned `checkpoint`, by one of these signature lines; the latest, if by several. Lines of others are
    /// ignored; one of this key that does not hold is an error.
    pub fn signed_at(&self, checkpoint: &Checkpoint, lines: &str) -> Result<Option<u64>, LedgerError> {
        let mut latest = None;
        for line in lines.lines() {
            let Some((name, signature)) = line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' ')) else {
                continue;
            };
            if name != self.name {
                continue;
            }
            let signature =
                STANDARD.decode(signature).map_err(|_| LedgerError::Unproven("a cosignature is malformed"))?;
            let Some((id, signature)) = signature.split_first_chunk::<4>() else { continue };
            if *id != self.id {
                continue;
            }
            let Some((time, signature)) = signature.split_first_chunk::<8>() else {
                return Err(LedgerError::Unproven("a cosignature is malformed"));
            };
            let time = u64::from_be_bytes(*time);
            if time > i64::MAX as u64 || !is_signed(&self.key, message(&checkpoint.body(), time).as_bytes(), signature)
            {
                return Err(LedgerError::Unproven("a cosignature does not hold"));
            }
            latest = latest.max(Some(time));
        }
        Ok(latest)
    }
}

/// A request to cosign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness cosigned last, as far as is known.
    pub old: u64,
    /// The proof that the log only grew since.
    pub proof: Vec<Digest>,
    /// The checkpoint, signed by the log.
    pub note: String,
}

impl AddCheckpoint {
    /// The body of the request.
    pub fn encode(&self) -> String {
        let proof: String = self.proof.iter().map(|hash| format!("{}\n", STANDARD.encode(hash.0))).collect();
        format!("old {}\n{proof}\n{}", self.old, self.note)
    }
    /// Reads the body of a request.
    pub fn parse(body: &str) -> Result<Self, LedgerError> {
        let bad = LedgerError::Unproven("the request is malformed");
        if body.len() > ADD_CHECKPOINT_BYTES_MAX {
            return Err(bad);
        }
        let (head, note) = body.split_once("\n\n").ok_or(bad.clone())?;
        let mut lines = head.split('\n');
        let number = lines.next().and_then(|line| line.strip_prefix("old ")).ok_or(bad.clone())?;
        let old: u64 = number.parse().map_err(|_| bad.clone())?;
        if old.to_string() != number {
            return Err(bad);
        }
        let mut proof = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|hash| hash.try_into().ok()).ok_or(bad.clone())?;
            if proof.len() == PROOF_MAX {
                return Err(bad);
            }
            proof.push(Digest(hash));
        }
        Ok(Self { old, proof, note: note.to_owned() })
    }
}

/// What a witness knows of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessedLog {
    /// The log's key.
    pub key: LogVerifier,
    /// The size that was cosigned last; 0 if none was.
    pub size: u64,
    /// Its root.
    pub root: Digest,
}

impl WitnessedLog {
    /// A log of which nothing was seen yet.
    pub fn new(key: LogVerifier) -> Self {
        Self { key, size: 0, root: sha256(&[]) }
    }

    /// Judges a request for this log. The caller remembers the head that this gives, on disk, and then cosigns it; both in
    /// one, so that two requests cannot pass each other.
    pub fn judge(&self, request: &AddCheckpoint) -> Result<Checkpoint, Unwitnessed> {
        let head = match self.key.open(&request.note) {
            Ok(signed) => signed.checkpoint,
            Err(_) => return Err(Unwitnessed::Unsigned),
        };
        if request.old > head.size {
            return Err(Unwitnessed::Malformed);
        }
        if request.old != self.size {
            return Err(Unwitnessed::Conflict(self.size));
        }
        if self.size == head.size && self.root != head.root {
            return Err(Unwitnessed::Conflict(self.size));
        }
        let grew = match self.size {
            0 => request.proof.is_empty() && (head.size > 0 || head.root == self.root),
            size => verify_consistency(size, head.size, &request.proof, &self.root, &head.root),
        };
        if grew { Ok(head) } else { Err(Unwitnessed::Inconsistent) }
    }
}

/// Why a head is not cosigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwitnessed {
    /// The request has not the form (400).
    Malformed,
    /// The log's key did not sign it (403).
    Unsigned,
    /// The log is not known (404).
    Unknown,
    /// Another size was cosigned last, this one; or another root for the same size (409).
    Conflict(u64),
    /// The proof does not show that the log only grew (422).
    Inconsistent,
}

impl Unwitnessed {
    /// The status code.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unsigned => 403,
            Self::Unknown => 404,
            Self::Conflict(_) => 409,
            Self::Inconsistent => 422,
        }
    }
}

/// Which witnesses must have cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessPolicy {
    /// By their names in the policy, with the prefix at which they take heads, where the policy says it.
    witnesses: BTreeMap<String, (WitnessKey, Option<String>)>,
    groups: BTreeMap<String, (usize, Vec<String>)>,
    /// `None`: nobody.
    quorum: Option<String>,
}

/// What the cosignatures of a checkpoint come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// Whether they are enough.
    pub met: bool,
    /// The names in the policy of those that signed, and when (seconds since 1970 UTC).
    pub by: BTreeMap<String, u64>,
}

impl WitnessPolicy {
    /// Reads a policy. Its `log` lines are checked and not kept: a log's key is given apart.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let bad = LedgerError::Unproven("the witness policy is malformed");
        if text.len() > POLICY_BYTES_MAX || text.bytes().any(|byte| byte < b' ' && !matches!(byte, b'\t' | b'\n')) {
            return Err(bad);
        }
        let mut policy = Self { witnesses: BTreeMap::new(), groups: BTreeMap::new(), quorum: None };
        let (mut quorum_seen, mut members) = (false, Vec::new());
        for line in text.lines() {
            let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            match words.as_slice() {
                [] => {}
                [word, ..] if word.starts_with('#') => {}
                ["log", key] | ["log", key, _] => drop(LogVerifier::parse(key)?),
                ["witness", name, key, url @ ..] if url.len() <= 1 && policy.is_free(name) => {
                    let key = WitnessKey::parse(key)?;
                    if policy.witnesses.values().any(|(known, _)| known.key == key.key) {
                        return Err(bad);
                    }
                    let url = url.first().map(|url| (*url).to_owned());
                    policy.witnesses.insert((*name).to_owned(), (key, url));
                }
                ["group", name, threshold, names @ ..] if !names.is_empty() && policy.is_free(name) => {
                    let least = match *threshold {
                        "any" => 1,
                        "all" => names.len(),
                        number => number.parse().map_err(|_| bad.clone())?,
                    };
                    let once = |name: &&&str| policy.is_known(name) && !members.contains(&(**name).to_owned());
                    if !(1..=names.len()).contains(&least) || !names.iter().all(|name| once(&name)) {
                        return Err(bad);
                    }
                    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
                    members.extend(names.iter().cloned());
                    policy.groups.insert((*name).to_owned(), (least, names));
                }
                ["quorum", "none"] if !quorum_seen => quorum_seen = true,
                ["quorum", name] if !quorum_seen && policy.is_known(name) => {
                    quorum_seen = true;
                    policy.quorum = Some((*name).to_owned());
                }
                _ => return Err(bad),
            }
        }
        if quorum_seen { Ok(policy) } else { Err(bad) }
    }

    fn is_known(&self, name: &str) -> bool {
        self.witnesses.contains_key(name) || self.groups.contains_key(name)
    }
    fn is_free(&self, name: &str) -> bool {
        name != "none" && !self.is_known(name) && self.witnesses.len() + self.groups.len() < POLICY_NAMES_MAX
    }

    /// Whether it asks for nobody.
    pub fn is_none(&self) -> bool {
        self.quorum.is_none()
    }

    /// Whether the witnesses that can be asked are enough.
    pub fn is_reachable(&self) -> bool {
        let by = self.reachable().map(|(name, ..)| (name.to_owned(), 0)).collect();
        self.quorum.as_ref().is_none_or(|name| self.is_met(name, &by))
    }

    /// The witnesses that can be asked: name in the policy, key, submission prefix.
    pub fn reachable(&self) -> impl Iterator<Item = (&str, &WitnessKey, &str)> {
        self.witnesses.iter().filter_map(|(name, (key, url))| Some((name.as_str(), key, url.as_deref()?)))
    }

    /// What the signature lines of a note with this head come to. A cosignature that does not hold counts for nothing.
    pub fn quorum(&self, checkpoint: &Checkpoint, lines: &str) -> Quorum {
        let signed = |key: &WitnessKey| key.signed_at(checkpoint, lines).ok().flatten();
        let by: BTreeMap<String, u64> =
            self.witnesses.iter().filter_map(|(name, (key, _))| Some((name.clone(), signed(key)?))).collect();
        let met = self.quorum.as_ref().is_none_or(|name| self.is_met(name, &by));
        Quorum { met, by }
    }

    /// Groups name only what stands before them, so that this ends.
    fn is_met(&self, name: &str, by: &BTreeMap<String, u64>) -> bool {
        match self.groups.get(name) {
            Some((least, names)) => names.iter().filter(|name| self.is_met(name, by)).count() >= *least,
            None => by.contains_key(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogSigner, consistency_proof, leaf_hash, root};

    const ORIGIN: &str = "gw.test/a";

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|leaf| leaf_hash(&leaf.to_be_bytes())).collect()
    }

    fn signer() -> LogSigner {
        LogSigner::from_seed(ORIGIN, &[1; 32]).expect("a seed")
    }

    fn head(leaves: &[Digest]) -> Checkpoint {
        Checkpoint { origin: ORIGIN.into(), size: leaves.len() as u64, root: root(leaves) }
    }

    fn request(old: u64, leaves: &[Digest]) -> AddCheckpoint {
        let proof = match old {
            0 => Vec::new(),
            old => consistency_proof(leaves, old as usize).unwrap_or_default(),
        };
        AddCheckpoint { old, proof, note: signer().sign(&head(leaves)).note }
    }

    fn known() -> WitnessedLog {
        WitnessedLog::new(LogVerifier::parse(&signer().verifier_key()).expect("own key"))
    }

    #[test]
    fn a_log_that_only_grows_is_witnessed_and_every_other_is_not() {
        let all = leaves(40);
        let mut log = known();
        for (old, size) in [(0, 7), (7, 8), (8, 8), (8, 33)] {
            let sent = request(old, &all[..size]);
            assert_eq!(AddCheckpoint::parse(&sent.encode()), Ok(sent.clone()));
            let head = log.judge(&sent).expect("it grew");
            (log.size, log.root) = (head.size, head.root);
        }
        // A snapshot of an earlier day, and what a client does not know yet.
        assert_eq!(log.judge(&request(0, &all[..7])), Err(Unwitnessed::Conflict(33)));
        assert_eq!(log.judge(&request(8, &all[..40])), Err(Unwitnessed::Conflict(33)));
        assert_eq!(log.judge(&request(33, &all[..20])), Err(Unwitnessed::Malformed));
        // Another history: of the same size, and of a greater one.
        let mut forked = all.clone();
        forked[5] = leaf_hash(b"other");
        assert_eq!(log.judge(&request(33, &forked[..33])), Err(Unwitnessed::Conflict(33)));
        assert_eq!(log.judge(&request(33, &forked[..40])), Err(Unwitnessed::Inconsistent));
        let mut other = request(33, &all[..40]);
        other.note = LogSigner::from_seed(ORIGIN, &[2; 32]).expect("a seed").sign(&head(&all[..40])).note;
        assert_eq!(log.judge(&other), Err(Unwitnessed::Unsigned));
        assert!(log.judge(&request(33, &all[..40])).is_ok());
    }

    #[test]
    fn requests_of_another_form_are_refused() {
        let good = request(7, &leaves(8)).encode();
        for (from, to) in [("old 7", "old 07"), ("old 7", "old -7"), ("old 7", "OLD 7"), ("old 7\n", "")] {
            assert!(AddCheckpoint::parse(&good.replacen(from, to, 1)).is_err());
        }
        let hash = format!("{}\n", STANDARD.encode([7; 32]));
        assert!(AddCheckpoint::parse(&format!("old 7\n{}\nnote", hash.repeat(63))).is_ok());
        assert!(AddCheckpoint::parse(&format!("old 7\n{}\nnote", hash.repeat(64))).is_err());
        assert!(AddCheckpoint::parse(&format!("old 7\n{}\nnote", &hash[4..])).is_err());
    }

    #[test]
    fn a_cosignature_is_for_one_head_at_one_time() {
        let cosigner = Cosigner::from_seed("witness.test/w1", &[7; 32]).expect("a seed");
        let key = WitnessKey::parse(&cosigner.verifier_key()).expect("own key");
        let (head, other) = (head(&leaves(3)), head(&leaves(4)));
        let line = cosigner.cosign(&head, 1_679_315_147);
        assert_eq!(key.signed_at(&head, &line), Ok(Some(1_679_315_147)));
        assert!(key.signed_at(&other, &line).is_err());
        assert_eq!(key.signed_at(&head, &signer().sign(&head).note), Ok(None));
        let twice = format!("{line}{}", cosigner.cosign(&head, 1_679_315_150));
        assert_eq!(key.signed_at(&head, &twice), Ok(Some(1_679_315_150)));
        // A key of a log is none of a witness, and the other way round.
        assert!(WitnessKey::parse(&signer().verifier_key()).is_err());
        assert!(LogVerifier::parse(&cosigner.verifier_key()).is_err());
        // The log's own reader passes over it.
        let note = format!("{}{line}", signer().sign(&head).note);
        assert!(LogVerifier::parse(&signer().verifier_key()).expect("own key").open(&note).is_ok());
    }

    #[test]
    fn a_policy_says_who_is_enough() {
        let names = ["a", "b", "c"];
        let cosigners: Vec<Cosigner> = (1..)
            .zip(names)
            .map(|(seed, name)| Cosigner::from_seed(&format!("w.test/{name}"), &[seed; 32]).expect("a seed"))
            .collect();
        let witnesses: String =
            cosigners.iter().zip(names).map(|(key, name)| format!("witness {name} {}\n", key.verifier_key())).collect();
        let head = head(&leaves(3));
        let lines = |who: &[usize]| who.iter().map(|at| cosigners[*at].cosign(&head, 5)).collect::<String>();
        let two = format!("# who\n\n{witnesses}group two 2 a b c\nquorum two\n");
        let two = WitnessPolicy::parse(&two).expect("well-formed");
        for (who, met) in [(&[][..], false), (&[0], false), (&[0, 2], true), (&[0, 1, 2], true), (&[0, 0], false)] {
            assert_eq!(two.quorum(&head, &lines(who)).met, met, "{who:?}");
        }
        let nested = format!("{witnesses}group ab any a b\ngroup both all ab c\nquorum both\n");
        let nested = WitnessPolicy::parse(&nested).expect("well-formed");
        assert!(nested.quorum(&head, &lines(&[1, 2])).met && !nested.quorum(&head, &lines(&[0, 1])).met);
        assert!(!nested.is_reachable());
        for (asked, enough) in [("ab", false), ("bc", true), ("c", false)] {
            let line = |(name, cosigner): (&str, &Cosigner)| {
                let url = if asked.contains(name) { " https://w.test" } else { "" };
                format!("witness {name} {}{url}\n", cosigner.verifier_key())
            };
            let policy: String = names.into_iter().zip(&cosigners).map(line).collect();
            let policy = WitnessPolicy::parse(&format!("{policy}group ab any a b\ngroup both all ab c\nquorum both\n"));
            assert_eq!(policy.map(|policy| policy.is_reachable()), Ok(enough), "{asked}");
        }
        assert!(WitnessPolicy::parse("quorum none\n").is_ok_and(|policy| policy.is_none()));
        let more =
            ["", "quorum a\n", "group g 4 a b c\nquorum g\n", "group g any x\nquorum g\n", "quorum none\nquorum a\n"];
        for (at, end) in more.into_iter().enumerate() {
            assert_eq!(WitnessPolicy::parse(&format!("{witnesses}{end}")).is_ok(), at == 1, "{end}");
        }
        // A witness counts once, however often it is named.
        let twice = format!("{witnesses}group g any a b\ngroup h any a c\ngroup all all g h\nquorum all\n");
        assert!(WitnessPolicy::parse(&twice).is_err());
        let same = format!("{witnesses}witness d {}\nquorum d\n", cosigners[0].verifier_key());
        assert!(WitnessPolicy::parse(&same).is_err());
    }
}
