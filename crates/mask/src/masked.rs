//! The proof that something went through the masker, and what the masker did.

use std::sync::Arc;

use bytes::BytesMut;
use chancery_model::Output;

use crate::Detector;

/// Room made for outputs that are put together: the answer to a small statement.
const JOINED_BYTES: usize = 512;

/// Something the masker has seen and changed where it had to. Cannot be made anywhere else.
///
/// Has no `Debug`: its inside is payload.
#[must_use]
pub struct Masked<T> {
    inner: T,
    /// Only where something was masked: most of what goes through is not, and a proof is moved about.
    report: Option<Box<Report>>,
}

impl<T> Masked<T> {
    pub(crate) fn new(inner: T, report: Report) -> Self {
        let report = (report != Report::default()).then(|| Box::new(report));
        Self { inner, report }
    }

    /// For what nothing was done to.
    pub(crate) fn untouched(inner: T) -> Self {
        Self { inner, report: None }
    }

    /// The masked thing.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// The masked thing, with the proof given up.
    pub fn into_inner(self) -> T {
        self.inner
    }

    /// What was done; `None` if nothing was.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_deref()
    }

    /// True if the output could not be opened, so that nothing of it is inside. The stream to the client now lacks
    /// frames: the session must end, with an error in the protocol's own words.
    pub fn is_withheld(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.withheld)
    }
}

/// Short outputs of one command, put together as they come.
#[derive(Default)]
pub struct Joined {
    first: Option<Masked<Output>>,
    /// The bytes of all of them, once there are two.
    bytes: BytesMut,
}

impl Joined {
    /// Adds an output. Gives it back if it is of another command than those before, or would make more than `max` bytes
    /// with them: then they must be taken first.
    pub fn push(&mut self, mut next: Masked<Output>, max: usize) -> Option<Masked<Output>> {
        let Some(first) = &mut self.first else {
            self.first = Some(next);
            return None;
        };
        let length = first.inner.bytes.len() + self.bytes.len() + next.inner.bytes.len();
        if first.inner.command != next.inner.command || length > max || first.is_withheld() || next.is_withheld() {
            return Some(next);
        }
        if self.bytes.is_empty() {
            self.bytes.reserve(length.max(JOINED_BYTES));
            self.bytes.extend_from_slice(&std::mem::take(&mut first.inner.bytes));
        }
        self.bytes.extend_from_slice(&next.inner.bytes);
        first.inner.rows += next.inner.rows;
        match (&mut first.report, next.report.take()) {
            (Some(mine), Some(theirs)) => mine.add(&theirs),
            (mine @ None, theirs) => *mine = theirs,
            (Some(_), None) => {}
        }
        None
    }

    /// What was put together.
    pub fn take(&mut self) -> Option<Masked<Output>> {
        let mut joined = self.first.take()?;
        if !self.bytes.is_empty() {
            joined.inner.bytes = self.bytes.split().freeze();
        }
        Some(joined)
    }
}

/// What the masker did to one output, or, summed, to a command. Holds no values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Cells masked for a tag, by tag.
    pub tags: Vec<(Arc<str>, u64)>,
    /// Cells masked because their origin is not proven and the statement could reach tagged values.
    pub lost: u64,
    /// Cells masked because their relation is not in the catalog, or carries tags as a whole.
    pub unresolved: u64,
    /// Hits masked, by detector in the order of [`Detector::ALL`].
    pub detected: [u64; Detector::ALL.len()],
    /// Fields of errors and notices, parameter values and payloads replaced.
    pub texts: u64,
    /// Whether the output was withheld whole.
    pub withheld: bool,
}

impl Report {
    /// Adds another report.
    pub fn add(&mut self, other: &Self) {
        for (tag, cells) in &other.tags {
            self.count_tag(tag, *cells);
        }
        self.lost += other.lost;
        self.unresolved += other.unresolved;
        for (mine, theirs) in self.detected.iter_mut().zip(other.detected) {
            *mine += theirs;
        }
        self.texts += other.texts;
        self.withheld |= other.withheld;
    }

    /// All cells, hits and texts masked.
    pub fn masked(&self) -> u64 {
        self.tags.iter().map(|(_, n)| n).sum::<u64>()
            + self.lost
            + self.unresolved
            + self.detected.iter().sum::<u64>()
            + self.texts
    }

    pub(crate) fn count_tag(&mut self, tag: &Arc<str>, cells: u64) {
        match self.tags.iter_mut().find(|(t, _)| t == tag) {
            Some((_, n)) => *n += cells,
            None => self.tags.push((tag.clone(), cells)),
        }
    }
}

#[cfg(test)]
mod tests {
    use chancery_model::OutputKind;

    use super::*;

    #[test]
    fn only_short_outputs_of_one_command_are_joined() {
        let output = |command, bytes: &'static [u8]| {
            let bytes = bytes::Bytes::from_static(bytes);
            let output = Output { command: chancery_model::CommandId(command), kind: OutputKind::Rows, bytes, rows: 1 };
            Masked::new(output, Report { lost: 2, ..Report::default() })
        };
        let mut joined = Joined::default();
        assert!(joined.push(output(1, b"abc"), 5).is_none());
        assert!(joined.push(output(1, b"de"), 5).is_none());
        let withheld = Masked::new(output(1, b"").into_inner(), Report { withheld: true, ..Report::default() });
        for apart in [output(1, b"f"), output(2, b""), withheld] {
            assert!(joined.push(apart, 5).is_some());
        }
        let one = joined.take().expect("two were put together");
        assert_eq!((&one.inner().bytes[..], one.inner().rows), (&b"abcde"[..], 2));
        assert_eq!(one.report().map(|report| report.lost), Some(4));
        assert!(joined.take().is_none());
        assert!(joined.push(output(3, b"g"), 5).is_none());
        assert_eq!(&joined.take().expect("one").inner().bytes[..], b"g");
    }

    #[test]
    fn reports_add_up() {
        let mut a = Report { tags: vec![("pii".into(), 3)], detected: [1, 0, 0, 0], ..Report::default() };
        let b =
            Report { lost: 4, tags: vec![("pci".into(), 1), ("pii".into(), 1)], withheld: true, ..Report::default() };
        a.add(&b);
        assert_eq!(a.tags, [("pii".into(), 4), ("pci".into(), 1)]);
        assert_eq!((a.masked(), a.withheld), (10, true));
    }
}
