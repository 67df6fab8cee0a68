//! Carries plans out: opens runs, edits cells, closes them again.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use chancery_model::{Anatomy, Cell, CellFormat, Edit, Output, OutputKind, Part};

use crate::operator::{self, Kind, Outcome};
use crate::plan::{Shape, TextTreatment, Treatment, Why};
use crate::{Context, Hit, MaskRules, Masked, Plan, Report, Scanner};

/// Edits kept allocated between runs.
const KEEP_EDITS: usize = 4096;

/// Masks the output of one session.
pub struct Masker {
    pub(crate) rules: Arc<MaskRules>,
    pub(crate) finder: Finder,
    edits: Vec<Edit>,
    /// Cells changed, by column, since they were last told.
    pub(crate) cells: Vec<u64>,
    /// What the client set literally, by parameter name in lower case.
    pub(crate) said: HashMap<String, String>,
    /// First value of parameters that never change in a session.
    pub(crate) constants: HashMap<String, Vec<u8>>,
}

impl Masker {
    /// A masker for these rules. Each session has its own.
    pub fn new(rules: Arc<MaskRules>) -> Self {
        let finder = Finder { scanner: Scanner::new(&rules), hits: Vec::new(), scratch: Vec::new() };
        Self { rules, finder, edits: Vec::new(), cells: Vec::new(), said: HashMap::new(), constants: HashMap::new() }
    }

    /// Masks one output of the resource.
    ///
    /// If the run cannot be opened, or is not of the kind the plan was made for, all of it is withheld
    /// ([`Masked::is_withheld`]): the session must then end.
    pub fn mask(&mut self, anatomy: &dyn Anatomy, plan: &Plan, output: Output) -> Masked<Output> {
        let report = Report::default();
        match output.kind {
            OutputKind::Columns(_) | OutputKind::BulkStart { .. } | OutputKind::Status | OutputKind::Own => {
                Masked::untouched(output)
            }
            // An idle plan stems from idle rules; with others it is of another resource.
            _ if plan.shape == Shape::Any && !self.rules.is_idle() => withhold(output, report),
            OutputKind::Rows | OutputKind::Bulk { .. } if plan.shape == Shape::Any => Masked::untouched(output),
            OutputKind::Rows if plan.shape == Shape::Rows => self.mask_rows(anatomy, plan, output, report),
            OutputKind::Bulk { binary: true } if plan.shape == Shape::CopyBinary => {
                self.mask_rows(anatomy, plan, output, report)
            }
            OutputKind::Bulk { binary: false } if matches!(plan.shape, Shape::CopyText | Shape::CopyOther) => {
                self.mask_rows(anatomy, plan, output, report)
            }
            OutputKind::Rows | OutputKind::Bulk { .. } => withhold(output, report),
            OutputKind::Text => self.mask_text(anatomy, plan, output, report),
            OutputKind::Aside => self.mask_aside(anatomy, output, report),
        }
    }

