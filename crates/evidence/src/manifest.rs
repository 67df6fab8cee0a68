//! `MANIFEST.json`: what is in a pack. Not here: whether it is.

use std::collections::BTreeMap;

use chancery_ledger::Checkpoint;
use chancery_model::{Digest, Timestamp};
use serde::Deserialize;

use crate::pack::object;
use crate::row::{Value, json_text};
use crate::tar::is_path;
use crate::{Period, Provenance};

/// The longest that is read.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;
/// Its path.
pub const MANIFEST: &str = "MANIFEST.json";

/// The path of the note over it, which it does not list.
pub const MANIFEST_NOTE: &str = "MANIFEST.note";

/// What the log's key signs of a manifest, as a note.
pub fn manifest_text(json: &[u8]) -> String {
    let mut hasher = chancery_ledger::Hasher::default();
    hasher.update(json);
    format!("chancery/pack/1\n{}\n", hasher.finish())
}

/// One file of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path, without `pack/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: Digest,
}

/// What made a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generator {
    /// The program.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file.
    pub binary_sha256: Digest,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Time of the last entry below the head, as a text.
    pub created_at: String,
    /// What made it.
    pub generator: Generator,
    /// The period, as texts: from, to.
    pub period: (String, String),
    /// The controls asked for.
    pub controls: Vec<String>,
    /// The head.
    pub head: Checkpoint,
    /// The files in their order.
    pub files: Vec<Listed>,
}

impl Manifest {
    /// Of a pack that is made.
    pub fn new(from: &Provenance, generator: Generator, files: Vec<Listed>) -> Self {
        Self {
            created_at: from.created_at.to_string(),
            generator,
            period: (Timestamp(from.period.from).to_string(), Timestamp(from.period.to).to_string()),
            controls: from.controls.clone(),
            head: from.head.clone(),
            files,
        }
    }

    /// As JSON.
    pub fn json(&self) -> String {
        let quoted = |text: &str| {
            let mut out = String::new();
            json_text(text, &mut out);
            out
        };
        let nested = |fields: &[(&'static str, String)]| {
            object(&fields.iter().cloned().collect::<BTreeMap<_, _>>()).trim_end().to_owned()
        };
        let generator = nested(&[
            ("name", quoted(&self.generator.name)),
            ("version", quoted(&self.generator.version)),
            ("binary_sha256", quoted(&self.generator.binary_sha256.to_string())),
        ]);
        let head = nested(&[
            ("origin", quoted(&self.head.origin)),
            ("size", self.head.size.to_string()),
            ("root", quoted(&self.head.root.to_string())),
            ("directory", quoted("ledger")),
        ]);
        let file = |file: &Listed| {
            nested(&[
                ("path", quoted(&file.path)),
                ("bytes", file.bytes.to_string()),
                ("sha256", quoted(&file.sha256.to_string())),
            ])
        };
        let files: Vec<String> = self.files.iter().map(file).collect();
        let mut controls = String::new();
        Value::from(self.controls.clone()).json(&mut controls);
        object(&BTreeMap::from([
            ("pack_version", "1".to_owned()),
            ("created_at", quoted(&self.created_at)),
            ("generator", generator),
            ("period", nested(&[("from", quoted(&self.period.0)), ("to", quoted(&self.period.1))])),
            ("controls", controls),
            ("checkpoints", format!("[{head}]")),
            ("files", format!("[{}]", files.join(","))),
        ]))
    }

    /// Reads one. Only the exact form that [`Manifest::json`] writes is taken.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err("the manifest is longer than 64 MiB");
        }
        let form: Form = serde_json::from_slice(bytes).map_err(|_| "the manifest is not of version 1's form")?;
        let digest = |text: &str| Digest::from_hex(text).ok_or("a hash in the manifest is not 64 hex digits");
        let [head] = form.checkpoints.as_slice() else { return Err("the manifest has not one checkpoint") };
        let mut files = Vec::with_capacity(form.files.len());
        for file in &form.files {
            if !is_path(&file.path) || file.path == MANIFEST || file.path == MANIFEST_NOTE {
                return Err("a path in the manifest cannot be one");
            }
            files.push(Listed { path: file.path.clone(), bytes: file.bytes, sha256: digest(&file.sha256)? });
        }
        let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        paths.sort_unstable();
        if paths.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("a path stands twice in the manifest");
        }
        let manifest = Self {
            created_at: form.created_at,
            generator: Generator {
                name: form.generator.name,
                version: form.generator.version,
                binary_sha256: digest(&form.generator.binary_sha256)?,
            },
            period: (form.period.from, form.period.to),
            controls: form.controls,
            head: Checkpoint { origin: head.origin.clone(), size: head.size, root: digest(&head.root)? },
            files,
        };
        if manifest.json().as_bytes() != bytes {
            return Err("the manifest is not of version 1's form");
        }
        Ok(manifest)
    }

    /// The period, in microseconds.
    pub fn times(&self) -> Option<Period> {
        Some(Period { from: instant(&self.period.0)?, to: instant(&self.period.1)? })
    }
    /// What the derived files say of where they come from; but for what was pruned, which is not in the manifest.
    pub fn provenance(&self) -> Option<Provenance> {
        let created_at = Timestamp(instant(&self.created_at)?);
        let registry = self.files.first().is_some_and(|file| file.path.starts_with("registry/"));
        let (head, controls) = (self.head.clone(), self.controls.clone());
        Some(Provenance { head, created_at, period: self.times()?, controls, pruned: None, registry })
    }
}

