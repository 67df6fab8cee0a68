//! `chancery witness`: a witness of logs, which runs elsewhere than the gateways whose logs it watches. This is its HTTP
//! (C2SP tlog-witness); the law by which it cosigns, and the file, are the store's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chancery_gateway::TlsIdentity;
use chancery_ledger::{ADD_CHECKPOINT_BYTES_MAX, Roots, Unwitnessed};
use chancery_model::Timestamp;
use chancery_store::{Refused, Witness, WitnessError, WitnessState};
use rustls::ServerConfig;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::args;
use crate::commands::serve::{Signals, http, start_log};
use crate::local::{now, read_small};
use crate::output::{Done, Exit, Failure, Out, clean};

/// Each log needs one, and each may have to wait for the disk.
const CONNECTIONS_MAX: u32 = 64;
/// For a request's body to arrive, and for the disk to take a head.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the answers that are due when the process is asked to end.
const DRAIN: Duration = Duration::from_secs(15);
const ROOTS_BYTES_MAX: u64 = 4096;
const PEM_BYTES_MAX: u64 = 256 * 1024;

pub(crate) async fn run(args: args::Witness, out: Out) -> Done {
    match args {
        // Reading and writing files blocks, and nothing else runs in this process.
        args::Witness::Init(args) => tokio::task::block_in_place(|| init(&args, out)),
        args::Witness::Add(args) => tokio::task::block_in_place(|| add(&args, out)),
        args::Witness::Show(args) => tokio::task::block_in_place(|| show(&args, out)),
        args::Witness::Serve(args) => serve(args).await,
    }
}

fn init(args: &args::WitnessInit, out: Out) -> Done {
    let file = &args.state.file;
    let witness = Witness::create(file, &args.name).map_err(|error| failure(&error))?;
    let (shown, key) = (clean(&file.display().to_string()), witness.verifier_key());
    out.line(format!("made {shown}: the witness's key, and soon what it saw; never run it from two copies"));
    out.line("public key, for whoever verifies the logs that it watches:");
    out.line(format!("  {key}"));
    out.line("next:");
    out.line(format!(
        "  1. chancery witness add {shown} KEY     (the first of the roots that `chancery init` printed)"
    ));
    out.line(format!("  2. chancery witness serve {shown} --listen 127.0.0.1:7380"));
    out.document(&json!({ "file": file, "name": args.name, "key": key }));
    Ok(Exit::Yes)
}

fn add(args: &args::WitnessAdd, out: Out) -> Done {
    let file = Path::new(&args.key);
    let text = if file.is_file() {
        let bytes = read_small(file, ROOTS_BYTES_MAX);
        let bytes = bytes.map_err(|error| Failure::unsure(format!("{} cannot be read: {error}", file.display())))?;
        String::from_utf8_lossy(&bytes).into_owned()
    } else {
        args.key.clone()
    };
    let roots = Roots::parse(&text).map_err(|error| {
        Failure::usage(format!("the log's key: {error}"))
            .hint("KEY is the first root that `chancery init` printed, or a file with both")
    })?;
    let key = roots.log().clone();
    let (origin, shown) = (key.name().to_owned(), key.verifier_key());
    let witness = Witness::open(&args.state.file).map_err(|error| failure(&error))?;
    witness.add(key).map_err(|error| failure(&error))?;
    out.line(format!("{} is witnessed from the first head that it shows", clean(&origin)));
    out.document(&json!({ "origin": origin, "key": shown }));
    Ok(Exit::Yes)
}

fn show(args: &args::WitnessFile, out: Out) -> Done {
    let state = WitnessState::read(&args.file).map_err(|error| failure(&error))?;
    out.line(format!("name  {}", clean(state.name())));
    out.line(format!("key   {}", clean(state.verifier_key())));
    let (mut rows, mut documents) = (Vec::new(), Vec::new());
    for known in state.logs() {
        let (origin, size, root) = (known.log.key.name(), known.log.size, known.log.root.to_string());
        let time = (known.time > 0).then(|| at(known.time).to_string());
        documents.push(json!({ "origin": origin, "key": known.log.key.verifier_key(), "size": size, "root": root,
                               "time": time }));
        rows.push(vec![origin.to_owned(), size.to_string(), root, time.unwrap_or_else(|| "-".to_owned())]);
    }
    out.table(&["LOG", "SIZE", "ROOT", "COSIGNED"], &rows);
    out.document(&json!({ "name": state.name(), "key": state.verifier_key(), "logs": documents }));
    Ok(Exit::Yes)
}

