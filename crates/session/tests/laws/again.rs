//! Masks what was sealed again, as the maps in the recording say, and compares with the recording.

use std::collections::VecDeque;

use bytes::Bytes;
use chancery_ledger::{Frame, FrameKind, parse_mask_map};
use chancery_mask::{Again, Compared};
use chancery_model::{CommandId, MaskMap, Output, OutputKind};
use chancery_wire_pg::PgAnatomy;
use chancery_wire_pg::frame::next_frame;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Remasked {
    /// Messages that masking changed, and changed again in the same way.
    pub(crate) changed: usize,
    /// Messages with values that no map speaks of, because the world ended before it came.
    pub(crate) unmapped: usize,
    /// Originals that were not recorded any more.
    pub(crate) left: usize,
}

/// Everything that was recorded is what masking makes of what was sealed, by maps that count what is counted here.
pub(crate) fn remask(sealed: &[Frame<'_>], recorded: &[Frame<'_>]) -> Remasked {
    let mut seen = Remasked::default();
    let mut originals: VecDeque<_> = sealed.iter().flat_map(messages).collect();
    let mut maps: VecDeque<MaskMap> =
        recorded.iter().filter(|frame| frame.kind == FrameKind::MaskMap).map(map).collect();
    let mut again = maps.front().map(|map| Again::new(map).expect("of this version"));
    for frame in recorded {
        match frame.kind {
            FrameKind::Output => {
                for (command, message) in messages(frame) {
                    let (of, original) = originals.pop_front().expect("sealed before recorded");
                    assert_eq!((of, original[0]), (command, message[0]), "the same messages in the same order");
                    let binary = maps.front().is_some_and(|map| map.shape == Some("copy-binary"));
                    let kind = PgAnatomy::kind(message[0], binary);
                    if matches!(kind, OutputKind::Status) {
                        assert_eq!(original, message, "messages without values are not masked");
                        continue;
                    }
                    let Some(again) = &mut again else {
                        seen.unmapped += 1;
                        continue;
                    };
                    let output = Output { command: CommandId(command), kind, bytes: original.clone(), rows: 1 };
                    let compared = again.compare(&PgAnatomy, output, &message);
                    let shown = (original.escape_ascii(), message.escape_ascii());
                    assert_eq!(compared, Compared::Same(0), "{} became {}", shown.0, shown.1);
                    seen.changed += usize::from(original != message);
                }
            }
            FrameKind::MaskMap => {
                let told = maps.pop_front().expect("as many as were found");
                let mut before = again.take().expect("there is a map");
                assert!(told.withheld || before.counted(&told), "{told:?}");
                again = maps.front().map(|map| Again::new(map).expect("of this version"));
            }
            _ => {}
        }
    }
    seen.left = originals.len();
    seen
}

/// Whether a map says that something was masked.
pub(crate) fn tells(frame: &Frame<'_>) -> bool {
    let map = map(frame);
    map.texts > 0
        || map.asides > 0
        || map.withheld
        || !map.hits.is_empty()
        || map.columns.iter().any(|column| column.cells > 0)
}

fn map(frame: &Frame<'_>) -> MaskMap {
    parse_mask_map(&frame.bytes).expect("a map in its form")
}

fn messages(frame: &Frame<'_>) -> Vec<(u64, Bytes)> {
    let (mut rest, mut found) = (&frame.bytes[..], Vec::new());
    while let Some(message) = next_frame(rest, usize::MAX).expect("well-formed") {
        found.push((frame.command, Bytes::copy_from_slice(&rest[message.range.clone()])));
        rest = &rest[message.range.end..];
    }
    assert!(rest.is_empty(), "a run of whole messages");
    found
}