    /// Masks a text that is to be written into a record: detectors only.
    pub fn text(&mut self, text: &str) -> Masked<String> {
        let mut report = Report::default();
        let masked = self.finder.replace(&self.rules, text.as_bytes(), Context::default(), true, &mut report);
        let text = match masked {
            None => text.to_owned(),
            Some(Outcome::Null) => String::from("***"),
            Some(Outcome::Text(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        Masked::new(text, report)
    }

    fn mask_rows(&mut self, anatomy: &dyn Anatomy, plan: &Plan, output: Output, report: Report) -> Masked<Output> {
        if plan.rows_are_clear() {
            return Masked::untouched(output);
        }
        self.walk(anatomy, output, report, |walk, cell| walk.row_cell(plan, cell))
    }

    fn mask_text(&mut self, anatomy: &dyn Anatomy, plan: &Plan, output: Output, report: Report) -> Masked<Output> {
        match plan.text {
            TextTreatment::Release => Masked::new(output, report),
            TextTreatment::Scan => self.walk(anatomy, output, report, |walk, cell| walk.searched_field(cell)),
            TextTreatment::Replace => {
                let sentence = crate::text::sentence(output.command);
                self.walk(anatomy, output, report, |walk, cell| walk.replaced_field(cell, &sentence))
            }
        }
    }

    /// Opens a run, lets `visit` collect edits, and closes it. Withholds it if anything does not add up.
    pub(crate) fn walk(
        &mut self,
        anatomy: &dyn Anatomy,
        output: Output,
        report: Report,
        mut visit: impl FnMut(&mut Walk<'_>, &Cell) -> Option<()>,
    ) -> Masked<Output> {
        self.edits.clear();
        let mut walk = Walk {
            rules: &self.rules,
            finder: &mut self.finder,
            edits: &mut self.edits,
            cells: &mut self.cells,
            bytes: &output.bytes,
            report,
        };
        let mut sound = true;
        let opened = anatomy.cells(&output, &mut |cell| sound &= visit(&mut walk, &cell).is_some());
        let report = walk.report;
        if !opened || !sound {
            return withhold(output, report);
        }
        if self.edits.is_empty() {
            return Masked::new(output, report);
        }
        let bytes = anatomy.splice(&output, &self.edits);
        self.edits.clear();
        self.edits.shrink_to(KEEP_EDITS);
        Masked::new(Output { bytes, ..output }, report)
    }
}

/// Nothing of the output stays; its kind and command do, so that the session can say what is missing.
fn withhold(output: Output, mut report: Report) -> Masked<Output> {
    report.withheld = true;
    Masked::new(Output { bytes: Bytes::new(), ..output }, report)
}

/// One run being opened. Methods answer `None` if the cell does not fit the run or the plan.
pub(crate) struct Walk<'a> {
    pub(crate) rules: &'a MaskRules,
    pub(crate) finder: &'a mut Finder,
    edits: &'a mut Vec<Edit>,
    cells: &'a mut Vec<u64>,
    bytes: &'a [u8],
    pub(crate) report: Report,
}

impl<'a> Walk<'a> {
    pub(crate) fn value(&self, cell: &Cell) -> Option<&'a [u8]> {
        self.bytes.get(cell.range.clone()?)
    }

    pub(crate) fn edit(&mut self, cell: &Cell, outcome: Outcome) -> Option<()> {
        let range = cell.range.clone()?;
        let with = match outcome {
            Outcome::Null => None,
            Outcome::Text(bytes) => Some(bytes),
        };
        self.edits.push(Edit { range, with });
        Some(())
    }

    fn row_cell(&mut self, plan: &Plan, cell: &Cell) -> Option<()> {
        if cell.range.is_none() {
            return Some(());
        }
        let value = self.value(cell)?;
        let escaped = plan.shape == Shape::CopyText;
        match cell.part {
            Part::Column(_) if plan.shape == Shape::CopyOther => self.whole(plan, cell, value),
            // A table without columns still has rows: empty lines.
            Part::Column(_) if escaped && (value == b"\\N" || plan.columns.is_empty() && value.is_empty()) => Some(()),
            Part::Column(n) => {
                let column = usize::from(n);
                let edits = self.edits.len();
                self.treat(plan.columns.get(column)?, cell, value, escaped)?;
                if self.edits.len() > edits {
                    self.count(column);
                }
                Some(())
            }
            Part::Whole => self.whole(plan, cell, value),
            Part::Field(_) | Part::Name | Part::Value => None,
        }
    }

    fn count(&mut self, column: usize) {
        if column >= self.cells.len() {
            self.cells.resize(column + 1, 0);
        }
        self.cells[column] += 1;
    }

    /// `escaped`: the value stands in COPY's text format. It is treated as plain text; closing the run escapes again.
    fn treat(&mut self, treatment: &Treatment, cell: &Cell, value: &[u8], escaped: bool) -> Option<()> {
        let plain = (escaped && value.contains(&b'\\')).then(|| crate::text::copy_unescape(value));
        let value = plain.as_deref().unwrap_or(value);
        let outcome = match treatment {
            Treatment::Release => return Some(()),
            Treatment::Mask(with, kind, format, why) => {
                let tag = match why {
                    Why::Tag(tag) => {
                        self.report.count_tag(tag, 1);
                        tag
                    }
                    Why::Lost => {
                        self.report.lost += 1;
                        ""
                    }
                    Why::Unresolved => {
                        self.report.unresolved += 1;
                        ""
                    }
                };
                operator::apply(*with, self.rules.key.as_ref(), tag, *kind, *format, value)
            }
            Treatment::Scan(kind, format, context) => {
                match self.finder.search(self.rules, value, *kind, *format, *context, &mut self.report) {
                    Some(outcome) => outcome,
                    None => return Some(()),
                }
            }
        };
        self.edit(cell, outcome)
    }

    /// A piece that cannot be taken apart: withheld if any column of it would be masked, otherwise searched. Hits alone
    /// are starred out, at the same length: quotes and separators around them stay as they are.
    fn whole(&mut self, plan: &Plan, cell: &Cell, value: &[u8]) -> Option<()> {
        if plan.masks() {
            return None;
        }
        if !plan.scans() || !self.finder.any(value, Context::default(), &mut self.report) {
            return Some(());
        }
        if !matches!(plan.shape, Shape::CopyText | Shape::CopyOther) {
            return None;
        }
        let start = cell.range.as_ref()?.start;
        for hit in &self.finder.hits {
            let range = start + hit.range.start..start + hit.range.end;
            let stars = Bytes::from(vec![b'*'; range.len()]);
            self.edits.push(Edit { range, with: Some(stars) });
        }
        Some(())
    }
}

/// The scanner with what it finds, and the replacing of finds.
pub(crate) struct Finder {
    scanner: Scanner,
    hits: Vec<Hit>,
    scratch: Vec<u8>,
}

impl Finder {
    /// Searches a value of any type; `None` if there is nothing in it.
    fn search(
        &mut self,
        rules: &MaskRules,
        value: &[u8],
        kind: Kind,
        format: CellFormat,
        context: Context,
        report: &mut Report,
    ) -> Option<Outcome> {
        match (kind, format) {
            (Kind::Text, _) => self.replace(rules, value, context, true, report),
            (Kind::Json, _) => self.replace(rules, value, context, false, report),
            (Kind::Integer(_), CellFormat::Binary) => {
                let text = integer_text(value)?;
                self.any(text.as_bytes(), context, report).then_some(Outcome::Null)
            }
            (Kind::Numeric, CellFormat::Binary) => {
                let text = numeric_text(value)?;
                self.any(text.as_bytes(), context, report).then_some(Outcome::Null)
            }
            (Kind::Bytea, CellFormat::Text) if value.starts_with(b"\\x") => {
                let mut scratch = std::mem::take(&mut self.scratch);
                unhex(&value[2..], &mut scratch);
                let found = self.any(&scratch, context, report);
                self.scratch = scratch;
                self.scratch.clear();
                self.scratch.shrink_to(64 * 1024);
                found.then_some(Outcome::Null)
            }
            _ => self.any(value, context, report).then_some(Outcome::Null),
        }
    }

    fn any(&mut self, value: &[u8], context: Context, report: &mut Report) -> bool {
        self.scanner.scan(value, context, &mut self.hits);
        for hit in &self.hits {
            report.detected[hit.detector.index()] += 1;
        }
        !self.hits.is_empty()
    }

    /// Replaces hits inside a text by what their detector's operator makes of them. `anywhere`: any text is legal;
    /// otherwise the value is JSON, and a hit outside a string makes the whole value NULL.
    pub(crate) fn replace(
        &mut self,
        rules: &MaskRules,
        value: &[u8],
        context: Context,
        anywhere: bool,
        report: &mut Report,
    ) -> Option<Outcome> {
        if !self.any(value, context, report) {
            return None;
        }
        if !anywhere && !all_in_strings(value, &self.hits) {
            return Some(Outcome::Null);
        }
        let mut masked = Vec::with_capacity(value.len());
        let mut at = 0;
        for hit in &self.hits {
            let with = rules.operator_of(hit.detector)?;
            let found = value.get(hit.range.clone())?;
            let Outcome::Text(bytes) = operator::text(with, rules.key.as_ref(), hit.detector.as_str(), found) else {
                return Some(Outcome::Null);
            };
            masked.extend_from_slice(value.get(at..hit.range.start)?);
            masked.extend_from_slice(&bytes);
            at = hit.range.end;
        }
        masked.extend_from_slice(value.get(at..)?);
        Some(Outcome::Text(Bytes::from(masked)))
    }
}

/// Whether every hit lies inside one JSON string.
fn all_in_strings(json: &[u8], hits: &[Hit]) -> bool {
    let mut inside = false;
    let mut at = 0;
    for hit in hits {
        while at < hit.range.start {
            match json[at] {
                b'\\' if inside => at += 1,
                b'"' => inside = !inside,
                _ => {}
            }
            at += 1;
        }
        if !inside || json.get(hit.range.clone()).is_none_or(|h| h.contains(&b'"') || h.contains(&b'\\')) {
            return false;
        }
        at = at.max(hit.range.end);
    }
    true
}

fn integer_text(value: &[u8]) -> Option<String> {
    match value.len() {
        4 => Some(i32::from_be_bytes(value.try_into().ok()?).to_string()),
        8 => Some(i64::from_be_bytes(value.try_into().ok()?).to_string()),
        _ => None,
    }
}

/// The digits before the decimal point of a binary numeric (`numeric_send`): count, weight, sign, scale, then groups of
/// four digits. Numbers with more than 40 digits hold nothing we look for.
fn numeric_text(value: &[u8]) -> Option<String> {
    let word = |i: usize| Some(u16::from_be_bytes([*value.get(2 * i)?, *value.get(2 * i + 1)?]));
    let count = usize::from(word(0)?);
    let weight = i16::from_be_bytes(word(1)?.to_be_bytes());
    if !(0..10).contains(&weight) || count > 1000 {
        return None;
    }
    let mut text = String::new();
    for i in 0..=weight as usize {
        let group = if i < count { word(4 + i)? } else { 0 };
        text.push_str(&if i == 0 { group.to_string() } else { format!("{group:04}") });
    }
    Some(text)
}

fn unhex(text: &[u8], into: &mut Vec<u8>) {
    let nibble = |b: u8| char::from(b).to_digit(16).unwrap_or(0) as u8;
    into.clear();
    into.extend(text.chunks_exact(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])));
}
