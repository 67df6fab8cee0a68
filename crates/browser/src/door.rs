//! What the page can ask for, in plain values. Not here: how numbers cross the border.

use chancery_evidence::{NoPack, PackVerifier, Trusted};
use chancery_ledger::{Roots, Verdict, WitnessPolicy};
use serde_json::json;

/// The page feeds a mebibyte at a time; more than a few would only need memory.
const ROOM_MAX: usize = 8 << 20;

/// The exit codes of `docs/spec/pack.md`.
const PASS: u32 = 0;
const FAIL: u32 = 1;
const INCONCLUSIVE: u32 = 2;
const MALFORMED: u32 = 3;
const USAGE: u32 = 64;

/// A verifier between two calls.
#[derive(Default)]
pub(crate) struct Door {
    input: Vec<u8>,
    verifier: Option<PackVerifier>,
    answer: String,
}

impl Door {
    /// Room for the next input. `None`: too much.
    pub(crate) fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        if length > ROOM_MAX {
            return None;
        }
        self.input.resize(length, 0);
        Some(&mut self.input)
    }

    pub(crate) fn create(&mut self, lengths: [usize; 3]) -> u32 {
        self.verifier = None;
        self.answer.clear();
        match trusted(&self.input, lengths) {
            Ok(trusted) => {
                self.verifier = Some(PackVerifier::new(trusted));
                PASS
            }
            Err(what) => self.say(USAGE, &what),
        }
    }

    pub(crate) fn feed(&mut self) -> u32 {
        let Some(verifier) = &mut self.verifier else { return self.say(USAGE, "nothing was begun") };
        match verifier.feed(&self.input) {
            Ok(()) => PASS,
            Err(error) => self.malformed(&error),
        }
    }

    pub(crate) fn finish(&mut self) -> u32 {
        let Some(verifier) = self.verifier.take() else { return self.say(USAGE, "nothing was begun") };
        match verifier.finish() {
            Ok(report) => {
                self.answer = report.document().to_string();
                match report.verdict() {
                    Verdict::Pass => PASS,
                    Verdict::Fail => FAIL,
                    Verdict::Inconclusive => INCONCLUSIVE,
                }
            }
            Err(error) => self.malformed(&error),
        }
    }

    /// JSON.
    pub(crate) fn answer(&self) -> &str {
        &self.answer
    }

    fn malformed(&mut self, error: &NoPack) -> u32 {
        self.verifier = None;
        self.say(MALFORMED, &format!("this is no evidence pack of version 1: {error}"))
    }

    fn say(&mut self, code: u32, what: &str) -> u32 {
        self.answer = json!({ "error": what }).to_string();
        code
    }
}

/// What the reader brings. Signatures of approvals are left to the command line: they need the keys and curves of SSH.
fn trusted(input: &[u8], [roots, policy, checkpoint]: [usize; 3]) -> Result<Trusted, String> {
    let text = std::str::from_utf8(input).map_err(|_| "the input is not text".to_owned())?;
    let cut = |from: usize, length: usize| {
        let piece = from.checked_add(length).and_then(|to| text.get(from..to));
        piece.ok_or_else(|| "the input is shorter than it was said to be".to_owned())
    };
    let roots_text = cut(0, roots)?;
    let policy_text = cut(roots, policy)?;
    let checkpoint_text = cut(roots.saturating_add(policy), checkpoint)?;
    let roots = Roots::parse(roots_text).map_err(|error| format!("the roots: {error}"))?;
    let given = |text: &str| !text.trim().is_empty();
    let witnesses = given(policy_text).then(|| WitnessPolicy::parse(policy_text)).transpose();
    let witnesses = witnesses.map_err(|error| format!("the policy: {error}"))?;
    let checkpoints = if given(checkpoint_text) { vec![checkpoint_text.to_owned()] } else { Vec::new() };
    Ok(Trusted { roots, witnesses, checkpoints, signatures: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOTS: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n";

    fn put(door: &mut Door, bytes: &[u8]) {
        door.room(bytes.len()).expect("little").copy_from_slice(bytes);
    }

    fn begun() -> Door {
        let mut door = Door::default();
        put(&mut door, ROOTS.as_bytes());
        assert_eq!(door.create([ROOTS.len(), 0, 0]), PASS);
        door
    }

    #[test]
    fn roots_and_policy_must_be_such() {
        let mut door = Door::default();
        for (roots, policy, word) in [("", "", "roots"), ("x", "", "roots"), (ROOTS, "nonsense", "policy")] {
            put(&mut door, [roots, policy].concat().as_bytes());
            assert_eq!(door.create([roots.len(), policy.len(), 0]), USAGE);
            assert!(door.answer().contains(word), "{}", door.answer());
            assert_eq!(door.feed(), USAGE);
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let mut door = Door::default();
        put(&mut door, ROOTS.as_bytes());
        for lengths in [[ROOTS.len() + 1, 0, 0], [ROOTS.len(), 1, 0], [usize::MAX, usize::MAX, 1], [1, usize::MAX, 0]] {
            assert_eq!(door.create(lengths), USAGE);
        }
        assert!(door.room(ROOM_MAX + 1).is_none());
        put(&mut door, &[0xff; 4]);
        assert_eq!(door.create([4, 0, 0]), USAGE);
    }

    #[test]
    fn what_is_no_pack_ends_it() {
        let mut door = begun();
        put(&mut door, &[1; 512]);
        assert_eq!(door.feed(), MALFORMED);
        assert!(door.answer().contains("no evidence pack"), "{}", door.answer());
        assert_eq!(door.finish(), USAGE);
        assert_eq!(begun().finish(), MALFORMED);
    }
}
