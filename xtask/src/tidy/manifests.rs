//! Walls: who may depend on whom, and what keeps thought away from the world.
//!
//! The table here is the one of ARCHITECTURE.md and ADR 0001 and 0002; changing it takes an ADR.

use super::{Finding, Tree};

/// Which storey a crate lives on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Storey {
    /// Plain words: nothing but data.
    Words,
    /// Protocols and judgement: no file, socket, clock or randomness.
    Thought,
    /// Keys, disk, sockets, pages.
    Hands,
    /// The program.
    Binary,
    /// A door of the house for browsers: it may no more than thought.
    Page,
}

struct Wall {
    name: &'static str,
    storey: Storey,
    may_use: &'static [&'static str],
}

const TABLE: &[Wall] = &[
    Wall { name: "model", storey: Storey::Words, may_use: &[] },
    Wall { name: "wire", storey: Storey::Thought, may_use: &["model"] },
    Wall { name: "wire-pg", storey: Storey::Thought, may_use: &["wire", "model"] },
    Wall { name: "sql", storey: Storey::Thought, may_use: &["model"] },
    Wall { name: "policy", storey: Storey::Thought, may_use: &["sql", "model"] },
    Wall { name: "mask", storey: Storey::Thought, may_use: &["model"] },
    Wall { name: "ledger", storey: Storey::Thought, may_use: &["model"] },
    // By ADR 0013: a pack is derived from entries alone.
    Wall { name: "evidence", storey: Storey::Thought, may_use: &["ledger", "model"] },
    Wall { name: "identity", storey: Storey::Thought, may_use: &["model"] },
    // `sql` by ADR 0002: the session turns a command's text into facts itself.
    Wall { name: "session", storey: Storey::Thought, may_use: &["wire", "sql", "policy", "mask", "ledger", "model"] },
    Wall { name: "secrets", storey: Storey::Hands, may_use: &["model"] },
    Wall { name: "store", storey: Storey::Hands, may_use: &["ledger", "model"] },
    Wall {
        name: "gateway",
        storey: Storey::Hands,
        may_use: &[
            "wire", "wire-pg", "sql", "policy", "mask", "ledger", "evidence", "identity", "session", "secrets",
            "store", "model",
        ],
    },
    // By ADR 0014: the verifier without a file system.
    Wall { name: "browser", storey: Storey::Page, may_use: &["evidence", "ledger"] },
    Wall { name: "console", storey: Storey::Hands, may_use: &["store", "policy", "ledger", "identity", "model"] },
    // Everything, by ADR 0002: the binary builds each part and hands it to the others.
    Wall {
        name: "cli",
        storey: Storey::Binary,
        may_use: &[
            "gateway", "console", "wire", "wire-pg", "sql", "policy", "mask", "ledger", "evidence", "identity",
            "session", "secrets", "store", "model",
        ],
    },
];

/// Packages that reach a file, socket, clock or runtime, and so stay in the hands storey.
const WORLDLY: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "hyper",
    "hyper-util",
    "http-body-util",
    "axum",
    "reqwest",
    "object_store",
    "rustls",
    "tokio-rustls",
    "sqlx",
    "rustix",
    "notify",
    "tracing-subscriber",
    "rand",
    "getrandom",
    "mimalloc",
    "clap",
];

/// `anyhow` erases who is at fault, so only the binary (and this tool) may use it.
const BINARY_ONLY: &[&str] = &["anyhow"];

/// What every words and thought crate's clippy.toml must be, to the letter.
const THOUGHT_CLIPPY: &str = include_str!("../../thought-clippy.toml");

/// Findings about every manifest in the tree.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    root(tree, &mut findings);
    for (path, text) in tree {
        let Some(name) = path.strip_prefix("crates/").and_then(|rest| rest.strip_suffix("/Cargo.toml")) else {
            continue;
        };
        let mut report = |rule, item: &str, text: String| {
            findings.push(Finding { path: path.clone(), line: 1, rule, item: item.to_owned(), text });
        };
        let Ok(manifest) = text.parse::<toml::Table>() else {
            report("manifest", "", "is not TOML".to_owned());
            continue;
        };
        match TABLE.iter().find(|wall| wall.name == name) {
            Some(wall) => crate_manifest(wall, &manifest, tree, &mut report),
            None => report("wall", name, format!("{name} is not in the table of walls: a new crate needs an ADR")),
        }
    }
    fuzz(tree, &mut findings);
    findings
}

