//! A toy client: sends random messages and checks that what it hears is a well-formed conversation.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, BytesMut};
use chancery_wire_pg::frame;

use crate::dice::Dice;
use crate::server::mark;

/// What was sent and has to be answered.
#[derive(Debug)]
enum Sent {
    Query {
        ends: Ends,
    },
    Parse,
    Bind,
    DescribeStatement {
        seen: bool,
    },
    DescribePortal,
    Execute {
        copy: bool,
    },
    Close,
    Sync {
        ends: Ends,
    },
    /// Answered with an error, whatever it was.
    Odd,
}

/// What a segment of messages does to transactions.
#[derive(Debug, Default)]
struct Ends {
    marks: Vec<u64>,
    control: bool,
    alone: Option<&'static str>,
}

/// What the client is up to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    pub(crate) bursts: usize,
    pub(crate) garbage: bool,
    pub(crate) deletes: usize,
    pub(crate) reads_only: bool,
    /// Nothing that a gateway without rules and masks would answer by itself.
    pub(crate) plain: bool,
    /// Names by SQL's PREPARE, EXECUTE and DEALLOCATE, in among the protocol's own.
    pub(crate) names: bool,
}

pub(crate) struct Client {
    manners: Manners,
    sent: VecDeque<Sent>,
    segment: Ends,
    inbox: BytesMut,
    pub(crate) heard: Vec<u8>,
    status: u8,
    failed: bool,
    in_error: bool,
    marks: Vec<u64>,
    broken: bool,
    next_mark: u64,
    /// Marks of what was told to have failed.
    pub(crate) must_not_commit: Vec<u64>,
    pub(crate) told_off: bool,
    pub(crate) errors: usize,
    copying: bool,
    names: usize,
}

const READS: [&str; 9] = [
    "select id, name from t",
    "select id, ssn from people",
    "select * from people",
    "select upper(ssn) from people",
    "select people from people",
    "select 1",
    "select 1/0",
    "copy t to stdout",
    "copy people to stdout",
];

impl Client {
    pub(crate) fn new(manners: Manners) -> Self {
        Self {
            manners,
            sent: VecDeque::new(),
            segment: Ends::default(),
            inbox: BytesMut::new(),
            heard: Vec::new(),
            status: b'I',
            failed: false,
            in_error: false,
            marks: Vec::new(),
            broken: false,
            next_mark: 1000,
            must_not_commit: Vec::new(),
            told_off: false,
            errors: 0,
            copying: false,
            names: 0,
        }
    }

    /// Whether there is anything left to be said.
    pub(crate) fn has_more(&self) -> bool {
        self.manners.bursts > 0 && !self.copying && !self.told_off
    }

    /// Whether everything was answered.
    pub(crate) fn is_content(&self) -> bool {
        self.sent.is_empty() && !self.copying
    }

    pub(crate) fn waits_for(&self) -> String {
        format!("{:?}", self.sent)
    }

    fn statement(&mut self, dice: &mut Dice) -> String {
        self.next_mark += 1;
        let n = self.next_mark;
        if dice.percent(self.manners.deletes) {
            return format!("delete from t where id = {n}");
        }
        if self.manners.reads_only || dice.percent(45) {
            return dice.pick(&READS[..if self.manners.reads_only { 6 } else { READS.len() }]).to_owned();
        }
        match dice.below(if self.manners.plain { 10 } else { 15 }) {
            0..4 => format!("insert into t values ({n}, 'x')"),
            4 | 5 => format!("update t set name = 'y' where id = {n}"),
            6 => format!("create table n{n} (id int)"),
            7 | 8 => dice.pick(&["begin", "commit", "rollback"]).to_owned(),
            9 => format!("set application_name = 'a{n}'"),
            10 => "drop table t".to_owned(),
            11 => "selec broken".to_owned(),
            12 => dice.pick(&["set standard_conforming_strings = off", "set client_encoding = 'LATIN1'"]).to_owned(),
            13 => "deallocate all".to_owned(),
            _ => format!("insert into people values ({n}, 'dup')"),
        }
    }

