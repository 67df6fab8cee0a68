//! Content detectors: byte-class gate, candidate, validator.
//!
//! Linear in the worst case: no candidate looks further than a constant number of bytes, and no byte is looked at by
//! more than a constant number of candidates. A detector finds values in text; it does not decode base64, compression
//! or JSON escapes. It is the second line behind tags: what it misses passes.

use std::ops::Range;

use crate::fold;
use crate::numbers;
use crate::{Detector, MaskRules};

/// Cells shorter than the shortest e-mail address (`a@b.co`) hold nothing we look for.
pub(crate) const SHORTEST: usize = 6;

/// RFC 5321 §4.5.3.1: octets of a local part and of a domain. They also bound the work per `@`.
const LOCAL_MAX: usize = 64;
const DOMAIN_MAX: usize = 255;

/// What is known about a value besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The column's name speaks of social security numbers; then `ddddddddd` and `ddd dd dddd` count too.
    pub ssn: bool,
}

impl Context {
    /// Reads a column name. Names only add suspicion, so a client's alias cannot take any away.
    pub fn of_name(name: &str) -> Self {
        let folded: String =
            name.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).take(128).collect();
        Self { ssn: folded.contains("ssn") || folded.contains("socialsec") }
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self { ssn: self.ssn || other.ssn }
    }
}

/// A value found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What it is.
    pub detector: Detector,
    /// Where, in bytes of what was scanned; on character boundaries if the input was UTF-8.
    pub range: Range<usize>,
}

/// The detectors that are on, with their scratch space.
pub struct Scanner {
    card: bool,
    iban: bool,
    email: bool,
    ssn: bool,
    folded: fold::Folded,
    steps: u64,
}

impl Scanner {
    /// The detectors that the rules switch on.
    pub fn new(rules: &MaskRules) -> Self {
        Self::of(rules.detect.iter().map(|(d, _)| *d))
    }

    /// These detectors.
    pub fn of(detectors: impl IntoIterator<Item = Detector>) -> Self {
        let mut scanner =
            Self { card: false, iban: false, email: false, ssn: false, folded: fold::Folded::default(), steps: 0 };
        for detector in detectors {
            match detector {
                Detector::Card => scanner.card = true,
                Detector::Iban => scanner.iban = true,
                Detector::Email => scanner.email = true,
                Detector::Ssn => scanner.ssn = true,
            }
        }
        scanner
    }

    /// Whether any detector is on.
    pub fn is_on(&self) -> bool {
        self.card || self.iban || self.email || self.ssn
    }

    /// Bytes that candidates looked at since the scanner was made; the measure of the linear bound.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Finds values in a text. Replaces the content of `hits`: ascending, without overlap.
    pub fn scan(&mut self, text: &[u8], context: Context, hits: &mut Vec<Hit>) {
        hits.clear();
        if text.len() < SHORTEST || !self.is_on() {
            return;
        }
        let gate = Gate::of(text);
        if gate.not_ascii {
            self.scan_folded(text, context, hits);
        } else {
            self.scan_plain(text, gate, context, hits);
        }
    }

    /// The slow path: look-alike digits, dashes and spaces become ASCII, invisible characters go, and hits are mapped
    /// back to the original bytes.
    fn scan_folded(&mut self, text: &[u8], context: Context, hits: &mut Vec<Hit>) {
        let mut folded = std::mem::take(&mut self.folded);
        folded.fill(text);
        self.steps += text.len() as u64;
        let gate = Gate::of(folded.bytes());
        self.scan_plain(folded.bytes(), gate, context, hits);
        for hit in hits.iter_mut() {
            hit.range = folded.original(&hit.range);
        }
        folded.shrink();
        self.folded = folded;
    }

