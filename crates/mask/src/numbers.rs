//! Candidates and validators for card numbers, IBANs and social security numbers. Every function looks at a bounded
//! number of bytes around its start.

use std::ops::Range;

/// The end of the digit run that starts here.
pub(crate) fn run_end(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|b| !b.is_ascii_digit()).map_or(text.len(), |n| at + n)
}

fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(0)
}

fn before(text: &[u8], at: usize) -> u8 {
    at.checked_sub(1).map_or(0, |i| byte(text, i))
}

// ---- cards ----------------------------------------------------------------------------------------------------------

/// How people group card numbers.
const GROUPS: [&[usize]; 12] = [
    &[4, 4, 4, 4, 3],
    &[4, 4, 4, 4, 2],
    &[4, 4, 4, 4, 1],
    &[4, 4, 4, 4],
    &[4, 4, 4, 3],
    &[4, 4, 4, 2],
    &[4, 4, 4],
    &[4, 6, 5],
    &[4, 6, 4],
    &[8, 8],
    &[6, 13],
    &[6, 12],
];
const GROUPS_MAX: usize = 5;

/// A card number at a digit run: the run itself, or groups with one kind of separator.
pub(crate) fn card(text: &[u8], run: Range<usize>, steps: &mut u64) -> Option<Range<usize>> {
    let length = run.len();
    if (12..=19).contains(&length) {
        *steps += length as u64;
        let mut digits = Digits::default();
        digits.extend(&text[run.clone()]);
        if digits.is_card() && !is_inside_token(text, &run) {
            return Some(run);
        }
    }
    if matches!(length, 4 | 6 | 8) { grouped(text, run.start, steps) } else { None }
}

/// Groups of digits, separated by single spaces or single dashes throughout; the longest card number among them.
fn grouped(text: &[u8], start: usize, steps: &mut u64) -> Option<Range<usize>> {
    let mut digits = Digits::default();
    let mut sizes = [0; GROUPS_MAX];
    let mut ends = [(0, 0); GROUPS_MAX];
    let mut count = 0;
    let mut at = start;
    let mut separator = 0;
    while count < GROUPS_MAX {
        let group = text[at..].iter().take(14).take_while(|b| b.is_ascii_digit()).count();
        *steps += group as u64 + 1;
        if group == 0 || group > 13 || digits.count + group > 19 {
            break;
        }
        digits.extend(&text[at..at + group]);
        at += group;
        sizes[count] = group;
        ends[count] = (at, digits.count);
        count += 1;
        if count == 2 && !matches!((sizes[0], group), (4, 4 | 6) | (8, 8) | (6, 12 | 13)) {
            return None;
        }
        let next = byte(text, at);
        if !matches!(next, b' ' | b'-') || count > 1 && next != separator {
            break;
        }
        separator = next;
        at += 1;
    }
    let open = |b: u8| !b.is_ascii_alphanumeric();
    if !open(before(text, start)) {
        return None;
    }
    (2..=count).rev().find_map(|groups| {
        let (end, length) = ends[groups - 1];
        let chained = separator == b'-'
            && (before(text, start) == b'-' && before(text, start - 1).is_ascii_alphanumeric()
                || byte(text, end) == b'-' && byte(text, end + 1).is_ascii_alphanumeric());
        let usual = GROUPS.contains(&&sizes[..groups]);
        *steps += length as u64;
        (usual && open(byte(text, end)) && !chained && digits.first(length).is_card()).then_some(start..end)
    })
}

