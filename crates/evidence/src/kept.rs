//! Bundles of entries of which some were pruned: `ledger/kept` in a pack (`docs/spec/pack.md`). Not here: whether they may be.

use chancery_ledger::{BUNDLE_ENTRIES, LedgerError, bundle_path, parse_bundle};
use chancery_model::Digest;

/// What such a bundle has of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept<'a> {
    /// Its bytes.
    Entry(&'a [u8]),
    /// Its leaf hash, and the index of the first entry of the segment that it was pruned from.
    Pruned(Digest, u64),
}

/// The path of a bundle, below the ledger's.
pub fn kept_path(index: u64, width: usize) -> String {
    bundle_path(index, width).replacen("tile/entries/", KEPT, 1)
}

/// Where such bundles are, below the ledger's path.
pub(crate) const KEPT: &str = "kept/";

/// A bundle.
///
/// # Errors
/// An entry is too long for one.
pub fn kept_bundle<'a>(entries: impl IntoIterator<Item = Kept<'a>>) -> Result<Vec<u8>, LedgerError> {
    let mut out = Vec::new();
    for entry in entries {
        match entry {
            Kept::Entry(line) => {
                let length = u16::try_from(line.len()).ok().filter(|length| *length > 0);
                let length = length.ok_or(LedgerError::LimitReached("an entry does not fit into a bundle"))?;
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(line);
            }
            Kept::Pruned(hash, segment) => {
                out.extend_from_slice(&[0; 2]);
                out.extend_from_slice(&segment.to_be_bytes());
                out.extend_from_slice(&hash.0);
            }
        }
    }
    Ok(out)
}

/// Takes the bundle at this path, below the ledger's, apart, whether entries of it were pruned or not; `None` if it is none.
pub fn read_bundle<'a>(path: &str, bytes: &'a [u8]) -> Option<Vec<Kept<'a>>> {
    match path.strip_prefix(KEPT) {
        Some(_) => parse_kept(bytes),
        None => Some(parse_bundle(bytes)?.into_iter().map(Kept::Entry).collect()),
    }
}

/// `None` if it reaches past its end or holds more than 256 entries.
fn parse_kept(mut bytes: &[u8]) -> Option<Vec<Kept<'_>>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        if entries.len() == BUNDLE_ENTRIES {
            return None;
        }
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = match u16::from_be_bytes(*length) {
            0 => {
                let (segment, rest) = rest.split_first_chunk::<8>()?;
                let (hash, rest) = rest.split_first_chunk::<32>()?;
                (Kept::Pruned(Digest(*hash), u64::from_be_bytes(*segment)), rest)
            }
            length => {
                let (line, rest) = rest.split_at_checked(length.into())?;
                (Kept::Entry(line), rest)
            }
        };
        entries.push(entry);
        bytes = rest;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_back_and_a_cut_one_is_not() {
        let (line, hash) = (b"{\"v\":1}".as_slice(), Digest([7; 32]));
        let entries = [Kept::Entry(line), Kept::Pruned(hash, 5), Kept::Pruned(hash, 5), Kept::Entry(line)];
        let bytes = kept_bundle(entries).expect("short");
        assert_eq!(parse_kept(&bytes).as_deref(), Some(&entries[..]));
        let ends = [0, 9, 51, 93];
        for cut in 0..bytes.len() {
            assert_eq!(parse_kept(&bytes[..cut]).is_some(), ends.contains(&cut), "{cut}");
        }
        assert!(kept_bundle([Kept::Entry(b"")]).is_err() && kept_bundle([Kept::Entry(&[b'x'; 65_536])]).is_err());
        let many = kept_bundle([Kept::Pruned(hash, 0); BUNDLE_ENTRIES]).expect("short");
        assert_eq!(parse_kept(&many).map(|entries| entries.len()), Some(BUNDLE_ENTRIES));
        assert!(parse_kept(&[many.as_slice(), &many[..42]].concat()).is_none());
    }

    #[test]
    fn its_path_is_that_of_the_bundle_elsewhere() {
        assert_eq!(
            (kept_path(0, 256).as_str(), kept_path(1_234_067, 9).as_str()),
            ("kept/000", "kept/x001/x234/067.p/9")
        );
    }
}
