//! The server's role towards a client: from the first byte to ReadyForQuery.
//!
//! Anybody can talk to this machine, so it is small, holds little and believes nothing. It does no TLS and verifies no
//! token: it hands both to its driver. Authentication asks for a clear password, which is the token, because that is
//! what every client can send; SASL OAUTHBEARER is not offered yet.

use std::fmt;

use bytes::{Bytes, BytesMut};
use chancery_model::{Refusal, RefusalCode};
use chancery_wire::{Leg, Limits, WireError};
use zeroize::Zeroizing;

use crate::cancel::{CANCEL_REQUEST_CODE, CancelKey};
use crate::dial::{SSL_REQUEST_CODE, VERSION_3};
use crate::error_response::{self, Report, Severity, SqlState};
use crate::frame::{self, Cursor, FrameFault};
use crate::startup::{Startup, StartupFault};

/// "May we speak GSSAPI?" Never.
const GSSENC_REQUEST_CODE: i32 = 80_877_104;
/// A token is one line.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What the listener is like.
#[derive(Clone, Debug)]
pub struct AcceptConfig {
    /// Bounds; `handshake_bytes_max` is one message and what may wait behind the password.
    pub limits: Limits,
    /// Whether the driver can do TLS here.
    pub tls: bool,
    /// Whether a client may log in outside of TLS: true on a loopback or by a dangerous option.
    pub clear_allowed: bool,
    /// Whether the connection is inside TLS already (ALPN `postgresql`); see [`Accept::opens_with_tls`].
    pub direct_tls: bool,
}

/// A client that has sent a credential.
pub struct Login {
    /// What it claims and asks for.
    pub startup: Startup,
    /// The token. Wiped on drop.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("startup", &self.startup).finish_non_exhaustive()
    }
}

/// What the driver has to do next. Before it does, it writes what [`Accept::transmit`] holds.
#[derive(Debug)]
pub enum AcceptStep {
    /// Read from the client and call [`Accept::receive`].
    Wait,
    /// Write the answer, do the TLS handshake on the socket, then call [`Accept::secured`].
    StartTls,
    /// Cancel the session that has this key, if any, and close without an answer. The machine is used up.
    Cancel {
        /// Who is to be cancelled; proves nothing about who asks.
        key: CancelKey,
        /// Whether it came inside TLS. libpq before 17 sends it in clear even when its session is inside TLS.
        secure: bool,
    },
    /// Verify the token, rule on the connect, dial; then call [`Accept::admit`] or [`Accept::refuse`].
    Login(Box<Login>),
    /// The client was told no; write, then close. The machine is used up.
    Refused(WireError),
    /// The client said goodbye. The machine is used up.
    Closed,
}

/// A client that may send commands.
#[derive(Debug)]
pub struct AcceptReady {
    /// What it asked for.
    pub startup: Startup,
    /// Bytes to write before anything else.
    pub transmit: Bytes,
    /// Bytes it sent before it was let in; the relay's first.
    pub leftover: Bytes,
}

enum State {
    /// Start-up packets, which have no tag. Each request may be made once.
    Opening {
        ssl_asked: bool,
        gss_asked: bool,
    },
    /// The driver does TLS.
    Securing,
    /// The password is asked for.
    Asked(Startup),
    /// The driver verifies, rules and dials. `greeted` once AuthenticationOk is out.
    Verifying {
        startup: Startup,
        greeted: bool,
    },
    Ended,
}

/// One client on its way in.
pub struct Accept {
    config: AcceptConfig,
    state: State,
    /// May hold a token; [`Accept::hold`] and [`Accept::drop_front`] leave no copy behind.
    pending: Zeroizing<Vec<u8>>,
    out: BytesMut,
    secure: bool,
}

impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accept").field("secure", &self.secure).finish_non_exhaustive()
    }
}

impl Accept {
    /// Waits for a client's first byte.
    pub fn new(config: AcceptConfig) -> Self {
        let secure = config.direct_tls;
        let state = State::Opening { ssl_asked: secure, gss_asked: false };
        Self { config, state, pending: Zeroizing::default(), out: BytesMut::new(), secure }
    }

