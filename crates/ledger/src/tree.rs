//! The Merkle tree of RFC 6962 §2.1: hashes, a compact range for appending, proofs and their verification.

use chancery_model::Digest;

use crate::crypto::{self, Sha256};

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest(crypto::sha256(bytes))
}

pub(crate) fn sha256_of(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    Digest(hasher.finish())
}

/// The next rolling hash of a session: SHA-256(rolling ‖ leaf).
pub(crate) fn roll(rolling: &Digest, leaf: &Digest) -> Digest {
    let mut both = [0; 64];
    both[..32].copy_from_slice(&rolling.0);
    both[32..].copy_from_slice(&leaf.0);
    sha256(&both)
}

/// SHA-256 over bytes that come in pieces.
pub struct Hasher(Sha256);

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self(Sha256::new())
    }
}

impl Hasher {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }
    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(self.0.finish())
    }
}

/// The hash of a leaf: SHA-256(0x00 ‖ bytes).
pub fn leaf_hash(bytes: &[u8]) -> Digest {
    sha256_of(&[&[0], bytes])
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut node = [1; 65];
    node[1..33].copy_from_slice(&left.0);
    node[33..].copy_from_slice(&right.0);
    sha256(&node)
}

/// The tree over the first `size` leaves, kept as the roots of its complete subtrees, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    size: u64,
    nodes: Vec<Digest>,
}

impl Range {
    /// A tree of which these are the roots of the complete subtrees.
    pub(crate) fn of(size: u64, nodes: Vec<Digest>) -> Self {
        debug_assert_eq!(size.count_ones() as usize, nodes.len(), "one node for each bit set in the size");
        Self { size, nodes }
    }
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }
    /// Appends a leaf hash. Amortised one node hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.nodes.pop().expect("one node for each bit set in the size");
            node = node_hash(&left, &node);
        }
        self.nodes.push(node);
        self.size += 1;
    }
    /// The root. Of no leaves: SHA-256 of nothing.
    pub fn root(&self) -> Digest {
        let mut nodes = self.nodes.iter().rev();
        match nodes.next() {
            None => sha256(&[]),
            Some(last) => nodes.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// The largest power of two below `n`, for n > 1.
fn split(n: usize) -> usize {
    1 << (usize::BITS - 1 - (n - 1).leading_zeros())
}

/// The root over these leaf hashes.
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// PATH(index, leaves) of RFC 6962 §2.1.1; `None` if the index is outside.
pub fn inclusion_proof(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (inside, index, outside) =
        if index < left.len() { (left, index, right) } else { (right, index - left.len(), left) };
    let mut proof = inclusion_proof(inside, index)?;
    proof.push(root(outside));
    Some(proof)
}

/// PROOF(old, leaves) of RFC 6962 §2.1.2; `None` if `old` is 0 or past the end. Empty if `old` is the whole.
pub fn consistency_proof(leaves: &[Digest], old: usize) -> Option<Vec<Digest>> {
    if old == 0 || old > leaves.len() {
        return None;
    }
    Some(subproof(leaves, old, true))
}

fn subproof(leaves: &[Digest], old: usize, known: bool) -> Vec<Digest> {
    if old == leaves.len() {
        return if known { Vec::new() } else { vec![root(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut proof, other) = if old <= left.len() {
        (subproof(left, old, known), right)
    } else {
        (subproof(right, old - left.len(), false), left)
    };
    proof.push(root(other));
    proof
}

/// Whether `leaf` stands at `index` of the tree (size, root). RFC 9162 §2.1.3.2.
pub fn verify_inclusion(leaf: &Digest, index: u64, size: u64, proof: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut node) = (index, size - 1, *leaf);
    for step in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            node = node_hash(step, &node);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            node = node_hash(&node, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && node == *root
}

/// Whether the tree (old, old_root) is a prefix of the tree (new, new_root). RFC 9162 §2.1.4.2.
pub fn verify_consistency(old: u64, new: u64, proof: &[Digest], old_root: &Digest, new_root: &Digest) -> bool {
    if old == 0 || old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    let mut steps = proof.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { steps.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old_node, mut new_node) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_node = node_hash(step, &old_node);
            new_node = node_hash(step, &new_node);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_node = node_hash(&new_node, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_node == *old_root && new_node == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inputs and roots of the reference tests of Certificate Transparency (RFC 6962).
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaves() -> Vec<Digest> {
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex")).collect()
        };
        LEAVES.iter().map(|hex| leaf_hash(&bytes(hex))).collect()
    }

    #[test]
    fn roots_are_those_published() {
        let leaves = leaves();
        let mut range = Range::default();
        assert_eq!(range.root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (i, leaf) in leaves.iter().enumerate() {
            range.push(*leaf);
            assert_eq!(range.root().to_string(), ROOTS[i]);
            assert_eq!(root(&leaves[..=i]), range.root());
        }
    }

    #[test]
    fn inclusion_path_is_the_published_one() {
        // Path of leaf 0 in the tree of 8.
        let proof = inclusion_proof(&leaves(), 0).expect("inside");
        let texts: Vec<String> = proof.iter().map(Digest::to_string).collect();
        assert_eq!(
            texts,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        );
    }

    #[test]
    fn every_proof_holds_and_no_altered_one_does() {
        let leaves: Vec<Digest> = (0_u32..37).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        for size in 1..=leaves.len() {
            let tree = &leaves[..size];
            let whole = root(tree);
            for index in 0..size {
                let proof = inclusion_proof(tree, index).expect("inside");
                let (at, size) = (index as u64, size as u64);
                assert!(verify_inclusion(&tree[index], at, size, &proof, &whole));
                assert!(!verify_inclusion(&node_hash(&whole, &whole), at, size, &proof, &whole));
                let mut longer = proof.clone();
                longer.push(whole);
                assert!(!verify_inclusion(&tree[index], at, size, &longer, &whole));
            }
            for old in 1..=size {
                let proof = consistency_proof(tree, old).expect("inside");
                let before = root(&tree[..old]);
                assert!(verify_consistency(old as u64, size as u64, &proof, &before, &whole));
                assert!(!verify_consistency(old as u64, size as u64, &proof, &whole, &before) || old == size);
                let mut longer = proof.clone();
                longer.push(whole);
                assert!(!verify_consistency(old as u64, size as u64, &longer, &before, &whole));
            }
        }
        assert_eq!(inclusion_proof(&leaves, 37), None);
        assert_eq!(consistency_proof(&leaves, 0), None);
    }
}
