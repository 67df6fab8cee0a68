//! The slow path for text beyond ASCII: look-alikes of digits, dashes, spaces and `@` become ASCII, characters nobody
//! sees are dropped, and every byte remembers where it came from.

use std::ops::Range;

/// A folded text with its way back.
#[derive(Default)]
pub(crate) struct Folded {
    bytes: Vec<u8>,
    /// For each byte of `bytes` and for its end: the offset in the original.
    origins: Vec<usize>,
}

/// Scratch space beyond this is given back, so that one large cell does not stay in a session's memory.
const KEEP_BYTES: usize = 64 * 1024;

impl Folded {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The range of the original that a folded range stands for, with the invisible characters that follow it.
    pub(crate) fn original(&self, folded: &Range<usize>) -> Range<usize> {
        let at = |i: usize| self.origins.get(i).copied().unwrap_or_default();
        at(folded.start)..at(folded.end)
    }

    pub(crate) fn fill(&mut self, text: &[u8]) {
        self.bytes.clear();
        self.origins.clear();
        let mut at = 0;
        for chunk in text.utf8_chunks() {
            for c in chunk.valid().chars() {
                match fold(c) {
                    Fold::Same => {
                        let mut buffer = [0; 4];
                        for b in c.encode_utf8(&mut buffer).bytes() {
                            self.push(b, at);
                        }
                    }
                    Fold::To(b) => self.push(b, at),
                    Fold::Gone => {}
                }
                at += c.len_utf8();
            }
            for b in chunk.invalid() {
                self.push(*b, at);
                at += 1;
            }
        }
        self.origins.push(at);
    }

    pub(crate) fn shrink(&mut self) {
        if self.bytes.capacity() > KEEP_BYTES {
            *self = Self::default();
        }
    }

    fn push(&mut self, b: u8, origin: usize) {
        self.bytes.push(b);
        self.origins.push(origin);
    }
}

enum Fold {
    Same,
    To(u8),
    Gone,
}

fn fold(c: char) -> Fold {
    let code = c as u32;
    match code {
        0..=0x7F => Fold::Same,
        // Soft hyphen, joiners, marks, variation selectors, directions, fillers, tags.
        0xAD
        | 0x0300..=0x036F
        | 0x061C
        | 0x115F..=0x1160
        | 0x17B4..=0x17B5
        | 0x180B..=0x180F
        | 0x1AB0..=0x1AFF
        | 0x1DC0..=0x1DFF
        | 0x200B..=0x200F
        | 0x202A..=0x202E
        | 0x2060..=0x206F
        | 0x20D0..=0x20F0
        | 0x3164
        | 0xFE00..=0xFE0F
        | 0xFE20..=0xFE2F
        | 0xFEFF
        | 0xFFA0
        | 0xFFF9..=0xFFFB
        | 0xE0000..=0xE0FFF => Fold::Gone,
        0xA0 | 0x1680 | 0x2000..=0x200A | 0x2028..=0x2029 | 0x202F | 0x205F | 0x3000 => Fold::To(b' '),
        0x02D7 | 0x2010..=0x2015 | 0x2043 | 0x207B | 0x208B | 0x2212 | 0x2E3A..=0x2E3B | 0x30FC | 0xFE58 | 0xFE63 => {
            Fold::To(b'-')
        }
        0xFE6B => Fold::To(b'@'),
        0x2024 | 0x3002 | 0xFE52 | 0xFF61 => Fold::To(b'.'),
        0xFF01..=0xFF5E => Fold::To((code - 0xFEE0) as u8),
        0xB9 => Fold::To(b'1'),
        0xB2 => Fold::To(b'2'),
        0xB3 => Fold::To(b'3'),
        0x2070 | 0x2074..=0x2079 => Fold::To(b'0' + (code - 0x2070) as u8),
        0x2080..=0x2089 => Fold::To(b'0' + (code - 0x2080) as u8),
        0x2460..=0x2468 => Fold::To(b'1' + (code - 0x2460) as u8),
        0x24EA => Fold::To(b'0'),
        0x1D7CE..=0x1D7FF => Fold::To(b'0' + ((code - 0x1D7CE) % 10) as u8),
        _ => digit(code).map_or(Fold::Same, Fold::To),
    }
}

/// The first code points of the runs of ten decimal digits (Unicode general category Nd).
const ZEROS: [u32; 62] = [
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0DE6, 0x0E50,
    0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50,
    0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0,
    0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x11F50,
    0x16A60, 0x16AC0, 0x16B50, 0x1E140, 0x1E2F0, 0x1E4F0, 0x1E5F1, 0x1E950, 0x1FBF0,
];

fn digit(code: u32) -> Option<u8> {
    let run = ZEROS.partition_point(|zero| *zero <= code).checked_sub(1)?;
    let value = code - ZEROS[run];
    (value < 10).then(|| b'0' + value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        let mut f = Folded::default();
        f.fill(text.as_bytes());
        String::from_utf8_lossy(f.bytes()).into_owned()
    }

    #[test]
    fn folds() {
        assert_eq!(folded("é１\u{200b}２\u{ad}٣\u{a0}४–５@＠"), "é123 4-5@@");
        assert_eq!(folded("𝟜𝟏"), "41");
        assert!(ZEROS.is_sorted());
    }

    #[test]
    fn ranges_lead_back() {
        let text = "é１２x";
        let mut f = Folded::default();
        f.fill(text.as_bytes());
        assert_eq!(f.bytes(), "é12x".as_bytes());
        assert_eq!(f.original(&(2..4)), 2..8);
        assert_eq!(f.original(&(0..5)), 0..9);
        f.fill(b"\xFF1\x80");
        assert_eq!(f.original(&(1..2)), 1..2);
    }
}
