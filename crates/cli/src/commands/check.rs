//! `chancery check`: everything that can be said without binding a port.

use std::path::Path;

use chancery_policy::Problem;
use chancery_secrets::{Credential, Kek, Purpose, Sealed};
use chancery_store::Catalog;
use serde_json::json;

use crate::args;
use crate::commands::serve::peers;
use crate::config::{self, Configuration};
use crate::local::Local;
use crate::output::{Done, Exit, Failure, Out, clean_lines};

pub(crate) async fn run(args: args::Config, out: Out) -> Done {
    let mut problems = Vec::new();
    match config::load(&args.config) {
        Err(found) => problems.extend(found),
        Ok(configuration) => {
            problems.extend(configuration.warnings.iter().cloned());
            match config::load_rules(&configuration) {
                Err(found) => problems.extend(found),
                Ok(rules) => problems.extend(rules.warnings().iter().cloned()),
            }
            problems.extend(state(&args.config, &configuration).await);
        }
    }
    Ok(report(&problems, out))
}

/// Prints problems; whether there is none but warnings.
pub(crate) fn report(problems: &[Problem], out: Out) -> Exit {
    let errors = problems.iter().filter(|problem| !problem.warning).count();
    let warnings = problems.len() - errors;
    let exit = if errors == 0 { Exit::Yes } else { Exit::No };
    for problem in problems {
        out.line(clean_lines(&problem.to_string()));
    }
    let word = if errors == 0 { "ok" } else { "not ok" };
    out.line(format!("{}: {errors} errors, {warnings} warnings", out.paint(exit, word)));
    let lines: Vec<_> = problems
        .iter()
        .map(|problem| {
            json!({ "path": problem.path, "line": problem.line, "column": problem.column, "message": problem.message,
                    "hint": problem.hint, "warning": problem.warning })
        })
        .collect();
    out.document(&json!({ "ok": errors == 0, "problems": lines }));
    exit
}

/// For commands that cannot go on: the problems as one failure.
pub(crate) fn failure(problems: &[Problem]) -> Failure {
    let errors: Vec<String> = problems.iter().filter(|problem| !problem.warning).map(ToString::to_string).collect();
    Failure::no(errors.join("\n"))
}

/// The state directory: there, with its keys, and with an openable credential for each resource.
async fn state(path: &Path, configuration: &Configuration) -> Vec<Problem> {
    let problem = |failure: Failure| Problem {
        path: path.display().to_string(),
        line: 0,
        column: 0,
        message: failure.message,
        hint: failure.hint,
        warning: false,
    };
    let local = match Local::open(&configuration.state).await {
        Ok(local) => local,
        Err(failure) => return vec![problem(failure)],
    };
    let mut problems = Vec::new();
    match local.wrap_key().and_then(|key| Kek::new(key).map_err(|error| Failure::no(error.to_string()))) {
        Err(failure) => problems.push(problem(failure)),
        Ok(kek) => {
            for resource in &configuration.resources {
                if let Err(failure) = credential(&local.catalog, &kek, &resource.secret).await {
                    let message = format!("resource {}: {}", resource.resource.name, failure.message);
                    problems.push(problem(Failure { message, ..failure }));
                }
            }
        }
    }
    local.close().await;
    problems.extend(peers::problems(configuration).into_iter().map(problem));
    problems
}

async fn credential(catalog: &Catalog, kek: &Kek, name: &str) -> Result<(), Failure> {
    let set = format!("chancery secret set {name} --username ROLE");
    let kept = catalog.current_secret(name).await.map_err(|error| Failure::no(error.to_string()))?;
    let kept = kept.ok_or_else(|| Failure::no(format!("there is no credential `{name}`")).hint(&set))?;
    let opened = Sealed::decode(&kept.envelope)
        .and_then(|sealed| sealed.open(kek, name, kept.version, Purpose::BackendCredential))
        .and_then(|plain| Credential::decode(&plain).map(drop));
    opened.map_err(|error| Failure::no(format!("the credential `{name}` cannot be opened: {error}")).hint(set))
}

/// Loads the configuration or says what is wrong with it.
pub(crate) fn configuration(path: &Path) -> Result<Configuration, Failure> {
    config::load(path).map_err(|problems| failure(&problems))
}

/// Opens the state that a configuration names.
pub(crate) async fn open(args: &args::Config) -> Result<(Configuration, Local), Failure> {
    let configuration = configuration(&args.config)?;
    let local = Local::open(&configuration.state).await?;
    Ok((configuration, local))
}
