//! Coverage-guided fuzzing on the stable toolchain.
//!
//! libFuzzer is compiled from the `libfuzzer-sys` crate; the compiler's own coverage pass is switched on by flags, so no
//! nightly compiler and no extra cargo command are needed. What is lost against a nightly build are the sanitizers;
//! with `unsafe` forbidden in the house, panics, overflows, hangs and memory growth are what there is to find.
//!
//! The fuzz crate has its own workspace, lock file and target directory: its flags never touch the normal build.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

const FLAGS: &[&str] = &[
    "--cfg",
    "fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // The pass writes its counters into sections that only whole object files carry through the linker.
    "-Ccodegen-units=1",
    "-Cdebug-assertions=yes",
    "-Coverflow-checks=yes",
];

/// The names of the targets that fuzz/Cargo.toml lists.
pub(crate) fn targets(root: &Path) -> Result<Vec<String>> {
    let path = root.join("fuzz/Cargo.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: toml::Table = text.parse().with_context(|| format!("cannot parse {}", path.display()))?;
    let bins = manifest.get("bin").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    Ok(bins.iter().filter_map(|bin| bin.get("name")?.as_str().map(str::to_owned)).collect())
}

/// Runs `fuzz [--seconds N] [TARGET]`.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    let (seconds, only) = parse(arguments)?;
    let mut targets = targets(root)?;
    if let Some(only) = only {
        if !targets.iter().any(|target| target == only) {
            bail!("no fuzz target {only:?}; there are: {}", targets.join(", "));
        }
        targets.retain(|target| target == only);
    }
    build(root, &targets)?;
    let mut failed = Vec::new();
    for target in &targets {
        println!("fuzz: {target} for {seconds} s");
        if !run_one(root, target, seconds)? {
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() {
        println!("fuzz: {} targets, none failed", targets.len());
        return Ok(());
    }
    bail!("fuzz targets that failed: {} (inputs in fuzz/artifacts)", failed.join(", "))
}

fn parse<'a>(arguments: &[&'a str]) -> Result<(u64, Option<&'a str>)> {
    let (mut seconds, mut only) = (10, None);
    let mut rest = arguments.iter().copied();
    while let Some(word) = rest.next() {
        match word {
            "--seconds" => seconds = rest.next().context("--seconds needs a number")?.parse().context("--seconds")?,
            flag if flag.starts_with('-') => bail!("unknown option {flag}"),
            name => only = Some(name),
        }
    }
    Ok((seconds, only))
}

/// Builds the targets. Each is a feature of the same name, so that one alone compiles only what it needs.
fn build(root: &Path, targets: &[String]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root.join("fuzz")).args(["build", "--release", "--locked", "--quiet"]);
    // With an explicit target triple the flags stay away from build scripts and procedural macros.
    cargo.args(["--target", &host()?]);
    cargo.arg("--features").arg(targets.join(","));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}")).env("CARGO_TARGET_DIR", root.join("fuzz/target"));
    if !cargo.status().context("cannot run cargo")?.success() {
        bail!("the fuzz targets do not build");
    }
    Ok(())
}

fn run_one(root: &Path, target: &str, seconds: u64) -> Result<bool> {
    let corpus = root.join("fuzz/corpus").join(target);
    let artifacts = root.join("fuzz/artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut program = Command::new(root.join("fuzz/target").join(host()?).join("release").join(target));
    program.arg(&corpus);
    let seeds = root.join("fuzz/seeds").join(target);
    if seeds.is_dir() {
        program.arg(seeds);
    }
    program.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", artifacts.display())).args([
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-max_len=65536",
        "-print_final_stats=1",
        "-verbosity=1",
    ]);
    let output = program.stdin(Stdio::null()).output().with_context(|| format!("cannot run fuzz target {target}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{text}");
        return Ok(false);
    }
    match growth(&text) {
        Some((first, last)) => println!("fuzz: {target}: coverage {first} to {last}, {}", executions(&text)),
        None => {
            eprintln!("{text}\nfuzz: {target}: no coverage counters: the flags in xtask/src/fuzz.rs no longer work");
            return Ok(false);
        }
    }
    Ok(true)
}

/// First and last `cov:` figure of a libFuzzer log; nothing when it never printed one.
fn growth(log: &str) -> Option<(u64, u64)> {
    let mut figures = log.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "cov:");
        words.nth(1)?.parse().ok()
    });
    let first = figures.next()?;
    Some((first, figures.next_back().unwrap_or(first)))
}

fn executions(log: &str) -> String {
    let figure = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    format!("{} runs", figure.map_or("?", str::trim))
}

fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not name its host")?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_reads_the_first_and_last_figure() {
        let log = "INFO: seed\n#2\tINITED cov: 12 ft: 13\n#9\tNEW    cov: 40 ft: 60 corp: 2/3b\nDone 9 runs";
        assert_eq!(growth(log), Some((12, 40)));
        assert_eq!(growth("INFO: no inputs"), None);
    }

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&["--seconds", "3", "sql"]).ok(), Some((3, Some("sql"))));
        assert_eq!(parse(&[]).ok(), Some((10, None)));
        assert!(parse(&["--seconds"]).is_err());
        assert!(parse(&["--fast"]).is_err());
    }
}
