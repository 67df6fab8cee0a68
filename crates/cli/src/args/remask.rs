//! What `evidence remask` is told.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Remask {
    /// The directory that `evidence unseal` made: its segments.json says what each segment must be.
    #[arg(value_name = "DIR")]
    pub(crate) handed: PathBuf,
    /// The opened segments, as `age -d` wrote them, in any order.
    #[arg(long = "original", value_name = "FILE", num_args = 1.., required = true)]
    pub(crate) originals: Vec<PathBuf>,
    /// The pack with the session's recording, the directory it was unpacked to, or the first of its parts. Verify it
    /// first.
    #[arg(long = "recording", value_name = "PACK")]
    pub(crate) pack: PathBuf,
}
