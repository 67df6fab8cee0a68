//! Values that stand nowhere but in tagged columns, and the search for them in every form a statement could give them.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// One row of the tagged table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) ssn: String,
    pub(crate) email: String,
    pub(crate) card: String,
    pub(crate) note: String,
    pub(crate) born: String,
    pub(crate) salary: String,
    pub(crate) secret: String,
    pub(crate) phone: String,
}

/// A generator with a fixed seed: the values are the same in every run.
struct Picker(u64);

impl Picker {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Digits from 5 to 9: counts, costs and OIDs of a small database have smaller ones.
    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'5' + self.next(5) as u8)).collect()
    }

    fn letters(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'a' + self.next(26) as u8)).collect()
    }
}

/// The rows of the tagged table.
pub(crate) fn rows() -> Vec<Row> {
    let mut pick = Picker(20_261_122);
    (0..6)
        .map(|i| {
            let nine = pick.digits(9);
            Row {
                id: 101 + i,
                name: format!("person {i}"),
                ssn: format!("{}-{}-{}", &nine[..3], &nine[3..5], &nine[5..]),
                email: format!("{}@{}.example", pick.letters(9), pick.letters(8)),
                card: pick.digits(16),
                note: format!("{} {}", pick.letters(9), pick.letters(7)),
                born: format!("19{}-1{}-2{}", 55 + pick.next(40), pick.next(3), pick.next(9)),
                salary: format!("{}.{}", pick.digits(7), pick.digits(2)),
                secret: pick.letters(14),
                phone: pick.digits(11),
            }
        })
        .collect()
}

/// What to search for, found by its first five bytes.
pub(crate) struct Oracle {
    needles: Vec<Needle>,
    by_head: HashMap<[u8; 5], Vec<usize>>,
}

struct Needle {
    bytes: Vec<u8>,
    what: String,
    /// Compared with the haystack in lower case.
    folded: bool,
    /// Too short for bytes that look like random text, as digests do.
    short: bool,
}

impl Oracle {
    /// `md5` gives the digest as PostgreSQL writes it.
    pub(crate) fn new(rows: &[Row], md5: impl Fn(&str) -> String) -> Self {
        let mut oracle = Self { needles: Vec::new(), by_head: HashMap::new() };
        for row in rows {
            let fields = [
                ("ssn", &row.ssn),
                ("email", &row.email),
                ("card", &row.card),
                ("note", &row.note),
                ("born", &row.born),
                ("salary", &row.salary),
                ("secret", &row.secret),
                ("phone", &row.phone),
            ];
            for (field, value) in fields {
                let name = format!("{}.{field}", row.id);
                oracle.forms(&name, value, &md5(value));
                let digits: String = value.chars().filter(char::is_ascii_digit).collect();
                if digits.len() >= 9 && digits.len() != value.len() {
                    oracle.forms(&format!("{name}/digits"), &digits, &md5(&digits));
                }
                // A date is short, and its year may be shown.
                if digits.len() >= 9 {
                    for run in digits.as_bytes().windows(5) {
                        oracle.add(&format!("{name}/run"), run.to_vec(), false, true);
                    }
                }
            }
            oracle.binary(row);
        }
        oracle
    }

    /// Values in the binary forms of their types.
    fn binary(&mut self, row: &Row) {
        let (whole, cents) = row.salary.split_once('.').expect("a point");
        let (high, low) = whole.split_at(3);
        let groups =
            [high, low, &format!("{cents}00")].map(|group| group.parse::<u16>().expect("digits").to_be_bytes());
        self.add(&format!("{}.salary/numeric", row.id), groups.concat(), false, false);
        let number: Vec<i64> = row.born.split('-').map(|part| part.parse().expect("a number")).collect();
        let days = days_from_2000(number[0], number[1], number[2]) as i32;
        let cell = [4i32.to_be_bytes(), days.to_be_bytes()].concat();
        self.add(&format!("{}.born/date", row.id), cell, false, true);
        let card: i64 = row.card.parse().expect("digits");
        self.add(&format!("{}.card/int8", row.id), card.to_be_bytes().to_vec(), false, false);
    }

