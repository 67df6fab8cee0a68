//! What the names in the client's messages mean: prepared statements and portals.
//!
//! The tables run ahead of the server: a name counts as made when the client's message is read. A journal takes back
//! what the server then does not do (see the invariant in `relay`).

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use chancery_model::{Bind, Settings, Statement};
use chancery_wire::Forget;
use foldhash::HashMap;

/// The server cuts longer names (`NAMEDATALEN`), so that two of them can be one.
const NAME_BYTES_MAX: usize = 63;

/// The name of a statement or a portal: a copy, because names outlive the read buffer by far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Name(Option<Arc<[u8]>>);

/// Things by name. The unnamed one, which most clients use over and over, has a place of its own.
#[derive(Debug)]
pub(super) struct Table<T> {
    unnamed: Option<T>,
    named: HashMap<Name, T>,
}

/// A prepared statement, and the client's segment in which it was made.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) meaning: Arc<Meaning>,
    segment: u64,
}

/// What a name was given to.
#[derive(Debug)]
pub(super) struct Meaning {
    pub(super) name: Name,
    pub(super) statement: Statement,
}

/// A bound portal.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) meaning: Arc<Meaning>,
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
    name: Name,
    previous: Previous,
}

/// Both name spaces and the journal of unconfirmed changes.
#[derive(Default)]
pub(super) struct Names {
    statements: Table<Prepared>,
    portals: Table<Portal>,
    /// The texts of SQL's own PREPAREs that ended well, by the names they gave.
    defined: HashMap<Name, Statement>,
    /// In the order of the client's messages, so that segments only grow.
    journal: Vec<Change>,
    steps: u64,
    confirmed: u64,
}

impl Name {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<&[u8]> for Name {
    #[inline]
    fn from(name: &[u8]) -> Self {
        Self(if name.is_empty() { None } else { Some(name.into()) })
    }
}

impl PartialEq<[u8]> for Name {
    fn eq(&self, other: &[u8]) -> bool {
        self.as_bytes() == other
    }
}

/// As the bytes themselves, by which it is looked up.
impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { unnamed: None, named: HashMap::default() }
    }
}

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.named.len() + usize::from(self.unnamed.is_some())
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&T> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    fn get_mut(&mut self, name: &[u8]) -> Option<&mut T> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) }
    }

    pub(super) fn insert(&mut self, name: Name, thing: T) -> Option<T> {
        if name.is_empty() { self.unnamed.replace(thing) } else { self.named.insert(name, thing) }
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<T> {
        match name {
            [] => self.unnamed.take(),
            _ if self.named.is_empty() => None,
            _ => self.named.remove(name),
        }
    }

    fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.unnamed.take_if(|thing| !keep(thing));
        if !self.named.is_empty() {
            self.named.retain(|_, thing| keep(thing));
        }
    }

    pub(super) fn clear(&mut self) {
        self.unnamed = None;
        if !self.named.is_empty() {
            self.named.clear();
        }
    }
}

impl Meaning {
    /// Whether both are the same text.
    pub(super) fn is_same_text(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.statement.text == other.statement.text
    }
}

impl Names {
    /// How many statements and portals there are, whichever is more.
    pub(super) fn len(&self) -> usize {
        self.statements.len().max(self.portals.len())
    }

    /// Gives a name to a text. `None`: the text is not UTF-8.
    pub(super) fn prepare(
        &mut self,
        name: &[u8],
        text: &[u8],
        settings: &Arc<Settings>,
        segment: u64,
    ) -> Option<(u64, Arc<Meaning>)> {
        let before = self.statements.get(name).map(|prepared| &prepared.meaning);
        let meaning = match before {
            // Clients prepare the same text again and again.
            Some(same) if same.statement.text == text && same.statement.settings == *settings => same.clone(),
            _ => {
                std::str::from_utf8(text).ok()?;
                let statement = Statement { text: Bytes::copy_from_slice(text), settings: settings.clone() };
                Arc::new(Meaning { name: name.into(), statement })
            }
        };
        self.forget_defined(name);
        let prepared = Prepared { meaning: meaning.clone(), segment };
        let name = meaning.name.clone();
        let previous = self.statements.insert(name.clone(), prepared);
        Some((self.note(name, segment, Previous::Statement(previous)), meaning))
    }

    pub(super) fn bind(&mut self, name: Name, meaning: Arc<Meaning>, bind: Bind, segment: u64) -> u64 {
        let portal = Portal { meaning, bind, started: false, described: false, segment };
        let previous = self.portals.insert(name.clone(), portal);
        self.note(name, segment, Previous::Portal(previous))
    }

    pub(super) fn close_statement(&mut self, name: Name, segment: u64) -> u64 {
        self.forget_defined(name.as_bytes());
        let previous = self.statements.remove(name.as_bytes());
        self.note(name, segment, Previous::Statement(previous))
    }

    pub(super) fn close_portal(&mut self, name: Name, segment: u64) -> u64 {
        let previous = self.portals.remove(name.as_bytes());
        self.note(name, segment, Previous::Portal(previous))
    }

    /// Notes what SQL's PREPARE gave a name to. A name past the bounds stays unknown.
    pub(super) fn define(&mut self, name: &str, statement: Statement, names_max: usize) {
        if name.len() < NAME_BYTES_MAX && self.defined.len() < names_max {
            self.defined.insert(name.as_bytes().into(), statement);
        }
    }

