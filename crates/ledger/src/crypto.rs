//! The cryptography of ledgers: SHA-256 and Ed25519, and the one place that names a library for either. `aws-lc-rs` where
//! gateways run; where there is none, which is in a browser's WebAssembly, crates in plain Rust. Both are held to the same
//! vectors below. Not here: what is hashed or signed.
//!
//! They differ in one thing: the second also refuses public keys and signatures of small order, which no honest key has.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(any(target_arch = "wasm32", test))]
mod portable;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{Sha256, SigningKey, is_signed, sha256};
#[cfg(target_arch = "wasm32")]
pub(crate) use portable::{Sha256, SigningKey, is_signed, sha256};

#[cfg(test)]
mod tests {
    use super::{native, portable};

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")).collect()
    }

    /// FIPS 180-2, appendix B, and the digest of nothing.
    const HASHED: [(&str, &str); 3] = [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ];

    /// RFC 8032 §7.1, tests 1 to 3: seed, public key, message, signature.
    const SIGNED: [[&str; 4]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
    ];

    /// The same on both: a macro, because the two share names and no trait.
    macro_rules! vectors {
        ($name:ident, $library:ident) => {
            #[test]
            fn $name() {
                for (text, digest) in HASHED {
                    assert_eq!($library::sha256(text.as_bytes()).as_slice(), bytes(digest));
                    for step in [1, 3, 64] {
                        let mut hasher = $library::Sha256::new();
                        text.as_bytes().chunks(step).for_each(|piece| hasher.update(piece));
                        assert_eq!(hasher.finish().as_slice(), bytes(digest));
                    }
                }
                for [seed, key, message, signature] in SIGNED.map(|row| row.map(bytes)) {
                    let signer = $library::SigningKey::from_seed(seed.as_slice().try_into().expect("32 bytes"));
                    let signer = signer.expect("a seed");
                    assert_eq!(signer.public_key().as_slice(), key);
                    assert_eq!(signer.sign(&message).as_slice(), signature);
                    assert!($library::is_signed(&key, &message, &signature));
                    assert!(!$library::is_signed(&key, &[message.as_slice(), &[0]].concat(), &signature));
                    for at in 0..signature.len() {
                        let mut other = signature.clone();
                        other[at] ^= 1;
                        assert!(!$library::is_signed(&key, &message, &other), "byte {at}");
                    }
                    // A key or signature of another length is none.
                    assert!(!$library::is_signed(&key[1..], &message, &signature));
                    assert!(!$library::is_signed(&key, &message, &signature[1..]));
                    assert!(!$library::is_signed(&key, &message, &[signature.as_slice(), &[0]].concat()));
                }
            }
        };
    }
    vectors!(native_keeps_the_published_vectors, native);
    vectors!(portable_keeps_the_published_vectors, portable);

    #[test]
    fn both_say_the_same() {
        let mut seed = [0_u8; 32];
        for round in 0_u8..32 {
            seed = native::sha256(&seed);
            let message: Vec<u8> = seed.iter().cycle().take(usize::from(round) * 37).copied().collect();
            assert_eq!(native::sha256(&message), portable::sha256(&message));
            let (one, other) = (native::SigningKey::from_seed(&seed), portable::SigningKey::from_seed(&seed));
            let (one, other) = (one.expect("a seed"), other.expect("a seed"));
            assert_eq!(one.public_key(), other.public_key());
            let signature = one.sign(&message);
            assert_eq!(signature, other.sign(&message));
            // S + L is the same number to who does not look: RFC 8032 §5.1.7 has it refused.
            let order = bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
            let mut more = signature;
            let mut carry = 0_u16;
            for (byte, add) in more[32..].iter_mut().zip(&order) {
                carry += u16::from(*byte) + u16::from(*add);
                *byte = carry.to_le_bytes()[0];
                carry >>= 8;
            }
            for (signature, due) in [(signature, true), (more, false)] {
                assert_eq!(native::is_signed(&one.public_key(), &message, &signature), due);
                assert_eq!(portable::is_signed(&one.public_key(), &message, &signature), due);
            }
        }
    }

    #[test]
    fn a_key_of_small_order_signs_nothing_in_plain_rust() {
        // The neutral element as key and R, zero as S: it holds for every message, to who does not look.
        let mut key = [0; 32];
        key[0] = 1;
        let signature = [key.as_slice(), &[0; 32]].concat();
        assert!(native::is_signed(&key, b"anything", &signature));
        assert!(!portable::is_signed(&key, b"anything", &signature));
    }
}
