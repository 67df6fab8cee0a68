//! Signatures of reviewers, made by OpenSSH's `ssh-keygen`, which knows files, agents and security keys. No private key
//! is read here.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use chancery_policy::approval::NAMESPACE;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::output::Failure;

/// The public key line (`ssh-ed25519 AAAA…`) of a key file: of itself if it is a public one, of the `.pub` beside it, or
/// as `ssh-keygen` derives it.
pub(super) async fn public_key(key: &Path) -> Result<String, Failure> {
    let unreadable = |error| Failure::usage(format!("{}: {error}", key.display()));
    let beside = PathBuf::from(format!("{}.pub", key.display()));
    let text = if key.extension().is_some_and(|extension| extension == "pub") {
        std::fs::read_to_string(key).map_err(unreadable)?
    } else if beside.is_file() {
        std::fs::read_to_string(&beside).map_err(unreadable)?
    } else {
        let mut command = Command::new("ssh-keygen");
        let output = command.arg("-y").arg("-f").arg(key).stdin(Stdio::inherit()).stderr(Stdio::inherit());
        let output = output.output().await.map_err(absent)?;
        if !output.status.success() {
            return Err(Failure::usage(format!("ssh-keygen finds no public key of {}", key.display())));
        }
        String::from_utf8(output.stdout).unwrap_or_default()
    };
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(line.trim().to_owned())
}

/// An armoured SSHSIG over `payload` for the namespace of approvals.
pub(super) async fn sign(key: &Path, payload: &[u8]) -> Result<String, Failure> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"]).arg(key).kill_on_drop(true);
    // Passphrases are asked on the terminal itself; what it says (touch the key) goes to the reviewer.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(absent)?;
    let mut input = child.stdin.take().ok_or_else(|| Failure::unsure("ssh-keygen takes no input"))?;
    let failed = |error| Failure::unsure(format!("ssh-keygen: {error}"));
    input.write_all(payload).await.map_err(failed)?;
    drop(input);
    let output = child.wait_with_output().await.map_err(failed)?;
    let signature = String::from_utf8(output.stdout).unwrap_or_default();
    if !output.status.success() || !signature.starts_with("-----BEGIN SSH SIGNATURE-----") {
        return Err(Failure::no(format!("ssh-keygen did not sign with {}", key.display()))
            .hint("give a private key, or the public one of a key that is in the agent"));
    }
    Ok(signature)
}

fn absent(error: std::io::Error) -> Failure {
    Failure::unsure(format!("ssh-keygen cannot be run: {error}")).hint("install openssh-client")
}
