//! Compares a recording with its originals, message by message (`docs/spec/sealed.md`, Masking again).

use std::vec::IntoIter;

use bytes::Bytes;
use chancery_ledger::{FrameKind, FrameView, parse_mask_map};
use chancery_mask::{Again, Compared};
use chancery_model::{CommandId, MaskMap, Output, OutputKind};
use chancery_wire_pg::PgAnatomy;

use super::Finding;
use super::originals::{Messages, Originals};
use crate::output::Failure;

pub(super) struct Comparison {
    originals: Originals,
    recorded: Messages,
    /// The maps that are still to come.
    maps: IntoIter<Vec<u8>>,
    /// The one that speaks of the outputs at hand, and what does again what it says.
    map: Option<MaskMap>,
    again: Option<Again>,
    /// Every output that it speaks of was compared.
    whole: bool,
    withheld: bool,
    place: Place,
    rows: Class,
    copies: Class,
    texts: Class,
    asides: Class,
    rest: Class,
    counts: Class,
    /// Messages of the recording behind the end of the originals.
    behind: u64,
    /// Where the two went apart.
    apart: Option<String>,
    fault: Option<&'static str>,
}

/// Outputs of one kind.
#[derive(Default)]
struct Class {
    same: u64,
    /// Tokens in them, of which only the form was checked.
    tokens: u64,
    /// Not compared: their map is cut, or of another version.
    undone: u64,
    /// Not compared: no map speaks of them.
    unmapped: u64,
    other: u64,
    first: Option<String>,
}

/// Where in the recording a message stands.
#[derive(Default)]
struct Place {
    message: u64,
    command: u64,
    result: u64,
    row: u64,
}

impl Comparison {
    pub(super) fn new(originals: Originals, maps: Vec<Vec<u8>>) -> Self {
        let mut comparison = Self {
            originals,
            recorded: Messages::default(),
            maps: maps.into_iter(),
            map: None,
            again: None,
            whole: true,
            withheld: false,
            place: Place::default(),
            rows: Class::default(),
            copies: Class::default(),
            texts: Class::default(),
            asides: Class::default(),
            rest: Class::default(),
            counts: Class::default(),
            behind: 0,
            apart: None,
            fault: None,
        };
        comparison.next_map();
        comparison
    }