/// Reads a time in the one form that [`Timestamp`] is shown in.
pub fn instant(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second, micros) = (number(11..13)?, number(14..16)?, number(17..19)?, number(20..26)?);
    // Days from 1970-01-01 to a civil date, in eras of 400 years that begin in March.
    let shifted = if month > 2 { year } else { year - 1 };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let at = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros;
    (Timestamp(at).to_string() == text).then_some(at)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    checkpoints: Vec<HeadForm>,
    controls: Vec<String>,
    created_at: String,
    files: Vec<FileForm>,
    generator: GeneratorForm,
    #[serde(rename = "pack_version")]
    _version: u8,
    period: PeriodForm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadForm {
    #[serde(rename = "directory")]
    _directory: String,
    origin: String,
    root: String,
    size: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    bytes: u64,
    path: String,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GeneratorForm {
    binary_sha256: String,
    name: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeriodForm {
    from: String,
    to: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = |path: &str| Listed { path: path.into(), bytes: 7, sha256: Digest([9; 32]) };
        Manifest {
            created_at: "2026-11-29T03:04:05.000006Z".into(),
            generator: Generator { name: "chancery".into(), version: "0.1.0".into(), binary_sha256: Digest([1; 32]) },
            period: ("2026-01-01T00:00:00.000000Z".into(), "2027-01-01T00:00:00.000000Z".into()),
            controls: vec!["segregation".into()],
            head: Checkpoint { origin: "gw \"a\"".into(), size: 3, root: Digest([2; 32]) },
            files: vec![file("ledger/checkpoint"), file("report.html")],
        }
    }

    #[test]
    fn a_manifest_is_read_back_and_no_other_form_is_taken() {
        let json = manifest().json();
        assert_eq!(Manifest::parse(json.as_bytes()), Ok(manifest()));
        for (from, to) in [
            ("report.html", "../report.html"),
            ("report.html", "ledger/checkpoint"),
            ("\"pack_version\":1", "\"pack_version\":2"),
            ("{\"checkpoints\"", "{\"extra\":1,\"checkpoints\""),
            ("\"bytes\":7", "\"bytes\":07"),
            ("\"directory\":\"ledger\"", "\"directory\":\"x\""),
        ] {
            let other = json.replacen(from, to, 1);
            assert_ne!(other, json);
            assert!(Manifest::parse(other.as_bytes()).is_err(), "{other}");
        }
        assert!(Manifest::parse(json.trim_end().as_bytes()).is_err());
    }

    #[test]
    fn times_are_read_in_one_form() {
        for at in [0, 1_764_383_045_000_006, -1, 951_782_400_000_000, 4_102_444_800_000_000] {
            assert_eq!(instant(&Timestamp(at).to_string()), Some(at));
        }
        for text in
            ["2026-02-30T00:00:00.000000Z", "2026-1-01T00:00:00.000000Z", "2026-01-01T24:00:00.000000Z", "", "é"]
        {
            assert_eq!(instant(text), None, "{text}");
        }
    }
}
