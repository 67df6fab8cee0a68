//! Commands that speak with a gateway over its API: `whoami`, `token`, `resource`, `connect`, `review`.
//!
//! They hold no authority of their own: the gateway answers to the token. What is signed is computed here, from what is
//! shown here.

mod api;
mod review;
mod sign;
pub(crate) mod unseal;

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use chancery_console::view;
use serde_json::json;

use self::api::Api;
pub(crate) use self::review::run as review;
use crate::args;
use crate::oauth::{self, Login, Wishes};
use crate::output::{Done, Exit, Failure, Out, clean};

/// Tokens and secrets are far smaller.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Prints an access token and nothing else.
pub(crate) async fn token(args: args::Token, out: Out) -> Done {
    let secret = secret(args.client_secret_file.as_deref(), "CHANCERY_CLIENT_SECRET", "the client's secret")?;
    let ca = args.issuer_ca.as_deref().map(certificates).transpose()?;
    let ttl = args.ttl.map(|ttl| u32::try_from(ttl.as_secs()).map_err(|_| Failure::usage("--ttl is too long")));
    let wishes = Wishes {
        audience: args.audience,
        scope: None,
        resources: args.resources,
        read_only: args.read_only,
        ttl: ttl.transpose()?,
    };
    let login = Login { id: args.client_id, secret };
    let client = oauth::Client::discover(&args.issuer, ca.as_deref()).await.map_err(refused)?;
    let token = match &args.on_behalf_of {
        None => client.client_credentials(&login, &wishes).await.map_err(refused)?,
        Some(path) => {
            let subject = secret_file(path, "the token")?;
            let own = client.client_credentials(&login, &Wishes::default()).await.map_err(refused)?;
            client.exchange(&login, &subject, Some(&own.access_token), &wishes).await.map_err(refused)?
        }
    };
    out.line(&token.access_token);
    out.document(&json!({ "access_token": token.access_token, "expires_in": token.expires_in }));
    Ok(Exit::Yes)
}

fn refused(error: oauth::Error) -> Failure {
    match error {
        oauth::Error::Refused { .. } => Failure::no(error),
        oauth::Error::Url | oauth::Error::Certificates => Failure::usage(error),
        _ => Failure::unsure(error),
    }
}

/// Shows who the gateway takes the token for.
pub(crate) async fn whoami(args: args::Remote, out: Out) -> Done {
    let who: view::Whoami = Api::new(&args)?.get("whoami", &[]).await?;
    out.document(&who);
    out.line(clean(&who.chain.text));
    let party = |party: &view::Party| vec![party.kind.clone(), party.subject.clone(), party.issuer.clone()];
    let rows: Vec<_> = std::iter::once(&who.chain.principal).chain(&who.chain.actors).map(party).collect();
    out.table(&["KIND", "SUBJECT", "ISSUER"], &rows);
    out.line(format_args!("groups     {}", clean(&who.chain.groups.join(", "))));
    let resources = who.resources.map_or_else(|| "any that rules allow".to_owned(), |names| names.join(", "));
    out.line(format_args!("resources  {}", clean(&resources)));
    out.line(format_args!("only read  {}", if who.read_only { "yes" } else { "no" }));
    out.line(format_args!("expires    {}", clean(&who.expires_at)));
    Ok(Exit::Yes)
}

/// Lists what may be reached.
pub(crate) async fn resource(args: args::Resource, out: Out) -> Done {
    let args::Resource::List(remote) = args;
    let api = Api::new(&remote)?;
    let resources: Vec<view::Resource> = api.get("resources", &[]).await?;
    out.document(&resources);
    let row = |of: &view::Resource| {
        let labels: Vec<_> = of.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let host = if of.host.is_empty() { api.host() } else { &of.host };
        let address = format!("{host}:{}", of.port);
        let tls = if of.tls { "yes" } else { "no" };
        let cells = [&of.name, &of.protocol, &address, &of.database, tls, &of.needs.join(","), &labels.join(",")];
        cells.map(str::to_owned).to_vec()
    };
    let rows: Vec<_> = resources.iter().map(row).collect();
    out.table(&["NAME", "PROTOCOL", "ADDRESS", "DATABASE", "TLS", "REVIEW", "LABELS"], &rows);
    Ok(Exit::Yes)
}

