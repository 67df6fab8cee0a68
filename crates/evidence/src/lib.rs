//! What an auditor is handed: populations, controls and reports derived from a ledger's entries, and the pack that holds
//! them (`docs/spec/pack.md`).
//!
//! Everything here is a pure function of entries, the directory and a period: whoever verifies a pack derives it again
//! and compares. This crate knows nothing of files, clocks, sockets, gateways or how entries come to be.

mod collect;
mod compare;
mod control;
mod derive;
mod directory;
mod fields;
mod json;
mod kept;
mod manifest;
mod ocsf;
mod oscal;
mod pack;
mod population;
mod report;
mod row;
#[cfg(test)]
mod sample;
mod tar;
mod texts;
mod uuid;
mod verify;

pub use collect::{Collector, Period, Sink};
pub use compare::{PLANTED, Seen};
pub use control::{CONTROLS, Control, ControlId, EXCEPTIONS_MAX, Exception, Findings, Found};
pub use derive::{Derived, Deriver};
pub use directory::{ChainRow, Directory, who};
pub use kept::{Kept, kept_bundle, kept_path, read_bundle};
pub use manifest::{Generator, Listed, MANIFEST, MANIFEST_BYTES_MAX, MANIFEST_NOTE, Manifest, instant, manifest_text};
pub use ocsf::{Events, ocsf_finding};
pub use oscal::oscal_results;
pub use pack::{Output, Provenance, Tables, is_control, population_path, write_controls};
pub use population::{About, Population};
pub use report::{Both, Counts, ReportInput, Summary, report_html};
pub use row::{Columns, Value, json_text};
pub use tar::{BLOCK, Malformed, PREFIX, Piece, Reader, header, is_path, padding};
pub use texts::{CUEC, README};
pub use verify::{
    ApprovalRow, LINES_MAX, NoPack, Origins, PackFinding, PackReport, PackVerifier, Preface, RegistryCopy,
    SignatureCheck, Trusted, next_block,
};
