//! A toy server: speaks PostgreSQL's message flow, understands a dozen statements, remembers what it did.
//!
//! It is faithful where the laws need it: answers wait for `Sync`, `Flush`, an error or the end of a `Query`; an error
//! in a pipeline skips to `Sync`; an error in a transaction fails it; a pipeline without `BEGIN` commits at its `Sync`.

use std::collections::HashMap;

use bytes::{Buf, BufMut, BytesMut};
use chancery_wire_pg::frame;

/// Stands in every value of the tagged column.
pub(crate) const CANARY: &str = "CANARY-123-45";

/// A statement or portal run, as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Executed {
    pub(crate) ask: &'static str,
    pub(crate) text: String,
    pub(crate) parameters: Vec<u8>,
    /// The text of the PREPARE whose statement this EXECUTE ran.
    pub(crate) prepared: Option<String>,
}

impl Executed {
    /// What was done: for an EXECUTE what its name stood for, for a PREPARE nothing.
    pub(crate) fn meaning(&self) -> &str {
        match (&self.prepared, self.text.starts_with("prepare ")) {
            (Some(prepared), _) => prepares(prepared).map_or("", |(_, inner)| inner),
            (None, true) => "",
            (None, false) => &self.text,
        }
    }
}

/// The name and the statement of `prepare name as statement`.
fn prepares(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("prepare ")?.split_once(" as ")
}

#[derive(Clone)]
struct Portal {
    text: String,
    parameters: Vec<u8>,
    /// For an EXECUTE what its name stood for, once it was started.
    prepared: Option<Option<String>>,
    /// Rows that are left, once it was started.
    rows: Option<Vec<Vec<u8>>>,
    over: bool,
}

enum CopyIn {
    Query,
    Execute,
}

pub(crate) struct Server {
    inbox: BytesMut,
    buffered: BytesMut,
    /// Sent and not fetched yet.
    pub(crate) outbox: BytesMut,
    pub(crate) received: Vec<u8>,
    pub(crate) sent: Vec<u8>,
    pub(crate) executed: Vec<Executed>,
    pub(crate) committed: Vec<u64>,
    pub(crate) closed: bool,
    pub(crate) copied: Vec<u8>,
    pending: Vec<u64>,
    status: u8,
    statements: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, Portal>,
    skipping: bool,
    copy: Option<CopyIn>,
}

/// What a statement does.
enum Done {
    Rows(Vec<Vec<u8>>),
    Tag(String),
    CopyIn,
}

struct Fault {
    code: &'static str,
    message: String,
}

fn fault(code: &'static str, message: impl Into<String>) -> Fault {
    Fault { code, message: message.into() }
}