    /// True when the first byte of a connection is a TLS handshake record: the client speaks TLS without asking, and
    /// the driver should do the handshake before it makes this machine with `direct_tls`.
    pub fn opens_with_tls(first: u8) -> bool {
        first == 0x16
    }

    /// Bytes to write to the client, if any.
    pub fn transmit(&mut self) -> Option<Bytes> {
        (!self.out.is_empty()).then(|| self.out.split().freeze())
    }

    /// Takes what the client sent.
    pub fn receive(&mut self, bytes: &[u8]) -> AcceptStep {
        if matches!(self.state, State::Ended) {
            return AcceptStep::Refused(WireError::Misuse("the client is gone"));
        }
        // One message in the making and one waiting; a client that sends more before it is answered is not served.
        let max = self.config.limits.handshake_bytes_max.saturating_mul(2);
        if self.pending.len().saturating_add(bytes.len()) > max {
            return self.reject(
                WireError::LimitReached(Leg::Downstream, "bytes before login"),
                SqlState::LIMIT,
                "too much was sent before the login was over",
                None,
            );
        }
        self.hold(bytes);
        self.advance()
    }

    /// Tells that TLS is up.
    pub fn secured(&mut self) -> AcceptStep {
        if !matches!(self.state, State::Securing) {
            self.state = State::Ended;
            return AcceptStep::Refused(WireError::Misuse("TLS was not asked for"));
        }
        self.secure = true;
        self.state = State::Opening { ssl_asked: true, gss_asked: true };
        AcceptStep::Wait
    }

    /// How many random bytes the secret of the cancel key must have; `None` before the login.
    pub fn cancel_secret_bytes(&self) -> Option<usize> {
        match &self.state {
            State::Verifying { startup, .. } => Some(startup.cancel_secret_bytes()),
            _ => None,
        }
    }

    /// Tells the client that its token holds, before the rest is decided. [`Accept::admit`] does so otherwise.
    pub fn greet(&mut self) -> Result<(), WireError> {
        match &mut self.state {
            State::Verifying { greeted: true, .. } => Ok(()),
            State::Verifying { greeted, .. } => {
                *greeted = true;
                frame::authentication_ok(&mut self.out);
                Ok(())
            }
            _ => Err(WireError::Misuse("nobody to greet")),
        }
    }

    /// Says something while the connect is held for a review. Only to a greeted client: others do not expect it.
    pub fn inform(&mut self, text: &str) -> Result<(), WireError> {
        match self.state {
            State::Verifying { greeted: true, .. } => {
                error_response::notice(&mut self.out, text);
                Ok(())
            }
            _ => Err(WireError::Misuse("the client is not greeted")),
        }
    }

    /// Lets the client in.
    ///
    /// `parameters` are reported to it, `key` is the gateway's own for this session (its secret as long as
    /// [`Startup::cancel_secret_bytes`] says) and `tx_status` is `I`, `T` or `E`. What is to be written is in the
    /// result.
    pub fn admit(
        mut self,
        parameters: &[(String, String)],
        key: &CancelKey,
        tx_status: u8,
    ) -> Result<AcceptReady, WireError> {
        self.greet()?;
        let State::Verifying { startup, .. } = std::mem::replace(&mut self.state, State::Ended) else {
            return Err(WireError::Misuse("nobody to admit"));
        };
        if key.secret().len() != startup.cancel_secret_bytes() {
            return Err(WireError::Misuse("cancel key of the wrong size"));
        }
        if !matches!(tx_status, b'I' | b'T' | b'E') {
            return Err(WireError::Misuse("transaction status unknown"));
        }
        for (name, value) in parameters {
            frame::parameter_status(&mut self.out, name, value);
        }
        frame::backend_key_data(&mut self.out, key.process_id(), key.secret());
        frame::ready_for_query(&mut self.out, tx_status);
        Ok(AcceptReady { startup, transmit: self.out.freeze(), leftover: Bytes::copy_from_slice(&self.pending) })
    }

    /// Tells the client no, in words of the house; write [`Accept::transmit`], then close.
    pub fn refuse(&mut self, refusal: &Refusal) {
        if !matches!(self.state, State::Ended | State::Securing) {
            error_response::refuse(&mut self.out, refusal, Severity::Fatal);
        }
        self.end();
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.pending = Zeroizing::default();
    }

