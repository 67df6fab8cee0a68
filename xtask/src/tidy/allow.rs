//! Written exceptions: `[[allow]]` with a rule, a path, an item and a reason.

use super::Finding;
use anyhow::{Result, bail};

const REASON_MIN: usize = 20;

/// One exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allow {
    rule: String,
    path: String,
    item: String,
}

/// Reads the list. An unknown key, a missing one or a reason too short to be one is an error.
pub(crate) fn parse(text: &str) -> Result<Vec<Allow>> {
    let table: toml::Table = text.parse()?;
    if let Some(key) = table.keys().find(|key| *key != "allow") {
        bail!("xtask/tidy-allow.toml: unknown key {key:?}");
    }
    let entries = table.get("allow").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let mut allowed = Vec::new();
    for entry in &entries {
        let word = |key: &str| entry.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let (rule, path, item, reason) = (word("rule"), word("path"), word("item"), word("reason"));
        if rule.is_empty() || path.is_empty() || reason.len() < REASON_MIN {
            bail!("xtask/tidy-allow.toml: an entry needs rule, path and a reason of a sentence: {entry}");
        }
        allowed.push(Allow { rule, path, item });
    }
    Ok(allowed)
}

/// Takes away what is allowed, and adds a finding for each exception that nothing needs.
pub(crate) fn apply(findings: Vec<Finding>, allowed: &[Allow]) -> Vec<Finding> {
    let covers = |allow: &Allow, finding: &Finding| {
        allow.rule == finding.rule && allow.path == finding.path && allow.item == finding.item
    };
    let mut left: Vec<Finding> = findings.iter().filter(|f| !allowed.iter().any(|a| covers(a, f))).cloned().collect();
    for allow in allowed.iter().filter(|a| !findings.iter().any(|f| covers(a, f))) {
        left.push(Finding {
            path: "xtask/tidy-allow.toml".to_owned(),
            line: 1,
            rule: "unused-exception",
            item: String::new(),
            text: format!("{} in {} {} is not needed: remove it", allow.rule, allow.path, allow.item),
        });
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(rule: &'static str, item: &str) -> Finding {
        Finding { path: "a.rs".to_owned(), line: 3, rule, item: item.to_owned(), text: String::new() }
    }

    const ONE: &str = "[[allow]]\nrule = \"r\"\npath = \"a.rs\"\nitem = \"f\"\nreason = \"one long table of cases\"";

    #[test]
    fn an_exception_covers_only_its_item() {
        let allowed = parse(ONE).expect("the list is well formed");
        assert_eq!(apply(vec![finding("r", "f"), finding("r", "g")], &allowed), vec![finding("r", "g")]);
    }

    #[test]
    fn an_unused_exception_is_found() {
        let allowed = parse(ONE).expect("the list is well formed");
        assert_eq!(apply(Vec::new(), &allowed)[0].rule, "unused-exception");
    }

    #[test]
    fn an_exception_without_a_reason_is_an_error() {
        assert!(parse("[[allow]]\nrule = \"r\"\npath = \"a.rs\"\nitem = \"f\"\nreason = \"eh\"").is_err());
        assert!(parse("[[allows]]\nrule = \"r\"").is_err());
    }
}
