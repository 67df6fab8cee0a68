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
    tokio::select! {
        done = play(&args, &tell) => done,
        signal = interrupted() => {
            // What `play` held is dropped by now: children are ended and the directory is removed.
            signal.map_err(|error| Failure::unsure(format!("no signals: {error}")))?;
            tell.line("\nThe demo is over; nothing of it is left.");
            if args.oneshot { Err(Failure::unsure("interrupted")) } else { Ok(Exit::Yes) }
        }
    }
}

async fn play(args: &args::Demo, tell: &Teller) -> Done {
    let mut stage = Stage::set(args.directory.as_deref(), tell).await?;
    let told = tokio::time::timeout(STORY_TIME_MAX, story::tell(&stage, tell)).await;
    match told {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            stage.show_log(tell);
            stage.strike().await;
            return Err(failure);
        }
        Err(_) => {
            stage.show_log(tell);
            stage.strike().await;
            return Err(Failure::no("the story took longer than three minutes"));
        }
    }
    if args.oneshot {
        stage.strike().await;
        return Ok(Exit::Yes);
    }
    story::farewell(&stage, tell);
    loop {
        tokio::select! {
            ended = stage.ended() => {
                stage.show_log(tell);
                stage.strike().await;
                return Err(Failure::no(format!("{ended} ended by itself")));
            }
            () = tokio::time::sleep(NEW_TOKENS) => stage.write_tokens().await?,
        }
    }
}

async fn interrupted() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = terminate.recv() => Ok(()),
    }
}