fn root(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(manifest) = tree.get("Cargo.toml").and_then(|text| text.parse::<toml::Table>().ok()) else {
        return;
    };
    let level = ["workspace", "lints", "rust", "unsafe_code"]
        .iter()
        .try_fold(&toml::Value::Table(manifest), |value, key| value.get(key))
        .and_then(toml::Value::as_str)
        .map(str::to_owned);
    if level.as_deref() != Some("forbid") {
        findings.push(Finding {
            path: "Cargo.toml".to_owned(),
            line: 1,
            rule: "unsafe",
            item: String::new(),
            text: "[workspace.lints.rust] must say unsafe_code = \"forbid\"".to_owned(),
        });
    }
}

fn crate_manifest(
    wall: &Wall,
    manifest: &toml::Table,
    tree: &Tree,
    report: &mut impl FnMut(&'static str, &str, String),
) {
    if manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool()) != Some(true) {
        report("lints", "", "must take the workspace's lints: [lints] workspace = true".to_owned());
    }
    let thoughtful = matches!(wall.storey, Storey::Words | Storey::Thought | Storey::Page);
    for (name, in_tests) in dependencies(manifest) {
        if let Some(inner) = name.strip_prefix("chancery-") {
            // A test of one piece of thought may be played with another; hands stay out of it.
            let in_play = in_tests && thoughtful && is_thought(inner);
            if !wall.may_use.contains(&inner) && !in_play {
                report("wall", inner, format!("{} may not use {inner}", wall.name));
            }
        } else if thoughtful && WORLDLY.contains(&name) && !in_tests {
            report("wall", name, format!("{} has no business with {name}: the caller passes data in", wall.name));
        } else if BINARY_ONLY.contains(&name) && wall.storey != Storey::Binary {
            report("wall", name, format!("{name} is for the binary; {} has typed errors", wall.name));
        }
    }
    let clippy = format!("crates/{}/clippy.toml", wall.name);
    if thoughtful && tree.get(&clippy).map(String::as_str) != Some(THOUGHT_CLIPPY) {
        report("clippy-bans", "", format!("{clippy} must be a copy of xtask/thought-clippy.toml"));
    }
}

fn is_thought(name: &str) -> bool {
    TABLE.iter().any(|wall| wall.name == name && matches!(wall.storey, Storey::Words | Storey::Thought))
}

