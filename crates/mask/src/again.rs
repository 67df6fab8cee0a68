//! Masks originals again as a [`MaskMap`] says they were masked, and compares with what was recorded. Not here: reading
//! either of them.

use std::sync::Arc;

use chancery_model::{Anatomy, MappedColumn, MaskMap, Output, OutputKind, Part, Treated};

use crate::operator::{Kind, Outcome, SOME_TOKEN};
use crate::plan::{Shape, TextTreatment, Treatment, Why};
use crate::{Context, DETECTORS_VERSION, Detector, MaskRules, Masked, Masker, Operator, Plan, Report, TokenKey};

/// Does again what one map says was done.
pub struct Again {
    masker: Masker,
    plan: Plan,
    report: Report,
    /// Asides that masking changed.
    asides: u64,
}

/// How a recorded output stands to the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// It is what masking makes of the original. So many tokens in it have the form of one; whether they are the right
    /// ones only the key tells.
    Same(u64),
    /// It is not.
    Other,
}

impl Again {
    /// Prepares it. `None`: the map was cut, or is of another version of detectors and operators than this program.
    pub fn new(map: &MaskMap) -> Option<Self> {
        if map.cut || map.detectors != DETECTORS_VERSION {
            return None;
        }
        let mut columns = vec![Treatment::Release; map.width];
        for column in &map.columns {
            *columns.get_mut(column.position)? = treatment(column)?;
        }
        let text = map.text.map_or(TextTreatment::Release, TextTreatment::parse);
        let plan = Plan { shape: map.shape.map_or(Some(Shape::Text), Shape::parse)?, columns, text };
        let detect = map.detect.iter().map(|(name, with)| Some((Detector::parse(name)?, Operator::parse(with)?)));
        let detect = detect.collect::<Option<_>>()?;
        let rules = MaskRules { columns: Vec::new(), detect, key: Some(TokenKey::elsewhere()) };
        Some(Self { masker: Masker::new(Arc::new(rules)), plan, report: Report::default(), asides: 0 })
    }

    /// Masks one message of the originals again and compares it with what was recorded of it.
    pub fn compare(&mut self, anatomy: &dyn Anatomy, original: Output, recorded: &[u8]) -> Compared {
        if !matches!(original.kind, OutputKind::Aside) {
            let masked = self.masker.mask(anatomy, &self.plan, original);
            let tokens = (!masked.is_withheld()).then(|| tokens(&masked.inner().bytes, recorded)).flatten();
            if let (Some(_), Some(report)) = (tokens, masked.report()) {
                self.report.add(report);
            }
            return tokens.map_or(Compared::Other, Compared::Same);
        }
        self.asides += u64::from(original.bytes != recorded);
        // What was replaced shows; what was not, was searched.
        let ways = [(false, false), (false, true), (true, true), (true, false)].into_iter();
        let mut masked = ways.map(|(name, value)| self.aside(anatomy, original.clone(), name, value));
        let tokens = masked.find_map(|masked| tokens(&masked.inner().bytes, recorded));
        tokens.map_or(Compared::Other, Compared::Same)
    }

    /// Whether the map counted what was counted here. To be asked when all outputs that it speaks of were compared.
    pub fn counted(&mut self, map: &MaskMap) -> bool {
        let report = std::mem::take(&mut self.report);
        let again = self.masker.map(Some(&self.plan), map.text, &report, self.asides);
        let counts = |map: &MaskMap| (map.hits.clone(), map.texts, map.asides);
        again.columns == map.columns && counts(&again) == counts(map)
    }

    fn aside(&mut self, anatomy: &dyn Anatomy, output: Output, name: bool, value: bool) -> Masked<Output> {
        self.masker.walk(anatomy, output, Report::default(), |walk, cell| {
            let bytes = walk.value(cell)?;
            match cell.part {
                Part::Name if !name => Some(()),
                Part::Value if !value => {
                    let found = walk.finder.replace(walk.rules, bytes, Context::default(), true, &mut walk.report);
                    found.map_or(Some(()), |outcome| walk.edit(cell, outcome))
                }
                Part::Name | Part::Value => walk.edit(cell, Outcome::redacted()),
                _ => None,
            }
        })
    }
}

fn treatment(column: &MappedColumn) -> Option<Treatment> {
    let kind = Kind::parse(column.kind)?;
    let (with, why) = match &column.treated {
        Treated::Searched { ssn } => return Some(Treatment::Scan(kind, column.format, Context { ssn: *ssn })),
        Treated::Tagged(with, tag) => (with, Why::Tag(tag.clone())),
        Treated::Lost(with) => (with, Why::Lost),
        Treated::Unresolved(with) => (with, Why::Unresolved),
    };
    Some(Treatment::Mask(Operator::parse(with)?, kind, column.format, why))
}

/// How many tokens stand where one is expected; `None` if the bytes differ in anything else.
fn tokens(expected: &[u8], recorded: &[u8]) -> Option<u64> {
    if expected.len() != recorded.len() {
        return None;
    }
    let (mut at, mut tokens) = (0, 0);
    for place in memchr::memmem::find_iter(expected, SOME_TOKEN) {
        let end = place + SOME_TOKEN.len();
        let token = recorded.get(place..end)?;
        let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        // The original may hold these very characters.
        let fits = token == SOME_TOKEN || token.strip_prefix(b"tok_").is_some_and(|rest| rest.iter().all(hex));
        if !fits || expected.get(at..place)? != recorded.get(at..place)? {
            return None;
        }
        tokens += 1;
        at = end;
    }
    (expected.get(at..)? == recorded.get(at..)?).then_some(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_may_stand_where_one_is_expected_and_nothing_else() {
        let expected = [b"a", SOME_TOKEN, b"b", SOME_TOKEN].concat();
        let token = |digits: &str| format!("tok_{}", digits.repeat(8));
        let with = |middle: &str, last: &str| format!("a{middle}b{last}").into_bytes();
        assert_eq!(tokens(&expected, &with(&token("0a9f"), &token("1234"))), Some(2));
        assert_eq!(tokens(&expected, &expected), Some(2));
        for (middle, last) in [
            (token("0a9g"), token("1234")),
            (token("0a9F"), token("1234")),
            (token("0a9f"), token("123")),
            (token("0a9f").replace("tok_", "tik_"), token("1234")),
        ] {
            assert_eq!(tokens(&expected, &with(&middle, &last)), None, "{middle}");
        }
        assert_eq!(tokens(&expected, &[&with(&token("0a9f"), ""), SOME_TOKEN, b"!"].concat()), None);
        assert_eq!(tokens(b"plain", b"plain"), Some(0));
        assert_eq!(tokens(b"plain", b"plaim"), None);
    }
}