/// Whether a digit run is the middle of a hash, the tail of a UUID or the fraction of a number.
fn is_inside_token(text: &[u8], run: &Range<usize>) -> bool {
    let hex = |b: u8| b.is_ascii_hexdigit();
    let left = before(text, run.start);
    let far_left = run.start.checked_sub(1).map_or(0, |i| before(text, i));
    let right = byte(text, run.end);
    let far_right = byte(text, run.end + 1);
    let hash_left = hex(left) && (hex(far_left) || !far_left.is_ascii_alphanumeric());
    let hash_right = hex(right) && (hex(far_right) || !far_right.is_ascii_alphanumeric());
    let uuid = left == b'-'
        && run.len() == 12
        && run.start >= 6
        && text[run.start - 5..run.start - 1].iter().all(|b| hex(*b))
        && text[run.start - 6] == b'-';
    let fraction = left == b'.' && far_left.is_ascii_digit();
    hash_left || hash_right || uuid || fraction
}

/// Up to nineteen digits.
#[derive(Clone, Copy, Default)]
struct Digits {
    digits: [u8; 19],
    count: usize,
}

impl Digits {
    /// Adds ASCII digits; the callers' groups never sum to more than nineteen.
    fn extend(&mut self, ascii: &[u8]) {
        for b in ascii {
            if let Some(slot) = self.digits.get_mut(self.count) {
                *slot = b - b'0';
                self.count += 1;
            }
        }
    }

    fn first(&self, count: usize) -> Self {
        Self { count: count.min(self.count), ..*self }
    }

    fn prefix(&self, length: usize) -> u32 {
        self.digits[..length].iter().fold(0, |n, d| n * 10 + u32::from(*d))
    }

    fn is_card(&self) -> bool {
        let all = &self.digits[..self.count];
        let same = all.iter().all(|d| *d == all[0]);
        self.count >= 12 && !same && self.is_issued() && luhn(all)
    }

    /// Issuer ranges with their lengths (ISO/IEC 7812, as the networks publish them; generous where they disagree).
    fn is_issued(&self) -> bool {
        let n = self.count;
        let long = (16..=19).contains(&n);
        let (p1, p2, p3, p4) = (self.prefix(1), self.prefix(2), self.prefix(3), self.prefix(4));
        let maestro =
            matches!(p4, 5018 | 5020 | 5038 | 6304 | 6390 | 6759 | 6761..=6763 | 604) || matches!(p2, 56..=58);
        (p1 == 4 && matches!(n, 13 | 16 | 18 | 19))
            || (n == 16 && matches!(p2, 51..=55 | 60 | 65 | 82))
            || (n == 16 && matches!(p4, 2205 | 2221..=2720 | 5019 | 6277 | 6362..=6363 | 8600 | 9792 | 9860))
            || (n == 16 && matches!(p3, 506..=509 | 637..=639))
            || (n == 15 && (matches!(p2, 34 | 37) || matches!(p4, 1800 | 2131)))
            || ((14..=19).contains(&n) && (matches!(p2, 36 | 38 | 39) || matches!(p3, 300..=305) || p4 == 3095))
            || (long && (matches!(p4, 2200..=2204 | 3528..=3589 | 6011) || matches!(p3, 636 | 644..=649)))
            || (long && matches!(p2, 62 | 65 | 81))
            || (maestro && (12..=19).contains(&n))
    }
}

fn luhn(digits: &[u8]) -> bool {
    let mut sum = 0u32;
    for (i, d) in digits.iter().rev().enumerate() {
        let doubled = u32::from(*d) << (i & 1);
        sum += if doubled > 9 { doubled - 9 } else { doubled };
    }
    sum.is_multiple_of(10)
}

// ---- IBAN -----------------------------------------------------------------------------------------------------------

