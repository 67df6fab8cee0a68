//! The start-up packet: what a client claims and asks for before it has proven anything.
//!
//! Only parameters on a list pass; anything else is refused by name, because each is a SET that nobody would rule on
//! (`role`, `session_authorization`, `session_preload_libraries`). It does not decide who the client is: `user` is a
//! claim.

use crate::dial::VERSION_3;
use crate::error_response::SqlState;
use crate::frame::Cursor;

/// Parameters in one packet, and settings in its `options`.
const PARAMETERS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 4_096;
/// PostgreSQL cuts names at 63 bytes; a longer one could be shown as one thing and used as another.
const IDENTIFIER_BYTES_MAX: usize = 63;
/// Newest minor version spoken; 3.1 was never used.
const MINOR_MAX: u16 = 2;

/// What may go on to the server, spelled as the server reports it. `client_encoding` is apart: it is always UTF8.
const FORWARDED: &[&str] = &[
    "application_name",
    "bytea_output",
    "DateStyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "geqo",
    "idle_in_transaction_session_timeout",
    "IntervalStyle",
    "jit",
    "lock_timeout",
    "search_path",
    "statement_timeout",
    "TimeZone",
    "transaction_read_only",
];

/// A start-up packet that was read and found acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The name the client claims. Proves nothing.
    pub user: String,
    /// The database asked for; the same as `user` when the client named none, as in PostgreSQL.
    pub database: String,
    /// What the client calls itself.
    pub application_name: Option<String>,
    /// What to forward to the server: names from the list, each once, `client_encoding=UTF8` always among them. The
    /// settings inside `options` are here too; where both name one, the packet's wins, as in PostgreSQL.
    pub parameters: Vec<(String, String)>,
    /// False when the client asked with `options=-c chancery.wait=off` not to be held for a review.
    pub wait: bool,
    /// The minor version of protocol 3 in use from here on: 0 or 2.
    pub minor: u16,
    /// `_pq_.` options that are not known here; the client was told so.
    pub unknown_options: Vec<String>,
    /// Whether the client must be told of the version or the options above.
    pub(crate) negotiate: bool,
}

impl Startup {
    /// How many random bytes the secret of this session's cancel key has: 4 in protocol 3.0, 32 in 3.2.
    pub fn cancel_secret_bytes(&self) -> usize {
        if self.minor >= 2 { 32 } else { 4 }
    }

    /// Reads the packet behind its length and version. `version` has major 3.
    pub(crate) fn read(version: i32, rest: &[u8]) -> Result<Self, StartupFault> {
        let asked = u16::try_from(version & 0xffff).unwrap_or(u16::MAX);
        let minor = if asked >= MINOR_MAX { MINOR_MAX } else { 0 };
        let mut reading = Reading::default();
        let mut cursor = Cursor::new(rest);
        loop {
            let name = cursor.string().map_err(|_| StartupFault::Malformed("parameter list does not end"))?;
            if name.is_empty() {
                break;
            }
            let value = cursor.string().map_err(|_| StartupFault::Malformed("parameter without value"))?;
            reading.parameter(name, value)?;
        }
        cursor.finish().map_err(|_| StartupFault::Malformed("bytes behind the parameter list"))?;
        reading.finish(minor, asked != minor)
    }

    /// What NegotiateProtocolVersion says.
    pub(crate) fn version(&self) -> i32 {
        VERSION_3 | i32::from(self.minor)
    }
}