/// Becomes the command, with the environment that libpq reads; or prints the line, without the token.
pub(crate) async fn connect(args: args::Connect, out: Out) -> Done {
    let api = Api::new(&args.remote)?;
    let who: view::Whoami = api.get("whoami", &[]).await?;
    let resources: Vec<view::Resource> = api.get("resources", &[]).await?;
    let found = resources.into_iter().find(|resource| resource.name == args.resource);
    let missing = || Failure::no(format!("there is no resource {} for you", args.resource));
    let found = found.ok_or_else(|| missing().hint("chancery resource list"))?;
    if found.protocol != "postgres" {
        return Err(Failure::unsure(format!("this build does not know how to connect to {}", found.protocol)));
    }
    let mut environment = postgres(&api, &found, &who, args.remote.ca.as_deref());
    let Some((program, rest)) = args.command.split_first() else {
        let shown: Vec<_> = environment.iter().map(|(key, value)| format!("{key}={}", quote(value))).collect();
        out.line(clean(&format!("{} PGPASSWORD=\"$CHANCERY_TOKEN\" psql", shown.join(" "))));
        let shown: serde_json::Map<_, _> =
            environment.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        out.document(&shown);
        return Ok(Exit::Yes);
    };
    environment.push(("PGPASSWORD", api.token().to_owned()));
    // Only comes back if the program cannot be run.
    let error = std::process::Command::new(program).args(rest).envs(environment).exec();
    Err(Failure::unsure(format!("{program} cannot be run: {error}")))
}

fn postgres(api: &Api, of: &view::Resource, who: &view::Whoami, ca: Option<&Path>) -> Vec<(&'static str, String)> {
    let host = if of.host.is_empty() { api.host().to_owned() } else { of.host.clone() };
    let mut environment = vec![
        ("PGHOST", host),
        ("PGPORT", of.port.to_string()),
        ("PGDATABASE", of.database.clone()),
        ("PGUSER", who.chain.principal.subject.clone()),
    ];
    if of.tls {
        // The token is the password: it goes to nobody whose certificate was not checked.
        let root = ca.map_or_else(|| "system".to_owned(), |path| path.display().to_string());
        environment.extend([("PGSSLMODE", "verify-full".to_owned()), ("PGSSLROOTCERT", root)]);
    } else {
        environment.push(("PGSSLMODE", "prefer".to_owned()));
    }
    environment
}

/// A word for a POSIX shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A secret from a file or a variable; never from an argument.
fn secret(file: Option<&Path>, variable: &str, what: &str) -> Result<String, Failure> {
    if let Some(path) = file {
        return secret_file(path, what);
    }
    let value = std::env::var(variable).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    value.ok_or_else(|| {
        let hint = format!("put it into a file and name the file, or set {variable}");
        Failure::usage(format!("{what} is missing")).hint(hint)
    })
}

fn secret_file(path: &Path, what: &str) -> Result<String, Failure> {
    let text = String::from_utf8(read(path)?).unwrap_or_default();
    let text = text.trim();
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err(Failure::usage(format!("{} does not hold {what}", path.display())));
    }
    Ok(text.to_owned())
}

fn certificates(path: &Path) -> Result<Vec<u8>, Failure> {
    read(path)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(SECRET_BYTES_MAX).read_to_end(&mut bytes));
    file.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quote("db.example"), "db.example");
        assert_eq!(quote("it's; rm"), r"'it'\''s; rm'");
        assert_eq!(quote(""), "''");
    }
}