    fn scan_plain(&mut self, text: &[u8], gate: Gate, context: Context, hits: &mut Vec<Hit>) {
        if self.email && gate.at {
            self.emails(text, hits);
        }
        let emails = hits.len();
        // Seven is the least number of digits of any IBAN (Malta); a social security number has nine, a card twelve.
        if self.iban && gate.digits >= 7 || self.ssn && gate.digits >= 9 || self.card && gate.digits >= 12 {
            self.numbers(text, context, hits);
        }
        if emails > 0 && hits.len() > emails {
            settle(hits);
        }
    }

    fn emails(&mut self, text: &[u8], hits: &mut Vec<Hit>) {
        let mut floor = 0;
        for at in memchr::memchr_iter(b'@', text) {
            let mut start = at;
            while start > floor && at - start < LOCAL_MAX && is_local(text[start - 1]) {
                start -= 1;
            }
            while start > floor && is_continuation(text[start]) {
                start -= 1;
            }
            let mut end = at + 1;
            while end < text.len() && end - at <= DOMAIN_MAX && is_domain(text[end]) {
                end += 1;
            }
            while end < text.len() && is_continuation(text[end]) {
                end += 1;
            }
            self.steps += (end - start) as u64;
            while start < at && text[start] == b'.' {
                start += 1;
            }
            while end > at + 1 && matches!(text[end - 1], b'.' | b'-') {
                end -= 1;
            }
            if start < at && text[at - 1] != b'.' && is_domain_name(&text[at + 1..end]) {
                hits.push(Hit { detector: Detector::Email, range: start..end });
                floor = end;
            } else {
                floor = at + 1;
            }
        }
    }

    fn numbers(&mut self, text: &[u8], context: Context, hits: &mut Vec<Hit>) {
        let mut at = 0;
        while at < text.len() {
            if !text[at].is_ascii_digit() {
                at += 1;
                continue;
            }
            let found = self.number_at(text, at, context);
            at = match found {
                Some(hit) => {
                    let end = hit.range.end;
                    hits.push(hit);
                    end
                }
                None => numbers::run_end(text, at),
            };
        }
    }

    /// Looks at the digit run that starts here.
    fn number_at(&mut self, text: &[u8], at: usize, context: Context) -> Option<Hit> {
        if self.iban && at >= 2 && text[at - 1].is_ascii_alphabetic() && text[at - 2].is_ascii_alphabetic() {
            let iban = numbers::iban(text, at - 2, &mut self.steps);
            if let Some(range) = iban {
                return Some(Hit { detector: Detector::Iban, range });
            }
        }
        let end = numbers::run_end(text, at);
        self.steps += (end - at) as u64;
        if self.ssn
            && let Some(range) = numbers::ssn(text, at..end, context.ssn, &mut self.steps)
        {
            return Some(Hit { detector: Detector::Ssn, range });
        }
        if self.card
            && let Some(range) = numbers::card(text, at..end, &mut self.steps)
        {
            return Some(Hit { detector: Detector::Card, range });
        }
        None
    }
}

/// Sorts hits and joins those that overlap: the union is masked, under the name of the first and longest.
fn settle(hits: &mut Vec<Hit>) {
    hits.sort_by_key(|h| (h.range.start, std::cmp::Reverse(h.range.end)));
    hits.dedup_by(|later, kept| {
        let overlaps = later.range.start < kept.range.end;
        if overlaps {
            kept.range.end = kept.range.end.max(later.range.end);
        }
        overlaps
    });
}

/// What a first look at the bytes says, eight bytes at a time.
#[derive(Clone, Copy)]
struct Gate {
    digits: usize,
    at: bool,
    not_ascii: bool,
}

impl Gate {
    fn of(text: &[u8]) -> Self {
        let mut gate = Self { digits: 0, at: false, not_ascii: false };
        let (words, rest) = text.as_chunks::<8>();
        for word in words {
            gate.add(u64::from_le_bytes(*word));
        }
        // The bytes that are left stand above the seen ones in the last eight; zeros count as nothing.
        match text.last_chunk::<8>() {
            Some(last) if !rest.is_empty() => gate.add(u64::from_le_bytes(*last) >> (64 - 8 * rest.len())),
            Some(_) => {}
            None => gate.add(rest.iter().rev().fold(0, |word, b| word << 8 | u64::from(*b))),
        }
        gate
    }