    /// Takes the next frame of the recording.
    pub(super) fn frame(&mut self, frame: &FrameView<'_>) -> Result<(), Failure> {
        match frame.kind {
            FrameKind::Output if self.fault.is_none() => {
                let taken = self.recorded.push(frame.command, frame.bytes);
                self.note(taken);
                loop {
                    match self.recorded.next() {
                        Ok(Some((command, message))) => self.message(command, &message)?,
                        Ok(None) => break,
                        Err(fault) => {
                            self.note(Err(fault));
                            break;
                        }
                    }
                }
            }
            FrameKind::MaskMap => {
                self.settle_map();
                self.next_map();
            }
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, taken: Result<(), &'static str>) {
        self.fault = self.fault.or(taken.err());
    }

    fn next_map(&mut self) {
        let map = self.maps.next().map(|bytes| parse_mask_map(&bytes));
        if let Some(Err(_)) = &map {
            self.counts.differs(&self.place, "a map of another form behind");
        }
        self.map = map.and_then(Result::ok);
        self.again = self.map.as_ref().and_then(Again::new);
        self.whole = true;
    }

    /// All outputs that the map speaks of were seen: what it counted is compared with what was counted here.
    fn settle_map(&mut self) {
        self.withheld = self.map.as_ref().is_some_and(|map| map.withheld);
        let (Some(map), Some(mut again)) = (&self.map, self.again.take()) else { return };
        // An output that was withheld was counted in part.
        if !self.whole || map.withheld {
            self.counts.undone += 1;
        } else if again.counted(map) {
            self.counts.same += 1;
        } else {
            self.counts.differs(&self.place, "the map behind");
        }
    }

    fn message(&mut self, command: u64, message: &Bytes) -> Result<(), Failure> {
        let tag = message.first().copied().unwrap_or_default();
        self.place.step(command, tag);
        if self.apart.is_some() {
            return Ok(());
        }
        let Some((of, original)) = self.originals.next()? else {
            self.behind += 1;
            self.whole = false;
            return Ok(());
        };
        if of != command || original.first() != message.first() {
            self.apart = Some(self.place.to_string());
            self.whole = false;
            return Ok(());
        }
        let binary = self.map.as_ref().is_some_and(|map| map.shape == Some("copy-binary"));
        let kind = PgAnatomy::kind(tag, binary);
        let class = match kind {
            OutputKind::Rows => &mut self.rows,
            OutputKind::Bulk { .. } => &mut self.copies,
            OutputKind::Text => &mut self.texts,
            OutputKind::Aside => &mut self.asides,
            _ => &mut self.rest,
        };
        let compared = if matches!(kind, OutputKind::Status) {
            // Masking never changes them, whatever a map says.
            if original == message { Compared::Same(0) } else { Compared::Other }
        } else if let Some(again) = &mut self.again {
            let output = Output { command: CommandId(command), kind, bytes: original, rows: 1 };
            again.compare(&PgAnatomy, output, message)
        } else {
            *if self.map.is_some() { &mut class.undone } else { &mut class.unmapped } += 1;
            return Ok(());
        };
        match compared {
            Compared::Same(tokens) => {
                class.same += 1;
                class.tokens += tokens;
            }
            Compared::Other => {
                class.differs(&self.place, "");
                self.whole = false;
            }
        }
        Ok(())
    }

    /// What was found, once all frames were taken.
    pub(super) fn finish(mut self) -> Result<Vec<Finding>, Failure> {
        let mut left = 0;
        while self.originals.next()?.is_some() {
            left += 1;
        }
        if self.fault.is_none() && !self.recorded.is_empty() {
            self.fault = Some("its last message is cut");
        }
        let order = self.order(left);
        let classes = [
            ("rows", &self.rows),
            ("copies", &self.copies),
            ("texts", &self.texts),
            ("parameters", &self.asides),
            ("rest", &self.rest),
        ];
        let told = classes.map(|(check, class)| class.told(check));
        Ok([order].into_iter().chain(told).chain([self.counts.counted()]).collect())
    }

    /// Whether the two are the same sequence of messages, and all of it was there.
    fn order(&self, left: u64) -> Finding {
        if let Some(fault) = self.fault {
            return Finding::fail("order", format!("the recording cannot be read at {}: {fault}", self.place));
        }
        if let Some(place) = &self.apart {
            return Finding::fail("order", format!("the originals have another message at {place}"));
        }
        let mut doubts = Vec::new();
        if self.behind > 0 {
            let why = self.originals.missing.map_or_else(
                || "a crash loses the last minute of originals".to_owned(),
                |segment| format!("segment {segment} is not here"),
            );
            doubts.push(format!("{} messages of the recording have no original: {why}", self.behind));
        }
        if left > 0 && !self.withheld {
            doubts.push(format!("the originals have {left} more messages than the recording"));
        }
        let messages = self.place.message;
        if !doubts.is_empty() {
            return Finding::doubt("order", doubts.join("; "));
        }
        let withheld = if left > 0 { ", then what was withheld" } else { "" };
        Finding::pass("order", format!("{messages} messages, the same in both{withheld}"))
    }
}

impl Class {
    fn differs(&mut self, place: &Place, what: &str) {
        self.other += 1;
        self.first.get_or_insert_with(|| format!("{what} {place}").trim_start().to_owned());
    }

    fn told(&self, check: &'static str) -> Finding {
        let all = self.same + self.undone + self.unmapped + self.other;
        if self.other > 0 {
            let first = self.first.as_deref().unwrap_or_default();
            let what = format!("{} of {all} are not what masking makes of the originals; first: {first}", self.other);
            return Finding::fail(check, what);
        }
        let doubts = [
            (self.undone, "stand under a map that is cut or of other detectors than this program's"),
            (self.unmapped, "are spoken of by no map"),
            (self.tokens, "tokens have the form of one: they are keyed, and not made again"),
        ];
        let doubts: Vec<_> =
            doubts.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
        if doubts.is_empty() {
            return Finding::pass(check, if all == 0 { "none".to_owned() } else { format!("{all} masked again") });
        }
        Finding::doubt(check, format!("{} of {all} masked again; {}", self.same, doubts.join("; ")))
    }

