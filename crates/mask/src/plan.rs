//! What happens to each column of a result, decided once per result.

use std::sync::Arc;

use chancery_model::{CellFormat, Column, Columns, CopyFact, Facts, Origin};

use crate::catalog::Marks;
use crate::operator::Kind;
use crate::{Catalog, Context, Detector, Lifted, MaskRules, Operator, Tags};

/// What the statement said about the values that can reach its output.
#[derive(Clone, Debug, Default)]
pub struct Exposure {
    /// It names a relation with tagged columns, or one that is not in the catalog.
    pub touches_tagged: bool,
    /// What it reads cannot be told from its text.
    pub opaque: bool,
    /// The tags of the relations it names. Empty although it touches some: any tag.
    pub tags: Tags,
    /// Output positions proven to be `count(*)` or `count(column)`: released although their origin is lost.
    /// Not heeded for an opaque statement.
    pub declassified: Vec<u16>,
}

impl Exposure {
    /// A statement that reads nothing tagged.
    pub fn none() -> Self {
        Self::default()
    }

    /// Something nobody can read, or whose statement is not known.
    pub fn opaque() -> Self {
        Self { touches_tagged: true, opaque: true, ..Self::default() }
    }

    /// What the facts of a command say against a catalog. Unreadable is opaque.
    pub fn of(catalog: &Catalog, facts: &Facts) -> Self {
        if !catalog.tags_columns() {
            return Self::none();
        }
        let mut exposure = Self { opaque: facts.is_opaque() || facts.why_unreadable().is_some(), ..Self::default() };
        for table in facts.tables() {
            exposure.tags.join(&catalog.tags_of(table));
        }
        for statement in &facts.statements {
            exposure.tags.join(&catalog.tags_checked_by(statement));
        }
        exposure.opaque |= facts.statements.iter().any(|statement| catalog.runs_custom_code(statement));
        // Of several statements it is not known which one a result belongs to.
        if let [statement] = facts.statements.as_slice() {
            exposure.declassified.clone_from(&statement.counts);
        }
        exposure.touches_tagged = !exposure.tags.is_empty();
        exposure
    }

    /// The tags whose values could flow into an output of unproven origin, less those lifted; `None` if none can.
    fn flowing(&self, catalog: &Catalog, lifted: &Lifted) -> Option<Tags> {
        if !catalog.tags_columns() || !(self.opaque || self.touches_tagged) {
            return None;
        }
        let every = catalog.every_tag();
        let all = self.opaque || self.tags.is_empty() || !self.tags.is_within(&every);
        let mut held = Tags::none();
        for tag in if all { &every } else { &self.tags }.iter() {
            if catalog.tag_name(tag).is_none_or(|name| !lifted.contains(name)) {
                held.insert(tag);
            }
        }
        (!held.is_empty()).then_some(held)
    }
}

/// Relations of a result that are not in the catalog: refresh it and ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Their OIDs.
    pub relations: Vec<u32>,
}

/// What to do with columns of relations that are not in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUnknown {
    /// Say so: the catalog can still be refreshed.
    Ask,
    /// It was refreshed: they count as tagged with every tag.
    TreatAsTagged,
}

/// Why a cell is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Tag(Arc<str>),
    Lost,
    Unresolved,
}

/// What happens to the cells of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    Release,
    Scan(Kind, CellFormat, Context),
    Mask(Operator, Kind, CellFormat, Why),
}

/// What happens to errors and notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextTreatment {
    Release,
    Scan,
    Replace,
}

impl TextTreatment {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Scan => "search",
            Self::Replace => "replace",
        }
    }

    /// The gateway's own words pass.
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "release" | "own" => Self::Release,
            "search" => Self::Scan,
            _ => Self::Replace,
        }
    }
}

/// What kind of output the columns are meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Rows,
    /// COPY in the default text format, whose rows can be taken apart.
    CopyText,
    /// COPY in binary format, whose rows can be taken apart too.
    CopyBinary,
    /// COPY in csv or with options: pieces that are only searched.
    CopyOther,
    /// No rows at all.
    Text,
    /// Whatever comes passes: no rule could change it.
    Any,
}

impl Shape {
    /// The words of mask maps; without a result there is none.
    const WORDS: [(Self, &str); 5] = [
        (Self::Rows, "rows"),
        (Self::CopyText, "copy-text"),
        (Self::CopyBinary, "copy-binary"),
        (Self::CopyOther, "copy-other"),
        (Self::Any, "any"),
    ];

    pub(crate) fn as_str(self) -> Option<&'static str> {
        Self::WORDS.iter().find(|(shape, _)| *shape == self).map(|(_, word)| *word)
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, other)| *other == word).map(|(shape, _)| *shape)
    }
}

/// What happens to the output of one command's result. Holds no values.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) shape: Shape,
    pub(crate) columns: Vec<Treatment>,
    pub(crate) text: TextTreatment,
}

