//! The populations: their ids, titles, criteria and columns. Not here: how their rows come about.

/// A population of `docs/spec/pack.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the ids are those of the specification")]
pub enum Population {
    P01,
    P02,
    P03,
    P04,
    P05,
    P06,
    P07,
    P08,
    P09,
    P10,
    P11,
    P12,
    P13,
    P14,
    P15,
    P16,
    P17,
    P18,
    P19,
    P20,
}

/// What a population is, in words.
#[derive(Debug)]
pub struct About {
    /// Its id.
    pub id: &'static str,
    /// For people.
    pub title: &'static str,
    /// The criteria of the trust services that it serves.
    pub criteria: &'static [&'static str],
    /// Which entries, in words.
    pub query: &'static str,
    /// Its columns.
    pub columns: &'static [&'static str],
    /// Why there is none in this release.
    pub absent: Option<&'static str>,
}

impl Population {
    /// All, in order.
    pub const ALL: [Self; 20] = [
        Self::P01,
        Self::P02,
        Self::P03,
        Self::P04,
        Self::P05,
        Self::P06,
        Self::P07,
        Self::P08,
        Self::P09,
        Self::P10,
        Self::P11,
        Self::P12,
        Self::P13,
        Self::P14,
        Self::P15,
        Self::P16,
        Self::P17,
        Self::P18,
        Self::P19,
        Self::P20,
    ];

    /// What it is.
    pub fn about(self) -> &'static About {
        &ABOUT[self as usize]
    }
}

const fn absent(id: &'static str, title: &'static str, criteria: &'static [&'static str], why: &'static str) -> About {
    About { id, title, criteria, query: "none", columns: &["entry", "at"], absent: Some(why) }
}

