//! `chancery demo`: the whole story on loopback, with a real PostgreSQL, real clients and the gateway as it is.
//!
//! Everything lives in one directory, which is removed at the end, and in child processes, which are ended with it. The
//! demo checks what it says: a step that does not show what it should ends the demo with exit 1.

pub(crate) mod issuer;
mod postgres;
mod process;
mod stage;
mod story;
mod tell;

use std::time::Duration;

use self::stage::Stage;
use self::tell::Teller;
use crate::args;
use crate::output::{Done, Exit, Failure, Out};

/// The story, with all its waits, takes seconds.
const STORY_TIME_MAX: Duration = Duration::from_secs(180);
/// Tokens live for an hour; new ones are written long before.
const NEW_TOKENS: Duration = Duration::from_secs(30 * 60);

/// Plays the story, and stays up unless told otherwise.
pub(crate) async fn run(args: args::Demo, out: Out) -> Done {
    if out.json {
        return Err(Failure::usage("the demo is for people; it has no --json"));
    }
    let tell = Teller::new();
    let mut signal = std::pin::pin!(interrupted());
    let mut stage = tokio::select! {
        stage = Stage::set(args.directory.as_deref(), &tell) => stage?,
        // What was set up so far is killed and removed by being dropped.
        _ = &mut signal => return Err(Failure::unsure("interrupted")),
    };
    let done = tokio::select! {
        done = play(&args, &mut stage, &tell) => done,
        _ = &mut signal => {
            tell.line("\nThe demo is over; its servers are ended and its files removed.");
            if args.oneshot { Err(Failure::unsure("interrupted")) } else { Ok(Exit::Yes) }
        }
    };
    if done.as_ref().is_err_and(|failure| failure.exit == Exit::No) {
        stage.show_log(&tell);
    }
    stage.strike().await;
    done
}

async fn play(args: &args::Demo, stage: &mut Stage, tell: &Teller) -> Done {
    match tokio::time::timeout(STORY_TIME_MAX, story::tell(stage, tell)).await {
        Ok(told) => told?,
        Err(_) => return Err(Failure::no("the story took longer than three minutes")),
    }
    if args.oneshot {
        return Ok(Exit::Yes);
    }
    story::farewell(stage, tell);
    loop {
        tokio::select! {
            ended = stage.ended() => return Err(Failure::no(format!("{ended} ended by itself"))),
            () = tokio::time::sleep(NEW_TOKENS) => {}
        }
        stage.write_tokens().await?;
    }
}

/// Returns when the user or the system asks the demo to end.
async fn interrupted() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}