/// Why a packet is not accepted, with what the client may read about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartupFault {
    /// It cannot be read.
    Malformed(&'static str),
    /// Too many or too long.
    Limit(&'static str),
    /// Legal, and not for us; the text names what.
    Unsupported { message: String, hint: &'static str },
    /// No user name.
    NoUser,
}

impl StartupFault {
    fn unsupported(message: String, hint: &'static str) -> Self {
        Self::Unsupported { message, hint }
    }

    pub(crate) fn sqlstate(&self) -> SqlState {
        match self {
            Self::Malformed(_) => SqlState::MALFORMED,
            Self::Limit(_) => SqlState::LIMIT,
            Self::Unsupported { .. } => SqlState::UNSUPPORTED,
            Self::NoUser => SqlState::UNAUTHORIZED,
        }
    }
}

#[derive(Default)]
struct Reading {
    seen: Vec<String>,
    user: Option<String>,
    database: Option<String>,
    options: Option<String>,
    forwarded: Vec<(String, String)>,
    unknown_options: Vec<String>,
    wait: Option<bool>,
}

impl Reading {
    fn parameter(&mut self, name: &[u8], value: &[u8]) -> Result<(), StartupFault> {
        if self.seen.len() >= PARAMETERS_MAX {
            return Err(StartupFault::Limit("too many startup parameters"));
        }
        let (name, value) = bounded(name, value)?;
        let folded = name.to_ascii_lowercase();
        if self.seen.contains(&folded) {
            return Err(StartupFault::Malformed("startup parameter given twice"));
        }
        match folded.as_str() {
            "user" => self.user = Some(identifier(value)?),
            "database" => self.database = Some(identifier(value)?),
            "options" => self.options = Some(value.to_owned()),
            "replication" => replication(value)?,
            // The prefix is compared as the server compares it, exactly.
            _ if name.starts_with("_pq_.") => self.unknown_options.push(name.to_owned()),
            _ => {
                if let Some(setting) = self.setting(name, value)? {
                    self.forwarded.push(setting);
                }
            }
        }
        self.seen.push(folded);
        Ok(())
    }

    /// Judges one setting; gives it back in the server's spelling when it is to be forwarded.
    fn setting(&mut self, name: &str, value: &str) -> Result<Option<(String, String)>, StartupFault> {
        if name.eq_ignore_ascii_case("client_encoding") {
            return encoding(value).map(|()| None);
        }
        if name.eq_ignore_ascii_case("chancery.wait") {
            let wait = boolean(value).ok_or_else(|| {
                StartupFault::unsupported("chancery.wait is neither on nor off".to_owned(), "Say chancery.wait=off.")
            })?;
            self.wait = Some(wait);
            return Ok(None);
        }
        match FORWARDED.iter().find(|known| known.eq_ignore_ascii_case(name)) {
            Some(known) => Ok(Some(((*known).to_owned(), value.to_owned()))),
            None => Err(StartupFault::unsupported(
                format!("startup parameter \"{name}\" is not supported"),
                "Leave it out and SET it after connecting, where a rule can allow it.",
            )),
        }
    }

    fn finish(mut self, minor: u16, other_minor: bool) -> Result<Startup, StartupFault> {
        let user = self.user.take().filter(|user| !user.is_empty()).ok_or(StartupFault::NoUser)?;
        let database = self.database.take().filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
        let mut parameters = vec![("client_encoding".to_owned(), "UTF8".to_owned())];
        for (name, value) in split_options(self.options.take().as_deref().unwrap_or_default())? {
            let (name, value) = bounded(name.as_bytes(), value.as_bytes())?;
            if let Some(setting) = self.setting(name, value)? {
                put(&mut parameters, setting);
            }
        }
        for setting in std::mem::take(&mut self.forwarded) {
            put(&mut parameters, setting);
        }
        let application_name =
            parameters.iter().find(|(name, _)| name == "application_name").map(|(_, value)| value.clone());
        Ok(Startup {
            user,
            database,
            application_name,
            parameters,
            wait: self.wait.unwrap_or(true),
            minor,
            negotiate: other_minor || !self.unknown_options.is_empty(),
            unknown_options: self.unknown_options,
        })
    }
}

fn put(parameters: &mut Vec<(String, String)>, setting: (String, String)) {
    match parameters.iter_mut().find(|(name, _)| *name == setting.0) {
        Some(known) => *known = setting,
        None => parameters.push(setting),
    }
}

fn bounded<'a>(name: &'a [u8], value: &'a [u8]) -> Result<(&'a str, &'a str), StartupFault> {
    if name.len() > NAME_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
        return Err(StartupFault::Limit("startup parameter too long"));
    }
    match (std::str::from_utf8(name), std::str::from_utf8(value)) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(StartupFault::Malformed("startup parameter is not UTF-8")),
    }
}