    /// The same of maps.
    fn counted(&self) -> Finding {
        if self.other > 0 {
            let first = self.first.as_deref().unwrap_or_default();
            return Finding::fail("maps", format!("{} count otherwise; first: {first}", self.other));
        }
        // Why they could not be, other checks say.
        Finding::pass("maps", format!("{} counted again, {} not in full", self.same, self.undone))
    }
}

impl Place {
    fn step(&mut self, command: u64, tag: u8) {
        self.message += 1;
        if command != self.command {
            (self.command, self.result, self.row) = (command, 0, 0);
        }
        match tag {
            b'T' | b'H' => (self.result, self.row) = (self.result + 1, 0),
            b'D' | b'd' => self.row += 1,
            _ => {}
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "command {}", self.command)?;
        if self.result > 1 {
            write!(f, ", result {}", self.result)?;
        }
        if self.row > 0 {
            write!(f, ", row {}", self.row)?;
        }
        write!(f, ", message {} of the recording", self.message)
    }
}

#[cfg(test)]
mod tests {
    use chancery_ledger::{FrameIter, Verdict, mask_map};
    use chancery_mask::DETECTORS_VERSION;
    use chancery_model::{CellFormat, MappedColumn, Treated};

    use super::super::originals::tests::{Home, frame, message};
    use super::*;

    fn row(values: &[&str]) -> Vec<u8> {
        let cells = values.iter().flat_map(|value| {
            let length = (value.len() as u32).to_be_bytes();
            length.into_iter().chain(value.bytes())
        });
        message(b'D', &(values.len() as u16).to_be_bytes().into_iter().chain(cells).collect::<Vec<_>>())
    }

    fn map(operator: &'static str, cells: u64) -> MaskMap {
        let treated = Treated::Tagged(operator, "pii".into());
        let column = MappedColumn { position: 1, format: CellFormat::Text, kind: "text", treated, cells };
        let (shape, columns, detectors) = (Some("rows"), vec![column], DETECTORS_VERSION);
        MaskMap { shape, width: 2, columns, detectors, ..MaskMap::default() }
    }

    /// What is found, by check, of a session that showed this and has these frames in its recording.
    fn found(
        shown: &[(u64, Vec<u8>)],
        recorded: &[Vec<u8>],
        last: Option<u64>,
    ) -> Vec<(&'static str, Verdict, String)> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let home = Home::new(&format!("compare-{number}"));
        let recorded = recorded.concat();
        let frames: Vec<_> = FrameIter::new(&recorded).collect::<Result<_, _>>().expect("well-formed");
        let maps = frames.iter().filter(|frame| frame.kind == FrameKind::MaskMap).map(|frame| frame.bytes.to_vec());
        let originals = Originals::new(home.handed(&[shown.to_vec()], &[]), last);
        let mut comparison = Comparison::new(originals, maps.collect());
        for frame in &frames {
            comparison.frame(frame).expect("the originals can be read");
        }
        let findings = comparison.finish().expect("the originals can be read");
        findings.into_iter().map(|one| (one.check, one.verdict, one.what)).collect()
    }

    fn output(command: u64, bytes: &[u8]) -> Vec<u8> {
        frame(FrameKind::Output, command, bytes)
    }

    fn told(map: &MaskMap) -> Vec<u8> {
        frame(FrameKind::MaskMap, 1, &mask_map(map))
    }

