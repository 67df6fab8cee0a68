//! Evidence: what an entry is, how entries become a Merkle tree, how recordings are framed and chained, and how all of
//! it is checked from outside.
//!
//! Only this crate makes a [`Recorded`]. The road is: [`stage`] swallows the subject, [`Log::place`] gives its entry a
//! position, [`Placed::seal`] takes the assertion of whoever wrote the bytes, [`Staged::commit`] gives the subject
//! back. Output goes the same way through [`stage_frame`] and [`FrameLog::place`]. Formats: `docs/spec/ledger.md` and
//! `docs/spec/recording.md`.
//!
//! This crate knows nothing of files, clocks, sockets, rules, masks or any protocol.

mod block;
mod crypto;
mod entry;
mod epoch;
mod error;
mod leaf;
mod line;
mod log;
mod map;
mod note;
mod proof;
mod pruned;
mod recording;
mod registry;
mod seal;
mod staged;
#[cfg(not(target_arch = "wasm32"))]
mod stamp;
mod tile;
mod tree;
mod verify;
mod view;
mod witness;

pub use block::{
    BLOCK_HEADER_BYTES, BLOCK_MAGIC, Block, BlockError, BlockHeader, Codec, Frame, FrameIter, FrameKind, FrameView,
};
pub use entry::{
    ActDeny, ActDone, ActStart, Alert, ApprovalDecide, ApprovalEnd, ApprovalRequest, ApprovalUse, Boot, Crash, Entry,
    EntryKind, Export, Gap, HoldLift, HoldSet, Outcome, PolicyApply, PrincipalEntry, PruneLedger, PruneRecording,
    PruneRefuse, RawSegment, RecordingSegment, RetentionDone, RetentionRun, SecretChange, SessionClose, SessionOpen,
    Shred, Shutdown, Stall, StallOver, Unseal, View,
};
pub use epoch::{EpochSigner, KeyEpoch, Roots};
pub use error::LedgerError;
pub use leaf::Leaf;
pub use line::ENTRY_BYTES_MAX;
pub use log::{Epochs, Log, OpenSession, Stamp};
pub use map::{MASK_MAP_BYTES_MAX, mask_map, parse_mask_map};
pub use note::{Checkpoint, LogSigner, LogVerifier, SignedCheckpoint};
pub use proof::{ProofError, TiledTree};
pub use pruned::{Missing, Pruned};
pub use recording::{ChainCheck, RecordingChain};
#[cfg(not(target_arch = "wasm32"))]
pub use registry::TimeStamp;
pub use registry::{
    Grew, Handed, REGISTRY_BYTES_MAX, REGISTRY_ENTRIES_MAX, REGISTRY_LINE_BYTES_MAX, REGISTRY_ORIGINS_MAX, Registered,
    RegisteredHead, Registration, Registry, read_registry,
};
pub use seal::{Sealing, ToSeal};
pub use staged::{
    Durability, Durable, FrameLog, FrameRef, FrameSlot, Mismatch, Narrow, Place, Placed, PlacedFrame, Recorded, Slot,
    Staged, StagedFrame, ToEntry, ToFrame, stage, stage_frame,
};
#[cfg(not(target_arch = "wasm32"))]
pub use stamp::{STAMP_BYTES_MAX, stamp_request, verify_stamp};
pub use tile::{BUNDLE_ENTRIES, Tile, TileBuilder, bundle, bundle_path, parse_bundle, tile_path};
pub use tree::{
    Hasher, Range, consistency_proof, inclusion_proof, leaf_hash, node_hash, root, verify_consistency, verify_inclusion,
};
pub use verify::{Check, Finding, Report, Verdict, Verifier};
pub use witness::{
    ADD_CHECKPOINT_BYTES_MAX, AddCheckpoint, Cosigner, Quorum, Unwitnessed, WitnessKey, WitnessPolicy, WitnessedLog,
};
