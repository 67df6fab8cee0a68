//! The pipeline: a deterministic machine between a client and a resource that rules on every command, writes each
//! ruling down before carrying it out, and shows only masked output.
//!
//! A [`Session`] owns a relay. It is fed one [`Input`] at a time and drained of [`Effect`]s; the driver performs them
//! and feeds their results back. The laws it keeps are tested under their names in `tests/laws`:
//! written before done, masked before recorded before released, approved is forwarded, every forward has one outcome,
//! unreadable is refused, secrets and originals flow one way, rules bind now, everything has a limit.
//!
//! This crate knows nothing of sockets, files, clocks, randomness, credentials or any one protocol.

mod account;
mod context;
mod effect;
mod gate;
mod hold;
mod original;
mod output;
mod reading;
mod ruling;
mod session;
mod trust;

pub use context::{Context, Grip, Opening, SessionLimits};
pub use effect::{Desk, Effect, Note};
pub use original::Original;
pub use ruling::{Closing, Level, Outcome, Ruled, Ruling, Tape};
pub use session::{Input, Session};
