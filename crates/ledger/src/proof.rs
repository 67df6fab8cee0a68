//! Proofs made from tiles, without the leaves: RFC 6962 §2.1.1 and §2.1.2. Not here: their verification (`tree`), and where
//! tiles are kept.

use std::fmt;

use chancery_model::Digest;

use crate::node_hash;
use crate::tile::{BUNDLE_ENTRIES, complete_root};

/// Levels of the tree in one tile.
const TILE_LEVELS: u32 = 8;

/// Why a proof was not made.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProofError<E> {
    /// A tile could not be read.
    Tile(E),
    /// A tile does not hold what the tree of this size needs.
    Missing {
        /// Its level.
        level: u8,
        /// Its number.
        index: u64,
    },
    /// There is no such proof: the leaf or the older tree is not within the tree.
    Nothing,
}

impl<E> fmt::Display for ProofError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tile(_) => f.write_str("a tile cannot be read"),
            Self::Missing { level, index } => write!(f, "tile {index} of level {level} is not there"),
            Self::Nothing => f.write_str("there is nothing to prove"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ProofError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Tile(error) => Some(error),
            _ => None,
        }
    }
}

/// A tree whose hashes lie in tiles. The function gives the hashes of a tile, whole or as far as there are any.
pub struct TiledTree<F> {
    size: u64,
    tile: F,
}

impl<F> std::fmt::Debug for TiledTree<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TiledTree").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<E, F: FnMut(u8, u64) -> Result<Option<Vec<u8>>, E>> TiledTree<F> {
    /// The tree of the first `size` leaves.
    pub fn new(size: u64, tile: F) -> Self {
        Self { size, tile }
    }

    /// The root.
    pub fn root(&mut self) -> Result<Digest, ProofError<E>> {
        if self.size == 0 { Ok(crate::tree::sha256(&[])) } else { self.range(0, self.size) }
    }

    /// That the tree of the first `old` leaves is the beginning of this one.
    pub fn consistency(&mut self, old: u64) -> Result<Vec<Digest>, ProofError<E>> {
        if old == 0 || old > self.size {
            return Err(ProofError::Nothing);
        }
        let (mut proof, mut rest, mut known) = (Vec::new(), (old, 0, self.size), true);
        // From the whole tree down to where `old` ends; the proof is written from there up.
        loop {
            let (old, from, to) = rest;
            if old == to - from {
                if !known {
                    proof.push(self.range(from, to)?);
                }
                proof.reverse();
                return Ok(proof);
            }
            let middle = from + left(to - from);
            if from + old <= middle {
                proof.push(self.range(middle, to)?);
                rest = (old, from, middle);
            } else {
                proof.push(self.range(from, middle)?);
                (rest, known) = ((old - (middle - from), middle, to), false);
            }
        }
    }

    /// That leaf `index` is in the tree.
    pub fn inclusion(&mut self, index: u64) -> Result<Vec<Digest>, ProofError<E>> {
        if index >= self.size {
            return Err(ProofError::Nothing);
        }
        let (mut proof, mut from, mut to) = (Vec::new(), 0, self.size);
        while to - from > 1 {
            let middle = from + left(to - from);
            if index < middle {
                proof.push(self.range(middle, to)?);
                to = middle;
            } else {
                proof.push(self.range(from, middle)?);
                from = middle;
            }
        }
        proof.reverse();
        Ok(proof)
    }

    /// The root over the leaves from `from` to before `to`, where `from` is a multiple of the power of two that is at
    /// least `to - from`.
    fn range(&mut self, from: u64, to: u64) -> Result<Digest, ProofError<E>> {
        let count = to - from;
        if count.is_power_of_two() {
            return self.node(from, count.trailing_zeros());
        }
        let middle = from + left(count);
        let (left, right) = (self.range(from, middle)?, self.range(middle, to)?);
        Ok(node_hash(&left, &right))
    }

    /// The root of the complete subtree of this height whose first leaf is `from`.
    fn node(&mut self, from: u64, height: u32) -> Result<Digest, ProofError<E>> {
        let level = height / TILE_LEVELS;
        let first = from >> (TILE_LEVELS * level);
        let (index, offset) = (first / BUNDLE_ENTRIES as u64, (first % BUNDLE_ENTRIES as u64) as usize);
        let level = u8::try_from(level).unwrap_or(u8::MAX);
        let hashes = (self.tile)(level, index).map_err(ProofError::Tile)?.unwrap_or_default();
        let (begin, count) = (32 * offset, 32 << (height % TILE_LEVELS));
        let row = hashes.get(begin..begin + count).ok_or(ProofError::Missing { level, index })?;
        let mut row: Vec<Digest> = row
            .chunks_exact(32)
            .map(|hash| {
                let mut digest = Digest::default();
                digest.0.copy_from_slice(hash);
                digest
            })
            .collect();
        Ok(complete_root(&mut row))
    }
}

/// The leaves of the left subtree of a tree of `count`, which is at least 2: the largest power of two below it.
fn left(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::{TileBuilder, consistency_proof, inclusion_proof, leaf_hash, root};

    /// The proofs from tiles are those from leaves, for sizes around every boundary.
    #[test]
    fn proofs_from_tiles_are_those_from_leaves() {
        let leaves: Vec<Digest> = (0_u32..1_100).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let (mut builder, mut tiles) = (TileBuilder::default(), Vec::new());
        leaves.iter().for_each(|leaf| builder.push(*leaf, &mut tiles));
        tiles.extend(builder.partial());
        let tile = |level: u8, index: u64| -> Result<Option<Vec<u8>>, Infallible> {
            Ok(tiles.iter().find(|tile| (tile.level, tile.index) == (level, index)).map(|tile| tile.hashes.clone()))
        };
        for size in [1, 2, 3, 7, 8, 9, 255, 256, 257, 511, 512, 513, 767, 768, 1_023, 1_024, 1_025, 1_100] {
            let (mut tree, all) = (TiledTree::new(size as u64, tile), &leaves[..size]);
            assert_eq!(tree.root().expect("there"), root(all));
            for at in (0..size).filter(|at| at % 7 == 0 || at % 256 < 2 || at + 3 > size) {
                assert_eq!(Some(tree.inclusion(at as u64).expect("there")), inclusion_proof(all, at), "{at} of {size}");
                let old = at + 1;
                assert_eq!(
                    Some(tree.consistency(old as u64).expect("there")),
                    consistency_proof(all, old),
                    "{old} {size}"
                );
            }
            assert!(matches!(tree.consistency(0), Err(ProofError::Nothing)));
            assert!(matches!(tree.consistency(size as u64 + 1), Err(ProofError::Nothing)));
            assert!(matches!(tree.inclusion(size as u64), Err(ProofError::Nothing)));
        }
        let mut absent = TiledTree::new(300, |_, _| Ok::<_, Infallible>(None));
        assert!(matches!(absent.consistency(9), Err(ProofError::Missing { .. })));
    }
}
