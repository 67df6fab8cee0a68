//! SSH signatures made by the real `ssh-keygen`, and a security key's made by hand (it needs no hardware).
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "runs ssh-keygen on files of its own")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chancery_policy::approval::{NAMESPACE, SignatureError, verify_sshsig};

const MESSAGE: &[u8] = b"approve this";

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chancery-sshsig-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn keygen(directory: &Path, arguments: &[&str]) -> Option<bool> {
    let status = Command::new("ssh-keygen")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    Some(status.success())
}

/// The key line and the armoured signature; `None` where there is no `ssh-keygen`.
fn sign(name: &str, kind: &[&str], namespace: &str, options: &[&str]) -> Option<(String, String)> {
    let scratch = Scratch::new(name);
    let made = keygen(&scratch.0, &[&["-q", "-N", "", "-f", "key", "-t"], kind].concat())?;
    assert!(made, "ssh-keygen makes a key of {kind:?}");
    std::fs::write(scratch.0.join("text"), MESSAGE).expect("written");
    let signed = keygen(&scratch.0, &[&["-Y", "sign", "-f", "key", "-n", namespace], options, &["text"]].concat())?;
    assert!(signed, "ssh-keygen signs with {kind:?}");
    let read = |file: &str| std::fs::read_to_string(scratch.0.join(file)).expect("written by ssh-keygen");
    Some((read("key.pub"), read("text.sig")))
}

#[test]
fn signatures_of_ssh_keygen_hold() {
    let cases: [(&str, &[&str], &[&str]); 5] = [
        ("ed25519", &["ed25519"], &[]),
        ("ed25519-256", &["ed25519"], &["-O", "hashalg=sha256"]),
        ("p256", &["ecdsa", "-b", "256"], &[]),
        ("rsa2048", &["rsa", "-b", "2048"], &[]),
        ("rsa3072", &["rsa", "-b", "3072"], &["-O", "hashalg=sha256"]),
    ];
    for (name, kind, options) in cases {
        let Some((key, signature)) = sign(name, kind, NAMESPACE, options) else {
            eprintln!("skipped: no ssh-keygen here");
            return;
        };
        let verify = |key: &str, namespace: &str, message: &[u8]| verify_sshsig(&signature, key, namespace, message);
        assert_eq!(verify(&key, NAMESPACE, MESSAGE), Ok(()), "{name}");
        assert_eq!(verify(&key, NAMESPACE, b"approve that"), Err(SignatureError::Invalid), "{name}");
        assert_eq!(verify(&key, "file", MESSAGE), Err(SignatureError::OtherNamespace), "{name}");
        assert_eq!(verify(&key, "", MESSAGE), Err(SignatureError::OtherNamespace), "{name}");
        let (other, _) = sign(&format!("{name}-other"), kind, NAMESPACE, &[]).expect("ssh-keygen is there");
        assert_eq!(verify(&other, NAMESPACE, MESSAGE), Err(SignatureError::OtherKey), "{name}");
        every_flipped_bit_is_refused(&key, &signature);
    }
}

fn every_flipped_bit_is_refused(key: &str, armored: &str) {
    let body: String = armored.lines().filter(|line| !line.starts_with('-')).collect();
    let blob = STANDARD.decode(body).expect("base64");
    assert_eq!(verify_sshsig(&armour(&blob), key, NAMESPACE, MESSAGE), Ok(()));
    for at in 0..blob.len() {
        let mut changed = blob.clone();
        changed[at] ^= 1;
        assert!(verify_sshsig(&armour(&changed), key, NAMESPACE, MESSAGE).is_err(), "byte {at}");
        assert!(verify_sshsig(&armour(&blob[..at]), key, NAMESPACE, MESSAGE).is_err(), "cut at {at}");
    }
    let longer = [&blob[..], &[0]].concat();
    assert!(verify_sshsig(&armour(&longer), key, NAMESPACE, MESSAGE).is_err());
}

#[test]
fn other_curves_are_refused() {
    let Some((key, signature)) = sign("p384", &["ecdsa", "-b", "384"], NAMESPACE, &[]) else {
        eprintln!("skipped: no ssh-keygen here");
        return;
    };
    assert_eq!(verify_sshsig(&signature, &key, NAMESPACE, MESSAGE), Err(SignatureError::Unsupported));
}

fn armour(blob: &[u8]) -> String {
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(blob))
}

fn strings(fields: &[&[u8]]) -> Vec<u8> {
    fields.iter().flat_map(|field| [&(field.len() as u32).to_be_bytes()[..], field].concat()).collect()
}

#[test]
fn a_security_key_must_be_touched() {
    const KIND: &[u8] = b"sk-ssh-ed25519@openssh.com";
    let pair = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).expect("a seed");
    let key = strings(&[KIND, pair.public_key().as_ref(), b"ssh:"]);
    let line = format!("sk-ssh-ed25519@openssh.com {} somebody", STANDARD.encode(&key));
    let make = |flags: u8| {
        let hashed = digest(&SHA512, MESSAGE);
        let signed = [b"SSHSIG".to_vec(), strings(&[NAMESPACE.as_bytes(), b"", b"sha512", hashed.as_ref()])].concat();
        let mut wrapped = digest(&SHA256, b"ssh:").as_ref().to_vec();
        wrapped.extend_from_slice(&[flags, 0, 0, 0, 7]);
        wrapped.extend_from_slice(digest(&SHA256, &signed).as_ref());
        let mut signature = strings(&[KIND, pair.sign(&wrapped).as_ref()]);
        signature.extend_from_slice(&[flags, 0, 0, 0, 7]);
        let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
        blob.extend(strings(&[&key, NAMESPACE.as_bytes(), b"", b"sha512", &signature]));
        armour(&blob)
    };
    assert_eq!(verify_sshsig(&make(1), &line, NAMESPACE, MESSAGE), Ok(()));
    assert_eq!(verify_sshsig(&make(5), &line, NAMESPACE, MESSAGE), Ok(()));
    assert_eq!(verify_sshsig(&make(4), &line, NAMESPACE, MESSAGE), Err(SignatureError::NotTouched));
    assert_eq!(verify_sshsig(&make(1), &line, NAMESPACE, b"other"), Err(SignatureError::Invalid));
}

#[test]
fn nonsense_is_malformed() {
    let line = format!("ssh-ed25519 {}", STANDARD.encode(strings(&[b"ssh-ed25519", &[1; 32]])));
    let huge = armour(&[0; 20_000]);
    for armored in
        ["", "-----BEGIN SSH SIGNATURE-----", "-----BEGIN SSH SIGNATURE----------END SSH SIGNATURE-----", &huge]
    {
        assert_eq!(verify_sshsig(armored, &line, NAMESPACE, MESSAGE), Err(SignatureError::Malformed));
    }
    for key in ["", "ssh-ed25519", "ssh-ed25519 !!", "ssh-rsa AAAA", "ssh-ed25519 //////8="] {
        assert_eq!(verify_sshsig(&armour(b"x"), key, NAMESPACE, MESSAGE), Err(SignatureError::Malformed), "{key}");
    }
}
