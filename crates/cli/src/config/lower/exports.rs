//! `[[export]]`: where events for other systems go.

use std::collections::BTreeSet;

use chancery_gateway::{ExportSettings, ExportTarget};

use super::Lower;
use crate::config::Export;
use crate::oauth;

const TARGETS: &str = "\"file:PATH\", \"stdout\", or an https URL (http on loopback) without user name and password";

/// Checks all of them.
pub(super) fn lower(lower: &mut Lower<'_>, exports: Vec<Export>) -> Vec<ExportSettings> {
    let (mut names, mut targets) = (BTreeSet::new(), BTreeSet::new());
    let mut checked = Vec::with_capacity(exports.len());
    for export in exports {
        let name = export.name.get_ref().clone();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=63).contains(&name.len()) || !name.chars().all(plain) {
            lower.wrong(export.name.span(), "the name must be 1 to 63 of a-z 0-9 -", "for example \"siem\"");
        }
        if !names.insert(name.clone()) {
            let hint = "how far an export came is remembered under its name";
            lower.wrong(export.name.span(), "two exports have this name", hint);
        }
        if !targets.insert(export.to.get_ref().clone()) {
            lower.wrong(export.to.span(), "two exports go to the same place", "remove one of them");
        }
        if export.format.get_ref() != "ocsf" {
            lower.wrong(export.format.span(), "the only format is `ocsf`", "write format = \"ocsf\"");
        }
        checked.extend(target(lower, &export).map(|target| ExportSettings { name, target }));
    }
    checked
}

fn target(lower: &mut Lower<'_>, export: &Export) -> Option<ExportTarget> {
    let to = export.to.get_ref().as_str();
    let local = match (to, to.strip_prefix("file:")) {
        ("stdout", _) => Some(ExportTarget::Stdout),
        (_, Some(path)) if !path.is_empty() => Some(ExportTarget::File(lower.path(path))),
        _ => None,
    };
    if local.is_some() {
        for (value, key) in [(&export.token, "token"), (&export.ca, "ca")] {
            if let Some(value) = value {
                lower.wrong(value.span(), format!("`{key}` is for a URL"), "remove it");
            }
        }
        return local;
    }
    if oauth::checked(to).is_err() {
        lower.wrong(export.to.span(), "events cannot go there", TARGETS);
        return None;
    }
    let token = export.token.as_ref().map(|name| {
        let path = lower.path(name.get_ref());
        if let Err(error) = std::fs::metadata(&path) {
            lower.wrong(name.span(), format!("{} cannot be read: {error}", path.display()), "one line, the token");
        }
        path
    });
    let ca = match &export.ca {
        None => None,
        Some(name) => Some(lower.pem(name, "CERTIFICATE")?),
    };
    Some(ExportTarget::Http { url: to.to_owned(), token, ca })
}
