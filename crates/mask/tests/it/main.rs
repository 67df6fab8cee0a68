//! Tests of the masker from outside: decisions, outputs, and how well detectors find.

mod again;
mod corpus;
mod decisions;
mod fake;
mod outputs;