    /// Appends to `pending`. Grows by a move into a new buffer, so that the old one is wiped.
    fn hold(&mut self, bytes: &[u8]) {
        let needed = self.pending.len().saturating_add(bytes.len());
        if needed > self.pending.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
            larger.extend_from_slice(&self.pending);
            self.pending = larger;
        }
        self.pending.extend_from_slice(bytes);
    }

    fn drop_front(&mut self, count: usize) {
        let rest = Zeroizing::new(self.pending.get(count..).unwrap_or_default().to_vec());
        self.pending = rest;
    }

    fn reject(&mut self, error: WireError, sqlstate: SqlState, message: &str, hint: Option<&str>) -> AcceptStep {
        Report { severity: Severity::Fatal, sqlstate, message, detail: None, hint }.write(&mut self.out);
        self.end();
        AcceptStep::Refused(error)
    }

    fn misbehaved(&mut self, what: &'static str) -> AcceptStep {
        self.reject(WireError::PeerMisbehaved(Leg::Downstream, what), SqlState::MALFORMED, what, None)
    }

    fn faulty(&mut self, fault: FrameFault) -> AcceptStep {
        let sqlstate = if fault == FrameFault::LengthTooLarge { SqlState::LIMIT } else { SqlState::MALFORMED };
        self.reject(fault.on(Leg::Downstream), sqlstate, fault.as_str(), None)
    }

    fn advance(&mut self) -> AcceptStep {
        loop {
            let step = match self.state {
                State::Opening { ssl_asked, gss_asked } => self.opening(ssl_asked, gss_asked),
                State::Securing if self.pending.is_empty() => Some(AcceptStep::Wait),
                State::Securing => Some(self.misbehaved("bytes in clear while TLS starts")),
                State::Asked(_) => Some(self.password()),
                State::Verifying { .. } => Some(AcceptStep::Wait),
                State::Ended => Some(AcceptStep::Closed),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// One start-up packet: length, code or version, the rest. `None` means there may be another.
    fn opening(&mut self, ssl_asked: bool, gss_asked: bool) -> Option<AcceptStep> {
        let Some((length, _)) = self.pending.split_first_chunk::<4>() else { return Some(AcceptStep::Wait) };
        let length = match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) if length > self.config.limits.handshake_bytes_max => {
                return Some(self.faulty(FrameFault::LengthTooLarge));
            }
            Ok(length) if length >= 8 => length,
            _ => return Some(self.faulty(FrameFault::LengthTooSmall)),
        };
        let packet = match self.pending.get(4..length) {
            Some(packet) => packet.to_vec(),
            None => return Some(AcceptStep::Wait),
        };
        self.drop_front(length);
        let (code, rest) = match packet.split_first_chunk::<4>() {
            Some((code, rest)) => (i32::from_be_bytes(*code), rest),
            None => return Some(self.faulty(FrameFault::Truncated)),
        };
        match code {
            SSL_REQUEST_CODE if ssl_asked => Some(self.misbehaved("SSLRequest is out of place")),
            SSL_REQUEST_CODE if rest.is_empty() => self.ssl_request(gss_asked),
            GSSENC_REQUEST_CODE if gss_asked || self.secure => Some(self.misbehaved("GSSENCRequest is out of place")),
            GSSENC_REQUEST_CODE if rest.is_empty() => {
                self.out.extend_from_slice(b"N");
                self.state = State::Opening { ssl_asked, gss_asked: true };
                None
            }
            SSL_REQUEST_CODE | GSSENC_REQUEST_CODE => Some(self.faulty(FrameFault::TrailingBytes)),
            CANCEL_REQUEST_CODE => Some(self.cancel(rest)),
            version if version >> 16 == VERSION_3 >> 16 => Some(self.startup(version, rest)),
            _ => Some(self.reject(
                WireError::PeerUnsupported(Leg::Downstream, "major protocol version"),
                SqlState::UNSUPPORTED,
                "only protocol version 3 is supported",
                None,
            )),
        }
    }

    /// What is behind an SSLRequest in clear was put there by somebody in between (CVE-2021-23214), or by a client
    /// that does not wait for the answer; neither is served.
    fn ssl_request(&mut self, gss_asked: bool) -> Option<AcceptStep> {
        if !self.config.tls {
            self.out.extend_from_slice(b"N");
            self.state = State::Opening { ssl_asked: true, gss_asked };
            return None;
        }
        if !self.pending.is_empty() {
            return Some(self.misbehaved("bytes in clear behind SSLRequest"));
        }
        self.out.extend_from_slice(b"S");
        self.state = State::Securing;
        Some(AcceptStep::StartTls)
    }

    fn cancel(&mut self, rest: &[u8]) -> AcceptStep {
        let key = CancelKey::read(rest);
        self.end();
        match key {
            Ok(key) => AcceptStep::Cancel { key, secure: self.secure },
            // No answer: the protocol has none, and a prober learns nothing.
            Err(fault) => AcceptStep::Refused(fault.on(Leg::Downstream)),
        }
    }

    fn startup(&mut self, version: i32, rest: &[u8]) -> AcceptStep {
        if !self.secure && !self.config.clear_allowed {
            return self.reject(
                WireError::PeerUnsupported(Leg::Downstream, "login in clear"),
                SqlState::UNAUTHORIZED,
                "TLS is required",
                Some("Connect with sslmode=require or stricter."),
            );
        }
        let startup = match Startup::read(version, rest) {
            Ok(startup) => startup,
            Err(fault) => return self.bad_startup(&fault),
        };
        if startup.negotiate {
            frame::negotiate_protocol_version(&mut self.out, startup.version(), &startup.unknown_options);
        }
        frame::authentication_cleartext(&mut self.out);
        self.state = State::Asked(startup);
        self.password()
    }

    fn bad_startup(&mut self, fault: &StartupFault) -> AcceptStep {
        let sqlstate = fault.sqlstate();
        match fault {
            StartupFault::Malformed(what) => self.misbehaved(what),
            StartupFault::Limit(what) => {
                self.reject(WireError::LimitReached(Leg::Downstream, what), sqlstate, what, None)
            }
            StartupFault::Unsupported { message, hint } => self.reject(
                WireError::PeerUnsupported(Leg::Downstream, "startup parameter"),
                sqlstate,
                message,
                Some(hint),
            ),
            StartupFault::NoUser => self.reject(
                WireError::PeerMisbehaved(Leg::Downstream, "no user name"),
                sqlstate,
                "no user name in the startup packet",
                None,
            ),
        }
    }

    fn password(&mut self) -> AcceptStep {
        // The token and its terminating zero fit into a body of the bound; the tag and the length come on top.
        let max = self.config.limits.handshake_bytes_max.saturating_add(frame::HEADER_BYTES);
        match frame::header(&self.pending, max).map(|header| header.map(|header| header.tag)) {
            Ok(None | Some(b'p')) => {}
            Ok(Some(b'X')) => {
                self.end();
                return AcceptStep::Closed;
            }
            Ok(Some(_)) => return self.misbehaved("a password was asked for and something else came"),
            Err(fault) => return self.faulty(fault),
        }
        let found = match frame::next_frame(&self.pending, max) {
            Ok(Some(found)) => found,
            Ok(None) => return AcceptStep::Wait,
            Err(fault) => return self.faulty(fault),
        };
        let password = match read_token(found.body(&self.pending)) {
            Ok(password) => password,
            Err(fault) => return self.faulty(fault),
        };
        if password.is_empty() {
            let refusal = Refusal::new(RefusalCode::Unauthenticated, "the password is empty", "")
                .hint("Give an access token as the password.");
            self.refuse(&refusal);
            return AcceptStep::Refused(WireError::PeerMisbehaved(Leg::Downstream, "empty password"));
        }
        self.drop_front(found.range.end);
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Asked(startup) => {
                self.state = State::Verifying { startup: startup.clone(), greeted: false };
                AcceptStep::Login(Box::new(Login { startup, password }))
            }
            _ => AcceptStep::Refused(WireError::Misuse("no password was asked for")),
        }
    }
}

fn read_token(body: &[u8]) -> Result<Zeroizing<String>, FrameFault> {
    let mut cursor = Cursor::new(body);
    let token = cursor.text()?;
    cursor.finish()?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(FrameFault::LengthTooLarge);
    }
    Ok(Zeroizing::new(token.to_owned()))
}