impl Plan {
    /// The plan for rows of this description.
    ///
    /// # Errors
    /// With [`WhenUnknown::Ask`]: the relations that the catalog does not know (or whose columns it does not).
    pub fn rows(
        catalog: &Catalog,
        rules: &MaskRules,
        lifted: &Lifted,
        exposure: &Exposure,
        columns: &Columns,
        when_unknown: WhenUnknown,
    ) -> Result<Self, Unknown> {
        let judge = Judge::new(catalog, rules, lifted, exposure);
        let mut unknown = Unknown { relations: Vec::new() };
        let mut treatments = Vec::with_capacity(columns.columns.len());
        for (position, column) in columns.columns.iter().enumerate() {
            treatments.push(judge.column(position, column).unwrap_or_else(|relation| {
                if !unknown.relations.contains(&relation) {
                    unknown.relations.push(relation);
                }
                judge.unresolved(Kind::of(column.type_id), column.format)
            }));
        }
        if when_unknown == WhenUnknown::Ask && !unknown.relations.is_empty() {
            return Err(unknown);
        }
        Ok(Self { shape: Shape::Rows, columns: treatments, text: judge.text() })
    }

    /// The plan for bulk data out. `binary` and `columns` are what the resource announced.
    pub fn copy(
        catalog: &Catalog,
        rules: &MaskRules,
        lifted: &Lifted,
        exposure: &Exposure,
        fact: &CopyFact,
        binary: bool,
        columns: u16,
    ) -> Self {
        let judge = Judge::new(catalog, rules, lifted, exposure);
        let (shape, format) = match fact.format.as_str() {
            "binary" if binary => (Shape::CopyBinary, CellFormat::Binary),
            "text" if !binary && !fact.has_options => (Shape::CopyText, CellFormat::Text),
            _ => (Shape::CopyOther, CellFormat::Text),
        };
        Self { shape, columns: judge.copy(fact, usize::from(columns), format), text: judge.text() }
    }

    /// The plan for a command without rows: errors and notices only. Rows that come anyway are withheld.
    pub fn text(catalog: &Catalog, rules: &MaskRules, lifted: &Lifted, exposure: &Exposure) -> Self {
        let judge = Judge::new(catalog, rules, lifted, exposure);
        Self { shape: Shape::Text, columns: Vec::new(), text: judge.text() }
    }

    /// The plan where there is nothing to do ([`MaskRules::is_idle`]); `None` if there is.
    pub fn idle(rules: &MaskRules) -> Option<Self> {
        rules.is_idle().then(|| Self { shape: Shape::Any, columns: Vec::new(), text: TextTreatment::Release })
    }

    /// Nothing masked, nothing searched: runs pass without being opened.
    pub fn is_clear(&self) -> bool {
        self.rows_are_clear() && self.text == TextTreatment::Release
    }

    /// True if columns would have to be masked in a format that cannot be taken apart (COPY in csv or with options).
    /// Every piece of it will be withheld: refuse such a command before it runs.
    pub fn is_impossible(&self) -> bool {
        self.shape == Shape::CopyOther && self.masks()
    }

    /// Positions of columns that are masked whole.
    pub fn masked_columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.columns.iter().enumerate().filter(|(_, t)| matches!(t, Treatment::Mask(..))).map(|(i, _)| i)
    }

    /// How errors and notices are treated, in the word of mask maps.
    pub fn text_word(&self) -> &'static str {
        self.text.as_str()
    }

    pub(crate) fn rows_are_clear(&self) -> bool {
        self.columns.iter().all(|t| *t == Treatment::Release)
    }

    pub(crate) fn masks(&self) -> bool {
        self.columns.iter().any(|t| matches!(t, Treatment::Mask(..)))
    }

    pub(crate) fn scans(&self) -> bool {
        self.columns.iter().any(|t| matches!(t, Treatment::Scan(..)))
    }
}

struct Judge<'a> {
    catalog: &'a Catalog,
    lifted: &'a Lifted,
    exposure: &'a Exposure,
    /// Whether tagged values could reach a column of unproven origin.
    tainted: bool,
    scans: bool,
    finds_ssn: bool,
}

impl<'a> Judge<'a> {
    fn new(catalog: &'a Catalog, rules: &MaskRules, lifted: &'a Lifted, exposure: &'a Exposure) -> Self {
        Self {
            catalog,
            lifted,
            exposure,
            tainted: exposure.flowing(catalog, lifted).is_some(),
            scans: !rules.detect.is_empty(),
            finds_ssn: rules.operator_of(Detector::Ssn).is_some(),
        }
    }

