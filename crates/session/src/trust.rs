//! Whether the catalog says what is: after definitions of this session's own, and of others.

use std::sync::Arc;

use chancery_mask::{Catalog, Exposure};
use chancery_wire::Relay;

use crate::effect::Effect;
use crate::session::{Session, Stage};

/// Whether the catalog says what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// As far as anybody knows.
    Fresh,
    /// A command of this session may have changed it.
    Stale,
    /// It is being read again.
    Refreshing,
}

impl<R: Relay> Session<R> {
    /// Asks for the catalog if it can tell the truth now. True: go on without it (open transaction, or nothing to ask).
    pub(crate) fn refresh(&mut self) -> bool {
        match self.trust {
            Trust::Fresh => true,
            Trust::Refreshing => false,
            // What is not committed is seen by this session alone.
            Trust::Stale if self.gate.relay().in_transaction() => true,
            // The end of the transaction is on its way.
            Trust::Stale if !self.gate.relay().is_settled() => false,
            Trust::Stale => {
                self.reread();
                false
            }
        }
    }

    /// Has the catalog read again; what depends on it waits.
    pub(crate) fn reread(&mut self) {
        self.trust = Trust::Refreshing;
        self.awaited_catalogs += 1;
        self.effects.push_back(Effect::Refresh);
    }

    /// Takes the catalog that was asked for, or that replaces an outdated one.
    pub(crate) fn renewed(&mut self, catalog: Arc<Catalog>) {
        self.awaited_catalogs = self.awaited_catalogs.saturating_sub(1);
        if self.trust == Trust::Refreshing && self.awaited_catalogs == 0 {
            self.trust = Trust::Fresh;
        }
        self.take_catalog(catalog);
    }

    /// Takes a catalog that nobody here asked for. A session that does not trust its catalog reads one of its own first.
    pub(crate) fn newer(&mut self, catalog: Arc<Catalog>) {
        if self.trust == Trust::Fresh {
            self.take_catalog(catalog);
        }
    }

    /// Another session changed what the catalog is read from. A newer one is being read and will be handed over.
    pub(crate) fn outdated(&mut self) {
        self.awaited_catalogs += 1;
        if self.trust == Trust::Fresh {
            self.trust = Trust::Refreshing;
        }
    }

    /// What is under way is judged by it, too.
    fn take_catalog(&mut self, catalog: Arc<Catalog>) {
        self.catalog = catalog;
        self.readings.clear();
        for active in &mut self.commands {
            active.exposure = active.known.as_ref().map(|known| Box::new(Exposure::of(&self.catalog, &known.facts)));
        }
    }

    /// Tells the other sessions, as soon as they can see it, that this one defined something. Comes before anything tells
    /// the client that it is done.
    pub(crate) fn spread(&mut self) {
        if self.defined && self.gate.relay().is_settled() {
            self.defined = false;
            self.effects.push_back(Effect::Outdate);
        }
    }

    /// The same at the end of the session, when nobody knows any more what became of it.
    pub(crate) fn spread_at_end(&mut self) {
        let runs = |stage: &Stage| matches!(stage, Stage::Forwarded);
        let defines = self.commands.iter().filter(|active| runs(&active.stage)).filter_map(|a| a.known.as_ref());
        if self.defined || defines.into_iter().any(|known| known.redefines) {
            self.defined = false;
            self.effects.push_back(Effect::Outdate);
        }
    }
}
