//! `chancery secret`: credentials of resources. A value comes from a file, standard input or a prompt, never from an
//! argument, which others on the host could read.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_model::ResourceName;
use chancery_secrets::{CREDENTIAL_FIELD_BYTES_MAX, Credential, Kek, Purpose, SEAL_RANDOM_BYTES, Sealed, Secret, seal};
use chancery_store::SecretState;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;
use zeroize::Zeroizing;

use crate::args;
use crate::commands::check;
use crate::config::Configuration;
use crate::local::{Deed, Local, NewSecret, read_small};
use crate::output::{Done, Exit, Failure, Out};

pub(crate) async fn run(args: args::Secret, out: Out) -> Done {
    match args {
        args::Secret::Set(args) => put(args, false, out).await,
        args::Secret::Rotate(args) => put(args, true, out).await,
        args::Secret::List(args) => list(args, out).await,
    }
}

async fn put(args: args::SecretSet, rotate: bool, out: Out) -> Done {
    if ResourceName::parse(&args.name).is_none() {
        return Err(Failure::usage(format!("`{}` cannot name a credential", args.name))
            .hint("1 to 63 of a-z 0-9 - _, beginning with a letter or digit"));
    }
    let (configuration, local) = check::open(&args.config).await?;
    let done = put_into(&args, rotate, &configuration, &local, out).await;
    local.close().await;
    done
}

async fn put_into(
    args: &args::SecretSet,
    rotate: bool,
    configuration: &Configuration,
    local: &Local,
    out: Out,
) -> Done {
    let refuse = |error: &dyn std::fmt::Display| Failure::no(error.to_string());
    let kek = Kek::new(local.wrap_key()?).map_err(|error| refuse(&error))?;
    let current = local.catalog.current_secret(&args.name).await.map_err(|error| refuse(&error))?;
    if rotate && current.is_none() {
        return Err(Failure::no(format!("there is no credential `{}`", args.name)).hint("use `chancery secret set`"));
    }
    let username = match (&args.username, &current) {
        (Some(username), _) => username.clone(),
        (None, None) => {
            return Err(Failure::usage("whose password is it?").hint("--username ROLE says so"));
        }
        (None, Some(current)) => {
            let plain = Sealed::decode(&current.envelope)
                .and_then(|sealed| sealed.open(&kek, &args.name, current.version, Purpose::BackendCredential))
                .and_then(|plain| Credential::decode(&plain));
            plain.map_err(|error| refuse(&error))?.username
        }
    };
    let password = password(args)?;
    let version = local.catalog.next_secret_version(&args.name).await.map_err(|error| refuse(&error))?;
    let plain = Credential { username, password }.encode().map_err(|error| refuse(&error))?;
    let mut random = Zeroizing::new([0; SEAL_RANDOM_BYTES]);
    chancery_store::random(&mut *random).map_err(|error| refuse(&error))?;
    let sealed = seal(&kek, &args.name, version, Purpose::BackendCredential, &plain, random);
    let envelope = STANDARD.encode(sealed.map_err(|error| refuse(&error))?.encode());
    let retire = current.filter(|_| rotate).map(|current| current.version);
    let resources = used_by(configuration, &args.name);
    let deed = Deed::Secret(NewSecret { name: args.name.clone(), version, envelope, retire, resources });
    local.do_it(&deed).await?;
    out.line(format!("credential {} is at version {version}", args.name));
    if let Some(old) = retire {
        out.line(format!("version {old} is retired"));
    }
    out.document(&json!({ "name": args.name, "version": version, "retired": retire }));
    Ok(Exit::Yes)
}

/// The resources whose credential it is; its own name where no resource uses it yet.
fn used_by(configuration: &Configuration, name: &str) -> Vec<String> {
    let using = configuration.resources.iter().filter(|one| one.secret == name);
    let names: Vec<String> = using.map(|one| one.resource.name.as_str().to_owned()).collect();
    if names.is_empty() { vec![name.to_owned()] } else { names }
}

/// The first line of the file, of standard input, or of what is typed without echo.
fn password(args: &args::SecretSet) -> Result<Secret, Failure> {
    let max = CREDENTIAL_FIELD_BYTES_MAX as u64 + 2;
    let bytes = match &args.file {
        Some(file) => {
            let read = read_small(file, max);
            read.map_err(|error| Failure::no(format!("{} cannot be read: {error}", file.display())))?
        }
        None if io::stdin().is_terminal() => typed()?,
        None => {
            let mut bytes = Zeroizing::new(Vec::new());
            let read = io::stdin().lock().take(max).read_until(b'\n', &mut bytes);
            read.map_err(|error| Failure::unsure(format!("standard input: {error}")))?;
            bytes
        }
    };
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(Failure::usage("the password is empty").hint("give it as one line"));
    }
    Ok(Secret::new(line.to_vec()))
}

fn typed() -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::unsure(format!("the terminal: {error}"));
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).map_err(|error| failed(&error))?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    eprint!("password: ");
    io::stderr().flush().map_err(|error| failed(&error))?;
    tcsetattr(&stdin, OptionalActions::Flush, &quiet).map_err(|error| failed(&error))?;
    let mut line = Zeroizing::new(Vec::new());
    let read = stdin.lock().take(CREDENTIAL_FIELD_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line);
    tcsetattr(&stdin, OptionalActions::Now, &before).map_err(|error| failed(&error))?;
    eprintln!();
    read.map_err(|error| failed(&error))?;
    Ok(line)
}

async fn list(args: args::Config, out: Out) -> Done {
    let (configuration, local) = check::open(&args).await?;
    let lines = local.catalog.list_secrets().await.map_err(|error| Failure::no(error.to_string()));
    local.close().await;
    let lines = lines?;
    let word = |state| if state == SecretState::Active { "active" } else { "retired" };
    let used = |name: &str| {
        let using = configuration.resources.iter().filter(|one| one.secret == name);
        using.map(|one| one.resource.name.as_str()).collect::<Vec<_>>().join(",")
    };
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            let state = word(line.state).to_owned();
            vec![line.name.clone(), line.version.to_string(), state, line.created_at.to_string(), used(&line.name)]
        })
        .collect();
    out.table(&["NAME", "VERSION", "STATE", "SINCE", "RESOURCES"], &rows);
    let documents: Vec<_> = lines
        .iter()
        .map(|line| {
            json!({ "name": line.name, "version": line.version, "state": word(line.state),
                    "since": line.created_at.to_string() })
        })
        .collect();
    out.document(&documents);
    Ok(Exit::Yes)
}