const ABOUT: [About; 20] = [
    About {
        id: "P01",
        title: "Principals and actors",
        criteria: &["CC6.1", "CC6.2", "CC6.3"],
        query: "principal entries before period_to, with their rows of the directory, one row a link of each chain",
        columns: &["entry", "at", "chain", "link", "who", "issuer", "subject", "kind", "groups"],
        absent: None,
    },
    absent(
        "P02",
        "Grants in force",
        &["CC6.1", "CC6.3"],
        "this release has no grants of its own: what may be done follows from the rules in rules/, whose digests are in P08",
    ),
    absent("P03", "Changes of grants", &["CC6.2", "CC6.3"], "this release has no grants; changes of rules are P08"),
    About {
        id: "P04",
        title: "Sessions",
        criteria: &["CC6.1", "CC6.2", "CC7.2"],
        query: "session.open entries and what ended each",
        columns: &[
            "entry",
            "at",
            "session",
            "chain",
            "principal",
            "actors",
            "resource",
            "protocol",
            "auth",
            "profile",
            "rules",
            "rule_ids",
            "end_entry",
            "ended_at",
            "ending",
            "commands",
            "leaves",
            "recording",
        ],
        absent: None,
    },
    About {
        id: "P05",
        title: "Commands",
        criteria: &["CC6.1", "CC6.3", "CC6.7", "CC7.2", "CC8.1"],
        query: "act.start entries and what ended each; act.deny entries",
        columns: &[
            "entry",
            "at",
            "session",
            "command",
            "chain",
            "principal",
            "actors",
            "resource",
            "effect",
            "decision",
            "rule_ids",
            "rules",
            "command_digest",
            "fingerprint",
            "review",
            "profile",
            "end_entry",
            "ended_at",
            "outcome",
            "code",
            "rows",
            "bytes",
            "masked",
            "duration_us",
            "recording",
        ],
        absent: None,
    },
    About {
        id: "P06",
        title: "Approvals",
        criteria: &["CC6.1", "CC6.3", "CC8.1"],
        query: "approval.request entries with the decisions on each and its use",
        columns: &[
            "entry",
            "at",
            "review",
            "session",
            "command",
            "chain",
            "principal",
            "actors",
            "resource",
            "rules",
            "command_digest",
            "needed",
            "until",
            "decision_entry",
            "decided_at",
            "decision",
            "rule",
            "approver",
            "approver_chain",
            "assurance",
            "signature",
            "use_entry",
            "used_at",
            "ending",
        ],
        absent: None,
    },
    absent("P07", "Break-glass", &["CC6.1", "CC7.4"], "this release has no break-glass: nobody can pass by the rules"),
    About {
        id: "P08",
        title: "Changes of rules",
        criteria: &["CC6.3", "CC7.1", "CC8.1"],
        query: "policy.apply entries; a rule set is in force until the next",
        columns: &["entry", "at", "rules", "source", "by", "until_entry", "until", "text"],
        absent: None,
    },
    About {
        id: "P09",
        title: "Software and configuration",
        criteria: &["CC6.8", "CC7.1", "CC8.1"],
        query: "boot entries",
        columns: &[
            "entry",
            "at",
            "version",
            "configuration",
            "dangerous",
            "profile",
            "loss_ms",
            "boot",
            "size",
            "root",
        ],
        absent: None,
    },
    About {
        id: "P10",
        title: "Backend credentials",
        criteria: &["CC6.1"],
        query: "secret.change entries",
        columns: &["entry", "at", "resource", "change", "version", "by"],
        absent: None,
    },
    About {
        id: "P11",
        title: "Masked results",
        criteria: &["C1.1", "CC6.7", "P6.1"],
        query: "act.done entries with masked above 0",
        columns: &["entry", "at", "session", "command", "chain", "principal", "resource", "rows", "bytes", "masked"],
        absent: None,
    },
    About {
        id: "P12",
        title: "Refusals and alerts",
        criteria: &["CC6.1", "CC7.2", "CC7.3"],
        query: "act.deny and alert entries",
        columns: &[
            "entry",
            "at",
            "kind",
            "session",
            "command",
            "chain",
            "principal",
            "actors",
            "resource",
            "code",
            "rule_ids",
            "rules",
        ],
        absent: None,
    },
    About {
        id: "P13",
        title: "Recordings",
        criteria: &["CC7.2", "PI1.5"],
        query: "rec.segment entries",
        columns: &["entry", "at", "file", "bytes", "blocks", "digest"],
        absent: None,
    },
    About {
        id: "P14",
        title: "Looks at evidence and originals",
        criteria: &["CC6.1", "C1.1", "CC4.1"],
        query: "view, export and unseal entries",
        columns: &["entry", "at", "kind", "by", "what", "session", "review", "period_from", "period_to", "manifest"],
        absent: None,
    },
    About {
        id: "P15",
        title: "Retention and disposal",
        criteria: &["CC6.5", "C1.2"],
        query: "retention.run, retention.done, prune.recording, prune.ledger, prune.refuse, shred, hold.set and hold.lift entries",
        columns: &["entry", "at", "kind", "class", "file", "from", "to", "bytes", "digest", "hold", "session", "by"],
        absent: None,
    },
    absent(
        "P16",
        "Clock samples",
        &["CC7.2"],
        "this release takes no samples of its clock's offset; steps between entries are found by the control clock-steady",
    ),
    About {
        id: "P17",
        title: "Origins and epochs",
        criteria: &["A1.2", "CC7.2"],
        query: "key.epoch entries",
        columns: &["entry", "at", "origin", "epoch", "key", "life_ms", "boot"],
        absent: None,
    },
    absent("P18", "Access reviews", &["CC6.2", "CC6.3"], "this release has no campaigns of access reviews"),
    About {
        id: "P19",
        title: "The resource's own log, compared",
        criteria: &["CC6.1", "CC7.2"],
        query: "connections and statements in the log that was handed in",
        columns: &[
            "entry",
            "at",
            "line",
            "result",
            "session",
            "user",
            "database",
            "pid",
            "statements",
            "commands",
            "what",
        ],
        absent: None,
    },
    About {
        id: "P20",
        title: "Stalls, gaps, outages",
        criteria: &["A1.2", "CC7.2"],
        query: "stall, gap and crash entries; boot entries that no shutdown precedes",
        columns: &["entry", "at", "kind", "session", "from", "to", "cause"],
        absent: None,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_population_stands_at_its_place() {
        for (at, population) in Population::ALL.into_iter().enumerate() {
            let about = population.about();
            assert_eq!(about.id, format!("P{:02}", at + 1));
            assert_eq!(&about.columns[..2], ["entry", "at"]);
        }
    }
}
