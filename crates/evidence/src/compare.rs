//! Compares the resource's own log with the record: who reached it past the gateway, and what ran there that is not in the
//! record. Not here: reading that log.

use std::collections::BTreeMap;

use chancery_ledger::Missing;
use serde::Deserialize;

use crate::control::Exception;
use crate::fields::time;
use crate::manifest::instant;
use crate::{Population, Sink, Value, json_text};

/// What a session is called at the resource: this and its id.
pub const PLANTED: &str = "chancery/";
/// What the gateway's own reading of the resource's catalog is called there.
const CATALOG: &str = "chancery catalog";

/// One session of the resource, as its own log has it: a line of `reconciliation/postgres.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The name that it gave first.
    pub application: String,
    /// When it was seen first.
    pub at: String,
    /// Whether it was let in.
    pub authorized: bool,
    /// The database.
    pub database: String,
    /// The line of the log that speaks of it first.
    pub line: u64,
    /// The process at the resource.
    pub pid: u64,
    /// Statements that the log has of it.
    pub statements: u64,
    /// The role.
    pub user: String,
}

impl Seen {
    /// As a line.
    pub fn line(&self, out: &mut String) {
        out.push_str("{\"application\":");
        json_text(&self.application, out);
        out.push_str(",\"at\":");
        json_text(&self.at, out);
        out.push_str(if self.authorized { ",\"authorized\":true" } else { ",\"authorized\":false" });
        out.push_str(",\"database\":");
        json_text(&self.database, out);
        out.push_str(&format!(
            ",\"line\":{},\"pid\":{},\"statements\":{},\"user\":",
            self.line, self.pid, self.statements
        ));
        json_text(&self.user, out);
        out.push_str("}\n");
    }
    /// Reads a line. Only the exact form that [`Seen::line`] writes is taken.
    pub fn parse(line: &str) -> Option<Self> {
        let seen: Self = serde_json::from_str(line).ok()?;
        let mut again = String::new();
        seen.line(&mut again);
        (again.trim_end() == line.trim_end() && instant(&seen.at).is_some()).then_some(seen)
    }
}

/// A session as the record has it.
pub(crate) struct Known {
    pub(crate) entry: u64,
    pub(crate) at: i64,
    pub(crate) commands: u64,
    met: bool,
}

/// Collects the sessions of the record, and compares.
#[derive(Default)]
pub(crate) struct Comparison {
    known: BTreeMap<String, Known>,
}

impl Comparison {
    pub(crate) fn session(&mut self, id: &str, (entry, at): (u64, i64), commands: u64) {
        self.known.insert(id.to_owned(), Known { entry, at, commands, met: false });
    }

    /// Writes P19. Returns how many sessions of the resource were looked at, and which are exceptions. `pruned`: what can be
    /// missing of the record.
    pub(crate) fn finish(
        mut self,
        seen: &[Seen],
        period: crate::Period,
        pruned: Option<Missing>,
        sink: &mut dyn Sink,
    ) -> (u64, Vec<Exception>) {
        let mut exceptions = Vec::new();
        let mut tested = 0;
        for one in seen {
            let at = instant(&one.at).unwrap_or_default();
            if !period.contains(at) {
                sink.left_out(Population::P19);
                continue;
            }
            tested += 1;
            let may_be_pruned = pruned.is_some_and(|missing| at <= missing.until.0);
            let (result, session, what) = self.judge(one, may_be_pruned);
            let known = session.as_deref().and_then(|id| self.known.get(id));
            let row = [
                known.map(|known| known.entry).into(),
                time(at),
                one.line.into(),
                result.into(),
                session.clone().into(),
                one.user.as_str().into(),
                one.database.as_str().into(),
                one.pid.into(),
                one.statements.into(),
                known.map(|known| known.commands).into(),
                what.clone().into(),
            ];
            sink.row(Population::P19, &row);
            if let ("resource-only" | "more-than-recorded", Some(what)) = (result, what) {
                let what = format!("line {}: {what}", one.line);
                exceptions.push(Exception { entry: known.map(|known| known.entry), at: Some(at), what });
            }
        }
        for (id, known) in self.known.iter().filter(|(_, known)| !known.met && period.contains(known.at)) {
            let mut row = vec![known.entry.into(), time(known.at), Value::Null, "gateway-only".into()];
            row.extend([id.as_str().into(), Value::Null, Value::Null, Value::Null, Value::Null, known.commands.into()]);
            row.push("the resource's log has no connection of it".into());
            sink.row(Population::P19, &row);
        }
        (tested, exceptions)
    }