/// Names of all dependencies, under any target, with whether only tests use them.
fn dependencies(manifest: &toml::Table) -> Vec<(&str, bool)> {
    const SECTIONS: [(&str, bool); 3] =
        [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let tables = targets.into_iter().flat_map(|targets| targets.values().filter_map(toml::Value::as_table));
    let mut found = Vec::new();
    for table in std::iter::once(manifest).chain(tables) {
        for (section, in_tests) in SECTIONS {
            let listed = table.get(section).and_then(toml::Value::as_table).into_iter().flatten();
            found.extend(listed.map(|(key, value)| {
                (value.get("package").and_then(toml::Value::as_str).unwrap_or(key.as_str()), in_tests)
            }));
        }
    }
    found
}

/// Every listed fuzz target has its file, and every file is listed.
fn fuzz(tree: &Tree, findings: &mut Vec<Finding>) {
    const MANIFEST: &str = "fuzz/Cargo.toml";
    let Some(manifest) = tree.get(MANIFEST).and_then(|text| text.parse::<toml::Table>().ok()) else {
        return;
    };
    let bins = manifest.get("bin").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let listed: Vec<String> =
        bins.iter().filter_map(|bin| Some(format!("fuzz/{}", bin.get("path")?.as_str()?))).collect();
    let mut report = |item: &str, text: String| {
        findings.push(Finding { path: MANIFEST.to_owned(), line: 1, rule: "fuzz", item: item.to_owned(), text });
    };
    for path in listed.iter().filter(|path| !tree.contains_key(*path)) {
        report(path, format!("{path} is listed and does not exist"));
    }
    for path in tree.keys().filter(|path| path.starts_with("fuzz/fuzz_targets/") && path.ends_with(".rs")) {
        if !listed.contains(path) {
            report(path, format!("{path} exists and is not listed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{brief, tree};
    use super::*;

    const GOOD: &str = "[lints]\nworkspace = true\n[dependencies]\nchancery-model.workspace = true\n";

    fn findings(name: &str, manifest: &str) -> Vec<String> {
        let (path, clippy) = (format!("crates/{name}/Cargo.toml"), format!("crates/{name}/clippy.toml"));
        brief(&check(&tree(&[(&path, manifest), (&clippy, THOUGHT_CLIPPY)])))
    }

    #[test]
    fn a_good_manifest_has_no_findings() {
        assert_eq!(findings("sql", GOOD), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_outside_the_table_is_found() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
            let manifest = format!("[lints]\nworkspace = true\n[{section}]\nchancery-store.workspace = true\n");
            assert_eq!(findings("mask", &manifest), ["crates/mask/Cargo.toml:1: wall"], "{section}");
        }
        let manifest = "[lints]\nworkspace = true\n[dependencies]\nchancery-policy.workspace = true\n";
        assert_eq!(findings("mask", manifest), ["crates/mask/Cargo.toml:1: wall"]);
    }

    #[test]
    fn thought_may_be_played_with_thought_in_tests() {
        let manifest = format!("{GOOD}[dev-dependencies]\nchancery-wire-pg.workspace = true\n");
        assert_eq!(findings("session", &manifest), Vec::<String>::new());
    }

    #[test]
    fn a_renamed_dependency_is_found() {
        let manifest =
            "[lints]\nworkspace = true\n[dependencies]\nx = { package = \"chancery-store\", path = \"..\" }\n";
        assert_eq!(findings("ledger", manifest), ["crates/ledger/Cargo.toml:1: wall"]);
    }

    #[test]
    fn a_runtime_in_thought_is_found() {
        let manifest = format!("{GOOD}tokio.workspace = true\n");
        assert_eq!(findings("session", &manifest), ["crates/session/Cargo.toml:1: wall"]);
    }

    #[test]
    fn anyhow_below_the_binary_is_found() {
        let manifest = format!("{GOOD}anyhow.workspace = true\n");
        assert_eq!(findings("store", &manifest), ["crates/store/Cargo.toml:1: wall"]);
        assert_eq!(findings("cli", &manifest), Vec::<String>::new());
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        assert_eq!(findings("sql", "[dependencies]\n"), ["crates/sql/Cargo.toml:1: lints"]);
    }

    #[test]
    fn an_unknown_crate_is_found() {
        assert_eq!(findings("helpers", GOOD), ["crates/helpers/Cargo.toml:1: wall"]);
    }

    #[test]
    fn missing_clippy_bans_are_found() {
        let bare = tree(&[("crates/sql/Cargo.toml", GOOD)]);
        assert_eq!(brief(&check(&bare)), ["crates/sql/Cargo.toml:1: clippy-bans"]);
        let weaker = tree(&[("crates/sql/Cargo.toml", GOOD), ("crates/sql/clippy.toml", "")]);
        assert_eq!(brief(&check(&weaker)), ["crates/sql/Cargo.toml:1: clippy-bans"]);
    }

    #[test]
    fn unsafe_that_is_not_forbidden_is_found() {
        let root = tree(&[("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"deny\"\n")]);
        assert_eq!(brief(&check(&root)), ["Cargo.toml:1: unsafe"]);
    }

    #[test]
    fn fuzz_targets_and_files_match() {
        let manifest = "[[bin]]\nname = \"a\"\npath = \"fuzz_targets/a.rs\"\n";
        let files = tree(&[("fuzz/Cargo.toml", manifest), ("fuzz/fuzz_targets/b.rs", "")]);
        let items: Vec<_> = check(&files).into_iter().map(|finding| finding.item).collect();
        assert_eq!(items, ["fuzz/fuzz_targets/a.rs", "fuzz/fuzz_targets/b.rs"]);
    }
}