/// An IBAN that starts here: two letters, two digits, the country's length, in one piece or in groups of four.
pub(crate) fn iban(text: &[u8], start: usize, steps: &mut u64) -> Option<Range<usize>> {
    let country = [byte(text, start).to_ascii_uppercase(), byte(text, start + 1).to_ascii_uppercase()];
    let length = usize::from(iban_length(country)?);
    let previous = before(text, start);
    if previous.is_ascii_alphanumeric() && !follows_label(text, start) {
        return None;
    }
    let separator = match byte(text, start + 4) {
        b @ (b' ' | b'-') => Some(b),
        _ => None,
    };
    let mut symbols = [0u8; 34];
    let mut at = start;
    for (i, symbol) in symbols.iter_mut().take(length).enumerate() {
        *steps += 1;
        if separator.is_some() && i > 0 && i % 4 == 0 && separator == Some(byte(text, at)) {
            at += 1;
        }
        let b = byte(text, at);
        if !b.is_ascii_alphanumeric() || ((2..4).contains(&i) && !b.is_ascii_digit()) {
            return None;
        }
        *symbol = b.to_ascii_uppercase();
        at += 1;
    }
    (!byte(text, at).is_ascii_alphanumeric() && mod_97(&symbols[..length]) == 1).then_some(start..at)
}

fn follows_label(text: &[u8], start: usize) -> bool {
    start.checked_sub(4).and_then(|from| text.get(from..start)).is_some_and(|w| w.eq_ignore_ascii_case(b"iban"))
}

/// ISO 7064 over the rearranged symbols: what stands behind the first four, then those four.
fn mod_97(symbols: &[u8]) -> u32 {
    let rotated = symbols[4..].iter().chain(&symbols[..4]);
    rotated.fold(0, |rest, symbol| match symbol {
        b'0'..=b'9' => (rest * 10 + u32::from(symbol - b'0')) % 97,
        _ => (rest * 100 + u32::from(symbol - b'A') + 10) % 97,
    })
}

/// Lengths of the IBAN registry (ISO 13616, SWIFT) and of the experimental national formats in use.
fn iban_length(country: [u8; 2]) -> Option<u8> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FK" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"MN" | b"XK" => 20,
        b"CH" | b"CR" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" | b"DZ" => 24,
        b"AO" | b"CV" | b"LY" | b"MZ" | b"PT" | b"ST" | b"GW" => 25,
        b"IS" | b"TR" | b"IR" => 26,
        b"BF" | b"BI" | b"BJ" | b"CF" | b"CG" | b"CI" | b"CM" | b"DJ" | b"FR" | b"GA" | b"GR" | b"IT" | b"KM"
        | b"MC" | b"MG" | b"MR" | b"SM" | b"GQ" | b"TD" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"ML" | b"MA" | b"NE" | b"NI"
        | b"PL" | b"SN" | b"SV" | b"TG" => 28,
        b"BR" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

// ---- US social security numbers -------------------------------------------------------------------------------------

/// A social security number at a digit run. `named`: the column says so, then spaces and no separators count too.
pub(crate) fn ssn(text: &[u8], run: Range<usize>, named: bool, steps: &mut u64) -> Option<Range<usize>> {
    let start = run.start;
    let left = before(text, start);
    if left.is_ascii_alphanumeric() {
        return None;
    }
    *steps += 12;
    let (end, digits) = match run.len() {
        3 => {
            let separator = byte(text, run.end);
            if !(separator == b'-' || separator == b' ' && named) || left == b'-' {
                return None;
            }
            let part = text.get(start..start + 11)?;
            if part[6] != separator {
                return None;
            }
            (start + 11, [part[0], part[1], part[2], part[4], part[5], part[7], part[8], part[9], part[10]])
        }
        9 if named => (run.end, text[run].try_into().ok()?),
        _ => return None,
    };
    let right = byte(text, end);
    let continues = right.is_ascii_alphanumeric() || right == b'-' && byte(text, end + 1).is_ascii_alphanumeric();
    (!continues && digits.iter().all(u8::is_ascii_digit) && is_assigned(&digits)).then_some(start..end)
}

