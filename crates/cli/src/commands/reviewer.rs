//! `chancery reviewer`: the public keys by which reviewers sign.

use std::io::Read;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::json;

use crate::args;
use crate::commands::check;
use crate::local::{Deed, NewKey, read_small};
use crate::output::{Done, Exit, Failure, Out};

/// A public key line of the kinds below is a few hundred bytes.
const LINE_BYTES_MAX: u64 = 16 * 1024;
const KINDS: [&str; 4] = ["ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ecdsa-sha2-nistp256", "ssh-rsa"];

pub(crate) async fn run(args: args::Reviewer, out: Out) -> Done {
    match args {
        args::Reviewer::AddKey(args) => add(args, out).await,
        args::Reviewer::List(args) => list(args, out).await,
    }
}

async fn add(args: args::AddKey, out: Out) -> Done {
    let bytes = if args.file.as_os_str() == "-" {
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        std::io::stdin().take(LINE_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
    } else {
        read_small(&args.file, LINE_BYTES_MAX)
    };
    let bytes = bytes.map_err(|error| Failure::no(format!("{} cannot be read: {error}", args.file.display())))?;
    let (line, fingerprint) = public_key(&String::from_utf8_lossy(&bytes))?;
    let (configuration, local) = check::open(&args.config).await?;
    let issuer = match (args.issuer, configuration.issuers.as_slice()) {
        (Some(issuer), _) => Ok(issuer),
        (None, [only]) => Ok(only.rules.url.clone()),
        (None, _) => Err(Failure::usage("of which issuer is the reviewer?").hint("--issuer URL says so")),
    };
    let done = match issuer {
        Err(failure) => Err(failure),
        Ok(issuer) => {
            let subject = args.subject.clone();
            let key = NewKey { issuer, subject, line, fingerprint: fingerprint.clone() };
            local.do_it(&Deed::Key(key)).await
        }
    };
    local.close().await;
    done?;
    out.line(format!("{fingerprint} may sign for {}", crate::output::clean(&args.subject)));
    out.document(&json!({ "subject": args.subject, "fingerprint": fingerprint }));
    Ok(Exit::Yes)
}

/// The key without its comment, and its fingerprint as OpenSSH writes it (RFC 4253 §6.6 for the blob).
fn public_key(text: &str) -> Result<(String, String), Failure> {
    let hint = format!("one line such as `ssh-ed25519 AAAA… comment`; kinds: {}", KINDS.join(", "));
    if text.contains("PRIVATE KEY") {
        return Err(Failure::usage("this is a private key; it must not leave its owner").hint("give the .pub file"));
    }
    let wrong = |what: &str| Failure::usage(format!("the public key cannot be used: {what}")).hint(&hint);
    let mut fields = text.split_whitespace();
    let (Some(kind), Some(encoded)) = (fields.next(), fields.next()) else { return Err(wrong("it is not one line")) };
    if !KINDS.contains(&kind) {
        return Err(wrong("its kind is not accepted"));
    }
    let blob = STANDARD.decode(encoded).map_err(|_| wrong("it is not base64"))?;
    let named = blob
        .split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?));
    if named != Some(kind.as_bytes()) {
        return Err(wrong("its kind is not the one inside"));
    }
    let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(digest(&SHA256, &blob)));
    Ok((format!("{kind} {encoded}"), fingerprint))
}

async fn list(args: args::Config, out: Out) -> Done {
    let (_, local) = check::open(&args).await?;
    let keys = local.catalog.list_reviewer_keys().await.map_err(|error| Failure::no(error.to_string()));
    local.close().await;
    let keys = keys?;
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            let (fingerprint, by) = (key.fingerprint.clone(), key.added_by.clone());
            vec![key.subject.clone(), key.issuer.clone(), fingerprint, key.added_at.to_string(), by]
        })
        .collect();
    out.table(&["SUBJECT", "ISSUER", "FINGERPRINT", "SINCE", "BY"], &rows);
    let documents: Vec<_> = keys
        .iter()
        .map(|key| {
            json!({ "subject": key.subject, "issuer": key.issuer, "fingerprint": key.fingerprint, "line": key.line,
                    "since": key.added_at.to_string(), "by": key.added_by })
        })
        .collect();
    out.document(&documents);
    Ok(Exit::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    #[test]
    fn a_public_key_is_read_and_others_are_refused() {
        let (line, fingerprint) = public_key(&format!("{KEY} alice@host\n")).expect("a key");
        assert_eq!(line, KEY);
        assert!(fingerprint.starts_with("SHA256:") && fingerprint.len() == 50, "{fingerprint}");
        for bad in [
            "",
            "ssh-ed25519",
            "ssh-dss AAAA",
            "ssh-ed25519 !!!!",
            "ecdsa-sha2-nistp256 AAAAC3NzaC1lZDI1NTE5",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
        ] {
            assert_eq!(public_key(bad).expect_err(bad).exit, Exit::Usage);
        }
    }
}