    /// The next few messages.
    pub(crate) fn burst(&mut self, dice: &mut Dice) -> BytesMut {
        let mut out = BytesMut::new();
        self.manners.bursts -= 1;
        if self.manners.names && dice.percent(15) {
            self.renamed_under_a_portal(&mut out);
            return out;
        }
        if self.manners.names && dice.percent(70) {
            for _ in 0..=dice.below(3) {
                self.sql_names(dice, &mut out);
            }
            return out;
        }
        match dice.below(20) {
            0..8 => self.query(dice, &mut out),
            8..14 => self.pipeline(dice, &mut out),
            14 | 15 => self.prepare(dice, &mut out),
            16 if !self.manners.plain => self.old_names(dice, &mut out),
            17 if self.is_content() && !self.manners.reads_only => self.copy(dice, &mut out),
            18 => {
                frame::flush(&mut out);
                if dice.percent(50) {
                    self.sync(&mut out);
                }
            }
            19 if self.manners.garbage => self.garbage(dice, &mut out),
            _ => self.query(dice, &mut out),
        }
        out
    }

    fn query(&mut self, dice: &mut Dice, out: &mut BytesMut) {
        // A Query in an unfinished pipeline is legal and not supported; that has a transcript of its own.
        if self.open_segment() {
            self.sync(out);
        }
        let mut ends = Ends::default();
        let text = if dice.percent(15) {
            let parts = [self.statement(dice), self.statement(dice)];
            ends.control = parts.iter().any(|part| is_control(part));
            ends.marks = parts.iter().filter_map(|part| mark(part)).collect();
            parts.join("; ")
        } else {
            let text = self.statement(dice);
            ends.marks = mark(&text).into_iter().collect();
            ends.control = is_control(&text);
            ends.alone = ["begin", "commit", "rollback"].into_iter().find(|word| *word == text);
            text
        };
        frame::query(out, &text);
        self.sent.push_back(Sent::Query { ends });
    }

    fn open_segment(&self) -> bool {
        !matches!(self.sent.back(), None | Some(Sent::Query { .. } | Sent::Sync { .. })) || self.segment.alone.is_some()
    }

    fn sync(&mut self, out: &mut BytesMut) {
        frame::sync(out);
        let ends = Ends { alone: None, ..std::mem::take(&mut self.segment) };
        self.sent.push_back(Sent::Sync { ends });
    }

    fn parse(&mut self, name: &str, text: &str, out: &mut BytesMut) {
        frame::parse(out, name, text);
        self.sent.push_back(Sent::Parse);
        self.segment.alone = Some("open");
    }

    fn bind(&mut self, portal: &str, name: &str, parameter: Option<&str>, out: &mut BytesMut) {
        frame::message(out, b'B', |out| {
            frame::put_string(out, portal.as_bytes());
            frame::put_string(out, name.as_bytes());
            out.put_i16(0);
            out.put_i16(i16::from(parameter.is_some()));
            if let Some(value) = parameter {
                out.put_i32(value.len() as i32);
                out.extend_from_slice(value.as_bytes());
            }
            out.put_i16(0);
        });
        self.sent.push_back(Sent::Bind);
        self.segment.alone = Some("open");
    }

    fn execute(&mut self, portal: &str, text: &str, limit: i32, out: &mut BytesMut) {
        frame::message(out, b'E', |out| {
            frame::put_string(out, portal.as_bytes());
            out.put_i32(limit);
        });
        self.sent.push_back(Sent::Execute { copy: text == "copy t from stdin" });
        // What a name stands for is not followed here: such a segment says nothing about commits.
        self.segment.control |= is_control(text) || text.is_empty();
        self.segment.marks.extend(mark(text));
        self.segment.alone = Some("open");
    }

    fn describe(&mut self, kind: u8, name: &str, out: &mut BytesMut) {
        frame::describe(out, kind, name.as_bytes());
        self.sent.push_back(match kind {
            b'S' => Sent::DescribeStatement { seen: false },
            _ => Sent::DescribePortal,
        });
        self.segment.alone = Some("open");
    }

