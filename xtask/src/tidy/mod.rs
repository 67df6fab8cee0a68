//! The rules of the house that neither the compiler nor clippy can see.
//!
//! Each rule is a function from text to findings, tested on an example that breaks it. A finding names a file, a line
//! and what to do. The only way around a rule is an entry with a reason in `xtask/tidy-allow.toml`; an entry that no
//! finding needs is a finding itself.

mod allow;
mod manifests;
mod source;
mod words;

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Something to repair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    /// What the allow-list calls this finding by: a function, a crate, a word; empty for the whole file.
    item: String,
    text: String,
}

/// Every file of the repository that is text, by its path from the root with forward slashes.
pub(crate) type Tree = BTreeMap<String, String>;

/// Checks the whole tree and prints what it finds.
pub(crate) fn run(root: &Path) -> Result<()> {
    let tree = read(root)?;
    let allowed = allow::parse(tree.get("xtask/tidy-allow.toml").map_or("", String::as_str))?;
    let findings = allow::apply(check(&tree), &allowed);
    for finding in &findings {
        println!("{}:{}: {}: {}", finding.path, finding.line, finding.rule, finding.text);
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files, nothing found", tree.len());
            Ok(())
        }
        n => bail!("{n} findings"),
    }
}

/// All findings of all rules.
fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = manifests::check(tree);
    findings.extend(source::check(tree));
    findings.extend(words::check(tree));
    findings.sort();
    findings
}

/// Reads what git knows or would add. Files that are not UTF-8 have no rules to keep.
fn read(root: &Path) -> Result<Tree> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("cannot run git")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let list = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut tree = Tree::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            tree.insert(path.to_owned(), text);
        }
    }
    Ok(tree)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Finding, Tree};

    /// A tree of the given files.
    pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    /// The findings as `path:line: rule`.
    pub(crate) fn brief(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(|f| format!("{}:{}: {}", f.path, f.line, f.rule)).collect()
    }
}
