//! Reads the configuration file and the rules, and says in which line something is wrong.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use chancery_model::Digest;
use chancery_policy::{Problem, RuleSet, Source};

use super::File;
use super::lower::{Configuration, lower};

/// A configuration is a few KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files of rules in one directory.
const RULE_FILES_MAX: usize = 1_000;

/// The text of the file, to point into.
pub(super) struct Text<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Text<'_> {
    /// A problem at the place of a value.
    pub(super) fn problem(&self, span: Range<usize>, message: impl Into<String>) -> Problem {
        let (line, column) = place(self.text, span.start);
        let path = self.path.display().to_string();
        Problem { path, line, column, message: message.into(), hint: None, warning: false }
    }
    /// A problem of the file as a whole.
    pub(super) fn whole(&self, message: impl Into<String>) -> Problem {
        Problem { line: 0, column: 0, ..self.problem(0..0, message) }
    }
}

/// Line and column (in characters) of an offset, both from 1.
fn place(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (number(line), number(column))
}

/// Reads and checks the configuration, and the files it names but for the rules.
///
/// # Errors
/// Every problem found, warnings included, if at least one is not a warning.
pub(crate) fn load(path: &Path) -> Result<Configuration, Vec<Problem>> {
    let whole = |message: String, hint: &str| {
        let path = path.display().to_string();
        vec![Problem { path, line: 0, column: 0, message, hint: Some(hint.to_owned()), warning: false }]
    };
    let make = "`chancery init` makes one; --config says where it is";
    let size = fs::metadata(path).map_err(|error| whole(format!("cannot be read: {error}"), make))?.len();
    if size > FILE_BYTES_MAX {
        return Err(whole("is larger than 1 MiB".to_owned(), "is it the right file?"));
    }
    let text = fs::read_to_string(path).map_err(|error| whole(format!("cannot be read: {error}"), make))?;
    parse(path, &text)
}

/// The same for a text that is read already.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Configuration, Vec<Problem>> {
    let source = Text { path, text };
    let file: File = toml::from_str(text).map_err(|error| vec![syntax(&source, &error)])?;
    let mut sum = Digest::default();
    sum.0.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    lower(&source, file, sum)
}

fn syntax(source: &Text<'_>, error: &toml::de::Error) -> Problem {
    let message = error.message().to_owned();
    let hint = if message.starts_with("unknown field") {
        Some("remove it or correct its spelling; docs/guide/configuration.md lists every key")
    } else if message.starts_with("missing field") {
        Some("docs/guide/configuration.md says what it is for")
    } else {
        None
    };
    let problem = match error.span() {
        Some(span) => source.problem(span, message),
        None => source.whole(message),
    };
    Problem { hint: hint.map(str::to_owned), ..problem }
}

/// Reads and checks the rules that a configuration names.
///
/// # Errors
/// Every problem found, warnings included, if at least one is not a warning.
pub(crate) fn load_rules(configuration: &Configuration) -> Result<Arc<RuleSet>, Vec<Problem>> {
    let sources = sources(&configuration.rules).map_err(|problem| vec![problem])?;
    let resources: Vec<_> = configuration.resources.iter().map(|one| (*one.resource).clone()).collect();
    let issuers: Vec<String> = configuration.issuers.iter().map(|issuer| issuer.rules.url.clone()).collect();
    RuleSet::load_for_issuers(sources, configuration.reviews.clone(), &resources, &issuers).map(Arc::new)
}

fn sources(directory: &Path) -> Result<Vec<Source>, Problem> {
    let problem = |path: &Path, message: String| Problem {
        path: path.display().to_string(),
        line: 0,
        column: 0,
        message,
        hint: Some("`directory` of [policy] names a directory of *.cedar files".to_owned()),
        warning: false,
    };
    let unreadable = |path: &Path, error: std::io::Error| problem(path, format!("cannot be read: {error}"));
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| unreadable(directory, error))? {
        let path = entry.map_err(|error| unreadable(directory, error))?.path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            paths.push(path);
        }
        if paths.len() > RULE_FILES_MAX {
            return Err(problem(directory, format!("holds more than {RULE_FILES_MAX} files of rules")));
        }
    }
    paths.sort();
    let mut sources = Vec::with_capacity(paths.len());
    for path in paths {
        let size = fs::metadata(&path).map_err(|error| unreadable(&path, error))?.len();
        if size > FILE_BYTES_MAX {
            return Err(problem(&path, "is larger than 1 MiB".to_owned()));
        }
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        sources.push(Source { path: name, text });
    }
    Ok(sources)
}