    /// The treatment of a column of a result, or the relation that is unknown.
    fn column(&self, position: usize, column: &Column) -> Result<Treatment, u32> {
        let kind = Kind::of(column.type_id);
        let context = Context::of_name(&column.name);
        if !self.catalog.tags_columns() {
            return Ok(self.searched(kind, column.format, context));
        }
        match column.origin {
            Origin::Attribute(oid, number) => {
                let marks = self.catalog.marks(oid, number).ok_or(oid)?;
                let named = self.catalog.column_name(oid, number).map(Context::of_name).unwrap_or_default();
                Ok(self.marked(&marks, kind, column.format, context.or(named)))
            }
            Origin::WholeRow(oid) => {
                let marks = self.catalog.whole_marks(oid).ok_or(oid)?;
                Ok(self.marked(&marks, kind, column.format, context))
            }
            Origin::Lost => {
                let proven = !self.exposure.opaque
                    && kind == Kind::Integer(8)
                    && self.exposure.declassified.iter().any(|p| usize::from(*p) == position);
                if self.tainted && !proven {
                    return Ok(Treatment::Mask(Operator::Redact, kind, column.format, Why::Lost));
                }
                Ok(self.searched(kind, column.format, context))
            }
        }
    }

    /// The strictest operator of the tags that are not lifted. If all are, the value is shown as it is: the permit is
    /// for this very column, so detectors do not search it.
    fn marked(&self, marks: &Marks, kind: Kind, format: CellFormat, context: Context) -> Treatment {
        let held = marks.iter().filter_map(|(tag, with)| {
            let name = self.catalog.tag_name(*tag)?;
            (!self.lifted.contains(name)).then_some((name, *with))
        });
        match held.max_by_key(|(_, with)| with.strictness()) {
            Some((name, with)) => Treatment::Mask(with, kind, format, Why::Tag(name.clone())),
            None if marks.is_empty() => self.searched(kind, format, context),
            None => Treatment::Release,
        }
    }

    /// A column of a relation that no refresh made known: every tag.
    fn unresolved(&self, kind: Kind, format: CellFormat) -> Treatment {
        if self.catalog.every_tag().iter().all(|t| self.catalog.tag_name(t).is_some_and(|n| self.lifted.contains(n))) {
            return Treatment::Release;
        }
        Treatment::Mask(Operator::Redact, kind, format, Why::Unresolved)
    }

    /// Untagged: released, and searched if its type can carry what detectors look for.
    fn searched(&self, kind: Kind, format: CellFormat, context: Context) -> Treatment {
        let carries = match kind {
            Kind::Plain | Kind::Date | Kind::Timestamp | Kind::Timestamptz | Kind::Integer(2) => false,
            Kind::Integer(4) => self.finds_ssn && context.ssn,
            Kind::Integer(_) | Kind::Numeric | Kind::Text | Kind::Json | Kind::Bytea | Kind::Other => true,
        };
        if self.scans && carries { Treatment::Scan(kind, format, context) } else { Treatment::Release }
    }

    fn text(&self) -> TextTreatment {
        match (self.tainted, self.scans) {
            (true, _) => TextTreatment::Replace,
            (false, true) => TextTreatment::Scan,
            (false, false) => TextTreatment::Release,
        }
    }

    /// The treatments of `count` columns of bulk data. Where a column's type is not known, NULL is the only mask.
    fn copy(&self, fact: &CopyFact, count: usize, format: CellFormat) -> Vec<Treatment> {
        let searched = |context| self.searched(Kind::Other, format, context);
        let masked = |why| Treatment::Mask(Operator::Redact, Kind::Other, format, why);
        let Some(table) = &fact.table else {
            return vec![if self.tainted { masked(Why::Lost) } else { searched(Context::default()) }; count];
        };
        let named = fact.columns.iter().map(|n| Context::of_name(n)).fold(Context::default(), Context::or);
        let Some(oid) = self.catalog.relation_of(table) else {
            let tags = self.catalog.tags_of(table);
            let held = tags.iter().any(|t| self.catalog.tag_name(t).is_some_and(|n| !self.lifted.contains(n)));
            return vec![if held { masked(Why::Unresolved) } else { searched(named) }; count];
        };
        let columns = self.copied(fact, count);
        if columns.len() != count {
            // Which column stands where is not certain: each may be any.
            let marks = self.catalog.whole_marks(oid).unwrap_or_default();
            return vec![self.marked(&marks, Kind::Other, format, named); count];
        }
        let one = |(number, name, kind): &(i16, &str, Kind)| {
            let marks = self.catalog.marks(oid, *number).unwrap_or_default();
            self.marked(&marks, *kind, format, Context::of_name(name))
        };
        columns.iter().map(one).collect()
    }

    /// The columns that a COPY of a table writes, in order. Generated columns are not written; if the catalog's list does
    /// not have the announced length, nothing is certain and the answer is empty.
    fn copied(&self, fact: &CopyFact, count: usize) -> Vec<(i16, &str, Kind)> {
        let Some(table) = &fact.table else { return Vec::new() };
        let all = self.catalog.columns_of(table);
        let chosen: Vec<_> = if fact.columns.is_empty() {
            if all.len() == count { all } else { Vec::new() }
        } else {
            let find = |name: &String| all.iter().find(|(_, n, _)| n == name).copied();
            fact.columns.iter().map_while(find).collect()
        };
        chosen.into_iter().map(|(number, name, type_id)| (number, name, Kind::of(type_id))).collect()
    }
}
