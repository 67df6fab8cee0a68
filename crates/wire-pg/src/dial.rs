//! The client's role towards a server: from the first byte to ReadyForQuery, with the gateway's own credential.
//!
//! A server is as hostile as a client: an attacker may stand where it should be. Nothing is believed before TLS but
//! the one byte that answers SSLRequest; a SCRAM server has to prove that it knows the password too. The machine does
//! no TLS and stretches no password: it asks its driver to.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use chancery_wire::{Leg, Limits, WireError};
use zeroize::Zeroizing;

use crate::cancel::CancelKey;
use crate::error_response::ServerReport;
use crate::frame::{self, Cursor, FrameFault};
use crate::md5;
use crate::scram::{Binding, Challenge, ClientFirst, ITERATIONS_MAX, Proof, ScramDerivation, ScramFault, ScramKeys};

/// The code that stands where a start-up packet has its version: "may we speak TLS?"
pub(crate) const SSL_REQUEST_CODE: i32 = 80_877_103;
/// Protocol 3.0; the minor version is added.
pub(crate) const VERSION_3: i32 = 3 << 16;
/// The server refuses longer start-up packets.
const STARTUP_BYTES_MAX: usize = 10_000;
/// Messages before ReadyForQuery; a real server sends about twenty.
const MESSAGES_MAX: usize = 1_024;
/// Parameters reported before ReadyForQuery.
const PARAMETERS_MAX: usize = 128;

/// What to do about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialTls {
    /// Do not ask.
    Disable,
    /// Ask, and go on in clear when the server says no. Whoever stands in between can say no.
    Prefer,
    /// Ask, and fail when the server says no.
    Require,
    /// The driver does TLS before the first byte (ALPN `postgresql`) and then calls [`Dial::secured`].
    Direct,
}

/// What a dial needs to know.
pub struct DialConfig {
    /// The role to log in as.
    pub user: String,
    /// The database to open.
    pub database: String,
    /// Further start-up parameters, as [`crate::Startup::parameters`] has them.
    pub parameters: Vec<(String, String)>,
    /// The password. Wiped on drop.
    pub password: Zeroizing<Vec<u8>>,
    /// What to do about TLS.
    pub tls: DialTls,
    /// Whether a server may ask for the password itself outside of TLS: true on a loopback or by a dangerous option.
    pub clear_password_allowed: bool,
    /// Minor protocol version to ask for: 0 or 2. Servers before 9.3.21 and old poolers break off at 2.
    pub minor: u16,
    /// Random bytes for the SCRAM nonce.
    pub nonce: [u8; 18],
    /// Most SCRAM iterations; see [`crate::SCRAM_ITERATIONS_MAX`].
    pub iterations_max: u32,
    /// Keys of an earlier login with the same credential; used when salt and count are still the same.
    pub scram_keys: Option<ScramKeys>,
    /// Bounds; `handshake_bytes_max` is one message.
    pub limits: Limits,
}

