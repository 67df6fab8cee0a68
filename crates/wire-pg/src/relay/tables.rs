//! What the names in the client's messages mean: prepared statements and portals.
//!
//! The tables run ahead of the server: a name counts as made when the client's message is read. A journal takes back
//! what the server then does not do (see the invariant in `relay`).

use bytes::Bytes;
use chancery_model::{Bind, Statement};
use chancery_wire::Forget;
use foldhash::HashMap;

/// The server cuts longer names (`NAMEDATALEN`), so that two of them can be one.
const NAME_BYTES_MAX: usize = 63;

/// A prepared statement, and the client's segment in which it was made.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) statement: Statement,
    segment: u64,
}

/// A bound portal.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) statement: Statement,
    pub(super) bind: Bind,
    pub(super) started: bool,
    pub(super) described: bool,
    segment: u64,
}

/// Whether a name may be used now.
#[derive(Debug)]
pub(super) enum Lookup<T> {
    Known(T),
    /// Made in a segment that the server has not confirmed: wait for it.
    Unconfirmed,
    Unknown,
}

#[derive(Debug)]
enum Previous {
    Statement(Option<Prepared>),
    Portal(Option<Portal>),
}

#[derive(Debug)]
struct Change {
    step: u64,
    segment: u64,
    name: Bytes,
    previous: Previous,
}

/// Both name spaces and the journal of unconfirmed changes.
#[derive(Default)]
pub(super) struct Names {
    statements: HashMap<Bytes, Prepared>,
    portals: HashMap<Bytes, Portal>,
    /// The texts of SQL's own PREPAREs that ended well, by the names they gave.
    defined: HashMap<Bytes, Statement>,
    journal: Vec<Change>,
    steps: u64,
    confirmed: u64,
}

impl Names {
    /// How many statements and portals there are, whichever is more.
    pub(super) fn len(&self) -> usize {
        self.statements.len().max(self.portals.len())
    }

    pub(super) fn prepare(&mut self, name: Bytes, statement: Statement, segment: u64) -> u64 {
        self.defined.remove(&name);
        let previous = self.statements.insert(name.clone(), Prepared { statement, segment });
        self.note(name, segment, Previous::Statement(previous))
    }

    pub(super) fn bind(&mut self, name: Bytes, statement: Statement, bind: Bind, segment: u64) -> u64 {
        let portal = Portal { statement, bind, started: false, described: false, segment };
        let previous = self.portals.insert(name.clone(), portal);
        self.note(name, segment, Previous::Portal(previous))
    }

    pub(super) fn close_statement(&mut self, name: Bytes, segment: u64) -> u64 {
        self.defined.remove(&name);
        let previous = self.statements.remove(&name);
        self.note(name, segment, Previous::Statement(previous))
    }

    pub(super) fn close_portal(&mut self, name: Bytes, segment: u64) -> u64 {
        let previous = self.portals.remove(&name);
        self.note(name, segment, Previous::Portal(previous))
    }

    /// Notes what SQL's PREPARE gave a name to. A name past the bounds stays unknown.
    pub(super) fn define(&mut self, name: &str, statement: Statement, names_max: usize) {
        if name.len() < NAME_BYTES_MAX && self.defined.len() < names_max {
            self.defined.insert(Bytes::copy_from_slice(name.as_bytes()), statement);
        }
    }

    /// What SQL's EXECUTE runs under this name. The protocol's own messages make and drop names of the same name space:
    /// whatever they did, failed or not, it is not certain any more.
    pub(super) fn defined(&self, name: &str) -> Option<&Statement> {
        self.defined.get(name.as_bytes())
    }

    pub(super) fn statement(&self, name: &[u8], segment: u64) -> Lookup<Statement> {
        match self.statements.get(name) {
            None => Lookup::Unknown,
            Some(p) if p.segment == segment || p.segment <= self.confirmed => Lookup::Known(p.statement.clone()),
            Some(_) => Lookup::Unconfirmed,
        }
    }

    pub(super) fn portal(&mut self, name: &[u8], segment: u64) -> Lookup<&mut Portal> {
        let confirmed = self.confirmed;
        match self.portals.get_mut(name) {
            None => Lookup::Unknown,
            Some(p) if p.segment == segment || p.segment <= confirmed => Lookup::Known(p),
            Some(_) => Lookup::Unconfirmed,
        }
    }

