//! What masking did to the outputs of a command, in the words of `docs/spec/recording.md` (Mask map). Not here: the
//! form in which it is written, and what the words mean.

use std::sync::Arc;

use crate::CellFormat;

/// What masking did to a stretch of outputs. Holds no values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskMap {
    /// Form of the result, of [`MaskMap::SHAPES`]; `None` if there was none.
    pub shape: Option<&'static str>,
    /// Number of its columns.
    pub width: usize,
    /// Those that are masked or searched, ascending.
    pub columns: Vec<MappedColumn>,
    /// They are left out, because there are too many.
    pub cut: bool,
    /// How errors and notices were treated, of [`MaskMap::TEXTS`]; `None` if there were none.
    pub text: Option<&'static str>,
    /// Fields of errors and notices that were replaced.
    pub texts: u64,
    /// Parameters and notifications that were changed.
    pub asides: u64,
    /// For each detector that is on, of [`MaskMap::DETECTORS`] and in its order: the operator, of [`MaskMap::OPERATORS`].
    pub detect: Vec<(&'static str, &'static str)>,
    /// For each detector that found something, in the same order: how often.
    pub hits: Vec<(&'static str, u64)>,
    /// Version of detectors and operators.
    pub detectors: u64,
    /// An output behind these could not be opened.
    pub withheld: bool,
}

/// What was done to a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedColumn {
    /// Its position, from 0.
    pub position: usize,
    /// The format of its values.
    pub format: CellFormat,
    /// The kind of its type, of [`MaskMap::KINDS`].
    pub kind: &'static str,
    /// What happens to it.
    pub treated: Treated,
    /// Cells that were masked, or in which something was found.
    pub cells: u64,
}

/// What happens to a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treated {
    /// Masked by this operator, of [`MaskMap::OPERATORS`], because it has this tag.
    Tagged(&'static str, Arc<str>),
    /// Masked by this operator, because its origin is not proven.
    Lost(&'static str),
    /// Masked by this operator, because its relation is not known or is tagged as a whole row.
    Unresolved(&'static str),
    /// Searched by detectors.
    Searched {
        /// Its name speaks of social security numbers.
        ssn: bool,
    },
}

impl MaskMap {
    /// Forms of a result.
    pub const SHAPES: [&str; 5] = ["any", "copy-binary", "copy-other", "copy-text", "rows"];
    /// How errors and notices are treated.
    pub const TEXTS: [&str; 4] = ["own", "release", "replace", "search"];
    /// Kinds of types.
    pub const KINDS: [&str; 12] = [
        "bytea",
        "date",
        "int2",
        "int4",
        "int8",
        "json",
        "numeric",
        "other",
        "plain",
        "text",
        "timestamp",
        "timestamptz",
    ];
    /// Operators.
    pub const OPERATORS: [&str; 5] = ["generalise", "null", "partial", "redact", "token"];
    /// Detectors.
    pub const DETECTORS: [&str; 4] = ["card", "email", "iban", "ssn"];
}
