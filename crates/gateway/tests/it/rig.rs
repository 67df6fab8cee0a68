//! What the tests look through: the ledger as an auditor reads it, the log as an operator does, the reviewers' side,
//! and a client that speaks the protocol by hand.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use chancery_ledger::{EntryKind, Leaf, Roots, Verdict};
use chancery_model::{Approval, Assurance, Principal, PrincipalKind, Review, ReviewId, ReviewState, Timestamp};
use chancery_store::{Directory, LedgerItem, LedgerReader, RecordingReader, verify};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::world::{ISSUER, World};

/// Nothing a test waits for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Timestamp(since.as_micros() as i64)
}

/// Asks again until the answer is there.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let patience = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(std::time::Instant::now() < patience, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// ---- the log -------------------------------------------------------------------------------------------------------

static LINES: Mutex<Vec<(tracing::Level, String)>> = Mutex::new(Vec::new());

struct Capture;

struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl tracing::Subscriber for Capture {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("chancery") || *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        LINES.lock().expect("no test panics with it").push((*event.metadata().level(), fields.0));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// From here on everything that any test of this process logs is kept.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Capture).expect("the only one"));
}

/// Everything logged so far.
pub(crate) fn log() -> Vec<String> {
    LINES.lock().expect("no test panics with it").iter().map(|(level, line)| format!("{level}{line}")).collect()
}

/// Errors that no test provoked: the one that fills its disk says so in each line.
fn errors() -> Vec<String> {
    let provoked = |line: &String| line.contains("disk is full") || line.contains("short of space");
    log().into_iter().filter(|line| line.starts_with("ERROR") && !provoked(line)).collect()
}

// ---- the ledger ----------------------------------------------------------------------------------------------------

/// The entries of a world's ledger, read beside the writer.
pub(crate) fn entries(world: &World) -> Vec<Leaf> {
    let reader = reader(world);
    let mut leaves = Vec::new();
    reader
        .visit(0, |index, item| {
            if let LedgerItem::Entry(line) = item {
                leaves.push(Leaf::parse(line, index).expect("a whole line"));
            }
            ControlFlow::Continue(())
        })
        .expect("it can be read");
    leaves
}

fn reader(world: &World) -> LedgerReader {
    LedgerReader::new(Arc::new(Directory::shared(&world.state.join("ledger")).expect("a ledger")))
}

