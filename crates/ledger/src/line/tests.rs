use std::collections::BTreeMap;
use std::fmt::Write;

use chancery_model::{Effect, ResourceName, ReviewId, SessionId};

use super::*;
use crate::{ActDone, ActStart, Leaf, Outcome, RawSegment, Shred, Unseal};

const NUMBERS: [u64; 9] = [0, 9, 10, 99, 100, 12_345, 1_000_000, i64::MAX as u64, u64::MAX];
const TEXTS: [&str; 11] = [
    "allow",
    "",
    "analysts-read",
    "eight888",
    "a\"b\\c",
    "quote at the very end\"",
    "line\nend\u{7f}",
    "tab\tin the first eight",
    "naïve ✓ ümläut",
    "\u{1f}",
    "\u{80}\u{ff}\u{7e}~!#[]",
];

/// What the format says, written naively: values by key, sorted by the map.
struct Naive(BTreeMap<&'static str, String>);

impl Naive {
    fn new(kind: &str, common: &Common<'_>) -> Self {
        let mut naive = Self(BTreeMap::new());
        naive.text("b", std::str::from_utf8(common.boot).expect("ASCII"));
        naive.text("k", kind);
        naive.number("m", common.mono);
        naive.number("n", common.index);
        naive.text("o", common.origin);
        naive.number("t", common.wall);
        naive.number("v", 1);
        naive
    }
    fn number(&mut self, key: &'static str, value: impl ToString) {
        self.0.insert(key, value.to_string());
    }
    fn text(&mut self, key: &'static str, text: &str) {
        self.0.insert(key, naive_string(text));
    }
    fn hex(&mut self, key: &'static str, bytes: &[u8]) {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes all");
            hex
        });
        self.text(key, &hex);
    }
    fn line(&self) -> String {
        let fields: Vec<String> = self.0.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }
}

