//! The keys of the logs that a gateway witnesses: a file, or a directory of files.

use std::fs;
use std::path::Path;

use chancery_ledger::LogVerifier;

use crate::local::read_small;

/// Each asks every five seconds.
const PEERS_MAX: usize = 64;
/// Room for that many with both of their roots.
const FILE_BYTES_MAX: u64 = 64 << 10;
const ENTRIES_MAX: usize = 1024;

/// Reads a file of keys, or every `*.vkey` of a directory.
pub(super) fn read(path: &Path) -> Result<Vec<LogVerifier>, String> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(|error| failed(path, &error))?.take(ENTRIES_MAX) {
            let entry = entry.map_err(|error| failed(path, &error))?.path();
            if entry.extension().is_some_and(|end| end == "vkey") {
                files.push(entry);
            }
        }
        files.sort();
    } else {
        files.push(path.to_owned());
    }
    let mut peers = Vec::new();
    for file in files {
        let bytes = read_small(&file, FILE_BYTES_MAX).map_err(|error| failed(&file, &error))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| failed(&file, &error))?;
        parse(text, &mut peers).map_err(|why| failed(&file, &why))?;
    }
    Ok(peers)
}

/// Lines of verifier keys; empty ones and those that begin with `#` are passed over. Behind a log's key may stand that of its
/// first epoch, as in the roots that `init` prints: a witness has no use for it.
fn parse(text: &str, peers: &mut Vec<LogVerifier>) -> Result<(), String> {
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let key = LogVerifier::parse(line).map_err(|error| error.to_string())?;
        let ladder = |log: &LogVerifier| key.name().strip_prefix(log.name()) == Some("/epoch/0");
        if peers.last().is_some_and(ladder) || peers.contains(&key) {
            continue;
        }
        if let Some(other) = peers.iter().find(|peer| peer.name() == key.name() || peer.is_same_key(&key)) {
            return Err(format!("{} and {} share a name or a key", other.name(), key.name()));
        }
        if peers.len() == PEERS_MAX {
            return Err(format!("more than {PEERS_MAX} logs"));
        }
        peers.push(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chancery_ledger::LogSigner;

    use super::*;

    fn key(name: &str, seed: u8) -> String {
        LogSigner::from_seed(name, &[seed; 32]).expect("a seed").verifier_key()
    }

    #[test]
    fn roots_are_taken_as_they_are_printed() {
        let mut peers = Vec::new();
        let text = format!("# gw-b\n{}\n{}\n\n{}\n", key("gw/b", 1), key("gw/b/epoch/0", 2), key("gw/c", 3));
        parse(&text, &mut peers).expect("well-formed");
        parse(&key("gw/c", 3), &mut peers).expect("the same again");
        let names: Vec<&str> = peers.iter().map(LogVerifier::name).collect();
        assert_eq!(names, ["gw/b", "gw/c"]);
        for bad in [key("gw/c", 4), key("gw/d", 3), "nonsense".to_owned()] {
            assert!(parse(&bad, &mut peers.clone()).is_err(), "{bad}");
        }
    }
}
