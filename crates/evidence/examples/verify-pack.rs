//! Verifies a pack without a gateway's program, and prints the document that `chancery evidence verify --json` prints. The
//! signatures of approvals are not checked.
//!
//! `cargo run -p chancery-evidence --example verify-pack -- PACK ROOTS [POLICY]`; exit codes as in `docs/spec/pack.md`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "an example is a door: it reads the files")]

use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::process::ExitCode;

use chancery_evidence::{PackVerifier, Trusted};
use chancery_ledger::{Roots, Verdict, WitnessPolicy};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (pack, roots, policy) = match arguments.as_slice() {
        [pack, roots] => (pack, roots, None),
        [pack, roots, policy] => (pack, roots, Some(fs::read_to_string(policy)?)),
        _ => return Err("usage: verify-pack PACK ROOTS [POLICY]".into()),
    };
    let roots = Roots::parse(&fs::read_to_string(roots)?)?;
    let witnesses = policy.as_deref().map(WitnessPolicy::parse).transpose()?;
    let mut verifier = PackVerifier::new(Trusted { roots, witnesses, checkpoints: Vec::new(), signatures: None });
    let mut file = File::open(pack)?;
    let mut buffer = vec![0; 1 << 20];
    let malformed = |error| {
        eprintln!("this is no evidence pack of version 1: {error}");
        Ok(ExitCode::from(3))
    };
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        if let Err(error) = verifier.feed(&buffer[..n]) {
            return malformed(error);
        }
    }
    let report = match verifier.finish() {
        Ok(report) => report,
        Err(error) => return malformed(error),
    };
    println!("{}", report.document());
    Ok(match report.verdict() {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Fail => ExitCode::from(1),
        Verdict::Inconclusive => ExitCode::from(2),
    })
}