impl DialConfig {
    /// A configuration that demands TLS, asks for 3.0 and has default bounds.
    pub fn new(user: String, database: String, password: Zeroizing<Vec<u8>>, nonce: [u8; 18]) -> Self {
        Self {
            user,
            database,
            parameters: Vec::new(),
            password,
            tls: DialTls::Require,
            clear_password_allowed: false,
            minor: 0,
            nonce,
            iterations_max: ITERATIONS_MAX,
            scram_keys: None,
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for DialConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialConfig").field("tls", &self.tls).field("minor", &self.minor).finish_non_exhaustive()
    }
}

/// Why a login did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialError {
    /// The server broke the protocol or a bound, or the driver called out of order.
    Wire(WireError),
    /// TLS is required and the server has none.
    TlsRefused,
    /// The server said no.
    Server(ServerReport),
    /// The server wants a way of authentication that is not spoken here; the name says which.
    UnsupportedAuthentication(&'static str),
    /// The server wants a password and there is none.
    PasswordMissing,
    /// The server wants the password itself, outside of TLS.
    ClearPasswordRefused,
    /// The SCRAM exchange failed. [`ScramFault::ServerSignature`]: the server is not who it should be.
    Scram(ScramFault),
    /// The name, database or a parameter cannot be said in a start-up packet.
    Unspeakable(&'static str),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(_) => f.write_str("login broke off"),
            Self::TlsRefused => f.write_str("resource refused TLS"),
            Self::Server(report) => write!(f, "resource refused the login, SQLSTATE {}", report.sqlstate),
            Self::UnsupportedAuthentication(name) => write!(f, "resource asks for {name} authentication"),
            Self::PasswordMissing => f.write_str("resource asks for a password and none is configured"),
            Self::ClearPasswordRefused => f.write_str("resource asks for the password outside of TLS"),
            Self::Scram(_) => f.write_str("SCRAM exchange failed"),
            Self::Unspeakable(what) => write!(f, "start-up packet impossible: {what}"),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wire(error) => Some(error),
            Self::Scram(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<WireError> for DialError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<FrameFault> for DialError {
    fn from(fault: FrameFault) -> Self {
        Self::Wire(fault.on(Leg::Upstream))
    }
}

impl From<ScramFault> for DialError {
    fn from(fault: ScramFault) -> Self {
        Self::Scram(fault)
    }
}

/// A server that is ready for queries, and what it told on the way.
#[derive(Debug)]
pub struct DialReady {
    /// What the server reported, in its order; the last of a name counts.
    pub parameters: Vec<(String, String)>,
    /// What it takes to cancel here; some servers give none.
    pub key: Option<CancelKey>,
    /// Transaction status: `I`, `T` or `E`.
    pub tx_status: u8,
    /// Minor protocol version in use.
    pub minor: u16,
    /// Whether the connection is inside TLS.
    pub secure: bool,
    /// Keys for the next login with the same credential: what SCRAM used, or what was given if it was not spoken.
    pub scram_keys: Option<ScramKeys>,
    /// Bytes that came behind ReadyForQuery.
    pub leftover: Bytes,
}

/// What the driver has to do next. Before it does, it writes what [`Dial::transmit`] holds.
#[derive(Debug)]
pub enum DialStep {
    /// Read from the server and call [`Dial::receive`].
    Wait,
    /// Do the TLS handshake on the socket, verify the certificate, then call [`Dial::secured`].
    StartTls,
    /// Run the derivation, on a thread of its own if it likes, then call [`Dial::derived`].
    Derive(ScramDerivation),
    /// Logged in. The machine is used up.
    Ready(Box<DialReady>),
    /// Not logged in; close the socket. The machine is used up.
    Failed(DialError),
}

enum State {
    /// SSLRequest is out; one byte comes back.
    TlsAsked,
    /// The driver does TLS.
    Securing,
    /// The start-up packet is out.
    Started,
    ScramOpened(ClientFirst),
    Deriving(Challenge),
    ScramAnswered(Proof),
    /// The server has nothing more to ask: password sent, or SCRAM verified.
    Answered,
    Authenticated,
    Ended,
}

/// One login.
pub struct Dial {
    config: DialConfig,
    state: State,
    pending: BytesMut,
    out: BytesMut,
    secure: bool,
    channel_binding: Option<Vec<u8>>,
    minor: u16,
    messages: usize,
    parameters: Vec<(String, String)>,
    key: Option<CancelKey>,
    scram_keys: Option<ScramKeys>,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").field("secure", &self.secure).field("minor", &self.minor).finish_non_exhaustive()
    }
}

impl Dial {
    /// Starts a login; [`Dial::transmit`] has the first bytes, except with [`DialTls::Direct`].
    pub fn new(mut config: DialConfig) -> Result<Self, DialError> {
        check(&config)?;
        let scram_keys = config.scram_keys.take();
        let minor = config.minor;
        let mut dial = Self {
            config,
            state: State::Securing,
            pending: BytesMut::new(),
            out: BytesMut::new(),
            secure: false,
            channel_binding: None,
            minor,
            messages: 0,
            parameters: Vec::new(),
            key: None,
            scram_keys,
        };
        match dial.config.tls {
            DialTls::Direct => {}
            DialTls::Disable => dial.start(),
            DialTls::Prefer | DialTls::Require => {
                frame::untagged(&mut dial.out, |out| out.put_i32(SSL_REQUEST_CODE));
                dial.state = State::TlsAsked;
            }
        }
        Ok(dial)
    }

    /// Bytes to write to the server, if any.
    pub fn transmit(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }

    /// Takes what the server sent.
    pub fn receive(&mut self, bytes: &[u8]) -> DialStep {
        if self.pending.len().saturating_add(bytes.len()) > self.pending_max() {
            return self.fail(WireError::LimitReached(Leg::Upstream, "bytes before login").into());
        }
        self.pending.extend_from_slice(bytes);
        self.advance()
    }

    /// Tells that TLS is up and the certificate verified. `channel_binding` is what
    /// [`crate::channel_binding_for`] made of it.
    pub fn secured(&mut self, channel_binding: Option<Vec<u8>>) -> DialStep {
        if !matches!(self.state, State::Securing) || self.secure {
            return self.fail(WireError::Misuse("TLS was not asked for").into());
        }
        self.secure = true;
        self.channel_binding = channel_binding;
        self.start();
        DialStep::Wait
    }

    /// Hands back the keys that [`ScramDerivation::run`] made.
    pub fn derived(&mut self, keys: ScramKeys) -> DialStep {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Deriving(challenge) if keys.fits(&challenge) => {
                self.answer(challenge, keys);
                self.advance()
            }
            _ => self.fail(WireError::Misuse("these keys were not asked for").into()),
        }
    }

    fn pending_max(&self) -> usize {
        // One message in the making and one read of the driver's on top of it.
        self.config.limits.handshake_bytes_max.saturating_add(256 * 1024)
    }

    fn fail(&mut self, error: DialError) -> DialStep {
        self.state = State::Ended;
        self.pending.clear();
        self.out.clear();
        DialStep::Failed(error)
    }

    fn start(&mut self) {
        write_startup(&mut self.out, &self.config);
        self.state = State::Started;
    }

    fn advance(&mut self) -> DialStep {
        loop {
            match self.next() {
                Ok(None) => {}
                Ok(Some(step)) => return step,
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Handles one message; `None` means there may be another.
    fn next(&mut self) -> Result<Option<DialStep>, DialError> {
        match self.state {
            State::TlsAsked => return self.tls_answer(),
            State::Securing if self.pending.is_empty() => return Ok(Some(DialStep::Wait)),
            State::Securing => return Err(misbehaved("bytes in clear while TLS starts")),
            State::Deriving(_) => return Ok(Some(DialStep::Wait)),
            State::Ended => return Err(WireError::Misuse("the login is over").into()),
            _ => {}
        }
        let max = self.config.limits.handshake_bytes_max;
        let Some(found) = frame::next_frame(&self.pending, max)? else { return Ok(Some(DialStep::Wait)) };
        self.messages = self.messages.saturating_add(1);
        if self.messages > MESSAGES_MAX {
            return Err(WireError::LimitReached(Leg::Upstream, "messages before ready").into());
        }
        let whole = self.pending.split_to(found.range.end);
        self.message(found.tag, found.body(&whole))
    }

    /// The one byte that answers SSLRequest. More behind an `S` was put there by somebody in between
    /// (CVE-2021-23222); an error text here is nobody's we know (CVE-2024-10977), so it is not read.
    fn tls_answer(&mut self) -> Result<Option<DialStep>, DialError> {
        match (&self.pending[..], self.config.tls) {
            ([], _) => Ok(Some(DialStep::Wait)),
            (b"S", _) => {
                self.pending.clear();
                self.state = State::Securing;
                Ok(Some(DialStep::StartTls))
            }
            ([b'S', ..], _) => Err(misbehaved("bytes in clear behind the answer to SSLRequest")),
            (b"N", DialTls::Prefer) => {
                self.pending.clear();
                self.start();
                Ok(Some(DialStep::Wait))
            }
            ([b'N' | b'E', ..], _) => Err(DialError::TlsRefused),
            _ => Err(misbehaved("answer to SSLRequest unknown")),
        }
    }

    fn message(&mut self, tag: u8, body: &[u8]) -> Result<Option<DialStep>, DialError> {
        match (tag, &self.state) {
            (b'E', _) => Err(DialError::Server(ServerReport::read(body)?)),
            (b'N', _) => Ok(None),
            (b'v', State::Started) if self.messages == 1 => self.negotiated(body),
            (b'R', State::Authenticated) => Err(misbehaved("authentication goes on after it was over")),
            (b'R', _) => self.authentication(body),
            (b'S', State::Authenticated) => {
                if self.parameters.len() >= PARAMETERS_MAX {
                    return Err(WireError::LimitReached(Leg::Upstream, "parameters reported").into());
                }
                let mut cursor = Cursor::new(body);
                let (name, value) = (cursor.text()?.to_owned(), cursor.text()?.to_owned());
                cursor.finish()?;
                self.parameters.push((name, value));
                Ok(None)
            }
            (b'K', State::Authenticated) if self.key.is_none() => {
                let mut cursor = Cursor::new(body);
                let process_id = cursor.int32()?;
                let key = CancelKey::new(process_id, cursor.rest()).ok_or(misbehaved("cancel key size"))?;
                self.key = Some(key);
                Ok(None)
            }
            (b'Z', State::Authenticated) => self.ready(body),
            _ => Err(misbehaved("message does not belong into a login")),
        }
    }

    /// NegotiateProtocolVersion. Servers send the whole version, older texts of the manual say only the minor.
    fn negotiated(&mut self, body: &[u8]) -> Result<Option<DialStep>, DialError> {
        let mut cursor = Cursor::new(body);
        let version = cursor.int32()?;
        // We send no `_pq_.` options, so none can be unknown.
        if cursor.int32()? != 0 {
            return Err(misbehaved("options refused that were not asked for"));
        }
        cursor.finish()?;
        let minor = match version {
            0..=0xffff => version,
            _ if version >> 16 == 3 => version & 0xffff,
            _ => return Err(misbehaved("major protocol version changed")),
        };
        match u16::try_from(minor) {
            Ok(minor) if minor < self.minor => self.minor = minor,
            _ => return Err(misbehaved("protocol version not lowered by negotiation")),
        }
        Ok(None)
    }

    fn authentication(&mut self, body: &[u8]) -> Result<Option<DialStep>, DialError> {
        let mut cursor = Cursor::new(body);
        let kind = cursor.int32()?;
        let data = cursor.rest();
        match (kind, std::mem::replace(&mut self.state, State::Ended)) {
            (0, State::Started | State::Answered) => {
                self.state = State::Authenticated;
                Ok(None)
            }
            (3, State::Started) => {
                if !self.secure && !self.config.clear_password_allowed {
                    return Err(DialError::ClearPasswordRefused);
                }
                let mut body = Zeroizing::new(Vec::with_capacity(self.config.password.len() + 1));
                body.extend_from_slice(self.password()?);
                body.push(0);
                self.say(&body, State::Answered)
            }
            (5, State::Started) => {
                let salt = <[u8; 4]>::try_from(data).map_err(|_| misbehaved("salt of four bytes missing"))?;
                let body = md5::answer(self.config.user.as_bytes(), self.password()?, salt);
                self.say(&body, State::Answered)
            }
            (10, State::Started) => self.scram_opening(data),
            (11, State::ScramOpened(first)) => {
                let challenge = first.challenge(data, self.config.iterations_max)?;
                self.challenged(challenge)
            }
            (12, State::ScramAnswered(proof)) => {
                proof.verify(data)?;
                self.state = State::Answered;
                Ok(None)
            }
            (kind, State::Started) => Err(DialError::UnsupportedAuthentication(method_name(kind))),
            // Above all AuthenticationOk before the server's proof: an impostor's way around SCRAM.
            _ => Err(misbehaved("authentication message out of order")),
        }
    }

    fn password(&self) -> Result<&[u8], DialError> {
        if self.config.password.is_empty() { Err(DialError::PasswordMissing) } else { Ok(&self.config.password) }
    }

    fn say(&mut self, body: &[u8], next: State) -> Result<Option<DialStep>, DialError> {
        frame::password(&mut self.out, body);
        self.state = next;
        Ok(None)
    }

    fn scram_opening(&mut self, mechanisms: &[u8]) -> Result<Option<DialStep>, DialError> {
        self.password()?;
        let (mut plain, mut plus, mut oauth) = (false, false, false);
        let mut cursor = Cursor::new(mechanisms);
        loop {
            match cursor.string()? {
                b"" => break,
                b"SCRAM-SHA-256" => plain = true,
                b"SCRAM-SHA-256-PLUS" => plus = true,
                b"OAUTHBEARER" => oauth = true,
                _ => {}
            }
        }
        cursor.finish()?;
        let binding = match (self.channel_binding.clone(), plus, plain) {
            (Some(data), true, _) if self.secure => Binding::EndPoint(data),
            (Some(_), false, true) => Binding::NotOffered,
            (None, _, true) => Binding::Unsupported,
            _ if oauth => return Err(DialError::UnsupportedAuthentication("OAUTHBEARER")),
            _ => return Err(DialError::UnsupportedAuthentication("SASL")),
        };
        let first = ClientFirst::new("", &self.config.nonce, binding);
        let message = first.message();
        let mut body = BytesMut::new();
        frame::put_string(&mut body, first.mechanism().as_bytes());
        body.put_i32(i32::try_from(message.len()).unwrap_or(i32::MAX));
        body.put_slice(message.as_bytes());
        self.say(&body, State::ScramOpened(first))
    }

    fn challenged(&mut self, challenge: Challenge) -> Result<Option<DialStep>, DialError> {
        match self.scram_keys.take() {
            Some(keys) if keys.fits(&challenge) => {
                self.answer(challenge, keys);
                Ok(None)
            }
            _ => {
                let derivation = challenge.derivation(self.config.password.clone());
                self.state = State::Deriving(challenge);
                Ok(Some(DialStep::Derive(derivation)))
            }
        }
    }

    fn answer(&mut self, challenge: Challenge, keys: ScramKeys) {
        let (message, proof) = challenge.answer(&keys);
        self.scram_keys = Some(keys);
        frame::password(&mut self.out, message.as_bytes());
        self.state = State::ScramAnswered(proof);
    }

    fn ready(&mut self, body: &[u8]) -> Result<Option<DialStep>, DialError> {
        let &[tx_status @ (b'I' | b'T' | b'E')] = body else {
            return Err(misbehaved("transaction status unknown"));
        };
        self.state = State::Ended;
        Ok(Some(DialStep::Ready(Box::new(DialReady {
            parameters: std::mem::take(&mut self.parameters),
            key: self.key.take(),
            tx_status,
            minor: self.minor,
            secure: self.secure,
            scram_keys: self.scram_keys.take(),
            leftover: self.pending.split().freeze(),
        }))))
    }
}

fn misbehaved(what: &'static str) -> DialError {
    DialError::Wire(WireError::PeerMisbehaved(Leg::Upstream, what))
}

fn check(config: &DialConfig) -> Result<(), DialError> {
    let zero = |text: &str| text.contains('\0');
    if config.user.is_empty() {
        return Err(DialError::Unspeakable("user empty"));
    }
    if zero(&config.user) || zero(&config.database) || config.parameters.iter().any(|(n, v)| zero(n) || zero(v)) {
        return Err(DialError::Unspeakable("zero byte"));
    }
    // An empty name ends the list early; these two are said apart and must not be said twice.
    if config.parameters.iter().any(|(name, _)| matches!(name.as_str(), "" | "user" | "database" | "replication")) {
        return Err(DialError::Unspeakable("parameter name"));
    }
    if config.password.contains(&0) {
        return Err(DialError::Unspeakable("zero byte in the password"));
    }
    if !matches!(config.minor, 0 | 2) {
        return Err(DialError::Unspeakable("minor version"));
    }
    let mut packet = BytesMut::new();
    write_startup(&mut packet, config);
    if packet.len() > STARTUP_BYTES_MAX {
        return Err(DialError::Unspeakable("longer than 10 000 bytes"));
    }
    Ok(())
}

fn write_startup(out: &mut BytesMut, config: &DialConfig) {
    frame::untagged(out, |out| {
        out.put_i32(VERSION_3 | i32::from(config.minor));
        let own = [("user", config.user.as_str()), ("database", config.database.as_str())];
        let others = config.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.into_iter().chain(others) {
            frame::put_string(out, name.as_bytes());
            frame::put_string(out, value.as_bytes());
        }
        out.put_u8(0);
    });
}

fn method_name(kind: i32) -> &'static str {
    match kind {
        2 => "Kerberos V5",
        6 => "SCM credential",
        7 | 8 => "GSSAPI",
        9 => "SSPI",
        _ => "unknown",
    }
}
