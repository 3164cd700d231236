//! Roots and proofs against a second implementation, published values and brute force.

use audit::Digest;
use audit::merkle::{
    ProofRefused, RightEdge, empty_root, leaf_hash, node_hash, verify_consistency, verify_inclusion,
};
use audit::{PublishedTree, Sequencer};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;

use crate::support::{Files, ORIGIN, advance};

/// RFC 9162 section 2.1.1, as it is written.
fn root_of(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let k = leaves.len().next_power_of_two() / 2;
            node_hash(&root_of(&leaves[..k]), &root_of(&leaves[k..]))
        }
    }
}

/// RFC 9162 section 2.1.4.1, as it is written.
fn subproof(m: usize, leaves: &[Digest], whole: bool) -> Vec<Digest> {
    if m == leaves.len() {
        return if whole { vec![] } else { vec![root_of(leaves)] };
    }
    let k = leaves.len().next_power_of_two() / 2;
    let (mut proof, last) = if m <= k {
        (subproof(m, &leaves[..k], whole), root_of(&leaves[k..]))
    } else {
        (subproof(m - k, &leaves[k..], false), root_of(&leaves[..k]))
    };
    proof.push(last);
    proof
}

fn leaf(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

fn hashes(count: u64) -> Vec<Digest> {
    (0..count).map(|i| leaf_hash(&leaf(i))).collect()
}

fn log_of(count: u64) -> Files {
    let mut files = Files::default();
    let leaves: Vec<_> = (0..count).map(leaf).collect();
    advance(&mut Sequencer::new(ORIGIN), &mut files, &leaves);
    files
}

#[test]
fn roots_are_the_published_ones() {
    // The test vectors of the Certificate Transparency reference implementation.
    let leaves: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut edge = RightEdge::new();
    assert_eq!(edge.root().to_string(), roots[0]);
    for (leaf, root) in leaves.iter().zip(&roots[1..]) {
        edge.push(leaf_hash(leaf));
        assert_eq!(&edge.root().to_string(), root, "size {}", edge.size());
    }
}

#[test]
fn roots_and_inclusion_proofs_equal_those_of_ct_merkle() {
    let mut oracle = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
    let mut edge = RightEdge::new();
    for size in 1..=300 {
        oracle.push(leaf(size - 1));
        edge.push(leaf_hash(&leaf(size - 1)));
        let root = edge.root();
        assert_eq!(oracle.root().as_bytes().as_slice(), root.0);
        let files = log_of(size);
        assert_eq!(files.checkpoint().root, root, "size {size}");
        let mut load = files.load();
        let mut tree = PublishedTree::new(size, &mut load);
        // Every leaf of the small trees and of those around a full tile, else some.
        let step = if size <= 70 || (255..=258).contains(&size) {
            1
        } else {
            13
        };
        for index in (0..size).rev().step_by(step) {
            let proof = tree.inclusion_proof(index).unwrap();
            let theirs = oracle.prove_inclusion(usize::try_from(index).unwrap());
            let ours: Vec<u8> = proof.iter().flat_map(|hash| hash.0).collect();
            assert_eq!(theirs.as_bytes(), ours, "leaf {index} of {size}");
            let hash = leaf_hash(&leaf(index));
            assert_eq!(verify_inclusion(index, size, &hash, &proof, &root), Ok(()));
        }
    }
}

#[test]
fn consistency_proofs_are_those_of_the_rfc_for_all_pairs() {
    let hashes = hashes(64);
    for second in 0..=64 {
        let files = log_of(second);
        let mut load = files.load();
        let mut tree = PublishedTree::new(second, &mut load);
        let of = |size: u64| &hashes[..usize::try_from(size).unwrap()];
        let second_root = root_of(of(second));
        for first in 0..=second {
            let first_root = root_of(of(first));
            assert_eq!(tree.root_at(first).unwrap(), first_root);
            let proof = tree.consistency_proof(first).unwrap();
            if first > 0 {
                let m = usize::try_from(first).unwrap();
                assert_eq!(proof, subproof(m, of(second), true), "{first} to {second}");
            }
            let verify = |first_root, second_root, proof: &[Digest]| {
                verify_consistency(first, first_root, second, second_root, proof)
            };
            assert_eq!(verify(&first_root, &second_root, &proof), Ok(()));
            // Each thing that an attacker could change.
            let other = leaf_hash(b"other");
            assert!(verify(&other, &second_root, &proof).is_err());
            if first > 0 {
                assert!(verify(&first_root, &other, &proof).is_err());
            }
            let mut longer = proof.clone();
            longer.push(other);
            assert!(verify(&first_root, &second_root, &longer).is_err());
            for at in 0..proof.len() {
                let mut altered = proof.clone();
                altered[at] = other;
                assert!(verify(&first_root, &second_root, &altered).is_err());
                let mut shorter = proof.clone();
                shorter.remove(at);
                assert!(verify(&first_root, &second_root, &shorter).is_err());
            }
        }
        assert!(tree.consistency_proof(second + 1).is_err());
    }
}

#[test]
fn an_inclusion_proof_proves_one_leaf_at_one_place_of_one_tree() {
    for size in 1..=40 {
        let files = log_of(size);
        let root = files.checkpoint().root;
        let mut load = files.load();
        let mut tree = PublishedTree::new(size, &mut load);
        for index in 0..size {
            let proof = tree.inclusion_proof(index).unwrap();
            let hash = leaf_hash(&leaf(index));
            for elsewhere in 0..size + 3 {
                let held = verify_inclusion(elsewhere, size, &hash, &proof, &root);
                assert_eq!(held.is_ok(), elsewhere == index);
            }
            for at in 1..proof.len() {
                let mut reordered = proof.clone();
                reordered.swap(at - 1, at);
                assert_eq!(
                    verify_inclusion(index, size, &hash, &reordered, &root),
                    Err(ProofRefused::WrongRoot)
                );
            }
        }
    }
}

#[test]
fn sizes_at_the_end_of_the_range_do_not_overflow() {
    let hash = leaf_hash(b"");
    for proof in [vec![], vec![hash; 64], vec![hash; 1000]] {
        for (index, size) in [
            (u64::MAX - 1, u64::MAX),
            (u64::MAX, u64::MAX),
            (0, u64::MAX),
            (0, 0),
        ] {
            assert!(verify_inclusion(index, size, &hash, &proof, &hash).is_err());
        }
        for (first, second) in [
            (1, u64::MAX),
            (u64::MAX - 1, u64::MAX),
            (1 << 63, u64::MAX),
            ((1 << 63) + 1, u64::MAX),
            (u64::MAX, u64::MAX - 1),
            (u64::MAX, 0),
        ] {
            assert!(verify_consistency(first, &hash, second, &empty_root(), &proof).is_err());
        }
    }
}

proptest! {
    #[test]
    fn the_right_edge_is_the_recursive_root(leaves in prop::collection::vec(any::<[u8; 2]>(), 0..600)) {
        let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let mut edge = RightEdge::new();
        hashes.iter().for_each(|hash| edge.push(*hash));
        prop_assert_eq!(edge.root(), root_of(&hashes));
    }
}