    /// The checks that do not pass.
    fn not_passed(found: &[(&'static str, Verdict, String)]) -> Vec<(&'static str, Verdict)> {
        found.iter().filter(|one| one.1 != Verdict::Pass).map(|one| (one.0, one.1)).collect()
    }

    #[test]
    fn what_is_recorded_is_what_masking_makes() {
        let (head, end) = (message(b'T', b"columns"), message(b'C', b"SELECT 2\0"));
        let shown = [(1, [&head[..], &row(&["1", "a secret"]), &row(&["2", "another"]), &end].concat())];
        let (first, second) = (row(&["1", "***"]), row(&["2", "***"]));
        let whole = [&head[..], &first, &second].concat();
        let recorded = [output(1, &whole), output(1, &end), told(&map("redact", 2))];
        assert_eq!(not_passed(&found(&shown, &recorded, Some(0))), []);
        // In pieces, the map in front of the end.
        let (front, back) = whole.split_at(20);
        let pieces = [output(1, front), output(1, back), told(&map("redact", 2)), output(1, &end)];
        assert_eq!(not_passed(&found(&shown, &pieces, Some(0))), []);

        let with = |rows: &[u8], map: &MaskMap| found(&shown, &[output(1, rows), output(1, &end), told(map)], Some(0));
        // A value that got through; another in its place; one that nobody tagged.
        for other in [row(&["2", "another"]), row(&["2", "**"]), row(&["3", "***"])] {
            let found = with(&[&head[..], &first, &other].concat(), &map("redact", 2));
            assert_eq!(not_passed(&found), [("rows", Verdict::Fail)]);
            assert!(found[1].2.ends_with("first: command 1, row 2, message 3 of the recording"), "{found:?}");
        }
        assert_eq!(not_passed(&with(&whole, &map("null", 2))), [("rows", Verdict::Fail)]);
        assert_eq!(not_passed(&with(&whole, &map("redact", 3))), [("maps", Verdict::Fail)]);
        let later = MaskMap { detectors: DETECTORS_VERSION + 1, ..map("redact", 2) };
        assert_eq!(not_passed(&with(&whole, &later)), [("rows", Verdict::Inconclusive)]);
        assert_eq!(not_passed(&found(&shown, &recorded[..2], Some(0))), [("rows", Verdict::Inconclusive)]);
        let broken = [output(1, &whole), output(1, &end), frame(FrameKind::MaskMap, 1, b"{}")];
        let unread = [("rows", Verdict::Inconclusive), ("maps", Verdict::Fail)];
        assert_eq!(not_passed(&found(&shown, &broken, Some(0))), unread);
        let other_end = [output(1, &whole), output(1, &message(b'C', b"SELECT 3\0")), told(&map("redact", 2))];
        assert_eq!(not_passed(&found(&shown, &other_end, Some(0))), [("rest", Verdict::Fail)]);
    }

    #[test]
    fn the_order_is_the_same_and_whole() {
        let (secret, stars) = (row(&["1", "secret"]), row(&["1", "***"]));
        let shown = [(1, [&secret[..], &secret].concat())];
        let order = |recorded: &[Vec<u8>], last| {
            let found = found(&shown, recorded, last);
            (found[0].1, found[0].2.clone())
        };
        let both = output(1, &[&stars[..], &stars].concat());
        assert_eq!(order(&[both.clone(), told(&map("redact", 2))], Some(0)).0, Verdict::Pass);
        // Under another command, another message, cut, or not a message at all.
        let other = output(1, &[&stars[..], &message(b'C', b"SELECT 1\0")].concat());
        for wrong in [output(2, &stars), other, output(1, &stars[..9]), output(1, b"D\0\0\0\0")] {
            assert_eq!(order(&[wrong, told(&map("redact", 2))], Some(0)).0, Verdict::Fail);
        }
        let longer = [both, output(1, &stars), told(&map("redact", 3))];
        for (last, why) in [(Some(0), "a crash"), (Some(1), "segment 1 is not here")] {
            let (verdict, what) = order(&longer, last);
            assert_eq!(verdict, Verdict::Inconclusive);
            assert!(what.starts_with("1 messages") && what.contains(why), "{what}");
        }
        let shorter = [output(1, &stars), told(&map("redact", 1))];
        assert_eq!(order(&shorter, Some(0)).0, Verdict::Inconclusive);
        let withheld = MaskMap { withheld: true, ..map("redact", 2) };
        assert_eq!(order(&[output(1, &stars), told(&withheld)], Some(0)).0, Verdict::Pass);
    }

    #[test]
    fn tokens_are_left_open() {
        let token = format!("tok_{}", "0a".repeat(16));
        let shown = [(1, row(&["1", "secret"]))];
        let with = |cell: &str| found(&shown, &[output(1, &row(&["1", cell])), told(&map("token", 1))], Some(0));
        let open = with(&token);
        assert_eq!(not_passed(&open), [("rows", Verdict::Inconclusive)]);
        assert!(open[1].2.contains("1 tokens"), "{open:?}");
        assert_eq!(not_passed(&with("***")), [("rows", Verdict::Fail)]);
        assert_eq!(not_passed(&with(&token.to_uppercase())), [("rows", Verdict::Fail)]);
    }
}
