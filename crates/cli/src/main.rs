//! The binary `chancery`: flags, the configuration file, the operator's local commands, exit codes.
//!
//! It wires the gateway and the console together and decides nothing itself. This crate knows nothing of how a protocol
//! is spoken, how a rule is evaluated or what an entry looks like on disk.

mod args;
mod client;
mod commands;
mod config;
mod demo;
mod instant;
mod local;
mod oauth;
mod output;
mod tls;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::{Cli, Command};
use crate::output::{Done, Exit, Out};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nowhere to say that standard output or error is closed.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { Exit::Yes.code() } else { Exit::Usage.code() });
        }
    };
    let out = Out::new(cli.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::from(Exit::Unsure.code());
        }
    };
    let exit = match runtime.block_on(run(cli.command, out)) {
        Ok(exit) => exit,
        Err(failure) => {
            failure.print(out.json);
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

/// Each command is boxed: their states differ by tens of kilobytes, and one of them runs, once.
async fn run(command: Command, out: Out) -> Done {
    match command {
        Command::Init(args) => Box::pin(commands::init::run(args, out)).await,
        Command::Check(args) => Box::pin(commands::check::run(args, out)).await,
        Command::Serve(args) => Box::pin(commands::serve::run(args, out)).await,
        Command::Demo(args) => Box::pin(demo::run(args, out)).await,
        Command::Token(args) => Box::pin(client::token(args, out)).await,
        Command::Whoami(args) => Box::pin(client::whoami(args, out)).await,
        Command::Resource(args) => Box::pin(client::resource(args, out)).await,
        Command::Connect(args) => Box::pin(client::connect(args, out)).await,
        Command::Review(args) => Box::pin(client::review(args, out)).await,
        Command::Session(args) => Box::pin(commands::session::run(args, out)).await,
        Command::Secret(args) => Box::pin(commands::secret::run(args, out)).await,
        Command::Reviewer(args) => Box::pin(commands::reviewer::run(args, out)).await,
        Command::Policy(args) => Box::pin(commands::policy::run(args, out)).await,
        Command::Evidence(args) => Box::pin(commands::evidence::run(args, out)).await,
        Command::Retention(args) => Box::pin(commands::retention::run(args, out)).await,
        Command::Hold(args) => Box::pin(commands::hold::run(args, out)).await,
        Command::Ledger(args) => Box::pin(commands::ledger::run(args, out)).await,
        Command::Archive(args) => Box::pin(commands::archive::run(args, out)).await,
        Command::Registry(args) => Box::pin(commands::registry::run(args, out)).await,
        Command::Witness(args) => Box::pin(commands::witness::run(args, out)).await,
    }
}