/// A field of an entry as text.
pub(crate) fn field(leaf: &Leaf, name: &str) -> String {
    match leaf.rest.get(name) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

pub(crate) fn of(world: &World, kind: EntryKind) -> Vec<Leaf> {
    entries(world).into_iter().filter(|leaf| leaf.kind == Some(kind)).collect()
}

/// Entries of a kind whose field has this value; waits until there is one.
pub(crate) async fn entry(world: &World, kind: EntryKind, name: &str, value: &str) -> Leaf {
    let what = format!("{} with {name}={value}", kind.as_str());
    until(&what, async || of(world, kind).into_iter().find(|leaf| field(leaf, name).contains(value))).await
}

/// Entries of one review, by kind, in order.
pub(crate) fn story(world: &World, review: ReviewId) -> Vec<String> {
    let id = review.to_string();
    let id = id.trim_start_matches("rev-").to_owned();
    entries(world)
        .iter()
        .filter(|leaf| field(leaf, "rev").trim_start_matches("rev-") == id)
        .map(|leaf| {
            let end = field(leaf, "end");
            let kind = leaf.kind.map_or("?", EntryKind::as_str);
            if end.is_empty() { kind.to_owned() } else { format!("{kind}:{end}") }
        })
        .collect()
}

/// Stops the gateway; the ledger verifies from outside, every start has its end, and nothing was logged as an error.
pub(crate) async fn finish(mut world: World) -> Vec<Leaf> {
    let roots = Roots::parse(&world.gateway.sequencer().roots()).expect("own roots");
    world.end().await;
    let recordings =
        RecordingReader::new(Arc::new(Directory::shared(&world.state.join("recordings")).expect("recordings")));
    let report = verify(&reader(&world), Some(&recordings), roots).expect("it can be read");
    let leaves = entries(&world);
    assert_eq!(report.verdict(), Verdict::Pass, "{:#?}\n{leaves:#?}", report.findings);
    let mut running: HashMap<(String, u64), usize> = HashMap::new();
    for leaf in &leaves {
        let key = || (leaf.session.map(|id| id.to_string()).unwrap_or_default(), leaf.command.unwrap_or(0));
        match leaf.kind {
            Some(EntryKind::ActStart) => *running.entry(key()).or_default() += 1,
            Some(EntryKind::ActDone) => *running.get_mut(&key()).expect("it started") += 100,
            _ => {}
        }
    }
    assert!(running.values().all(|count| *count == 101), "each start has one end: {running:?}");
    assert_eq!(errors(), Vec::<String>::new(), "an error was logged");
    leaves
}

// ---- the reviewers -------------------------------------------------------------------------------------------------

pub(crate) fn person(subject: &str, groups: &[&str]) -> Principal {
    Principal {
        issuer: ISSUER.into(),
        subject: subject.into(),
        kind: PrincipalKind::User,
        display: subject.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    }
}

/// The open review of this world, once there is one.
pub(crate) async fn pending(world: &World) -> Review {
    pending_but(world, &[]).await
}

/// The same, passing over some.
pub(crate) async fn pending_but(world: &World, but: &[ReviewId]) -> Review {
    let catalog = world.gateway.catalog();
    let id = until("an open review", async || {
        let open = catalog.list_reviews(Some(ReviewState::Pending), 50).await.expect("a list");
        open.iter().map(|line| line.id).find(|id| !but.contains(id))
    })
    .await;
    catalog.review(id).await.expect("it can be read").expect("it is there")
}

pub(crate) fn clicked(subject: &str, groups: &[&str]) -> Approval {
    Approval {
        rule: "dba".into(),
        reviewer: person(subject, groups),
        assurance: Assurance::Clicked,
        key: None,
        signature: None,
        at: now(),
        entry: None,
    }
}

/// Puts an approval into the catalog and calls the review approved, as if the console had let it through: the session
/// must judge for itself.
pub(crate) async fn force(world: &World, id: ReviewId, approval: &Approval) {
    let catalog = world.gateway.catalog();
    catalog.add_approval(id, approval).await.expect("it is taken");
    let (pending, approved) = (ReviewState::Pending, ReviewState::Approved);
    assert!(catalog.set_state(id, pending, approved, now()).await.expect("it is set"));
}

pub(crate) async fn approve(world: &World, id: ReviewId) {
    force(world, id, &clicked("dana", &["dba"])).await;
}

pub(crate) async fn ended_as(world: &World, id: ReviewId, state: ReviewState) {
    let catalog = world.gateway.catalog();
    until(&format!("{id} is {}", state.as_str()), async || {
        let review = catalog.review(id).await.expect("it can be read").expect("it is there");
        (review.state == state).then_some(())
    })
    .await;
}

// ---- a client by hand ----------------------------------------------------------------------------------------------

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A message of the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) tag: char,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse.
    pub(crate) fn field(&self, code: char) -> String {
        let fields = self.body.split(|byte| *byte == 0);
        let found = fields.into_iter().find(|field| field.first() == Some(&(code as u8)));
        String::from_utf8_lossy(found.unwrap_or(b" ").get(1..).unwrap_or_default()).into_owned()
    }
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).replace('\0', " ")
    }
}

pub(crate) struct Raw {
    stream: Box<dyn Duplex>,
    buffer: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(port: u16) -> Self {
        Self::over(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens"))
    }

    pub(crate) fn over(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new(), key: Vec::new() }
    }

    /// Connects and logs in.
    pub(crate) async fn login(world: &World, token: &str, parameters: &[(&str, &str)]) -> Self {
        let mut raw = Self::connect(world.port).await;
        let answer = raw.log_in(token, parameters).await;
        assert_eq!(answer.tag, 'Z', "{}", answer.text());
        raw
    }

    /// The start-up up to ReadyForQuery or an error.
    pub(crate) async fn log_in(&mut self, token: &str, parameters: &[(&str, &str)]) -> Message {
        self.startup(parameters).await;
        let asked = self.next().await.expect("an answer");
        if asked.tag != 'R' {
            return asked;
        }
        let mut password = token.as_bytes().to_vec();
        password.push(0);
        self.send('p', &password).await;
        loop {
            match self.next().await.expect("an answer") {
                message if message.tag == 'K' => self.key = message.body,
                message if matches!(message.tag, 'Z' | 'E') => return message,
                _ => {}
            }
        }
    }

