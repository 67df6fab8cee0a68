//! What comes back for a command, and the seam by which the masker opens it without knowing the protocol.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::CommandId;

/// A run of whole frames as they stood in the read buffer; never a single row unless there was only one.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command it answers; 0 for what answers none (asynchronous notices, parameter changes).
    pub command: CommandId,
    /// What the frames are; all frames of one output are of one kind.
    pub kind: OutputKind,
    /// The frames.
    pub bytes: Bytes,
    /// Rows in the run.
    pub rows: u32,
}

/// What the frames of an output are.
#[derive(Clone, Debug)]
pub enum OutputKind {
    /// The description of the rows to come; the payload the masker plans by.
    Columns(Arc<Columns>),
    /// Rows of a result. Their description was seen before, or injected.
    Rows,
    /// A piece of bulk data (COPY out); each frame is one row in the copy's text format, or a piece of it otherwise.
    Bulk {
        /// Whether the copy is in binary format.
        binary: bool,
    },
    /// The resource announces bulk data: `binary` and the number of columns.
    BulkStart {
        /// Whether the copy is in binary format.
        binary: bool,
        /// Number of columns.
        columns: u16,
    },
    /// Free text from the resource about the command: errors and notices. Fields are cells.
    Text,
    /// Free text that answers no command: parameter status, notification. Fields are cells.
    Aside,
    /// Frames that carry no value: completion tags, ready, parse/bind/close complete, parameter description.
    Status,
    /// A refusal in the gateway's own words, in place of an answer. It passes as it is.
    Own,
}

/// The description of a result's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// In order.
    pub columns: Vec<Column>,
}

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name shown; carries no authority.
    pub name: String,
    /// Where the resource says the values come from.
    pub origin: Origin,
    /// PostgreSQL type OID.
    pub type_id: u32,
    /// Text or binary.
    pub format: CellFormat,
}

/// Lineage of a column as the wire tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An attribute of a relation: (relation id, attribute number > 0).
    Attribute(u32, i16),
    /// The whole row of a relation (attribute number 0 with a relation id).
    WholeRow(u32),
    /// Computed, or not told.
    Lost,
}

/// How the value of a cell is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CellFormat {
    /// As text.
    Text,
    /// In the type's binary form.
    Binary,
}

/// What part of an output a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The value of column `n` of a row, from 0.
    Column(u16),
    /// A text field of an error or a notice, named by its tag (PostgreSQL: `M`, `D`, `H`, `W`, `q` …).
    Field(u8),
    /// The name of a parameter or a channel.
    Name,
    /// The value of a parameter or the payload of a notification.
    Value,
    /// Something in a row that cannot be taken apart into columns.
    Whole,
}

/// One value in a run. The range is of the value itself, without its length prefix; `None` is SQL NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What it is.
    pub part: Part,
    /// Where in the run's bytes.
    pub range: Option<Range<usize>>,
}

/// A change to one cell of a run, in ascending order of range. Ranges are those that `cells` reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The cell's range.
    pub range: Range<usize>,
    /// Its new value; `None` makes it SQL NULL (rows only; in texts it is empty).
    pub with: Option<Bytes>,
}

/// How a protocol opens a run of its output. Implemented by wire crates, driven by `mask`.
pub trait Anatomy {
    /// Calls `visit` for each cell of the run, in ascending order. Returns `false` if the run cannot be taken apart;
    /// the masker then withholds all of it.
    fn cells(&self, output: &Output, visit: &mut dyn FnMut(Cell)) -> bool;
    /// The run with the edits applied and every length that depends on them made right.
    fn splice(&self, output: &Output, edits: &[Edit]) -> Bytes;
}