async fn serve(args: args::WitnessServe) -> Done {
    start_log();
    let tls = tls(&args)?;
    let signals = Signals::take()?;
    let witness = tokio::task::block_in_place(|| Witness::open(&args.state.file)).map_err(|error| failure(&error))?;
    if args.forget_times {
        witness.forget_times(seconds());
    }
    let listen = args.listen;
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|error| Failure::no(format!("cannot listen on {listen}: {error}")))?;
    let (key, logs) = (witness.verifier_key(), witness.logs().len());
    let (end, ended) = watch::channel(false);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    let serving = tokio::spawn(http::serve(listener, tls, room.clone(), router(Arc::new(witness)), ended));
    tracing::info!(key, address = %listen, logs, "witness starts");
    signals.wait().await;
    // Whoever listens for it is about to end, too.
    let _ = end.send(true);
    if serving.await.is_err() {
        tracing::error!("the listener of the witness panicked");
    }
    // When every permit is back, every request that was taken has its answer.
    if timeout(DRAIN, room.acquire_many(CONNECTIONS_MAX)).await.is_err() {
        tracing::warn!("a request was not answered before the end");
    }
    tracing::info!("witness ended");
    Ok(Exit::Yes)
}

/// A cosignature needs no secrecy. But whoever can change what is sent on the way can keep a log from being witnessed, and
/// whoever reads it learns how busy the log is.
fn tls(args: &args::WitnessServe) -> Result<Option<Arc<ServerConfig>>, Failure> {
    let (Some(certificate), Some(key)) = (&args.certificate, &args.key) else {
        if args.listen.ip().to_canonical().is_loopback() {
            return Ok(None);
        }
        return Err(Failure::usage(format!("{} is no loopback, and there is no certificate", args.listen))
            .hint("--certificate PEM --key PEM, or --listen 127.0.0.1:PORT behind a proxy that speaks TLS"));
    };
    let read = |file: &Path| {
        let pem = read_small(file, PEM_BYTES_MAX);
        pem.map_err(|error| Failure::no(format!("{} cannot be read: {error}", file.display())))
    };
    let (certificate, mut key) = (read(certificate)?, read(key)?);
    let identity = TlsIdentity { certificate: certificate.to_vec(), key: std::mem::take(&mut *key) };
    crate::tls::server(&identity).map(Some).map_err(Failure::no)
}

/// The one door of a witness.
pub(super) fn router(witness: Arc<Witness>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .layer(DefaultBodyLimit::max(ADD_CHECKPOINT_BYTES_MAX))
        .with_state(witness)
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, request: Request) -> Response {
    let body = match timeout(PATIENCE, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(refused)) => return refused.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let answering = tokio::task::spawn_blocking(move || match std::str::from_utf8(&body) {
        Ok(body) => witness.witness(body, seconds()),
        Err(_) => Err(Refused::Unwitnessed(Unwitnessed::Malformed)),
    });
    // Who gives up waiting leaves the witness at work: the head may be cosigned, and the log asks again.
    match timeout(PATIENCE, answering).await {
        Ok(Ok(answer)) => response(answer),
        Ok(Err(_)) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn response(answer: Result<String, Refused>) -> Response {
    let refused = match answer {
        Ok(line) => return ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response(),
        Err(refused) => refused,
    };
    let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    tracing::debug!(%status, "a head is not cosigned");
    let text = match refused {
        Refused::Unwitnessed(Unwitnessed::Conflict(size)) => {
            return (status, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response();
        }
        Refused::Unwitnessed(Unwitnessed::Malformed) => "the request is malformed\n",
        Refused::Unwitnessed(Unwitnessed::Unsigned) => "the log's key did not sign this\n",
        Refused::Unwitnessed(Unwitnessed::Unknown) => "the log is not known here\n",
        Refused::Unwitnessed(Unwitnessed::Inconsistent) => "this does not show that the log only grew\n",
        Refused::Unwritten => "the head could not be written down\n",
        Refused::Clock => "the witness's clock is behind its last cosignature\n",
        Refused::Broken => "the witness's disk failed\n",
    };
    (status, text).into_response()
}

fn seconds() -> u64 {
    u64::try_from(now().0 / 1_000_000).unwrap_or(0)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

/// A file that cannot be used, with what to do.
pub(super) fn failure(error: &WitnessError) -> Failure {
    match error {
        WitnessError::Exists(_) => Failure::no(error).hint("choose another file, or use the one that is there"),
        WitnessError::InUse(_) => Failure::no(error).hint("a witness serves from it, or another command has it open"),
        WitnessError::Readable(_) => {
            Failure::no(error).hint("it holds the witness's key: chmod 600, if nobody read it")
        }
        WitnessError::Damaged(_) => Failure::no(error)
            .hint("do not repair it or take an older copy, which would forget heads: make another witness"),
        WitnessError::Name => Failure::usage(error).hint("for example --name witness.example/w1"),
        WitnessError::Known(_) => Failure::no(error).hint("a log that has a new key is another log, with another name"),
        WitnessError::Full => Failure::no(error).hint("make another witness"),
        _ => Failure::unsure(error)
            .hint("is it the right file, and are you its owner? `chancery witness init` makes one"),
    }
}
