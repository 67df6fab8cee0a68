//! What a resource sent and what a client asked, as it was, on its way into the sealer. Not here: sealing.

use bytes::Bytes;
use chancery_ledger::{Frame, FrameKind, Sealing, ToSeal};
use chancery_model::{CommandId, Output, Timestamp};

/// An original. It is made here only, before masking, and only the sealer can look inside. It has no `Debug`, no `Clone`
/// and no entry or frame of the recording: it cannot be logged, recorded or released.
///
/// ```compile_fail
/// fn shown(original: chancery_session::Original) -> String { format!("{original:?}") }
/// ```
/// ```compile_fail
/// fn recorded(original: chancery_session::Original) { chancery_ledger::stage_frame(original); }
/// ```
#[must_use = "dropping it loses an original"]
pub struct Original {
    at: Timestamp,
    command: CommandId,
    kind: FrameKind,
    bytes: Bytes,
}

impl Original {
    /// An output as the resource sent it. The bytes are shared, not copied.
    pub(crate) fn output(output: &Output, at: Timestamp) -> Self {
        Self { at, command: output.command, kind: FrameKind::Output, bytes: output.bytes.clone() }
    }
    /// The exact text of a command.
    pub(crate) fn command(command: CommandId, text: &Bytes, at: Timestamp) -> Self {
        Self { at, command, kind: FrameKind::Command, bytes: text.clone() }
    }
    /// The exact parameters of a command.
    pub(crate) fn parameters(command: CommandId, raw: &Bytes, at: Timestamp) -> Self {
        Self { at, command, kind: FrameKind::Parameters, bytes: raw.clone() }
    }
}

impl ToSeal for Original {
    fn frame(&self, _: &Sealing) -> Frame<'_> {
        Frame { at: self.at, kind: self.kind, command: self.command.0, bytes: (&self.bytes[..]).into() }
    }
}