    fn add(&mut self, word: u64) {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const HIGH: u64 = ONES << 7;
        let low = word & !HIGH;
        // A byte's high bit: it is beyond `9` (or before `0`, which the exclusive or puts beyond as well).
        let beyond = (low ^ (ONES * 0x30)) + ONES * (0x80 - 10);
        self.digits += (!(beyond | word) & HIGH).count_ones() as usize;
        // A byte's high bit: it is not `@`.
        let other = (low ^ (ONES * 0x40)) + ONES * 0x7F;
        self.at |= !(other | word) & HIGH != 0;
        self.not_ascii |= word & HIGH != 0;
    }
}

fn is_continuation(b: u8) -> bool {
    b & 0xC0 == 0x80
}

/// RFC 5321 atext and the dot; not `*`, `'`, `` ` ``, `/`, `=`, `?`, `|`, `{`, `}`: legal and in practice only noise around an
/// address (markup, queries, URLs). Bytes above ASCII are RFC 6531 mailboxes.
fn is_local(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(b, b'.' | b'_' | b'%' | b'+' | b'-' | b'!' | b'#' | b'$' | b'&' | b'^' | b'~')
        || b >= 0x80
}

fn is_domain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-') || b >= 0x80
}

fn is_domain_name(domain: &[u8]) -> bool {
    let mut labels = 0;
    let mut last: &[u8] = &[];
    for label in domain.split(|b| *b == b'.') {
        if label.is_empty() || label.len() > 63 || label[0] == b'-' || label[label.len() - 1] == b'-' {
            return false;
        }
        labels += 1;
        last = label;
    }
    let alphabetic = last.len() >= 2 && last.iter().all(|b| b.is_ascii_alphabetic() || *b >= 0x80);
    labels >= 2 && (alphabetic || last.starts_with(b"xn--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(Detector, &str)> {
        let mut scanner = Scanner::of(Detector::ALL);
        let mut hits = Vec::new();
        scanner.scan(text.as_bytes(), Context::default(), &mut hits);
        hits.into_iter().map(|h| (h.detector, &text[h.range])).collect()
    }

    #[test]
    fn emails() {
        for (text, hit) in [
            ("write to jo.doe+x@mail.example.com.", "jo.doe+x@mail.example.com"),
            ("<a@b.co>", "a@b.co"),
            ("mailto:a_b@xn--bcher-kva.example", "a_b@xn--bcher-kva.example"),
            ("x jörg@büro.example y", "jörg@büro.example"),
            ("jo\u{200b}e@exam\u{ad}ple.com", "jo\u{200b}e@exam\u{ad}ple.com"),
            ("joe\u{ff20}example.com", "joe\u{ff20}example.com"),
        ] {
            assert_eq!(found(text), [(Detector::Email, hit)], "{text}");
        }
        for text in
            ["@handle here", "a@b", "user@localhost", "a@.com", "1 @ 2.com", "a@1.2.3.4", "x.@b.com", "git@-x.com"]
        {
            assert_eq!(found(text), [], "{text}");
        }
        assert_eq!(found("a@b.co,c@d.org;e@f.net").len(), 3);
        assert_eq!(found("a@b@c.com"), [(Detector::Email, "b@c.com")]);
    }

    #[test]
    fn cells_with_several_kinds() {
        let text = "card 4111 1111 1111 1111 ssn 123-45-6789 iban DE89 3704 0044 0532 0130 00 a@b.com";
        let kinds: Vec<_> = found(text).into_iter().map(|(d, _)| d).collect();
        assert_eq!(kinds, [Detector::Card, Detector::Ssn, Detector::Iban, Detector::Email]);
    }

    #[test]
    fn a_card_in_an_address_is_one_hit() {
        let hits = found("4111111111111111@example.com");
        assert_eq!(hits, [(Detector::Email, "4111111111111111@example.com")]);
    }

    #[test]
    fn look_alikes_are_folded() {
        for text in [
            "\u{ff14}\u{ff11}11 1111 1111 1111",
            "4111\u{a0}1111\u{2009}1111\u{202f}1111",
            "4111\u{200b}1111\u{ad}11\u{2060}11\u{feff}1111",
            "٤١١١١١١١١١١١١١١١",
            "4111\u{2010}1111\u{2013}1111\u{2212}1111",
        ] {
            assert_eq!(found(text), [(Detector::Card, text)], "{text:?}");
        }
        assert_eq!(found("né le 123\u{2011}45\u{2011}6789"), [(Detector::Ssn, "123\u{2011}45\u{2011}6789")]);
    }

    #[test]
    fn the_gate_counts_as_a_plain_loop_does() {
        let mut state = 1u64;
        for n in 0..2000usize {
            let text: Vec<u8> = (0..n % 41)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let b = (state >> 40) as u8;
                    if n % 3 == 0 { b } else { b"0@9/:?A\xB0\xC0\x00"[usize::from(b) % 10] }
                })
                .collect();
            let gate = Gate::of(&text);
            assert_eq!(gate.digits, text.iter().filter(|b| b.is_ascii_digit()).count(), "{text:?}");
            assert_eq!(gate.at, text.contains(&b'@'), "{text:?}");
            assert_eq!(gate.not_ascii, !text.is_ascii(), "{text:?}");
        }
    }

    #[test]
    fn context_opens_undashed_numbers() {
        let mut scanner = Scanner::of([Detector::Ssn]);
        let mut hits = Vec::new();
        scanner.scan(b"123456789", Context::default(), &mut hits);
        assert!(hits.is_empty());
        for name in ["ssn", "user_SSN", "Social Security No"] {
            scanner.scan(b"123456789", Context::of_name(name), &mut hits);
            assert_eq!(hits.len(), 1, "{name}");
        }
        assert!(!Context::of_name("session").ssn);
    }

    #[test]
    fn hostile_bytes_cost_a_constant_per_byte() {
        let n = 200_000;
        for pattern in [
            "4",
            "@",
            "a@",
            "a.",
            "4111 ",
            "4111-",
            "DE89 ",
            "a@b.",
            "123-45-",
            "6 ",
            "\u{ff14}",
            "1234 1234 12345",
            "GB82WEST",
            "4111111111111111 ",
        ] {
            let text: Vec<u8> = pattern.bytes().cycle().take(n).collect();
            let mut scanner = Scanner::of(Detector::ALL);
            let mut hits = Vec::new();
            scanner.scan(&text, Context { ssn: true }, &mut hits);
            assert!(scanner.steps() < 60 * n as u64, "{pattern}: {} steps", scanner.steps());
            for hit in &hits {
                assert!(hit.range.start < hit.range.end && hit.range.end <= text.len());
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_hits_are_ordered() {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let alphabet = b"4111-1 @.a\xEF\xBC\x94\x80\xFFDE89G\xE2\x80\x8B";
        let mut scanner = Scanner::of(Detector::ALL);
        let mut hits = Vec::new();
        for _ in 0..3000 {
            let mut text = Vec::new();
            for _ in 0..40 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                text.push(alphabet[(state >> 33) as usize % alphabet.len()]);
            }
            scanner.scan(&text, Context { ssn: state & 1 == 0 }, &mut hits);
            let mut last = 0;
            for hit in &hits {
                assert!(hit.range.start >= last && hit.range.end > hit.range.start && hit.range.end <= text.len());
                last = hit.range.end;
            }
        }
    }
}
