//! The gateway's own catalog queries on a connection that is ready: one simple query, its rows as text.
//!
//! Used between dialing and relaying, when nobody else speaks on the connection. It is not a database client: one
//! statement, one result, everything bounded.

use bytes::{Bytes, BytesMut};
use chancery_wire::{Leg, WireError};

use crate::error_response::ServerReport;
use crate::frame::{self, Cursor, FrameFault};

/// Columns of one row; PostgreSQL allows 1 664 in a result.
const COLUMNS_MAX: usize = 1_664;
/// Reports of changed parameters during one query.
const PARAMETERS_MAX: usize = 128;

/// Bounds of one query. Past one the connection is of no more use.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Rows of the result.
    pub rows_max: usize,
    /// Bytes of all messages of the answer together, and so of each.
    pub bytes_max: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self { rows_max: 100_000, bytes_max: 16 * 1024 * 1024 }
    }
}

/// One row: a value for each column, `None` for NULL.
pub type Row = Vec<Option<Bytes>>;

/// What a query gave.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The rows, in the server's order; values in text format.
    pub rows: Vec<Row>,
    /// Parameters the server reported as changed meanwhile.
    pub parameters: Vec<(String, String)>,
    /// Transaction status after the query: `I`, `T` or `E`.
    pub tx_status: u8,
    /// Bytes that came behind the answer.
    pub leftover: Bytes,
}

/// Why a query gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchError {
    /// The server answered with an error and is ready again: the connection can still be used.
    Server(ServerReport),
    /// The connection is in an unknown state and must be closed.
    Wire(WireError),
}

impl std::fmt::Display for FetchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Server(report) => write!(f, "catalog query failed, SQLSTATE {}", report.sqlstate),
            Self::Wire(_) => f.write_str("catalog query broke off"),
        }
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wire(error) => Some(error),
            Self::Server(_) => None,
        }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum FetchStep {
    /// Read more from the server.
    Wait,
    /// The query is over.
    Done(Fetched),
    /// The query is over, without rows.
    Failed(FetchError),
}

/// One query on its way.
#[derive(Debug)]
pub struct Fetch {
    limits: FetchLimits,
    pending: BytesMut,
    received: usize,
    columns: Option<usize>,
    rows: Vec<Row>,
    parameters: Vec<(String, String)>,
    error: Option<ServerReport>,
    over: bool,
}

impl Fetch {
    /// Makes a query and the bytes that ask it. Fails when `sql` has a zero byte, which would cut it short.
    pub fn new(sql: &str, limits: FetchLimits) -> Result<(Self, Bytes), WireError> {
        if sql.contains('\0') {
            return Err(WireError::Misuse("zero byte in a catalog query"));
        }
        let mut out = BytesMut::new();
        frame::query(&mut out, sql);
        let fetch = Self {
            limits,
            pending: BytesMut::new(),
            received: 0,
            columns: None,
            rows: Vec::new(),
            parameters: Vec::new(),
            error: None,
            over: false,
        };
        Ok((fetch, out.freeze()))
    }

    /// Takes what the server sent.
    pub fn receive(&mut self, bytes: &[u8]) -> FetchStep {
        if self.over {
            return FetchStep::Failed(FetchError::Wire(WireError::Misuse("the query is over")));
        }
        self.received = self.received.saturating_add(bytes.len());
        self.pending.extend_from_slice(bytes);
        match self.read() {
            Ok(step) => step,
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: WireError) -> FetchStep {
        self.over = true;
        self.rows = Vec::new();
        FetchStep::Failed(FetchError::Wire(error))
    }

    fn read(&mut self) -> Result<FetchStep, WireError> {
        if self.received > self.limits.bytes_max {
            return Err(WireError::LimitReached(Leg::Upstream, "bytes of a catalog query"));
        }
        let blame = |fault: FrameFault| fault.on(Leg::Upstream);
        while let Some(found) = frame::next_frame(&self.pending, self.limits.bytes_max).map_err(blame)? {
            let whole = self.pending.split_to(found.range.end).freeze();
            let body = whole.slice(found.body_range());
            if found.tag == b'Z' {
                return self.ready(&body);
            }
            self.message(found.tag, &body)?;
        }
        Ok(FetchStep::Wait)
    }

    fn ready(&mut self, body: &[u8]) -> Result<FetchStep, WireError> {
        let &[tx_status @ (b'I' | b'T' | b'E')] = body else {
            return Err(WireError::PeerMisbehaved(Leg::Upstream, "transaction status unknown"));
        };
        self.over = true;
        if let Some(report) = self.error.take() {
            return Ok(FetchStep::Failed(FetchError::Server(report)));
        }
        Ok(FetchStep::Done(Fetched {
            rows: std::mem::take(&mut self.rows),
            parameters: std::mem::take(&mut self.parameters),
            tx_status,
            leftover: self.pending.split().freeze(),
        }))
    }

    fn message(&mut self, tag: u8, body: &Bytes) -> Result<(), WireError> {
        let blame = |fault: FrameFault| fault.on(Leg::Upstream);
        match tag {
            b'T' if self.columns.is_none() => {
                let count = Cursor::new(body).count16().map_err(blame)?;
                if count > COLUMNS_MAX {
                    return Err(WireError::LimitReached(Leg::Upstream, "columns of a catalog query"));
                }
                self.columns = Some(count);
            }
            b'T' => return Err(WireError::PeerMisbehaved(Leg::Upstream, "second result of one catalog query")),
            b'D' => {
                if self.rows.len() >= self.limits.rows_max {
                    return Err(WireError::LimitReached(Leg::Upstream, "rows of a catalog query"));
                }
                let columns = self.columns.ok_or(WireError::PeerMisbehaved(Leg::Upstream, "row without columns"))?;
                self.rows.push(read_row(body, columns).map_err(blame)?);
            }
            b'E' => self.error = Some(ServerReport::read(body).map_err(blame)?),
            b'S' => {
                if self.parameters.len() >= PARAMETERS_MAX {
                    return Err(WireError::LimitReached(Leg::Upstream, "parameters reported"));
                }
                let mut cursor = Cursor::new(body);
                let (name, value) = (cursor.text().map_err(blame)?, cursor.text().map_err(blame)?);
                self.parameters.push((name.to_owned(), value.to_owned()));
            }
            // CommandComplete and EmptyQueryResponse end a statement; notices and notifications are not for us.
            b'C' | b'I' | b'N' | b'A' => {}
            _ => return Err(WireError::PeerMisbehaved(Leg::Upstream, "message does not answer a catalog query")),
        }
        Ok(())
    }
}

fn read_row(body: &Bytes, columns: usize) -> Result<Row, FrameFault> {
    let mut cursor = Cursor::new(body);
    if cursor.count16()? != columns {
        return Err(FrameFault::Truncated);
    }
    let mut row = Vec::with_capacity(columns);
    for _ in 0..columns {
        row.push(cursor.value()?.map(|value| body.slice_ref(value)));
    }
    cursor.finish()?;
    Ok(row)
}
