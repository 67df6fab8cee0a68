//! The masker: decides which values may be seen and changes the others before anybody sees them.
//!
//! It is the only place that can make a [`Masked`]. Column rules become tags on a [`Catalog`] of the resource's
//! relations; a [`Plan`] is decided once per result from the tags, the lineage on the wire and what the statement said
//! ([`Exposure`]); a [`Masker`] carries the plan out on runs of output through [`chancery_model::Anatomy`].
//! What it cannot prove harmless it masks; what it cannot open it withholds. What it did it can tell as a
//! [`chancery_model::MaskMap`], and [`Again`] does what a map says once more, for whoever has the originals.
//! This crate knows nothing of protocols, statement text grammar, rules of access, ledgers, files, clocks or sockets.

mod again;
mod aside;
mod catalog;
mod detect;
mod fold;
mod literal;
mod map;
mod masked;
mod masker;
mod numbers;
mod operator;
mod plan;
mod rules;
mod tags;
mod text;

pub use again::{Again, Compared};
pub use catalog::{
    AttributeRow, Catalog, CatalogInput, Customs, GeneratedColumn, RelationRow, ViewColumn, ViewDependency,
};
pub use detect::{Context, Hit, Scanner};
pub use map::DETECTORS_VERSION;
pub use masked::{Joined, Masked, Report};
pub use masker::Masker;
pub use plan::{Exposure, Plan, Unknown, WhenUnknown};
pub use rules::{ColumnRule, Detector, MaskRules, Operator, TokenKey};
pub use tags::{Lifted, Tags};