fn naive_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..=' ' | '\u{7f}' if c != ' ' => write!(out, "\\u{:04x}", c as u32).expect("a string takes all"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn written(entry: &Entry<'_>, common: &Common<'_>) -> String {
    let mut out = b"before".to_vec();
    write(&mut out, entry, common, &Tally::default()).expect("short");
    let line = out.strip_prefix(b"before").expect("appended");
    Leaf::parse(line, common.index).expect("readable");
    String::from_utf8(line.to_vec()).expect("text")
}

/// Every value of the arguments, the optional ones there and not there.
fn commons(mut each: impl FnMut(u64, &Common<'_>)) {
    let boot = *b"000102030405060708090a0b0c0d0e0f";
    for number in NUMBERS {
        for clock in [0, 7, 1_700_000_000_123_456, i64::MAX, i64::MIN] {
            let common = Common { boot: &boot, mono: clock, index: number, origin: "gw.test/a", wall: clock };
            each(number, &common);
        }
    }
}

#[test]
fn a_start_is_written_as_the_format_says() {
    let (session, chain) = (SessionId(std::array::from_fn(|i| i as u8 * 17)), [0xf0; 16]);
    let [rules, digest, fingerprint] = [1, 90, 250].map(|first| Digest([first; 32]));
    let rule_sets: Vec<Vec<RuleId>> =
        (0..TEXTS.len()).map(|n| TEXTS[..n].iter().map(|text| RuleId((*text).to_owned())).collect()).collect();
    commons(|command, common| {
        for (at, rule_ids) in rule_sets.iter().enumerate() {
            let name = ["a", "billing", "0-and_63-characters-0000000000000000000000000000000000000000000"][at % 3];
            let resource = ResourceName::parse(name).expect("well-formed");
            let (decision, review) = (TEXTS[at], (at % 2 == 0).then_some(ReviewId([at as u8; 16])));
            let (effect, x) = [(Effect::Read, "read"), (Effect::Write, "write")][at / 2 % 2];
            let (profile, prof) = [(Profile::Balanced, "balanced"), (Profile::Strict, "strict")][at / 4 % 2];
            #[rustfmt::skip]
            let entry = ActStart {
                session, command, chain, resource: &resource, rules, decision, rule_ids, effect, fingerprint, digest, review,
                profile,
            };
            let mut naive = Naive::new("act.start", common);
            naive.hex("a", &chain);
            naive.text("c", name);
            naive.hex("ch", &digest.0);
            let words = std::iter::once(decision).chain(rule_ids.iter().map(|rule| rule.0.as_str()));
            naive.0.insert("d", format!("[{}]", words.map(naive_string).collect::<Vec<_>>().join(",")));
            naive.hex("fp", &fingerprint.0);
            naive.hex("p", &rules.0);
            naive.text("prof", prof);
            naive.number("q", command);
            if let Some(review) = review {
                naive.hex("rev", &review.0);
            }
            naive.hex("s", &session.0);
            naive.text("x", x);
            assert_eq!(written(&Entry::ActStart(entry), common), naive.line());
        }
    });
}

#[test]
fn an_end_is_written_as_the_format_says() {
    let outcomes = [Outcome::Completed, Outcome::Failed, Outcome::Skipped];
    let outcomes = [outcomes, [Outcome::Suspended, Outcome::Unknown, Outcome::Cancelled]].concat();
    let session = SessionId([0xab; 16]);
    commons(|number, common| {
        for sqlstate in [None, Some("23505"), Some("XX000"), Some("xx000"), Some("2350"), Some("2350\""), Some("é350")]
        {
            for (at, outcome) in outcomes.iter().copied().enumerate() {
                let [rows, bytes, masked, duration_us] = std::array::from_fn(|i| NUMBERS[(at + i) % NUMBERS.len()]);
                let recording = (at % 2 == 0).then_some(Digest([0x5c; 32]));
                #[rustfmt::skip]
                let entry = ActDone {
                    session, command: number, outcome, sqlstate, rows, bytes, masked, duration_us, recording,
                };
                let mut naive = Naive::new("act.done", common);
                naive.number("bytes", bytes);
                if let Some(recording) = recording {
                    naive.hex("cm", &recording.0);
                }
                naive.number("masked", masked);
                naive.text("out", outcome.as_str());
                naive.number("q", number);
                naive.number("rows", rows);
                naive.hex("s", &session.0);
                if let Some(code) = sqlstate.filter(|code| ["23505", "XX000"].contains(code)) {
                    naive.text("sqlstate", code);
                }
                naive.number("us", duration_us);
                assert_eq!(written(&Entry::ActDone(entry), common), naive.line());
            }
        }
    });
}

/// Lines that earlier versions stored: they stand in ledgers.
#[test]
fn lines_are_those_that_were_stored_before() {
    let (resource, boot) = (ResourceName::parse("billing").expect("well-formed"), *b"07070707070707070707070707070707");
    let common = Common { boot: &boot, mono: 42, index: 3, origin: "gw.test/a", wall: 1_700_000_000_123_456 };
    let rule_ids = [RuleId("analysts \"read\"\n".into())];
    let (session, chain, command) = (SessionId([5; 16]), [1; 16], 12);
    #[rustfmt::skip]
    let start = Entry::ActStart(ActStart {
        session, command, chain, resource: &resource, rules: Digest([2; 32]), decision: "approved", rule_ids: &rule_ids,
        effect: Effect::Write, fingerprint: Digest([3; 32]), digest: Digest([0xd4; 32]), review: Some(ReviewId([6; 16])),
        profile: Profile::Strict,
    });
    assert_eq!(written(&start, &common), START);
    #[rustfmt::skip]
    let done = Entry::ActDone(ActDone {
        session, command, outcome: Outcome::Failed, sqlstate: Some("23505"), rows: 0, bytes: 1_234, masked: 7,
        duration_us: 98_765, recording: Some(Digest([0xee; 32])),
    });
    assert_eq!(written(&done, &Common { mono: 43, index: 4, ..common }), DONE);
}

const START: &str = concat!(
    r#"{"a":"01010101010101010101010101010101","b":"07070707070707070707070707070707","c":"billing","ch"#,
    r#"":"d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4","d":["approved","analysts \"#,
    r#""read\"\u000a"],"fp":"0303030303030303030303030303030303030303030303030303030303030303","k":"act"#,
    r#".start","m":42,"n":3,"o":"gw.test/a","p":"020202020202020202020202020202020202020202020202020202"#,
    r#"0202020202","prof":"strict","q":12,"rev":"06060606060606060606060606060606","s":"050505050505050"#,
    r#"50505050505050505","t":1700000000123456,"v":1,"x":"write"}"#,
);
const DONE: &str = concat!(
    r#"{"b":"07070707070707070707070707070707","bytes":1234,"cm":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"#,
    r#"eeeeeeeeeeeeeeeeeeeeeeeeeee","k":"act.done","m":43,"masked":7,"n":4,"o":"gw.test/a","out":"faile"#,
    r#"d","q":12,"rows":0,"s":"05050505050505050505050505050505","sqlstate":"23505","t":170000000012345"#,
    r#"6,"us":98765,"v":1}"#,
);

#[test]
fn strings_are_escaped_as_json_reads_them() {
    for text in TEXTS.iter().copied().chain(["plain", "line\nend\u{7f}", "naïve ✓"]) {
        let mut out = Vec::new();
        string(&mut out, text);
        assert_eq!(serde_json::from_slice::<String>(&out).expect("written as JSON"), text);
        assert!(!out.iter().any(|b| *b < 0x20));
    }
}

#[test]
fn a_byte_to_escape_is_found_wherever_it_stands() {
    for length in 0..20 {
        for at in 0..length {
            for byte in 0..=255 {
                let mut text = vec![b'a'; length];
                text[at] = byte;
                assert_eq!(needs_escape(&text), is_escaped(byte), "{byte:#x} at {at} of {length}");
                // Beside one that is not to be escaped, a borrow goes from lane to lane.
                text.fill(0x80);
                text[at] = byte;
                assert_eq!(needs_escape(&text), is_escaped(byte), "{byte:#x} at {at} of {length}");
            }
        }
    }
}

#[test]
fn numbers_are_written_whole() {
    let powers = (0..20).flat_map(|n| [10_u64.pow(n) - 1, 10_u64.pow(n), 10_u64.pow(n) + 1]);
    for number in powers.chain(NUMBERS) {
        let mut out = Vec::new();
        unsigned(&mut out, number);
        out.push(b' ');
        integer(&mut out, number as i64);
        assert_eq!(out, format!("{number} {}", number as i64).into_bytes());
    }
}

#[test]
fn what_is_said_of_originals_is_written_as_the_format_says() {
    let (session, by, ids) = (SessionId([7; 16]), [0xa0; 16], [[1; 8], [0xfe; 8]]);
    let [body, header, commitment] = [3, 4, 5].map(|byte| Digest([byte; 32]));
    commons(|number, common| {
        for to in [&ids[..], &ids[..1], &[]] {
            let entry = RawSegment { session, index: number, bytes: number, body, header, to, commitment };
            let mut naive = Naive::new("raw.segment", common);
            naive.number("bytes", number);
            naive.hex("com", &commitment.0);
            naive.hex("cr", &body.0);
            naive.hex("hd", &header.0);
            naive.hex("s", &session.0);
            naive.number("seg", number);
            let words = ["\"0101010101010101\"", "\"fefefefefefefefe\""];
            naive.0.insert("to", format!("[{}]", words[..to.len()].join(",")));
            assert_eq!(written(&Entry::RawSegment(entry), common), naive.line());
        }
        let mut naive = Naive::new("unseal", common);
        naive.hex("by", &by);
        naive.hex("rev", &[9; 16]);
        naive.hex("s", &session.0);
        let entry = Unseal { session, review: ReviewId([9; 16]), by };
        assert_eq!(written(&Entry::Unseal(entry), common), naive.line());
        let mut naive = Naive::new("shred", common);
        naive.hex("by", &by);
        naive.hex("cr", &body.0);
        naive.hex("s", &session.0);
        naive.text("what", "sealed");
        let entry = Shred { session, what: "sealed", authority: Some(body), by: Some(by), run: None };
        assert_eq!(written(&Entry::Shred(entry), common), naive.line());
        let mut naive = Naive::new("shred", common);
        naive.number("run", 7);
        naive.hex("s", &session.0);
        naive.text("what", "sealed");
        let entry = Shred { session, what: "sealed", authority: None, by: None, run: Some(7) };
        assert_eq!(written(&Entry::Shred(entry), common), naive.line());
    });
}