    fn pipeline(&mut self, dice: &mut Dice, out: &mut BytesMut) {
        for _ in 0..=dice.below(3) {
            let text = self.statement(dice);
            let parameter = (text == "select id, name from t" && dice.percent(50)).then_some("1");
            let text = if parameter.is_some() { "select id, name from t where id = $1".to_owned() } else { text };
            let name = if dice.percent(30) { format!("s{}", dice.below(4)) } else { String::new() };
            let portal = if dice.percent(20) { format!("p{}", dice.below(2)) } else { String::new() };
            self.parse(&name, &text, out);
            if dice.percent(15) {
                self.describe(b'S', &name, out);
            }
            self.bind(&portal, &name, parameter, out);
            if dice.percent(50) {
                self.describe(b'P', &portal, out);
            }
            let limit = if dice.percent(30) { 1 } else { 0 };
            // A name can be run again: then its text says nothing about this segment alone.
            let once = if name.is_empty() { text.as_str() } else { "" };
            self.execute(&portal, once, limit, out);
            if limit == 1 && dice.percent(70) && !is_control(&text) {
                self.execute(&portal, "", dice.below(3) as i32, out);
            }
            if dice.percent(10) {
                frame::flush(out);
            }
            if dice.percent(10) {
                self.close(b'S', &name, out);
            }
        }
        if dice.percent(85) {
            self.sync(out);
        }
    }

    fn close(&mut self, kind: u8, name: &str, out: &mut BytesMut) {
        frame::close(out, kind, name.as_bytes());
        self.sent.push_back(Sent::Close);
        self.segment.alone = Some("open");
    }

    fn prepare(&mut self, dice: &mut Dice, out: &mut BytesMut) {
        self.names += 1;
        let name = format!("s{}", dice.below(4));
        let text = self.statement(dice);
        self.parse(&name, &text, out);
        self.describe(b'S', &name, out);
        if dice.percent(80) {
            self.sync(out);
        }
    }

    fn old_names(&mut self, dice: &mut Dice, out: &mut BytesMut) {
        let name = format!("s{}", dice.below(4));
        let portal = dice.pick(&["", "p0", "p1"]);
        match dice.below(4) {
            0 => self.execute(portal, "", 1, out),
            1 => self.close(b'P', portal, out),
            _ => {
                self.bind(portal, &name, None, out);
                self.execute(portal, "", 0, out);
            }
        }
        self.sync(out);
    }

    /// One command about a name, which the protocol's messages use, too.
    fn sql_names(&mut self, dice: &mut Dice, out: &mut BytesMut) {
        self.next_mark += 1;
        let n = self.next_mark;
        let name = format!("s{}", dice.below(3));
        let inner = match dice.below(6) {
            0 => "select 1".to_owned(),
            1 => "select upper(ssn) from people".to_owned(),
            2 => format!("delete from t where id = {n}"),
            3 => format!("insert into t values ({n}, 'x')"),
            _ => dice.pick(&READS[..6]).to_owned(),
        };
        let text = match dice.below(10) {
            0..3 => format!("prepare {name} as {inner}"),
            3 => format!("deallocate {name}"),
            4 => return self.close(b'S', &name, out),
            5 => {
                self.parse(&name, &inner, out);
                if dice.percent(60) {
                    self.sync(out);
                }
                return;
            }
            _ => format!("execute {name}"),
        };
        if dice.percent(40) {
            self.parse("", &text, out);
            self.bind("", "", None, out);
            let limit = i32::from(dice.percent(30));
            self.execute("", &text, limit, out);
            self.segment.control = true;
            if limit == 1 && dice.percent(50) {
                self.execute("", "", 0, out);
            }
            if dice.percent(80) {
                self.sync(out);
            }
            return;
        }
        self.named_query(&text, out);
    }

