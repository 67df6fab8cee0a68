//! The rules: which columns are sensitive, what to look for in the others, and what to do with a hit.

use zeroize::Zeroizing;

/// What is done with a sensitive value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The fixed text `***`; NULL where the type cannot hold text.
    Redact,
    /// SQL NULL.
    Null,
    /// The last four characters behind twelve stars, if at least twelve letters or digits stay hidden; an e-mail address keeps
    /// its first character and its domain; everything else is redacted.
    Partial,
    /// A keyed token: the same value under the same tag gives the same token, nobody without the key can compute it.
    Token,
    /// Dates to their year, numbers to their leading digit; what cannot be generalised is redacted.
    Generalise,
}

impl Operator {
    const ALL: [Self; 5] = [Self::Redact, Self::Null, Self::Partial, Self::Token, Self::Generalise];

    /// The name in configuration and mask maps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redact => "redact",
            Self::Null => "null",
            Self::Partial => "partial",
            Self::Token => "token",
            Self::Generalise => "generalise",
        }
    }

    /// The operator of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.as_str() == name)
    }

    /// Order of strictness: where two rules meet on one column the one that shows less wins.
    pub(crate) fn strictness(self) -> u8 {
        match self {
            Self::Partial => 0,
            Self::Generalise => 1,
            Self::Token => 2,
            Self::Redact => 3,
            Self::Null => 4,
        }
    }

    /// The stricter of two.
    pub(crate) fn stricter(self, other: Self) -> Self {
        if other.strictness() > self.strictness() { other } else { self }
    }
}

/// Tags columns. Each name may be `*`. Names are compared exactly, as the catalog spells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnRule {
    /// The schema.
    pub schema: String,
    /// The table, view or other relation.
    pub table: String,
    /// The column.
    pub column: String,
    /// The tag given to the column; an `unmask` permit is asked for this tag.
    pub tag: String,
    /// What is done with its values.
    pub with: Operator,
}

impl ColumnRule {
    /// Whether the rule tags this column.
    pub(crate) fn covers(&self, schema: &str, table: &str, column: &str) -> bool {
        let fits = |pattern: &str, name: &str| pattern == "*" || pattern == name;
        fits(&self.schema, schema) && fits(&self.table, table) && fits(&self.column, column)
    }
}

/// A kind of value that is recognised by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Detector {
    /// Payment card numbers: issuer range, length and Luhn digit (ISO/IEC 7812-1).
    Card,
    /// International bank account numbers: country, length and mod-97 (ISO 13616).
    Iban,
    /// E-mail addresses by shape (RFC 5321 §4.1.2, dot-string form).
    Email,
    /// US social security numbers: `ddd-dd-dddd` with the area rules; without dashes only where the column's name says so.
    Ssn,
}

impl Detector {
    /// All of them, in the order in which reports count them.
    pub const ALL: [Self; 4] = [Self::Card, Self::Iban, Self::Email, Self::Ssn];

    /// The name in configuration and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Email => "email",
            Self::Ssn => "ssn",
        }
    }

    /// The detector of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|detector| detector.as_str() == name)
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// The key of the token operator. Has no `Debug` and is zeroed on drop.
#[derive(Clone)]
pub struct TokenKey(Option<Zeroizing<[u8; 32]>>);

impl TokenKey {
    /// Takes 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Some(Zeroizing::new(bytes)))
    }

    /// One that is elsewhere: where a token would stand, [`crate::operator::SOME_TOKEN`] does.
    pub(crate) fn elsewhere() -> Self {
        Self(None)
    }

    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        self.0.as_ref().map(|bytes| bytes.as_slice())
    }
}

/// All mask rules of one resource.
#[derive(Clone)]
pub struct MaskRules {
    /// Tagged columns.
    pub columns: Vec<ColumnRule>,
    /// Content detectors and what is done with a hit. Of two entries for one detector the stricter counts.
    pub detect: Vec<(Detector, Operator)>,
    /// The key of the token operator. Without it, `token` redacts.
    pub key: Option<TokenKey>,
}

impl MaskRules {
    /// No rules at all.
    pub fn none() -> Self {
        Self { columns: Vec::new(), detect: Vec::new(), key: None }
    }

    /// Whether there is nothing to do at all.
    pub fn is_idle(&self) -> bool {
        self.columns.is_empty() && self.detect.is_empty()
    }

    /// Whether any column can be tagged. If not, lineage is irrelevant.
    pub fn tags_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// What is done with a hit of a detector; `None` if it is off.
    pub(crate) fn operator_of(&self, detector: Detector) -> Option<Operator> {
        self.detect.iter().filter(|(d, _)| *d == detector).map(|(_, o)| *o).reduce(Operator::stricter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stricter_detector_entry_wins() {
        let rules = MaskRules {
            detect: vec![(Detector::Card, Operator::Partial), (Detector::Card, Operator::Null)],
            ..MaskRules::none()
        };
        assert_eq!(rules.operator_of(Detector::Card), Some(Operator::Null));
        assert_eq!(rules.operator_of(Detector::Iban), None);
        assert!(!rules.is_idle() && !rules.tags_columns());
    }
}
