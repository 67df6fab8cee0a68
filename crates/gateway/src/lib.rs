//! The hands towards the network: listeners, TLS, logins on both legs, and the driver that performs what a session
//! wants done. It decides nothing.
//!
//! This crate knows nothing of statement text, rules, masks, entry formats or the command line.

mod archive;
mod catalog;
mod connect;
mod dial;
mod driver;
mod engine;
mod exports;
mod gateway;
pub mod issuers;
mod mailbox;
pub mod outbound;
mod retention;
mod reviews;
mod seals;
mod serve;
mod settings;
mod socket;
mod stream;
mod tls;
mod witnesses;
mod workers;

pub use archive::{Archive, ArchiveFault, ArchivePlace, ArchiveSettings, ArchiveStatus, ArchiveUrl, Archived};
pub use exports::{ExportSettings, ExportTarget};
pub use gateway::{Gateway, Health, LiveSession, OpenError};
pub use settings::{Bounds, ResourceSettings, SealSettings, Settings, TlsIdentity, UpstreamTls};
pub use witnesses::{Answer as WitnessAnswer, WitnessClient};
