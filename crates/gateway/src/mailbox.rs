//! What a session is told from outside. Each kind of word has a place of its own and is told once however often it is
//! said, so that nobody, the session's own client least, can crowd out the word that ends it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use chancery_model::{Refusal, ReviewId};
use tokio::sync::watch;

use crate::gateway::lock;

/// Dropped when a cancel was delivered, or came to nothing.
pub(crate) type Delivered = watch::Sender<()>;

/// One word to a session. Reasons to look again carry nothing.
#[derive(Debug)]
pub(crate) enum Mail {
    Cancel(Delivered),
    Review(ReviewId),
    Rules,
    End(Refusal, &'static str),
}

/// Where the words wait. Clones are the same mailbox.
#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    end: Option<(Refusal, &'static str)>,
    rules: bool,
    cancel: Option<Delivered>,
    /// At most the reviews that the session waits for.
    reviews: BTreeSet<ReviewId>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Leaves a word. The first word that ends the session stays.
    pub(crate) fn post(&self, mail: Mail) {
        self.put(|waiting| match mail {
            Mail::Cancel(delivered) => _ = waiting.cancel.get_or_insert(delivered),
            Mail::Rules => waiting.rules = true,
            Mail::Review(id) => drop(waiting.reviews.insert(id)),
            Mail::End(refusal, reason) => _ = waiting.end.get_or_insert((refusal, reason)),
        });
    }

    /// Leaves a cancel. What is returned ends when it was delivered; one that is not read yet does for all.
    pub(crate) fn cancel(&self) -> watch::Receiver<()> {
        self.put(|waiting| waiting.cancel.get_or_insert_with(|| watch::channel(()).0).subscribe())
    }

    fn put<T>(&self, put: impl FnOnce(&mut Waiting) -> T) -> T {
        let mut waiting = lock(&self.0);
        let result = put(&mut waiting);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// The next word, the most pressing first. One task polls.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Mail> {
        let mut waiting = lock(&self.0);
        if let Some((refusal, reason)) = waiting.end.take() {
            return Poll::Ready(Mail::End(refusal, reason));
        }
        if std::mem::take(&mut waiting.rules) {
            return Poll::Ready(Mail::Rules);
        }
        if let Some(delivered) = waiting.cancel.take() {
            return Poll::Ready(Mail::Cancel(delivered));
        }
        if let Some(id) = waiting.reviews.pop_first() {
            return Poll::Ready(Mail::Review(id));
        }
        if !waiting.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            waiting.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use chancery_model::RefusalCode;

    use super::*;

    #[test]
    fn a_flood_of_cancels_leaves_room_for_every_other_word() {
        let mailbox = Mailbox::default();
        let ends: Vec<_> = (0..100_000).map(|_| mailbox.cancel()).collect();
        mailbox.post(Mail::Rules);
        mailbox.post(Mail::End(Refusal::new(RefusalCode::SessionEnded, "first", ""), "first"));
        mailbox.post(Mail::End(Refusal::new(RefusalCode::SessionEnded, "second", ""), "second"));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(mailbox.poll(&mut cx), Poll::Ready(Mail::End(_, "first"))));
        assert!(matches!(mailbox.poll(&mut cx), Poll::Ready(Mail::Rules)));
        let cancel = mailbox.poll(&mut cx);
        assert!(matches!(cancel, Poll::Ready(Mail::Cancel(_))));
        assert!(ends.iter().all(|end| end.has_changed().is_ok()), "it was read, not delivered");
        drop(cancel);
        assert!(ends.iter().all(|end| end.has_changed().is_err()), "one does for all");
        assert!(mailbox.poll(&mut cx).is_pending());
    }
}