/// Name, relation and attribute of each column of a result.
type Head = Vec<(&'static str, u32, i16)>;

/// The columns that a statement returns; `None`: no rows.
fn head(text: &str) -> Option<Head> {
    Some(match text {
        "select id, name from t" | "select id, name from t where id = $1" => vec![("id", 100, 1), ("name", 100, 2)],
        "select id, ssn from people" => vec![("id", 101, 1), ("ssn", 101, 2)],
        "select * from people" => vec![("id", 101, 1), ("ssn", 101, 2), ("nick", 101, 3)],
        "select upper(ssn) from people" => vec![("upper", 0, 0)],
        "select people from people" => vec![("people", 101, 0)],
        _ if text.starts_with("select ") => vec![("?column?", 0, 0)],
        _ => return None,
    })
}

fn rows(text: &str, head: &Head) -> Vec<Vec<u8>> {
    let count = if text.contains("from") { 3 } else { 1 };
    let row = |at: usize| {
        let mut out = BytesMut::new();
        out.put_i16(head.len() as i16);
        for (name, relation, attribute) in head {
            let value = match (*relation, *attribute, *name) {
                (101, 2, _) => format!("{CANARY}-{at}"),
                (_, _, "upper") => format!("{CANARY}-{at}").to_uppercase(),
                (_, _, "people") => format!("({at},{CANARY}-{at},nick)"),
                (_, _, "id") => at.to_string(),
                _ => format!("plain{at}"),
            };
            out.put_i32(value.len() as i32);
            out.extend_from_slice(value.as_bytes());
        }
        out.to_vec()
    };
    (0..count).map(row).collect()
}

/// Whether the toy's grammar has it.
fn parses(text: &str) -> bool {
    let known = [
        "select ",
        "insert into ",
        "update t ",
        "delete from ",
        "drop table ",
        "create table ",
        "begin",
        "commit",
        "rollback",
        "set ",
        "copy ",
        "deallocate ",
        "truncate ",
        "prepare ",
        "execute ",
    ];
    !text.starts_with("selec broken") && known.iter().any(|start| text.starts_with(start))
}

/// The number by which a writing statement is followed: the first number in it.
pub(crate) fn mark(text: &str) -> Option<u64> {
    let writes = ["insert into t ", "update t ", "delete from t ", "create table "];
    writes.iter().any(|start| text.starts_with(start)).then(|| {
        let digits: String =
            text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    })
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            inbox: BytesMut::new(),
            buffered: BytesMut::new(),
            outbox: BytesMut::new(),
            received: Vec::new(),
            sent: Vec::new(),
            executed: Vec::new(),
            committed: Vec::new(),
            closed: false,
            copied: Vec::new(),
            pending: Vec::new(),
            status: b'I',
            statements: HashMap::new(),
            portals: HashMap::new(),
            skipping: false,
            copy: None,
        }
    }

    /// Nothing that it has done could still be undone.
    pub(crate) fn is_final(&self) -> bool {
        self.pending.is_empty() || self.closed
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        self.received.extend_from_slice(bytes);
    }

    /// Does one message. False: there is none.
    pub(crate) fn step(&mut self) -> bool {
        let Some(length) = self.inbox.get(1..5) else { return false };
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize + 1;
        if self.closed || self.inbox.len() < length {
            return false;
        }
        let mut message = self.inbox.split_to(length);
        let tag = message[0];
        message.advance(5);
        self.message(tag, &message);
        true
    }

    pub(crate) fn say_aside(&mut self, notice: bool) {
        if notice {
            frame::message(&mut self.buffered, b'N', |out| {
                out.extend_from_slice(b"SNOTICE\0VNOTICE\0C00000\0Mnote\0\0");
            });
        } else {
            frame::message(&mut self.buffered, b'A', |out| {
                out.put_i32(7);
                out.extend_from_slice(b"channel\0said\0");
            });
        }
        self.flush();
    }

    fn flush(&mut self) {
        self.sent.extend_from_slice(&self.buffered);
        self.outbox.extend_from_slice(&self.buffered);
        self.buffered.clear();
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        frame::message(&mut self.buffered, tag, |out| out.extend_from_slice(body));
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        if self.copy.is_some() {
            return self.copy_message(tag, body);
        }
        match tag {
            b'X' => self.closed = true,
            b'S' => {
                self.skipping = false;
                self.end_of_segment();
            }
            b'Q' if !self.skipping => self.query(&text(body)),
            b'd' | b'c' | b'f' => {}
            b'H' => self.flush(),
            _ if self.skipping => {}
            _ => {
                if let Err(fault) = self.extended(tag, body) {
                    self.fail(&fault);
                    self.skipping = true;
                }
            }
        }
        if self.buffered.len() > 8192 {
            self.flush();
        }
    }

    fn end_of_segment(&mut self) {
        if self.status == b'I' {
            self.committed.append(&mut self.pending);
            self.portals.clear();
        }
        let status = self.status;
        frame::ready_for_query(&mut self.buffered, status);
        self.flush();
    }

    fn fail(&mut self, fault: &Fault) {
        self.pending.clear();
        if self.status == b'T' {
            self.status = b'E';
        }
        let body = format!("SERROR\0VERROR\0C{}\0M{}\0\0", fault.code, fault.message);
        self.put(b'E', body.as_bytes());
        self.flush();
    }

    fn query(&mut self, text: &str) {
        self.statements.remove(&b""[..]);
        self.portals.remove(&b""[..]);
        let pieces: Vec<&str> = text.split(';').map(str::trim).filter(|piece| !piece.is_empty()).collect();
        if pieces.is_empty() {
            self.put(b'I', b"");
        }
        if !pieces.iter().all(|piece| parses(piece)) {
            self.fail(&fault("42601", "syntax error"));
            return self.end_of_segment();
        }
        let prepared = self.prepared(text);
        self.executed.push(Executed { ask: "query", text: text.to_owned(), parameters: Vec::new(), prepared });
        for piece in pieces {
            let meant = self.meant(piece);
            let piece = meant.as_str();
            if let Some(head) = head(piece).filter(|_| self.status != b'E') {
                self.put(b'T', &describe(&head));
            }
            match self.run(piece) {
                Ok(Done::Rows(rows)) => {
                    rows.iter().for_each(|row| self.put(b'D', row));
                    self.put(b'C', format!("SELECT {}\0", rows.len()).as_bytes());
                }
                Ok(Done::Tag(tag)) => self.put(b'C', format!("{tag}\0").as_bytes()),
                Ok(Done::CopyIn) => {
                    self.put(b'G', &[0, 0, 2, 0, 0, 0, 0]);
                    self.copy = Some(CopyIn::Query);
                    return self.flush();
                }
                Err(fault) => {
                    self.fail(&fault);
                    break;
                }
            }
        }
        self.end_of_segment();
    }

    fn extended(&mut self, tag: u8, body: &[u8]) -> Result<(), Fault> {
        let mut cursor = frame::Cursor::new(body);
        let mut string = || cursor.string().map(<[u8]>::to_vec).map_err(|_| fault("08P01", "malformed"));
        match tag {
            b'P' => {
                let (name, text) = (string()?, text(&string()?));
                if name.is_empty() {
                    self.statements.remove(&name);
                }
                if !parses(&text) || text.contains(';') {
                    return Err(fault("42601", "syntax error"));
                }
                if self.status == b'E' && !text.starts_with("rollback") && !text.starts_with("commit") {
                    return Err(fault("25P02", "transaction is aborted"));
                }
                if self.statements.contains_key(&name) {
                    return Err(fault("42P05", "prepared statement exists"));
                }
                self.statements.insert(name, text);
                self.put(b'1', b"");
            }
            b'B' => {
                let (portal, name) = (string()?, string()?);
                let parameters = cursor.rest().to_vec();
                let text = self.statements.get(&name).cloned().ok_or_else(|| fault("26000", "no such statement"))?;
                if !portal.is_empty() && self.portals.contains_key(&portal) {
                    return Err(fault("42P03", "portal exists"));
                }
                self.portals.insert(portal, Portal { text, parameters, prepared: None, rows: None, over: false });
                self.put(b'2', b"");
            }
            b'D' | b'C' => {
                let kind = cursor.byte().map_err(|_| fault("08P01", "malformed"))?;
                let name = cursor.string().map_err(|_| fault("08P01", "malformed"))?;
                self.about(tag, kind, name)?;
            }
            b'E' => {
                let name = string()?;
                let limit = cursor.int32().map_err(|_| fault("08P01", "malformed"))?;
                self.execute(&name, usize::try_from(limit).unwrap_or(0))?;
            }
            _ => return Err(fault("08P01", "unknown message")),
        }
        Ok(())
    }

    fn about(&mut self, tag: u8, kind: u8, name: &[u8]) -> Result<(), Fault> {
        if tag == b'C' {
            if kind == b'S' {
                self.statements.remove(name);
            } else {
                self.portals.remove(name);
            }
            self.put(b'3', b"");
            return Ok(());
        }
        let text = if kind == b'S' {
            let text = self.statements.get(name).cloned().ok_or_else(|| fault("26000", "no such statement"))?;
            self.put(b't', &[0, 0]);
            text
        } else {
            self.portals.get(name).map(|portal| portal.text.clone()).ok_or_else(|| fault("34000", "no such portal"))?
        };
        match head(&self.meant(&text)) {
            Some(head) => self.put(b'T', &describe(&head)),
            None => self.put(b'n', b""),
        }
        Ok(())
    }

    /// The PREPARE that gave the name of an EXECUTE its meaning.
    fn prepared(&self, text: &str) -> Option<String> {
        let named = text.strip_prefix("execute ").and_then(|name| self.statements.get(name.as_bytes()));
        named.filter(|named| named.starts_with("prepare ")).cloned()
    }

    /// What stands behind an EXECUTE; any other text itself. A name that stands for nothing stays an EXECUTE.
    fn meant(&self, text: &str) -> String {
        let named = text.strip_prefix("execute ").and_then(|name| self.statements.get(name.as_bytes()));
        match named {
            Some(named) => prepares(named).map_or(named.as_str(), |(_, inner)| inner).to_owned(),
            None => text.to_owned(),
        }
    }

    fn execute(&mut self, name: &[u8], limit: usize) -> Result<(), Fault> {
        let mut portal = self.portals.get(name).cloned().ok_or_else(|| fault("34000", "no such portal"))?;
        let (text, parameters) = (portal.text.clone(), portal.parameters.clone());
        let again = portal.over && head(&text).is_none();
        if again {
            return Err(fault("55000", "portal cannot be run"));
        }
        // What goes on with rows it has, goes on with what its name stood for.
        let prepared = portal.prepared.clone().unwrap_or_else(|| self.prepared(&text));
        portal.prepared = Some(prepared.clone());
        self.executed.push(Executed { ask: "execute", text: text.clone(), parameters, prepared });
        if portal.rows.is_none() {
            let text = self.meant(&text);
            match self.run(&text)? {
                Done::Rows(rows) => portal.rows = Some(rows),
                Done::Tag(tag) => {
                    self.put(b'C', format!("{tag}\0").as_bytes());
                    if let Some(portal) = self.portals.get_mut(name) {
                        portal.over = true;
                    }
                    return Ok(());
                }
                Done::CopyIn => {
                    self.put(b'G', &[0, 0, 2, 0, 0, 0, 0]);
                    self.flush();
                    self.copy = Some(CopyIn::Execute);
                    return Ok(());
                }
            }
        }
        let rows = portal.rows.as_mut().expect("started above");
        let count = if limit == 0 { rows.len() } else { limit.min(rows.len()) };
        let now: Vec<Vec<u8>> = rows.drain(..count).collect();
        now.iter().for_each(|row| self.put(b'D', row));
        // As the real one: a limit that was reached suspends, even if nothing is left.
        if limit != 0 && count == limit {
            self.put(b's', b"");
        } else {
            portal.over = true;
            self.put(b'C', format!("SELECT {count}\0").as_bytes());
        }
        self.portals.insert(name.to_vec(), portal);
        Ok(())
    }

    fn run(&mut self, text: &str) -> Result<Done, Fault> {
        let tag = |word: &str| Ok(Done::Tag(word.to_owned()));
        match text {
            "commit" | "rollback" => {
                let failed = self.status == b'E' || text == "rollback";
                self.status = b'I';
                self.portals.clear();
                if failed {
                    self.pending.clear();
                    return tag("ROLLBACK");
                }
                self.committed.append(&mut self.pending);
                return tag("COMMIT");
            }
            _ if self.status == b'E' => return Err(fault("25P02", "transaction is aborted")),
            "begin" => {
                self.status = b'T';
                return tag("BEGIN");
            }
            "select 1/0" => return Err(fault("22012", "division by zero")),
            "deallocate all" => {
                self.statements.clear();
                return tag("DEALLOCATE ALL");
            }
            _ if text.starts_with("execute ") => return Err(fault("26000", "no such statement")),
            _ if text.starts_with("deallocate ") => {
                self.statements.remove(&text.as_bytes()["deallocate ".len()..]);
                return tag("DEALLOCATE");
            }
            _ if prepares(text).is_some() => {
                let name = prepares(text).map_or("", |(name, _)| name).as_bytes().to_vec();
                if self.statements.contains_key(&name) {
                    return Err(fault("42P05", "prepared statement exists"));
                }
                self.statements.insert(name, text.to_owned());
                return tag("PREPARE");
            }
            "copy t from stdin" => return Ok(Done::CopyIn),
            "copy t to stdout" => return Ok(self.copy_out("1\tplain\n", 2)),
            "copy people to stdout" => return Ok(self.copy_out(&format!("1\t{CANARY}\tnick\n"), 3)),
            _ => {}
        }
        if text.contains("people") {
            self.put(b'N', format!("SNOTICE\0VNOTICE\0C00000\0Mnote of {CANARY}\0\0").as_bytes());
        }
        if text.starts_with("insert into people") {
            return Err(fault("23505", format!("duplicate key\0DKey (ssn)=({CANARY}) already exists.")));
        }
        if let Some(mark) = mark(text) {
            self.pending.push(mark);
        }
        if let Some(value) = text.strip_prefix("set application_name = ") {
            let body = format!("application_name\0{}\0", value.trim_matches('\''));
            self.put(b'S', body.as_bytes());
            return tag("SET");
        }
        match head(text) {
            Some(head) => Ok(Done::Rows(rows(text, &head))),
            None => tag(match text.split(' ').next() {
                Some("insert") => "INSERT 0 1",
                Some("update") => "UPDATE 1",
                Some("delete") => "DELETE 1",
                Some("create") => "CREATE TABLE",
                _ => "DONE",
            }),
        }
    }

    fn copy_out(&mut self, line: &str, columns: u8) -> Done {
        let mut start = vec![0, 0, columns];
        start.extend(std::iter::repeat_n(0, usize::from(columns) * 2));
        self.put(b'H', &start);
        for _ in 0..3 {
            self.put(b'd', line.as_bytes());
        }
        self.put(b'c', b"");
        Done::Tag("COPY 3".to_owned())
    }

    fn copy_message(&mut self, tag: u8, body: &[u8]) {
        let ended = match tag {
            b'd' => {
                self.copied.extend_from_slice(body);
                return;
            }
            b'H' | b'S' => return,
            b'c' => Ok(()),
            b'f' => Err(fault("57014", "COPY from stdin failed")),
            b'X' => {
                self.closed = true;
                return;
            }
            _ => Err(fault("08P01", "unexpected message during COPY")),
        };
        let copy = self.copy.take();
        match ended {
            Ok(()) => self.put(b'C', b"COPY 1\0"),
            Err(fault) => {
                self.fail(&fault);
                self.skipping = matches!(copy, Some(CopyIn::Execute));
            }
        }
        if matches!(copy, Some(CopyIn::Query)) {
            self.end_of_segment();
        }
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned()
}

fn describe(head: &Head) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_i16(head.len() as i16);
    for (name, relation, attribute) in head {
        frame::put_string(&mut out, name.as_bytes());
        out.put_u32(*relation);
        out.put_i16(*attribute);
        out.put_i32(25);
        out.put_i16(-1);
        out.put_i32(-1);
        out.put_i16(0);
    }
    out.to_vec()
}