    fn named_query(&mut self, text: &str, out: &mut BytesMut) {
        if self.open_segment() {
            self.sync(out);
        }
        frame::query(out, text);
        self.sent.push_back(Sent::Query { ends: Ends { control: true, ..Ends::default() } });
    }

    /// A portal is begun, its name is given another meaning, and the portal goes on.
    fn renamed_under_a_portal(&mut self, out: &mut BytesMut) {
        for text in ["rollback", "deallocate s0", "prepare s0 as select upper(ssn) from people", "begin"] {
            self.named_query(text, out);
        }
        self.parse("", "execute s0", out);
        self.bind("p0", "", None, out);
        self.execute("p0", "execute s0", 1, out);
        self.segment.control = true;
        self.sync(out);
        for text in ["deallocate s0", "prepare s0 as select 1"] {
            self.named_query(text, out);
        }
        self.execute("p0", "", 1, out);
        self.segment.control = true;
        self.sync(out);
        self.named_query("commit", out);
    }

    fn copy(&mut self, dice: &mut Dice, out: &mut BytesMut) {
        self.copying = true;
        if dice.percent(50) {
            frame::query(out, "copy t from stdin");
            self.sent.push_back(Sent::Query { ends: Ends { control: false, ..Ends::default() } });
        } else {
            self.parse("", "copy t from stdin", out);
            self.bind("", "", None, out);
            self.execute("", "copy t from stdin", 0, out);
            self.sync(out);
        }
    }

    fn garbage(&mut self, dice: &mut Dice, out: &mut BytesMut) {
        match dice.below(5) {
            0 => out.extend_from_slice(b"Q\0\0\0\x02"),
            1 => out.extend_from_slice(b"z\0\0\0\x04"),
            2 => out.extend_from_slice(b"P\0\0\0\x05x"),
            3 => {
                // A query that is no text: refused, and the conversation goes on.
                if self.open_segment() {
                    self.sync(out);
                }
                out.extend_from_slice(b"Q\0\0\0\x06\xff\0");
                self.sent.push_back(Sent::Query { ends: Ends::default() });
                return;
            }
            _ => {
                // A function call: refused. Outside of a pipeline it is a cycle of its own.
                let open = self.open_segment();
                frame::message(out, b'F', |out| out.extend_from_slice(&[0; 8]));
                if open {
                    self.sent.push_back(Sent::Odd);
                    self.sync(out);
                } else {
                    self.sent.push_back(Sent::Query { ends: Ends::default() });
                }
                return;
            }
        }
        self.manners.bursts = 0;
        self.broken = true;
    }

    /// Says goodbye, or answers what has to be: a pipeline that was left open is closed.
    pub(crate) fn last_words(&mut self) -> Option<BytesMut> {
        let mut out = BytesMut::new();
        if self.broken || !self.open_segment() {
            return None;
        }
        self.sync(&mut out);
        Some(out)
    }