    pub(crate) async fn startup(&mut self, parameters: &[(&str, &str)]) {
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        let own = [("user", "anybody"), ("database", "shop")];
        for (name, value) in own.iter().chain(parameters) {
            body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        body.push(0);
        self.bytes(&[&((body.len() + 4) as i32).to_be_bytes(), body.as_slice()].concat()).await;
    }

    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        // The peer may have closed already; what it said is still to be read.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    pub(crate) fn frame(tag: char, body: &[u8]) -> Vec<u8> {
        [&[tag as u8], ((body.len() + 4) as i32).to_be_bytes().as_slice(), body].concat()
    }

    pub(crate) async fn send(&mut self, tag: char, body: &[u8]) {
        self.bytes(&Self::frame(tag, body)).await;
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some((head, rest)) = self.buffer.split_first_chunk::<5>() {
                let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
                if rest.len() >= length {
                    let message = Message { tag: head[0] as char, body: rest[..length].to_vec() };
                    self.buffer.drain(..5 + length);
                    return Some(message);
                }
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer));
            match read.await.expect("an answer in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, self.stream.read_exact(&mut byte));
        read.await.expect("an answer in time").ok().map(|_| byte[0])
    }

    /// Everything up to and with the next ReadyForQuery, or the end.
    pub(crate) async fn ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            let last = message.tag == 'Z';
            messages.push(message);
            if last {
                break;
            }
        }
        messages
    }

    /// The next notice.
    pub(crate) async fn notice(&mut self) -> Message {
        let message = self.next().await.expect("a notice");
        assert_eq!(message.tag, 'N', "{}", message.text());
        message
    }

    pub(crate) async fn ask(&mut self, sql: &str) {
        self.send('Q', &[sql.as_bytes(), b"\0"].concat()).await;
    }

    pub(crate) async fn query(&mut self, sql: &str) -> Vec<Message> {
        self.ask(sql).await;
        self.ready().await
    }

    /// Parse, Bind, Execute of one statement with text parameters, without Sync.
    pub(crate) async fn execute(&mut self, sql: &str, parameters: &[&str]) {
        let mut bind = b"\0\0\0\0".to_vec();
        bind.extend((parameters.len() as u16).to_be_bytes());
        for parameter in parameters {
            bind.extend((parameter.len() as u32).to_be_bytes());
            bind.extend(parameter.as_bytes());
        }
        bind.extend([0, 0]);
        let frames = [
            Self::frame('P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat()),
            Self::frame('B', &bind),
            Self::frame('E', b"\0\0\0\0\0"),
        ];
        self.bytes(&frames.concat()).await;
    }

    pub(crate) async fn sync(&mut self) {
        self.send('S', b"").await;
    }

    /// A CancelRequest on a connection of its own; returns when the server closed that.
    pub(crate) async fn cancel(port: u16, key: &[u8]) {
        let mut other = Self::connect(port).await;
        let code = 80_877_102_i32.to_be_bytes();
        let length = ((key.len() + 8) as i32).to_be_bytes();
        other.bytes(&[length.as_slice(), code.as_slice(), key].concat()).await;
        assert_eq!(other.next().await, None, "a cancel has no answer");
    }
}

/// The tags in order, as a word.
pub(crate) fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| message.tag).collect()
}

/// SQLSTATE of the first error.
pub(crate) fn sqlstate(messages: &[Message]) -> String {
    messages.iter().find(|message| message.tag == 'E').map(|error| error.field('C')).unwrap_or_default()
}

/// Message, detail and hint of the first error.
pub(crate) fn complaint(messages: &[Message]) -> String {
    let error = messages.iter().find(|message| message.tag == 'E');
    error.map(|error| ['M', 'D', 'H'].map(|code| error.field(code)).join(" | ")).unwrap_or_default()
}

/// The values of the rows in order.
pub(crate) fn values(messages: &[Message]) -> Vec<String> {
    let mut values = Vec::new();
    for row in messages.iter().filter(|message| message.tag == 'D') {
        let mut rest = &row.body[2..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            values.push(String::from_utf8_lossy(&after[..length]).into_owned());
            rest = &after[length..];
        }
    }
    values
}
