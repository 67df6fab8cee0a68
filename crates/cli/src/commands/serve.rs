//! `chancery serve`: the gateway, its API and its control socket in one process, until it is asked to end.

pub(super) mod http;
pub(super) mod peers;
mod reload;
mod socket;

use std::path::Path;
use std::sync::Arc;

use chancery_console::{Desk, Number, ResourceView, SealView};
use chancery_gateway::Gateway;
use chancery_store::StateDir;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

use crate::args;
use crate::commands::check;
use crate::config::{Configuration, load_rules};
use crate::local::{SOCKET, now, state_failure};
use crate::output::{Done, Exit, Failure, Out};

pub(crate) async fn run(args: args::Config, _: Out) -> Done {
    start_log();
    let configuration = check::configuration(&args.config)?;
    let rules = load_rules(&configuration).map_err(|problems| check::failure(&problems))?;
    for problem in configuration.warnings.iter().chain(rules.warnings()) {
        tracing::warn!(problem = %problem, "configuration");
    }
    let state = StateDir::open(&configuration.state).map_err(|error| state_failure(&error))?;
    let witness = tokio::task::block_in_place(|| peers::open(&configuration))?;
    let key = Zeroizing::new(state.fingerprint_key().map_err(|error| state_failure(&error))?);
    let socket_path = configuration.state.join(SOCKET);
    let (end, ended) = watch::channel(false);
    let signals = Signals::take()?;

    let gateway = Gateway::open(state, configuration.settings(rules, &key)).await;
    let gateway = gateway.map_err(|error| Failure::no(format!("the gateway does not start: {error}")))?;
    // The state directory's lock is ours, so a socket that is there is a dead process's.
    let control = bind_control(&socket_path)?;
    let mut tasks = vec![tokio::spawn(socket::serve(control, gateway.clone(), ended.clone()))];
    if let (Some(address), Some(identity)) = (configuration.https, &configuration.tls) {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| Failure::no(format!("cannot listen on {address}: {error}")))?;
        let tls = crate::tls::server(identity).map_err(Failure::no)?;
        let mut router = chancery_console::router(Arc::new(desk(&gateway, &configuration)));
        if let Some(witness) = witness {
            tracing::info!(key = witness.verifier_key(), logs = configuration.peers.len(), "witness of other logs");
            router = router.merge(peers::router(witness, gateway.clone()));
        }
        let room = Arc::new(Semaphore::new(http::CONNECTIONS_MAX));
        tasks.push(tokio::spawn(http::serve(listener, Some(tls), room, router, ended.clone())));
    }
    for export in &configuration.exports {
        let mut ended = ended.clone();
        let sending = gateway.clone().export(export.clone(), async move { drop(ended.wait_for(|ended| *ended).await) });
        tasks.push(tokio::spawn(sending));
    }
    let reloading = reload::watch(args.config.clone(), configuration, gateway.clone(), ended.clone())?;
    tasks.push(tokio::spawn(reloading));
    tracing::info!(name = gateway.settings().name, rules = %gateway.rules().digest(), "gateway starts");

    let served = gateway.serve(signals.wait()).await;
    // Whoever listens for it is about to end, too.
    let _ = end.send(true);
    for task in tasks {
        if task.await.is_err() {
            tracing::error!("a task of the gateway panicked");
        }
    }
    // A socket that stays behind is replaced at the next start.
    let _ = std::fs::remove_file(&socket_path);
    served.map_err(|error| Failure::no(format!("the gateway ended: {error}")))?;
    tracing::info!("gateway ended");
    Ok(Exit::Yes)
}

/// What is logged if nothing is chosen. The store's library tells of each retry; what fails after them is told by us.
const LOG: &str = "info,object_store=warn";

/// Logs for the operator, on standard error. `CHANCERY_LOG` chooses what: `debug`, `chancery_gateway=debug,info` …
pub(super) fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHANCERY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Fails only where a subscriber is there already, as in tests.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).try_init();
}

/// Returns once the process is to end.
async fn end(ended: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end, too.
    drop(ended.wait_for(|ended| *ended).await);
}

pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn take() -> Result<Self, Failure> {
        let failed = |error| Failure::unsure(format!("no signals: {error}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }
    pub(super) async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::info!("asked to end; draining");
    }
}

/// The directory is for its owner alone, so nobody else reaches the socket between the two calls.
fn bind_control(path: &Path) -> Result<UnixListener, Failure> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |error: std::io::Error| {
        Failure::no(format!("{} cannot be made: {error}", path.display()))
            .hint("the path of a socket has at most 107 bytes; choose a shorter `state`")
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// What the console works with: handles to this gateway.
fn desk(gateway: &Gateway, configuration: &Configuration) -> Desk {
    let [rules, authenticate, chain_id, salt, end_session, health] = std::array::from_fn(|_| gateway.clone());
    Desk {
        catalog: gateway.catalog().clone(),
        sequencer: gateway.sequencer().clone(),
        rules: Arc::new(move || rules.rules()),
        authenticate: Arc::new(move |token: String| {
            let gateway = authenticate.clone();
            let token = Zeroizing::new(token);
            Box::pin(async move { gateway.authenticate(&token).await.map_err(drop) })
        }),
        chain_id: Arc::new(move |chain| {
            let gateway = chain_id.clone();
            Box::pin(async move {
                gateway.chain_id(&chain).await.map_err(|error| tracing::error!(%error, "a chain is not kept"))
            })
        }),
        command_salt: Arc::new(move |chain| salt.command_salt(chain)),
        resources: resources(configuration),
        end_session: Arc::new(move |id| {
            let gateway = end_session.clone();
            Box::pin(async move { gateway.end_session(id) })
        }),
        now: Arc::new(now),
        health: Arc::new(move || health_of(&health)),
        public_url: public_url(configuration),
    }
}

fn resources(configuration: &Configuration) -> Vec<ResourceView> {
    let shared = configuration.postgres;
    let view = |one: &chancery_gateway::ResourceSettings| {
        let address = one.listen.or(shared)?;
        Some(ResourceView {
            resource: one.resource.clone(),
            host: String::new(),
            port: address.port(),
            database: one.resource.name.as_str().to_owned(),
            tls: configuration.tls.is_some(),
            seal: one.seal.as_ref().map(|seal| SealView { review: seal.review.clone(), purpose: seal.purpose.clone() }),
        })
    };
    configuration.resources.iter().filter_map(view).collect()
}

fn public_url(configuration: &Configuration) -> String {
    match configuration.https {
        Some(address) if address.ip().is_unspecified() || address.ip().is_loopback() => {
            format!("https://localhost:{}", address.port())
        }
        Some(address) => format!("https://{address}"),
        None => String::new(),
    }
}

fn health_of(gateway: &Gateway) -> chancery_console::Health {
    let health = gateway.health();
    let number = |name: &str, kind, help, value| Number { name: name.to_owned(), kind, help, value };
    let sequencer = gateway.sequencer();
    let archive = gateway.archive_status().map(|status| {
        [
            number(
                "chancery_archive_entries",
                "gauge",
                "Entries that the last archived checkpoint covers.",
                status.size,
            ),
            number(
                "chancery_archive_age_seconds",
                "gauge",
                "How long ago all that was signed was archived; of the process, if it never was.",
                status.age().as_secs(),
            ),
            number("chancery_archive_failures", "counter", "Rounds of archiving that failed.", status.failures),
        ]
    });
    chancery_console::Health {
        ready: health.ready,
        reasons: health.problems.iter().map(|problem| outside(problem)).collect(),
        numbers: [
            number("chancery_sessions_open", "gauge", "Sessions that live now.", gateway.sessions().len() as u64),
            number("chancery_ledger_entries", "counter", "Entries in the ledger.", sequencer.size()),
            number("chancery_ledger_entries_durable", "counter", "Entries that are on disk.", sequencer.durable()),
        ]
        .into_iter()
        .chain(archive.into_iter().flatten())
        .collect(),
    }
}

/// A problem without names: everybody who reaches the port may read it.
fn outside(problem: &str) -> String {
    if problem.starts_with("the keys of issuer") {
        return "the keys of an issuer cannot be had".to_owned();
    }
    problem.to_owned()
}