    /// Hears bytes; what it returns it says at once.
    pub(crate) fn hear(&mut self, bytes: &[u8], dice: &mut Dice) -> BytesMut {
        self.heard.extend_from_slice(bytes);
        self.inbox.extend_from_slice(bytes);
        let mut out = BytesMut::new();
        while let Some(length) = self.inbox.get(1..5) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize + 1;
            assert!((5..1 << 20).contains(&length), "protocol: a message of {length} bytes");
            if self.inbox.len() < length {
                break;
            }
            let mut message = self.inbox.split_to(length);
            let tag = message[0];
            message.advance(5);
            if !self.told_off {
                self.message(tag, &message, dice, &mut out);
            }
        }
        out
    }

    fn message(&mut self, tag: u8, body: &[u8], dice: &mut Dice, out: &mut BytesMut) {
        let place = format!("protocol: {} while {:?}", tag as char, self.sent);
        match tag {
            b'N' | b'S' | b'A' => {}
            b'E' if body.windows(7).any(|w| w == b"SFATAL\0") => self.told_off = true,
            b'E' => self.error(),
            b'Z' => self.ready(body[0]),
            _ if self.in_error => panic!("after an error: {place}"),
            b'1' => assert!(matches!(self.sent.pop_front(), Some(Sent::Parse)), "ParseComplete out of place"),
            b'2' => assert!(matches!(self.sent.pop_front(), Some(Sent::Bind)), "BindComplete out of place"),
            b'3' => assert!(matches!(self.sent.pop_front(), Some(Sent::Close)), "CloseComplete out of place"),
            b't' => match self.sent.front_mut() {
                Some(Sent::DescribeStatement { seen }) if !*seen => *seen = true,
                _ => panic!("{place}"),
            },
            b'T' | b'n' => match self.sent.front() {
                Some(Sent::DescribeStatement { seen: true } | Sent::DescribePortal) => drop(self.sent.pop_front()),
                Some(Sent::Query { .. }) if tag == b'T' => {}
                _ => panic!("{place}"),
            },
            b'D' | b'd' | b'c' | b'H' => {
                assert!(matches!(self.sent.front(), Some(Sent::Query { .. } | Sent::Execute { .. })), "{place}");
            }
            b'C' | b's' | b'I' => match self.sent.front() {
                Some(Sent::Execute { .. }) => drop(self.sent.pop_front()),
                Some(Sent::Query { .. }) if tag != b's' => {}
                _ => panic!("{place}"),
            },
            b'G' => self.copy_in(dice, out),
            _ => panic!("{place}"),
        }
    }

    fn copy_in(&mut self, dice: &mut Dice, out: &mut BytesMut) {
        let extended = match self.sent.front() {
            Some(Sent::Query { .. }) => false,
            Some(Sent::Execute { copy: true }) => true,
            other => panic!("protocol: CopyInResponse while {other:?}"),
        };
        for line in 0..dice.below(4) {
            frame::message(out, b'd', |out| out.extend_from_slice(format!("{line}\tvalue\n").as_bytes()));
        }
        let end = if dice.percent(70) { b'c' } else { b'f' };
        frame::message(out, end, |out| {
            if end == b'f' {
                out.extend_from_slice(b"no\0");
            }
        });
        if extended {
            // The one sent before is ignored by a server that takes data.
            frame::sync(out);
        }
        self.copying = false;
    }

    fn error(&mut self) {
        self.errors += 1;
        self.failed = true;
        match self.sent.front() {
            Some(Sent::Query { .. }) => {}
            None => panic!("protocol: an error out of the blue"),
            Some(_) => {
                self.in_error = true;
                while !matches!(self.sent.front(), None | Some(Sent::Sync { .. })) {
                    self.sent.pop_front();
                }
            }
        }
    }

    fn ready(&mut self, status: u8) {
        // What was said after the error and before the Sync is skipped, too.
        while self.in_error && !matches!(self.sent.front(), None | Some(Sent::Sync { .. })) {
            self.sent.pop_front();
        }
        let ends = match self.sent.pop_front() {
            Some(Sent::Query { ends } | Sent::Sync { ends }) => ends,
            other => panic!("protocol: ReadyForQuery while {other:?}, {:?}", self.sent),
        };
        self.copying = false;
        self.in_error = false;
        let failed = std::mem::take(&mut self.failed);
        let before = std::mem::replace(&mut self.status, status);
        if ends.control {
            let undone = ends.alone != Some("begin") && (before == b'E' || ends.alone == Some("rollback"));
            if ends.alone.is_some() && undone && !failed {
                self.must_not_commit.append(&mut self.marks);
            }
            if !(ends.alone == Some("begin") && before != b'I') {
                self.marks.clear();
            }
        } else if before == b'I' {
            assert_eq!(status, b'I', "protocol: in a transaction without BEGIN");
            if failed {
                self.must_not_commit.extend(ends.marks);
            }
        } else {
            self.marks.extend(ends.marks);
            let expected = if failed { b'E' } else { before };
            assert_eq!(status, expected, "a refusal in a transaction fails it");
        }
    }
}

fn is_control(text: &str) -> bool {
    matches!(text, "begin" | "commit" | "rollback")
}
