//! When what is past its time is deleted: once a day, and not right after a start. Not here: what is due, and how it is
//! deleted, which is the store's.

use std::sync::Arc;
use std::time::Duration;

use chancery_model::Timestamp;
use chancery_store::{RetentionError, RunRecord};

use crate::gateway::{Shared, now};

/// Between two runs. A file of recordings is closed when its first block is older than this, too.
const DAY: Duration = Duration::from_secs(86_400);
/// After a start: clients that lost their connection come first.
const DELAY: Duration = Duration::from_secs(300);
/// Between two files: each is read once more before it is deleted, and clients want the disk, too.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes a run a day, until it is aborted. A run that is cut off is finished by the next one.
pub(crate) async fn daily(shared: Arc<Shared>) {
    let last = shared.catalog.last_run().await.ok().flatten();
    let mut wait = until_next(last.as_ref(), now());
    loop {
        tokio::time::sleep(wait).await;
        run(&shared, None).await;
        wait = DAY;
    }
}

/// One run, asked for by the chain with this id, or due.
pub(crate) async fn run(shared: &Shared, by: Option<[u8; 16]>) {
    shared.recorder.turn_over(DAY);
    match shared.retention.run(by, now, PAUSE, |_| ()).await {
        Ok(run) => {
            tracing::info!(entry = run.entry, due = run.due, pruned = run.pruned, bytes = run.bytes, "retention run");
        }
        // Whoever asked hears of the run that is under way.
        Err(RetentionError::Busy) => {}
        Err(error) => {
            tracing::error!(%error, "a run of retention did not come to its end");
            shared.alert("retention-failed");
        }
    }
}

/// A day after the last one began; neither at once nor, should the clock have been set back, later than a day.
fn until_next(last: Option<&RunRecord>, now: Timestamp) -> Duration {
    let since = last.map_or(i64::MAX, |last| now.0.saturating_sub(last.began_at.0));
    let since = Duration::from_micros(u64::try_from(since).unwrap_or(0));
    DAY.saturating_sub(since).max(DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_is_a_day_after_the_last_and_never_at_once() {
        let run = |began: i64| RunRecord {
            entry: 0,
            began_at: Timestamp(began),
            ended: None,
            due: 0,
            pruned: 0,
            refused: 0,
            bytes: 0,
        };
        let hour = 3_600_000_000;
        assert_eq!(until_next(None, Timestamp(0)), DELAY);
        assert_eq!(until_next(Some(&run(0)), Timestamp(hour)), DAY - Duration::from_secs(3_600));
        assert_eq!(until_next(Some(&run(0)), Timestamp(100 * hour)), DELAY);
        assert_eq!(until_next(Some(&run(hour)), Timestamp(0)), DAY, "the clock was set back");
    }
}