/// Areas 000, 666 and 900–999, group 00 and serial 0000 are never assigned.
fn is_assigned(digits: &[u8; 9]) -> bool {
    let (area, group, serial) = (&digits[..3], &digits[3..5], &digits[5..]);
    area != b"000" && area != b"666" && area[0] != b'9' && group != b"00" && serial != b"0000"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card_in(text: &str) -> Option<&str> {
        let start = text.find(|c: char| c.is_ascii_digit())?;
        let mut steps = 0;
        card(text.as_bytes(), start..run_end(text.as_bytes(), start), &mut steps).map(|r| &text[r])
    }

    #[test]
    fn cards_of_every_network() {
        for number in [
            "4111111111111111",
            "4222222222222",
            "5555555555554444",
            "2221000000000009",
            "2720990000000007",
            "378282246310005",
            "30569309025904",
            "6011111111111117",
            "3530111333300000",
            "213100000000000", /* completed below */
            "6304000000000000",
            "6759649826438453",
            "501800000009",
            "6212345678901265",
            "2200000000000004",
        ] {
            let stem = &number[..number.len() - 1];
            let check =
                (0..10).map(|d| format!("{stem}{d}")).find(|n| luhn(&n.bytes().map(|b| b - b'0').collect::<Vec<_>>()));
            let number = check.unwrap_or_default();
            assert_eq!(card_in(&number), Some(number.as_str()), "{number}");
        }
    }

    #[test]
    fn groups() {
        for text in ["4111 1111 1111 1111", "4111-1111-1111-1111", "3782 822463 10005", "41111111 11111111"] {
            assert_eq!(card_in(text), Some(text), "{text}");
        }
        for text in [
            "4111 1111-1111 1111",
            "4111  1111 1111 1111",
            "4111 1111 1111 1112",
            "4111-1111-1111-1111-1111",
            "4111111111111112",
            "0000000000000000",
            "4444444444444444",
            "1234567890123452",
        ] {
            assert_eq!(card_in(text), None, "{text}");
        }
    }

    #[test]
    fn tokens_are_not_cards() {
        for text in ["a4111111111111111", "4111111111111111b7", "0.4111111111111111"] {
            let mut steps = 0;
            let start = text.find("4111").unwrap_or_default();
            assert_eq!(card(text.as_bytes(), start..start + 16, &mut steps), None, "{text}");
        }
        let mut steps = 0;
        assert_eq!(card(b"card4111111111111111x", 4..20, &mut steps), Some(4..20));
    }

    #[test]
    fn ibans() {
        let whole = |text: &str| iban(text.as_bytes(), 0, &mut 0) == Some(0..text.len());
        for text in [
            "DE89370400440532013000",
            "DE89 3704 0044 0532 0130 00",
            "GB82WEST12345698765432",
            "gb82 west 1234 5698 7654 32",
            "NO9386011117947",
            "MT84MALT011000012345MTLCAST001S",
            "FR1420041010050500013M02606",
        ] {
            assert!(whole(text), "{text}");
        }
        for text in
            ["DE88370400440532013000", "DE8937040044053201300", "DE893704004405320130001", "ZZ89370400440532013000"]
        {
            assert!(!whole(text), "{text}");
        }
        assert_eq!(iban(b"xDE89370400440532013000", 1, &mut 0), None);
        assert_eq!(iban(b"IBANDE89370400440532013000", 4, &mut 0), Some(4..26));
    }

    #[test]
    fn social_security_numbers() {
        let at = |text: &str, named| ssn(text.as_bytes(), 0..run_end(text.as_bytes(), 0), named, &mut 0);
        assert_eq!(at("123-45-6789", false), Some(0..11));
        assert_eq!(at("123-45-6789.", false), Some(0..11));
        for text in [
            "000-12-3456",
            "666-12-3456",
            "900-12-3456",
            "123-00-4567",
            "123-45-0000",
            "123-45-67890",
            "123-45-6789-1",
            "123 45 6789",
            "123456789",
            "123-4a-6789",
        ] {
            assert_eq!(at(text, false), None, "{text}");
        }
        assert!(at("123 45 6789", true).is_some() && at("123456789", true).is_some());
    }
}
