//! Tiles and entry bundles of C2SP tlog-tiles: derived files from which any reader checks proofs. Not here: writing them.

use chancery_model::Digest;

use crate::{LedgerError, Range, node_hash};

/// Hashes in a whole tile, entries in a whole bundle.
pub const BUNDLE_ENTRIES: usize = 256;

/// One tile: hashes of complete subtrees of height 8·level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Level, from 0.
    pub level: u8,
    /// Its number in the level.
    pub index: u64,
    /// 1 to 256 hashes of 32 bytes.
    pub hashes: Vec<u8>,
}

impl Tile {
    /// Its path below the log's prefix.
    pub fn path(&self) -> String {
        tile_path(&self.level.to_string(), self.index, self.hashes.len() / 32)
    }
}

/// `tile/<level>/<index>` with the index in groups of three digits, and `.p/<width>` where partial.
pub fn tile_path(level: &str, index: u64, width: usize) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    match width {
        BUNDLE_ENTRIES => format!("tile/{level}/{path}"),
        _ => format!("tile/{level}/{path}.p/{width}"),
    }
}

/// The path of an entry bundle.
pub fn bundle_path(index: u64, width: usize) -> String {
    tile_path("entries", index, width)
}

/// An entry bundle: each entry with its length in 16 bits, big-endian.
pub fn bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, LedgerError> {
    let mut out = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).map_err(|_| LedgerError::LimitReached("an entry exceeds a bundle"))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Ok(out)
}

/// Takes a bundle apart; `None` if a length reaches past its end or it holds more than 256 entries.
pub fn parse_bundle(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        if entries.len() == BUNDLE_ENTRIES {
            return None;
        }
        entries.push(entry);
        bytes = rest;
    }
    Some(entries)
}

/// Collects leaf hashes into tiles. Each node of the tree is hashed once, when the tile below it is whole.
#[derive(Clone, Debug, Default)]
pub struct TileBuilder {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, Default)]
struct Level {
    index: u64,
    hashes: Vec<Digest>,
}

impl TileBuilder {
    /// The builder after `size` leaves, a multiple of 256, from the whole tiles of the tree over them: at most 255 for each
    /// level are read. `None` if one of them is missing.
    pub fn resume<E>(
        size: u64,
        mut tile: impl FnMut(u8, u64) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Option<Self>, E> {
        const WIDTH: u64 = BUNDLE_ENTRIES as u64;
        let mut levels = vec![Level { index: size / WIDTH, hashes: Vec::new() }];
        let mut below = size / WIDTH;
        while below > 0 {
            let (level, mut hashes) = (u8::try_from(levels.len() - 1).unwrap_or(u8::MAX), Vec::new());
            for index in below / WIDTH * WIDTH..below {
                let Some(bytes) = tile(level, index)? else { return Ok(None) };
                let mut row: Vec<Digest> =
                    bytes.chunks_exact(32).filter_map(|hash| hash.try_into().ok().map(Digest)).collect();
                if row.len() != BUNDLE_ENTRIES {
                    return Ok(None);
                }
                hashes.push(complete_root(&mut row));
            }
            levels.push(Level { index: below / WIDTH, hashes });
            below /= WIDTH;
        }
        Ok(Some(Self { levels }))
    }
    /// Adds the next leaf hash; whole tiles are appended to `out`.
    pub fn push(&mut self, leaf: Digest, out: &mut Vec<Tile>) {
        self.push_at(0, leaf, out);
    }
    fn push_at(&mut self, level: usize, hash: Digest, out: &mut Vec<Tile>) {
        if self.levels.len() == level {
            self.levels.push(Level::default());
        }
        let here = &mut self.levels[level];
        here.hashes.push(hash);
        if here.hashes.len() == BUNDLE_ENTRIES {
            out.push(here.tile(level));
            let above = complete_root(&mut here.hashes);
            here.hashes.clear();
            here.index += 1;
            self.push_at(level + 1, above, out);
        }
    }
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |level| level.index * BUNDLE_ENTRIES as u64 + level.hashes.len() as u64)
    }
    /// The tree as it is now: what lies in partial tiles, from the highest level down, is made of its complete subtrees.
    /// At most 255 node hashes for each level.
    pub fn range(&self) -> Range {
        let mut nodes = Vec::new();
        for level in self.levels.iter().rev() {
            let mut rest = level.hashes.as_slice();
            while let Some(height) = rest.len().checked_ilog2() {
                let (subtree, after) = rest.split_at(1 << height);
                nodes.push(complete_root(&mut subtree.to_vec()));
                rest = after;
            }
        }
        Range::of(self.size(), nodes)
    }
    /// The partial tiles that, with the whole ones, make up the tree as it is now.
    pub fn partial(&self) -> Vec<Tile> {
        let levels = self.levels.iter().enumerate();
        levels.filter(|(_, level)| !level.hashes.is_empty()).map(|(at, level)| level.tile(at)).collect()
    }
}

