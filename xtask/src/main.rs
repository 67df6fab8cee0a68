//! The tasks of the house: `cargo xtask ci` is the whole gate, `tidy` the part of it that checks the house's own rules.
//!
//! This crate knows nothing of what the gateway does; it reads manifests and sources as text and runs programs.

mod browser;
mod ci;
mod fuzz;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask TASK

  tidy                        check the rules of the house: walls, bans, sizes, words
  ci [--only STEP] [--list]   the whole gate; prints each step's time
  browser                     build the page that verifies packs, target/browser/verify.html
  fuzz [--seconds N] [TARGET] run the fuzz targets (default: every target, 10 seconds each)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    let outcome = match words.as_slice() {
        ["tidy"] => tidy::run(&root),
        ["ci", rest @ ..] => ci::run(&root, rest),
        ["browser"] => browser::run(&root),
        ["fuzz", rest @ ..] => fuzz::run(&root, rest),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's directory: the parent of this crate's.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