    /// What one session of the resource is: the result's word, the session of the record, what is wrong with it.
    fn judge(&mut self, seen: &Seen, may_be_pruned: bool) -> (&'static str, Option<String>, Option<String>) {
        if !seen.authorized {
            return ("not-let-in", None, None);
        }
        if seen.application == CATALOG {
            return ("gateway-catalog", None, None);
        }
        let name =
            seen.application.strip_prefix(PLANTED).map(|rest| rest.split(' ').next().unwrap_or_default().to_owned());
        let Some((id, known)) = name.and_then(|id| self.known.get_mut(&id).map(|known| (id, known))) else {
            // Whoever passes by can give themselves such a name; of that time nobody can tell any more.
            if may_be_pruned && seen.application.starts_with(PLANTED) {
                return ("perhaps-pruned", None, Some("a session of this name may have been pruned".to_owned()));
            }
            let what = format!("{} reached {} outside of any session of the record", seen.user, seen.database);
            return ("resource-only", None, Some(what));
        };
        if std::mem::replace(&mut known.met, true) {
            return ("resource-only", Some(id), Some("a second connection bears the name of this session".to_owned()));
        }
        if seen.statements > known.commands {
            let what =
                format!("the resource ran {} statements, {} commands are recorded", seen.statements, known.commands);
            return ("more-than-recorded", Some(id), Some(what));
        }
        ("matched", Some(id), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rows(Vec<(Population, Vec<Value>)>);

    impl Sink for Rows {
        fn row(&mut self, population: Population, row: &[Value]) {
            self.0.push((population, row.to_vec()));
        }
        fn left_out(&mut self, _: Population) {}
    }

    fn seen(application: &str, statements: u64) -> Seen {
        Seen {
            application: application.to_owned(),
            at: "2026-11-29T00:00:00.000001Z".to_owned(),
            authorized: true,
            database: "shop".to_owned(),
            line: 3,
            pid: 7,
            statements,
            user: "app".to_owned(),
        }
    }

    #[test]
    fn who_passed_by_the_gateway_is_an_exception() {
        let at = instant("2026-11-29T00:00:00.000000Z").expect("a time");
        let period = crate::Period { from: at, to: at + 1_000_000 };
        let mut comparison = Comparison::default();
        for (entry, id) in [(1, "aa"), (2, "bb"), (3, "cc")] {
            comparison.session(id, (entry, at), 1);
        }
        let denied = Seen { authorized: false, ..seen("psql", 0) };
        let log = [
            seen("chancery/aa psql", 1),
            seen("chancery/bb", 2),
            seen("chancery/aa", 0),
            seen("psql", 1),
            seen("chancery/ff", 0),
            seen("chancery catalog", 9),
            denied,
        ];
        let mut rows = Rows(Vec::new());
        let (tested, exceptions) = comparison.finish(&log, period, None, &mut rows);
        let results: Vec<&Value> = rows.0.iter().map(|(_, row)| &row[3]).collect();
        let expected = [
            "matched",
            "more-than-recorded",
            "resource-only",
            "resource-only",
            "resource-only",
            "gateway-catalog",
            "not-let-in",
            "gateway-only",
        ];
        assert_eq!(results, expected.map(Value::from).iter().collect::<Vec<_>>());
        assert_eq!((tested, exceptions.len()), (7, 4));
        assert_eq!(exceptions[0].entry, Some(2));
    }

    #[test]
    fn of_a_time_that_was_pruned_a_name_alone_is_no_exception() {
        let at = instant("2026-11-29T00:00:00.000000Z").expect("a time");
        let period = crate::Period { from: at, to: at + 1_000_000 };
        let log = [seen("chancery/ff", 1), seen("psql", 1)];
        for (until, expected) in [(at + 1, ["perhaps-pruned", "resource-only"]), (at, ["resource-only"; 2])] {
            let (mut rows, until) = (Rows(Vec::new()), chancery_model::Timestamp(until));
            let pruned = Some(Missing { entries: 1, until });
            let (_, exceptions) = Comparison::default().finish(&log, period, pruned, &mut rows);
            let results: Vec<&Value> = rows.0.iter().map(|(_, row)| &row[3]).collect();
            assert_eq!(results, expected.map(Value::from).iter().collect::<Vec<_>>());
            assert_eq!(exceptions.len(), expected.iter().filter(|result| **result == "resource-only").count());
        }
    }

    #[test]
    fn a_line_is_read_back_and_no_other_form_is_taken() {
        let mut line = String::new();
        seen("chancery/aa \"x\"", 1).line(&mut line);
        assert_eq!(Seen::parse(&line), Some(seen("chancery/aa \"x\"", 1)));
        assert_eq!(Seen::parse(&line.replace("\"pid\":7", "\"pid\": 7")), None);
        assert_eq!(Seen::parse(&line.replace("2026-11", "2026-13")), None);
    }
}