impl Level {
    fn tile(&self, level: usize) -> Tile {
        let mut hashes = Vec::with_capacity(32 * self.hashes.len());
        self.hashes.iter().for_each(|hash| hashes.extend_from_slice(&hash.0));
        Tile { level: u8::try_from(level).expect("a log has at most 8 levels of tiles"), index: self.index, hashes }
    }
}

/// The root over a power of two of hashes, which are used up.
pub(crate) fn complete_root(row: &mut [Digest]) -> Digest {
    let mut width = row.len();
    while width > 1 {
        width /= 2;
        for at in 0..width {
            row[at] = node_hash(&row[2 * at], &row[2 * at + 1]);
        }
    }
    row.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{leaf_hash, root};

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(tile_path("0", 5, 256), "tile/0/005");
        assert_eq!(tile_path("0", 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile_path("1", 1_234_067, 8), "tile/1/x001/x234/067.p/8");
        assert_eq!(bundle_path(0, 1), "tile/entries/000.p/1");
    }

    #[test]
    fn tiles_hold_the_tree() {
        let leaves: Vec<Digest> = (0_u32..600).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let (mut builder, mut tiles) = (TileBuilder::default(), Vec::new());
        leaves.iter().for_each(|leaf| builder.push(*leaf, &mut tiles));
        let whole: Vec<String> = tiles.iter().map(Tile::path).collect();
        assert_eq!(whole, ["tile/0/000", "tile/0/001"]);
        let partial = builder.partial();
        let paths: Vec<String> = partial.iter().map(Tile::path).collect();
        assert_eq!(paths, ["tile/0/002.p/88", "tile/1/000.p/2"]);
        assert_eq!(partial[1].hashes[..32], root(&leaves[..256]).0);
        assert_eq!(partial[1].hashes[32..], root(&leaves[256..512]).0);
    }

    #[test]
    fn the_tree_is_that_of_all_leaves_at_every_size() {
        let (mut builder, mut range, mut tiles) = (TileBuilder::default(), Range::default(), Vec::new());
        let mut check = |count: u32, each: bool| {
            for i in 0..count {
                let leaf = leaf_hash(&i.to_be_bytes());
                builder.push(leaf, &mut tiles);
                range.push(leaf);
                if each || i + 1 == count {
                    assert_eq!(builder.range(), range);
                    assert_eq!((builder.size(), builder.range().root()), (range.size(), range.root()));
                }
            }
        };
        check(1_100, true);
        // Across the first tile of level 2.
        check(65_536 - 1_100 - 1, false);
        check(3, true);
        assert_eq!(TileBuilder::default().range(), Range::default());
    }

    #[test]
    fn a_builder_goes_on_from_whole_tiles() {
        let (mut builder, mut tiles) = (TileBuilder::default(), Vec::new());
        let mut read = std::collections::HashMap::new();
        for i in 0..70_000_u32 {
            if i % 256 == 0 && !(2_000..=65_000).contains(&i) {
                let kept = |level, index| Ok::<_, ()>(read.get(&(level, index)).cloned());
                let mut resumed = TileBuilder::resume(i.into(), kept).expect("readable").expect("all are there");
                assert_eq!((resumed.size(), resumed.range()), (u64::from(i), builder.range()));
                // The next leaf goes to the same place.
                let (mut own, mut other) = (Vec::new(), Vec::new());
                resumed.push(leaf_hash(b"next"), &mut other);
                builder.clone().push(leaf_hash(b"next"), &mut own);
                assert_eq!((&own, resumed.partial().first()), (&other, Some(&resumed.levels[0].tile(0))));
            }
            builder.push(leaf_hash(&i.to_be_bytes()), &mut tiles);
            read.extend(tiles.drain(..).map(|tile: Tile| ((tile.level, tile.index), tile.hashes)));
        }
        let none = TileBuilder::resume(512, |_, index| Ok::<_, ()>((index == 0).then(|| vec![1; 8192])));
        assert!(none.expect("readable").is_none());
    }

    #[test]
    fn bundles_are_read_back_and_hostile_ones_refused() {
        let entries: [&[u8]; 3] = [b"a", b"", b"ccc"];
        let bytes = bundle(entries).expect("short");
        assert_eq!(parse_bundle(&bytes), Some(entries.to_vec()));
        assert_eq!(parse_bundle(&bytes[..bytes.len() - 1]), None);
        assert_eq!(parse_bundle(&[0]), None);
        assert_eq!(parse_bundle(&[0; 2 * 257]), None);
        assert!(bundle([[0; 70_000].as_slice()]).is_err());
    }
}