fn identifier(value: &str) -> Result<String, StartupFault> {
    if value.len() > IDENTIFIER_BYTES_MAX {
        return Err(StartupFault::Limit("name longer than 63 bytes"));
    }
    Ok(value.to_owned())
}

fn replication(value: &str) -> Result<(), StartupFault> {
    match boolean(value) {
        Some(false) => Ok(()),
        _ => Err(StartupFault::unsupported(
            "replication connections are not supported".to_owned(),
            "Connect without the replication parameter.",
        )),
    }
}

/// PostgreSQL compares encoding names by their letters and digits. `auto` is libpq's word, for clients that leave the
/// translation to us.
fn encoding(value: &str) -> Result<(), StartupFault> {
    let plain: String =
        value.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    match plain.as_str() {
        "utf8" | "unicode" | "auto" => Ok(()),
        _ => Err(StartupFault::unsupported(
            "client_encoding other than UTF8 is not supported".to_owned(),
            "Connect with client_encoding=UTF8 (PGCLIENTENCODING=UTF8).",
        )),
    }
}

/// The words PostgreSQL takes for a boolean, without its abbreviations.
fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// Splits `options` as the server does: words at white space, a backslash keeps the next character; then `-c name=value`,
/// `-cname=value` and `--name=value`, where a dash in a name stands for an underscore. Other switches are refused.
fn split_options(options: &str) -> Result<Vec<(String, String)>, StartupFault> {
    let refused = || {
        StartupFault::unsupported(
            "options other than -c name=value and --name=value are not supported".to_owned(),
            "Leave the switch out.",
        )
    };
    let mut settings = Vec::new();
    let mut words = split_words(options).into_iter();
    while let Some(word) = words.next() {
        if settings.len() >= PARAMETERS_MAX {
            return Err(StartupFault::Limit("too many settings in options"));
        }
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(long), _) => long.to_owned(),
            (None, Some("")) => words.next().ok_or_else(refused)?,
            (None, Some(joined)) => joined.to_owned(),
            (None, None) => return Err(refused()),
        };
        let (name, value) = setting.split_once('=').ok_or_else(refused)?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split_words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            // The white space of C's isspace, which is what the server asks.
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: i32, pairs: &[(&str, &str)]) -> Result<Startup, StartupFault> {
        let mut rest = Vec::new();
        for (name, value) in pairs {
            rest.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        rest.push(0);
        Startup::read(version, &rest)
    }

    fn options(text: &str) -> Result<Startup, StartupFault> {
        read(VERSION_3, &[("user", "u"), ("options", text)])
    }

    fn unsupported(result: Result<Startup, StartupFault>) -> String {
        match result {
            Err(StartupFault::Unsupported { message, .. }) => message,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_database_defaults_to_the_user() {
        let startup = read(VERSION_3, &[("user", "u")]).expect("legal");
        assert_eq!((startup.database.as_str(), startup.wait, startup.minor), ("u", true, 0));
        assert_eq!(startup.parameters, [("client_encoding".to_owned(), "UTF8".to_owned())]);
        assert_eq!(read(VERSION_3, &[]), Err(StartupFault::NoUser));
        assert_eq!(read(VERSION_3, &[("user", "")]), Err(StartupFault::NoUser));
    }

    #[test]
    fn options_are_split_as_the_server_does() {
        let startup = options(r"-c search_path=a\ b\\c  --statement-timeout=5 -cgeqo=off").expect("legal");
        let pairs: Vec<_> = startup.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            pairs,
            [("client_encoding", "UTF8"), ("search_path", r"a b\c"), ("statement_timeout", "5"), ("geqo", "off")]
        );
        for text in ["-c", "-c role", "-d 5", "role=x", "--role", "-", "-E"] {
            assert!(options(text).is_err(), "{text}");
        }
        assert_eq!(unsupported(options("-c role=postgres")), "startup parameter \"role\" is not supported");
        assert_eq!(unsupported(options(r"-c ro\le=x")), "startup parameter \"role\" is not supported");
        assert_eq!(unsupported(options("--client_encoding=SJIS")), "client_encoding other than UTF8 is not supported");
    }

    #[test]
    fn wait_is_taken_out() {
        let startup = options("-c chancery.wait=off").expect("legal");
        assert_eq!((startup.wait, startup.parameters.len()), (false, 1));
        assert!(options("-c chancery.wait=maybe").is_err());
        assert!(options("-c chancery.other=1").is_err());
    }

    #[test]
    fn the_packet_wins_over_its_options() {
        let pairs = [("user", "u"), ("datestyle", "ISO"), ("options", "-c DateStyle=German -c jit=off")];
        let startup = read(VERSION_3, &pairs).expect("legal");
        assert!(startup.parameters.contains(&("DateStyle".to_owned(), "ISO".to_owned())));
        assert_eq!(startup.parameters.len(), 3);
    }

    #[test]
    fn dangerous_parameters_are_refused_by_name() {
        for name in ["role", "session_authorization", "ROLE", "standard_conforming_strings", "is_superuser", ""] {
            let result = read(VERSION_3, &[("user", "u"), (name, "x")]);
            if name.is_empty() {
                assert_eq!(result, Err(StartupFault::Malformed("bytes behind the parameter list")));
            } else {
                assert_eq!(unsupported(result), format!("startup parameter \"{name}\" is not supported"));
            }
        }
        for value in ["database", "true", "on", "1", "t", "junk"] {
            assert!(read(VERSION_3, &[("user", "u"), ("replication", value)]).is_err(), "{value}");
        }
        assert!(read(VERSION_3, &[("user", "u"), ("replication", "false")]).is_ok());
        assert_eq!(
            read(VERSION_3, &[("user", "u"), ("User", "v")]),
            Err(StartupFault::Malformed("startup parameter given twice"))
        );
    }

    #[test]
    fn encodings_are_pinned() {
        for value in ["UTF8", "utf-8", "'UTF-8'", "Unicode", "auto"] {
            assert!(read(VERSION_3, &[("user", "u"), ("client_encoding", value)]).is_ok(), "{value}");
        }
        for value in ["SJIS", "SQL_ASCII", "LATIN1", "", "utf16"] {
            assert!(read(VERSION_3, &[("user", "u"), ("client_encoding", value)]).is_err(), "{value}");
        }
    }

    #[test]
    fn versions_are_negotiated_down() {
        for (asked, minor, negotiate) in [(0, 0, false), (1, 0, true), (2, 2, false), (3, 2, true), (0xffff, 2, true)] {
            let startup = read(VERSION_3 | asked, &[("user", "u")]).expect("legal");
            assert_eq!((startup.minor, startup.negotiate), (minor, negotiate), "3.{asked}");
        }
        let startup = read(VERSION_3, &[("user", "u"), ("_pq_.new", "1")]).expect("legal");
        assert_eq!((startup.negotiate, startup.unknown_options), (true, vec!["_pq_.new".to_owned()]));
    }

    #[test]
    fn everything_has_a_bound() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        assert!(matches!(read(VERSION_3, &[("user", "u"), ("search_path", &long)]), Err(StartupFault::Limit(_))));
        assert!(matches!(read(VERSION_3, &[("user", &"u".repeat(64))]), Err(StartupFault::Limit(_))));
        let names: Vec<String> = (0..70).map(|n| format!("_pq_.{n}")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        assert!(matches!(read(VERSION_3, &pairs), Err(StartupFault::Limit(_))));
        assert!(matches!(options(&"-c jit=on ".repeat(65)), Err(StartupFault::Limit(_))));
        for rest in [&b""[..], b"user", b"user\0u", b"user\0u\0", b"user\0u\0\0x", b"user\0\xff\0\0"] {
            assert!(matches!(Startup::read(VERSION_3, rest), Err(StartupFault::Malformed(_))), "{rest:?}");
        }
    }
}
