//! `chancery evidence sample`: which rows of a population an auditor looks at. The draw follows from the auditor's own word
//! and the log's root: whoever made the pack did not know the one, and the auditor cannot choose the other.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use chancery_evidence::{MANIFEST_BYTES_MAX, Manifest, NoPack, Piece, Population, Reader, population_path};
use chancery_ledger::Hasher;
use chancery_model::Digest;
use serde_json::json;

use super::read::{malformed, parts};
use crate::args;
use crate::output::{Done, Exit, Failure, Out, clean};

/// A population that is drawn from is held in memory as hashes and places, and its rows only if they are drawn.
const ROWS_MAX: usize = 50_000_000;

pub(super) fn run(args: &args::Sample, out: Out) -> Done {
    let wanted = Population::ALL.into_iter().find(|one| one.about().id.eq_ignore_ascii_case(&args.population));
    let population = wanted.ok_or_else(|| Failure::usage("--population is P01 to P20"))?;
    if let Some(why) = population.about().absent {
        return Err(Failure::no(format!("{} is not in packs of this release: {why}", population.about().id)));
    }
    let path = population_path(population, "jsonl");
    let (manifest, rows) = if args.pack.is_dir() { unpacked(args, &path)? } else { packed(args, &path)? };
    let mut hasher = Hasher::default();
    for part in [b"chancery/sample/1".as_slice(), args.nonce.as_bytes(), &manifest.head.root.0, path.as_bytes()] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let seed = hasher.finish();
    let mut order: Vec<(Digest, usize)> = rows.iter().enumerate().map(|(at, row)| (drawn(&seed, row), at)).collect();
    order.sort_unstable();
    order.truncate(args.count);
    order.sort_unstable_by_key(|(_, at)| *at);
    let drawn: Vec<&str> = order.iter().filter_map(|(_, at)| rows.get(*at).map(String::as_str)).collect();
    out.line(format!("population  {} {}: {} rows", population.about().id, population.about().title, rows.len()));
    out.line(format!("seed        {seed} (SHA-256 of your nonce and root {})", manifest.head.root));
    for row in &drawn {
        out.line(clean(row));
    }
    let parsed: Vec<serde_json::Value> = drawn.iter().filter_map(|row| serde_json::from_str(row).ok()).collect();
    out.document(&json!({ "population": population.about().id, "rows": rows.len(), "seed": seed.to_string(),
                          "root": manifest.head.root.to_string(), "nonce": args.nonce, "sample": parsed }));
    Ok(Exit::Yes)
}

fn drawn(seed: &Digest, row: &str) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(&seed.0);
    hasher.update(row.as_bytes());
    hasher.finish()
}

fn unpacked(args: &args::Sample, path: &str) -> Result<(Manifest, Vec<String>), Failure> {
    let inner = args.pack.join("pack");
    let root = if inner.is_dir() { inner } else { args.pack.clone() };
    let open = |path: &str| File::open(root.join(path)).map_err(|error| Failure::unsure(format!("{path}: {error}")));
    let mut bytes = Vec::new();
    let taken = open("MANIFEST.json")?.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    taken.map_err(|error| Failure::unsure(format!("MANIFEST.json: {error}")))?;
    let manifest = Manifest::parse(&bytes).map_err(|what| malformed(NoPack(what.to_owned())))?;
    let mut rows = Vec::new();
    for line in BufReader::new(open(path)?).lines().take(ROWS_MAX) {
        rows.push(line.map_err(|error| Failure::unsure(format!("{path}: {error}")))?);
    }
    Ok((manifest, rows))
}

fn packed(args: &args::Sample, path: &str) -> Result<(Manifest, Vec<String>), Failure> {
    let (mut reader, mut member) = (Reader::default(), String::new());
    let (mut manifest, mut rows) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 1 << 20];
    for part in parts(&args.pack) {
        let unreadable = |error: std::io::Error| Failure::unsure(format!("{}: {error}", part.display()));
        let mut file = File::open(&part).map_err(unreadable)?;
        loop {
            let n = file.read(&mut buffer).map_err(unreadable)?;
            if n == 0 {
                break;
            }
            let fed = reader.feed(buffer.get(..n).unwrap_or_default(), &mut |piece| {
                match piece {
                    Piece::Member(name, _) => name.clone_into(&mut member),
                    Piece::Bytes(bytes) if member == "MANIFEST.json" && manifest.len() <= MANIFEST_BYTES_MAX => {
                        manifest.extend_from_slice(bytes);
                    }
                    Piece::Bytes(bytes) if member == path => rows.extend_from_slice(bytes),
                    _ => {}
                }
                Ok::<(), NoPack>(())
            });
            fed.map_err(malformed)?;
        }
    }
    let manifest = Manifest::parse(&manifest).map_err(|what| malformed(NoPack(what.to_owned())))?;
    let rows = String::from_utf8(rows).map_err(|_| malformed(NoPack(format!("{path} is not text"))))?;
    Ok((manifest, rows.lines().take(ROWS_MAX).map(str::to_owned).collect()))
}
