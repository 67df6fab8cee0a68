//! The proof that something went through the masker, and what the masker did.

use std::sync::Arc;

use bytes::BytesMut;
use chancery_model::Output;

use crate::Detector;

/// Something the masker has seen and changed where it had to. Cannot be made anywhere else.
///
/// Has no `Debug`: its inside is payload.
#[must_use]
pub struct Masked<T> {
    inner: T,
    report: Report,
}

impl<T> Masked<T> {
    pub(crate) fn new(inner: T, report: Report) -> Self {
        Self { inner, report }
    }

    /// The masked thing.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// The masked thing, with the proof given up.
    pub fn into_inner(self) -> T {
        self.inner
    }

    /// What was done.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// True if the output could not be opened, so that nothing of it is inside. The stream to the client now lacks
    /// frames: the session must end, with an error in the protocol's own words.
    pub fn is_withheld(&self) -> bool {
        self.report.withheld
    }
}

impl Masked<Output> {
    /// Puts the next output of the same command behind this one if they are no longer than `max` together, and gives it
    /// back otherwise.
    pub fn join(&mut self, next: Self, max: usize) -> Option<Self> {
        let fits = self.inner.command == next.inner.command && self.inner.bytes.len() + next.inner.bytes.len() <= max;
        if !fits || self.report.withheld || next.report.withheld {
            return Some(next);
        }
        let mut bytes = BytesMut::from(std::mem::take(&mut self.inner.bytes));
        bytes.extend_from_slice(&next.inner.bytes);
        self.inner.bytes = bytes.freeze();
        self.inner.rows += next.inner.rows;
        self.report.add(&next.report);
        None
    }
}

/// What the masker did to one output, or, summed, to a command. Holds no values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows that went through.
    pub rows: u64,
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
        self.rows += other.rows;
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
            Masked::new(output, Report { rows: 1, lost: 2, ..Report::default() })
        };
        let mut one = output(1, b"abc");
        assert!(one.join(output(1, b"de"), 5).is_none());
        assert_eq!((&one.inner().bytes[..], one.inner().rows), (&b"abcde"[..], 2));
        assert_eq!((one.report().rows, one.report().lost), (2, 4));
        let withheld = Masked::new(output(1, b"").into_inner(), Report { withheld: true, ..Report::default() });
        for apart in [output(1, b"f"), output(2, b""), withheld] {
            assert!(one.join(apart, 5).is_some());
        }
        assert_eq!(&one.inner().bytes[..], b"abcde");
    }

    #[test]
    fn reports_add_up() {
        let mut a = Report { rows: 2, tags: vec![("pii".into(), 3)], detected: [1, 0, 0, 0], ..Report::default() };
        let b =
            Report { lost: 4, tags: vec![("pci".into(), 1), ("pii".into(), 1)], withheld: true, ..Report::default() };
        a.add(&b);
        assert_eq!(a.tags, [("pii".into(), 4), ("pci".into(), 1)]);
        assert_eq!((a.rows, a.masked(), a.withheld), (2, 10, true));
    }
}