    /// What SQL's EXECUTE runs under this name. The protocol's own messages make and drop names of the same name space:
    /// whatever they did, failed or not, it is not certain any more.
    pub(super) fn defined(&self, name: &str) -> Option<&Statement> {
        self.defined.get(name.as_bytes())
    }

    fn forget_defined(&mut self, name: &[u8]) {
        if !self.defined.is_empty() {
            self.defined.remove(name);
        }
    }

    pub(super) fn statement(&self, name: &[u8], segment: u64) -> Lookup<&Arc<Meaning>> {
        match self.statements.get(name) {
            None => Lookup::Unknown,
            Some(p) if p.segment == segment || p.segment <= self.confirmed => Lookup::Known(&p.meaning),
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
        if self.journal.last().is_none_or(|change| change.segment <= segment) {
            self.journal.clear();
        } else {
            self.journal.retain(|change| change.segment > segment);
        }
        if !in_transaction {
            self.portals.retain(|portal| portal.segment > segment);
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
            Previous::Statement(None) => drop(self.statements.remove(change.name.as_bytes())),
            Previous::Portal(Some(before)) => drop(self.portals.insert(change.name, before)),
            Previous::Portal(None) => drop(self.portals.remove(change.name.as_bytes())),
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
                self.forget_defined(name.as_bytes());
                self.statements.remove(name.as_bytes());
                self.journal.retain(|c| !matches!(c.previous, Previous::Statement(_)) || c.name != *name.as_bytes());
            }
        }
    }

    fn note(&mut self, name: Name, segment: u64, previous: Previous) -> u64 {
        self.steps += 1;
        self.journal.push(Change { step: self.steps, segment, name, previous });
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(names: &mut Names, name: &str, text: &str, segment: u64) -> u64 {
        names.prepare(name.as_bytes(), text.as_bytes(), &Arc::default(), segment).expect("UTF-8").0
    }

    fn bind(names: &mut Names, portal: &str, segment: u64) -> u64 {
        let statement = Statement { text: Bytes::from_static(b"select 1"), settings: Arc::default() };
        let meaning = Arc::new(Meaning { name: Name::default(), statement });
        names.bind(portal.as_bytes().into(), meaning, Bind::default(), segment)
    }

    fn text(names: &Names, name: &str, segment: u64) -> Option<Bytes> {
        match names.statement(name.as_bytes(), segment) {
            Lookup::Known(meaning) => Some(meaning.statement.text.clone()),
            _ => None,
        }
    }

    /// The unnamed one keeps to the same rules as the named.
    const NAMES: [&str; 2] = ["a", ""];

    #[test]
    fn an_unconfirmed_name_is_not_used_across_a_sync() {
        for name in NAMES {
            let mut names = Names::default();
            prepare(&mut names, name, "select 1", 1);
            assert_eq!(text(&names, name, 1).as_deref(), Some(&b"select 1"[..]));
            assert!(matches!(names.statement(name.as_bytes(), 2), Lookup::Unconfirmed));
            names.confirm(1, false);
            assert_eq!(text(&names, name, 2).as_deref(), Some(&b"select 1"[..]));
            // The same text again is a making of its own.
            prepare(&mut names, name, "select 1", 3);
            assert!(matches!(names.statement(name.as_bytes(), 4), Lookup::Unconfirmed));
        }
    }

    #[test]
    fn a_failed_making_leaves_the_older_meaning_even_under_a_later_one() {
        for name in NAMES {
            let mut names = Names::default();
            prepare(&mut names, name, "delete", 1);
            names.confirm(1, false);
            let step = prepare(&mut names, name, "select", 2);
            let last = prepare(&mut names, name, "later", 3);
            names.fail(2, step);
            names.fail(3, last);
            assert_eq!(text(&names, name, 4).as_deref(), Some(&b"delete"[..]));
        }
    }

    #[test]
    fn portals_end_with_the_transaction() {
        for name in NAMES {
            let mut names = Names::default();
            bind(&mut names, name, 1);
            names.confirm(1, true);
            assert!(matches!(names.portal(name.as_bytes(), 2), Lookup::Known(_)));
            names.confirm(2, false);
            assert!(matches!(names.portal(name.as_bytes(), 3), Lookup::Unknown));
        }
    }

    #[test]
    fn a_confirmation_takes_no_later_change_from_the_journal() {
        for name in NAMES {
            let mut names = Names::default();
            bind(&mut names, name, 1);
            let step = bind(&mut names, name, 2);
            names.confirm(1, true);
            names.fail(2, step);
            assert!(matches!(names.portal(name.as_bytes(), 3), Lookup::Known(_)), "the first is there again");
            let step = bind(&mut names, name, 3);
            names.confirm(2, false);
            names.fail(3, step);
            assert!(matches!(names.portal(name.as_bytes(), 4), Lookup::Unknown), "the first ended meanwhile");
        }
    }

    #[test]
    fn the_unnamed_and_the_named_are_different_things() {
        let mut table = Table::default();
        assert_eq!(table.insert(Name::from(&b""[..]), 1), None);
        assert_eq!(table.insert(Name::from(&b"a"[..]), 2), None);
        assert_eq!((table.len(), table.get(b""), table.get(b"a")), (2, Some(&1), Some(&2)));
        assert_eq!((table.remove(b""), table.remove(b""), table.len()), (Some(1), None, 1));
        table.insert(Name::default(), 3);
        table.retain(|thing| *thing != 3);
        assert_eq!((table.len(), table.get(b""), table.get(b"a")), (1, None, Some(&2)));
        table.clear();
        assert_eq!((table.len(), table.remove(b"a")), (0, None));
    }
}
