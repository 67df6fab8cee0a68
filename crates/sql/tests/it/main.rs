//! Facts of a table of statements, hostile texts, and the promise of the shape key.

mod execute;
mod hostile;
mod shapes;
mod statements;
