//! PostgreSQL's frontend/backend protocol, 3.0 and 3.2: both handshakes, framing, cancel keys and the relay.
//!
//! Bytes in, bytes out. This crate knows nothing of rules, masks, ledgers, sockets, clocks or randomness.

mod accept;
mod cancel;
mod channel_binding;
mod dial;
mod error_response;
mod fetch;
pub mod frame;
mod md5;
mod relay;
mod scram;
mod startup;

pub use accept::{Accept, AcceptConfig, AcceptReady, AcceptStep, Login};
pub use cancel::CancelKey;
pub use channel_binding::channel_binding_for;
pub use dial::{Dial, DialConfig, DialError, DialReady, DialStep, DialTls};
pub use error_response::{Report, ServerReport, Severity, SqlState, notice, refuse};
pub use fetch::{Fetch, FetchError, FetchLimits, FetchStep, Fetched, Row};
pub use relay::{PgAnatomy, PgRelay, RelayConfig};
pub use scram::{
    ITERATIONS_MAX as SCRAM_ITERATIONS_MAX, ITERATIONS_MIN as SCRAM_ITERATIONS_MIN, ScramDerivation, ScramFault,
    ScramKeys,
};
pub use startup::Startup;
