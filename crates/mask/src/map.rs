//! Tells what masking did, as a [`MaskMap`]. Not here: the form in which maps are written, and doing it again (`again`).

use chancery_model::{MappedColumn, MaskMap, Treated};

use crate::plan::{Treatment, Why};
use crate::{Detector, Masker, Operator, Plan, Report};

/// Version of detectors and operators. It is raised when one of them finds, or writes, anything else than before: maps
/// say by which version a recording was masked.
pub const DETECTORS_VERSION: u64 = 1;

/// Counts kept allocated between results.
const KEEP_CELLS: usize = 64;

impl Masker {
    /// Tells what was done to outputs: by a result's plan, to texts as the word says, with these reports, asides changed
    /// and the cells counted since the last time.
    pub fn map(&mut self, plan: Option<&Plan>, text: Option<&'static str>, report: &Report, asides: u64) -> MaskMap {
        let columns = plan.map_or(&[][..], |plan| &plan.columns[..]).iter().enumerate();
        let columns = columns.filter_map(|(position, treatment)| self.mapped(position, treatment)).collect();
        let named = || MaskMap::DETECTORS.into_iter().filter_map(|name| Some((name, Detector::parse(name)?)));
        let on = named().filter_map(|(name, detector)| Some((name, self.rules.operator_of(detector)?)));
        let hits = named().map(|(name, detector)| (name, report.detected[detector.index()]));
        let map = MaskMap {
            shape: plan.and_then(|plan| plan.shape.as_str()),
            width: plan.map_or(0, |plan| plan.columns.len()),
            columns,
            cut: false,
            text,
            texts: report.texts,
            asides,
            detect: on.map(|(name, with)| (name, self.effective(with).as_str())).collect(),
            hits: hits.filter(|(_, hits)| *hits > 0).collect(),
            detectors: DETECTORS_VERSION,
            withheld: report.withheld,
        };
        self.cells.clear();
        self.cells.shrink_to(KEEP_CELLS);
        map
    }

    fn mapped(&self, position: usize, treatment: &Treatment) -> Option<MappedColumn> {
        let (kind, format, treated) = match treatment {
            Treatment::Release => return None,
            Treatment::Scan(kind, format, context) => (kind, format, Treated::Searched { ssn: context.ssn }),
            Treatment::Mask(with, kind, format, why) => {
                let with = self.effective(*with).as_str();
                let treated = match why {
                    Why::Tag(tag) => Treated::Tagged(with, tag.clone()),
                    Why::Lost => Treated::Lost(with),
                    Why::Unresolved => Treated::Unresolved(with),
                };
                (kind, format, treated)
            }
        };
        let cells = self.cells.get(position).copied().unwrap_or(0);
        Some(MappedColumn { position, format: *format, kind: kind.as_str(), treated, cells })
    }

    /// What an operator does, with the keys that there are.
    fn effective(&self, with: Operator) -> Operator {
        if with == Operator::Token && self.rules.key.is_none() { Operator::Redact } else { with }
    }
}