    fn forms(&mut self, name: &str, value: &str, md5: &str) {
        let bytes = value.as_bytes();
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        self.add(&format!("{name}/identity"), bytes.to_ascii_lowercase(), true, false);
        self.add(&format!("{name}/reverse"), reversed.to_ascii_lowercase(), true, false);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.add(&format!("{name}/hex"), hex(bytes).into_bytes(), true, false);
        for shift in 0..3 {
            let padded = [&b"\0\0"[..shift], bytes].concat();
            let encoded = STANDARD_NO_PAD.encode(padded);
            // The first and the last characters depend on what stands around the value.
            let inner = encoded.get([0, 2, 3][shift]..encoded.len() - 2).expect("long enough");
            self.add(&format!("{name}/base64+{shift}"), inner.into(), false, false);
        }
        let url: String = bytes
            .iter()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(*b).to_string() } else { format!("%{b:02x}") })
            .collect();
        self.add(&format!("{name}/url"), url.into_bytes(), true, false);
        let rotated: Vec<u8> =
            bytes.iter().map(|b| if b.is_ascii_lowercase() { (b - b'a' + 13) % 26 + b'a' } else { *b }).collect();
        self.add(&format!("{name}/rot13"), rotated, true, false);
        self.add(&format!("{name}/md5"), md5.as_bytes().to_vec(), true, false);
        for (kind, algorithm) in [("sha1", &SHA1_FOR_LEGACY_USE_ONLY), ("sha256", &SHA256)] {
            let sum = digest(algorithm, bytes);
            self.add(&format!("{name}/{kind}"), hex(sum.as_ref()).into_bytes(), true, false);
            self.add(&format!("{name}/{kind}-bytes"), sum.as_ref().to_vec(), false, false);
        }
        self.add(&format!("{name}/crc32"), format!("{:08x}", crc32(bytes)).into_bytes(), true, true);
        for between in [",", ", ", " ", "\n"] {
            let codes: Vec<String> = bytes.iter().map(u8::to_string).collect();
            self.add(&format!("{name}/codes"), codes.join(between).into_bytes(), true, false);
        }
    }

    fn add(&mut self, what: &str, bytes: Vec<u8>, folded: bool, short: bool) {
        let head = *bytes.first_chunk::<5>().expect("five bytes at least");
        self.by_head.entry(head).or_default().push(self.needles.len());
        self.needles.push(Needle { bytes, what: what.to_owned(), folded, short });
    }

    /// What of the canaries is in bytes that a person could read as they are.
    pub(crate) fn search(&self, haystack: &[u8]) -> Vec<String> {
        let mut found = self.find(haystack, false);
        found.extend(self.find(&without_ids(haystack), true));
        found.sort();
        found.dedup();
        found
    }

    /// The same for bytes that are partly digests and random: only needles that cannot be there by chance.
    pub(crate) fn search_noise(&self, haystack: &[u8]) -> Vec<String> {
        self.find(haystack, false)
    }

    fn find(&self, haystack: &[u8], short: bool) -> Vec<String> {
        let mut found = std::collections::BTreeSet::new();
        let lower = haystack.to_ascii_lowercase();
        for (bytes, folded) in [(haystack, false), (&lower[..], true)] {
            for (at, head) in bytes.windows(5).enumerate() {
                let Some(which) = head.first_chunk::<5>().and_then(|head| self.by_head.get(head)) else { continue };
                for needle in which.iter().map(|at| &self.needles[*at]) {
                    if needle.folded == folded && (short || !needle.short) && bytes[at..].starts_with(&needle.bytes) {
                        found.insert(needle.what.clone());
                    }
                }
            }
        }
        found.into_iter().collect()
    }
}

/// Ids are random: some of them have five digits of a canary in a row. What a session or review is called is blanked.
fn without_ids(bytes: &[u8]) -> Vec<u8> {
    let is_id = |piece: &[u8]| {
        (piece.starts_with(b"ses-") || piece.starts_with(b"rev-")) && piece[4..].iter().all(u8::is_ascii_hexdigit)
    };
    let mut rest = bytes.to_vec();
    let mut at = 0;
    while let Some(piece) = rest.get_mut(at..at + 36) {
        if is_id(piece) {
            piece.fill(b' ');
            at += 36;
        } else {
            at += 1;
        }
    }
    rest
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// Days between a date and 2000-01-01 (Julian day arithmetic, valid from March 1900 on).
fn days_from_2000(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month <= 2 { (year - 1, month + 12) } else { (year, month) };
    365 * y + y / 4 - y / 100 + y / 400 + (153 * (m - 3) + 2) / 5 + day - 1 - 730_425
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oracle() -> (Vec<Row>, Oracle) {
        let rows = rows();
        let oracle = Oracle::new(&rows, |_| "0123456789abcdef0123456789abcdef".to_owned());
        (rows, oracle)
    }

    #[test]
    fn every_form_is_found_and_harmless_text_is_not() {
        let (rows, oracle) = oracle();
        assert_eq!(oracle.search(b"*** person 1 cost=0.00..18.80 sess_01JX/16384 tok_0011"), Vec::<String>::new());
        let row = &rows[2];
        let digits = row.ssn.replace('-', "");
        let base64 = STANDARD_NO_PAD.encode(format!("<{}>", row.email));
        let forms = [
            row.ssn.clone(),
            row.email.to_uppercase(),
            digits.clone(),
            digits[2..7].to_owned(),
            row.note.chars().rev().collect(),
            base64,
            row.note.replace(' ', "%20"),
        ];
        for form in forms {
            assert!(!oracle.search(format!("x{form}x").as_bytes()).is_empty(), "{form}");
        }
    }

    #[test]
    fn an_id_with_five_digits_of_a_canary_is_none() {
        let (rows, oracle) = oracle();
        let digits = &rows[2].phone[..5];
        let id = format!("ses-01a22497abcdef0123456789{digits}abc");
        assert_eq!(oracle.search(format!("reference {id}/3").as_bytes()), Vec::<String>::new());
        assert!(!oracle.search(format!("reference {id}/{digits}").as_bytes()).is_empty());
    }

    #[test]
    fn days_are_counted_as_postgresql_does() {
        assert_eq!(days_from_2000(2000, 1, 1), 0);
        assert_eq!(days_from_2000(1999, 12, 31), -1);
        assert_eq!(days_from_2000(1961, 11, 23), -13_918);
    }
}