    /// The server answered the segment's `Sync`: what it made stands, and outside a transaction its portals are gone.
    pub(super) fn confirm(&mut self, segment: u64, in_transaction: bool) {
        self.confirmed = self.confirmed.max(segment);
        self.journal.retain(|change| change.segment > segment);
        if !in_transaction {
            self.portals.retain(|_, portal| portal.segment > segment);
            for change in &mut self.journal {
                if let Previous::Portal(previous) = &mut change.previous
                    && previous.as_ref().is_some_and(|portal| portal.segment <= segment)
                {
                    *previous = None;
                }
            }
        }
    }

    /// Takes back every change of the segment from `step` on: the server did not do them.
    pub(super) fn fail(&mut self, segment: u64, step: u64) {
        while let Some(at) = self.journal.iter().rposition(|c| c.segment == segment && c.step >= step) {
            let change = self.journal.remove(at);
            let later = self.journal[at..].iter_mut().find(|c| {
                c.name == change.name
                    && matches!(
                        (&c.previous, &change.previous),
                        (Previous::Statement(_), Previous::Statement(_)) | (Previous::Portal(_), Previous::Portal(_))
                    )
            });
            match later {
                Some(later) => later.previous = change.previous,
                None => self.restore(change),
            }
        }
    }

    fn restore(&mut self, change: Change) {
        match change.previous {
            Previous::Statement(Some(before)) => drop(self.statements.insert(change.name, before)),
            Previous::Statement(None) => drop(self.statements.remove(&change.name)),
            Previous::Portal(Some(before)) => drop(self.portals.insert(change.name, before)),
            Previous::Portal(None) => drop(self.portals.remove(&change.name)),
        }
    }

    /// Forgets what was changed by other means than the protocol's own.
    pub(super) fn forget(&mut self, names: Forget<'_>) {
        match names {
            Forget::All => {
                self.statements.clear();
                self.portals.clear();
                self.defined.clear();
                self.journal.clear();
            }
            Forget::Portals => {
                self.portals.clear();
                self.journal.retain(|c| !matches!(c.previous, Previous::Portal(_)));
            }
            Forget::Defined => self.defined.clear(),
            Forget::Statement(name) => {
                self.defined.remove(name.as_bytes());
                self.statements.remove(name.as_bytes());
                self.journal.retain(|c| !matches!(c.previous, Previous::Statement(_)) || c.name != name.as_bytes());
            }
        }
    }

    fn note(&mut self, name: Bytes, segment: u64, previous: Previous) -> u64 {
        self.steps += 1;
        self.journal.push(Change { step: self.steps, segment, name, previous });
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn statement(text: &'static str) -> Statement {
        Statement { text: Bytes::from_static(text.as_bytes()), settings: Arc::default() }
    }

    fn text(names: &Names, name: &'static str, segment: u64) -> Option<Bytes> {
        match names.statement(name.as_bytes(), segment) {
            Lookup::Known(statement) => Some(statement.text),
            _ => None,
        }
    }

    #[test]
    fn an_unconfirmed_name_is_not_used_across_a_sync() {
        let mut names = Names::default();
        names.prepare("a".into(), statement("select 1"), 1);
        assert_eq!(text(&names, "a", 1).as_deref(), Some(&b"select 1"[..]));
        assert!(matches!(names.statement(b"a", 2), Lookup::Unconfirmed));
        names.confirm(1, false);
        assert_eq!(text(&names, "a", 2).as_deref(), Some(&b"select 1"[..]));
    }

    #[test]
    fn a_failed_making_leaves_the_older_meaning_even_under_a_later_one() {
        let mut names = Names::default();
        names.prepare("a".into(), statement("delete"), 1);
        names.confirm(1, false);
        let step = names.prepare("a".into(), statement("select"), 2);
        names.prepare("a".into(), statement("later"), 3);
        names.fail(2, step);
        let last = names.steps;
        names.fail(3, last);
        assert_eq!(text(&names, "a", 4).as_deref(), Some(&b"delete"[..]));
    }

    #[test]
    fn portals_end_with_the_transaction() {
        let mut names = Names::default();
        names.bind("p".into(), statement("select 1"), Bind::default(), 1);
        names.confirm(1, true);
        assert!(matches!(names.portal(b"p", 2), Lookup::Known(_)));
        names.confirm(2, false);
        assert!(matches!(names.portal(b"p", 3), Lookup::Unknown));
    }
}
