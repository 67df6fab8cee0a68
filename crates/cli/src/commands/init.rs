//! `chancery init`: a directory to start from. It is made once; nothing is overwritten.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use chancery_store::{Catalog, StateDir, Witness};
use serde_json::json;

use crate::args;
use crate::commands::ledger::ROOTS_FILE;
use crate::local::{WITNESS, open_ledger, state_failure};
use crate::output::{Done, Exit, Failure, Out, clean};

const CONFIG: &str = include_str!("init/chancery.toml");
const RULES: &str = include_str!("init/rules.cedar");

pub(crate) async fn run(args: args::Init, out: Out) -> Done {
    let directory = &args.directory;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if !(1..=63).contains(&args.name.len()) || !args.name.chars().all(plain) {
        return Err(Failure::usage("the name must be 1 to 63 of a-z 0-9 - .").hint("for example --name gw-a"));
    }
    for name in ["chancery.toml", "policies", "state", "server.pem", "server.key"] {
        if fs::symlink_metadata(directory.join(name)).is_ok() {
            return Err(Failure::no(format!("{} exists; nothing was written", directory.join(name).display()))
                .hint("choose another directory; `chancery check` looks at what is there"));
        }
    }
    make_directory(directory)?;
    make_directory(&directory.join("policies"))?;
    write_new(&directory.join("policies/example.cedar"), RULES, 0o644)?;
    certificate(directory)?;
    let origin = format!("chancery.local/{}", args.name);
    let state = StateDir::create(&directory.join("state"), &origin).map_err(|error| state_failure(&error))?;
    let catalog = Catalog::create(&state.catalog()).await;
    catalog.map_err(|error| Failure::no(format!("the catalog: {error}")))?.close().await;
    let sequencer = open_ledger(&state)?;
    let roots = sequencer.roots();
    sequencer.close();
    write_new(&directory.join("state").join(ROOTS_FILE), &roots, 0o600)?;
    let witness = Witness::create(&directory.join("state").join(WITNESS), &format!("{origin}/witness"));
    let witness = witness.map_err(|error| Failure::no(error.to_string()))?.verifier_key();
    // The configuration comes last: a crash before it leaves a directory that `serve` does not start from.
    write_new(&directory.join("chancery.toml"), &CONFIG.replace("@NAME@", &args.name), 0o644)?;
    say(directory, &roots, &witness, out);
    Ok(Exit::Yes)
}

fn say(directory: &Path, roots: &str, witness: &str, out: Out) {
    let shown = clean(&directory.display().to_string());
    out.line(format!("made {shown}: chancery.toml, policies/, server.pem, state/ (keys, catalog, ledger)"));
    out.line("roots of the ledger, to be kept elsewhere (whoever verifies it needs them; also in state/ledger.vkey):");
    roots.lines().for_each(|root| out.line(format!("  {root}")));
    out.line("key of its witness, if it is to witness other gateways (for the policies of those; `ledger status` shows it, too):");
    out.line(format!("  {witness}"));
    out.line("next:");
    let config = clean(&directory.join("chancery.toml").display().to_string());
    out.line(format!("  1. edit {config}: an [[issuer]] and a [[resource]]"));
    out.line(format!("  2. chancery secret set NAME --username ROLE --config {config}"));
    out.line(format!("  3. chancery check --config {config}"));
    out.line(format!("  4. chancery serve --config {config}"));
    out.document(&json!({ "directory": directory, "ledger_roots": roots.lines().collect::<Vec<_>>(),
                          "witness_key": witness }));
}

/// A certificate of its own making, for this host alone, so that the first start is inside TLS.
fn certificate(directory: &Path) -> Result<(), Failure> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let made = rcgen::generate_simple_self_signed(names);
    let made = made.map_err(|error| Failure::unsure(format!("the certificate: {error}")))?;
    write_new(&directory.join("server.pem"), &made.cert.pem(), 0o644)?;
    write_new(&directory.join("server.key"), &made.signing_key.serialize_pem(), 0o600)
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|error| Failure::no(format!("{} cannot be made: {error}", path.display())))
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.as_mut().map_err(|error| error.to_string()).and_then(|file| {
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| error.to_string())
    });
    written.map_err(|error| Failure::no(format!("{} cannot be written: {error}", path.display())))
}
