//! What a session is told from outside. Each kind of word has a place of its own and is told once however often it is
//! said, so that nobody, the session's own client least, can crowd out the word that ends it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use chancery_model::{Refusal, ReviewId};

use crate::gateway::lock;

/// One word to a session. Reasons to look again carry nothing.
#[derive(Debug)]
pub(crate) enum Mail {
    Cancel,
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
    cancel: bool,
    /// At most the reviews that the session waits for.
    reviews: BTreeSet<ReviewId>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Leaves a word. The first word that ends the session stays.
    pub(crate) fn post(&self, mail: Mail) {
        let mut waiting = lock(&self.0);
        match mail {
            Mail::Cancel => waiting.cancel = true,
            Mail::Rules => waiting.rules = true,
            Mail::Review(id) => drop(waiting.reviews.insert(id)),
            Mail::End(refusal, reason) => drop(waiting.end.get_or_insert((refusal, reason))),
        }
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
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
        if std::mem::take(&mut waiting.cancel) {
            return Poll::Ready(Mail::Cancel);
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
        (0..100_000).for_each(|_| mailbox.post(Mail::Cancel));
        mailbox.post(Mail::Rules);
        mailbox.post(Mail::End(Refusal::new(RefusalCode::SessionEnded, "first", ""), "first"));
        mailbox.post(Mail::End(Refusal::new(RefusalCode::SessionEnded, "second", ""), "second"));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(mailbox.poll(&mut cx), Poll::Ready(Mail::End(_, "first"))));
        assert!(matches!(mailbox.poll(&mut cx), Poll::Ready(Mail::Rules)));
        assert!(matches!(mailbox.poll(&mut cx), Poll::Ready(Mail::Cancel)));
        assert!(mailbox.poll(&mut cx).is_pending());
    }
}
