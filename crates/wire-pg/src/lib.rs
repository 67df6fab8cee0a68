//! PostgreSQL's frontend/backend protocol, 3.0 and 3.2: both handshakes, framing, cancel keys and the relay.
//!
//! Bytes in, bytes out. This crate knows nothing of rules, masks, ledgers, sockets, clocks or randomness.

mod error_response;
pub mod frame;
mod relay;

pub use error_response::{Report, ServerReport, Severity, SqlState, notice, refuse};
pub use relay::{PgRelay, RelayConfig};
