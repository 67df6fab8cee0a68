//! What the gateway keeps on disk: the state directory, the ledger and its one sequencer, recordings, the catalog.
//!
//! The only crate that touches these files, and the only one that asserts that bytes are written or on disk.
//! This crate knows nothing of protocols, rules, masks, sockets or people's sessions while they run.

mod archive;
mod catalog;
mod export;
mod recordings;
mod registry;
mod retention;
mod seals;
mod sequencer;
mod state;
mod witness;

pub use archive::{
    ArchiveError, ArchiveObject, FileFault, Lost, RecordingMark, RecordingPiece, Restore, RestoreError, RestoreReport,
    archive_entries, begins_with, recording_prefix,
};
pub use catalog::{
    CachedJwks, Catalog, CatalogError, ChainRecord, Denial, FileFacts, HoldScope, LegalHold, Lift, PrincipalRecord,
    PrunedFile, RecordingFile, ReviewLine, ReviewerKey, RunRecord, SealKeyRecord, SecretLine, SecretState,
    SecretVersion, SessionFilter, SessionNote, SessionRecord, limits as catalog_limits,
};
pub use export::{ExportError, Exported, export};
pub use recordings::{
    FileSurvey, OnClosed, RecordFault, RecordedSession, Recorder, RecorderOptions, RecordingReader, Spool, Unspooled,
    decode_block,
};
pub use registry::{RegistryDir, RegistryError, RegistryFiles};
pub use retention::{
    Holds, Judgement, Planned, PlannedFile, PlannedOriginals, PlannedSegment, Retention, RetentionError,
    RetentionLimits, RetentionProgress, Shelves, Unheld, Why, holds_of_ledger,
};
pub use seals::{
    OnSealed, SealFault, SealOptions, SealSpool, Sealed, SealedReader, SealedSegment, Seals, SegmentSealer, Untaken,
};
pub use sequencer::{
    Appended, Appending, Blob, Clock, Directory, LedgerItem, LedgerReader, Level, MemoryVolume, OpenError, Options,
    Outside, Pending, Recovery, Sequencer, Stall, Volume, system_clock, verify,
};
pub use state::{StateDir, StateError, random};
pub use witness::{Cosigned, Refused, Witness, WitnessError, WitnessState};
