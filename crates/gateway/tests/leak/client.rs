//! A PostgreSQL client that keeps every byte it was sent. It speaks just enough of the protocol to ask in all the ways
//! in which a driver can ask: simple, extended with text or binary results, without Describe, with row limits.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use chancery_wire_pg::frame;

/// How a statement is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Simple,
    Text,
    Binary,
    /// Execute without Describe: the rows come without a description.
    Bare,
    /// Two rows at a time.
    Paged,
}

impl Way {
    pub(crate) const ALL: [Self; 5] = [Self::Simple, Self::Text, Self::Binary, Self::Bare, Self::Paged];
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Everything, as it came.
    pub(crate) bytes: Vec<u8>,
    pub(crate) rows: Vec<Vec<Option<Vec<u8>>>>,
    /// COPY data.
    pub(crate) copied: Vec<u8>,
    /// SQLSTATE and message of the first error.
    pub(crate) error: Option<(String, String)>,
    /// The server closed the connection.
    pub(crate) ended: bool,
    /// Transaction status after it.
    pub(crate) status: u8,
}

pub(crate) struct Client {
    stream: TcpStream,
    pending: BytesMut,
    status: u8,
}

impl Client {
    /// Opens a session and logs in.
    pub(crate) fn open(port: u16, database: &str, user: &str, password: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        let mut client = Self { stream, pending: BytesMut::new(), status: b'I' };
        let mut hello = BytesMut::new();
        frame::untagged(&mut hello, |out| {
            out.put_i32(3 << 16);
            for text in ["user", user, "database", database, "application_name", "leak", ""] {
                frame::put_string(out, text.as_bytes());
            }
        });
        client.send(&hello);
        loop {
            let (tag, body) = client.frame().expect("a login");
            match (tag, body.first_chunk::<4>().map(|kind| i32::from_be_bytes(*kind))) {
                (b'R', Some(3)) => {
                    let mut out = BytesMut::new();
                    frame::message(&mut out, b'p', |out| frame::put_string(out, password.as_bytes()));
                    client.send(&out);
                }
                (b'R', Some(0)) => {}
                (b'R', other) => panic!("another way to log in is asked: {other:?}"),
                (b'E', _) => panic!("refused: {}", String::from_utf8_lossy(&body)),
                (b'Z', _) => return client,
                _ => {}
            }
        }
    }

    /// Asks one text in one way, to its end.
    pub(crate) fn ask(&mut self, sql: &str, way: Way) -> Answer {
        let mut out = BytesMut::new();
        match way {
            Way::Simple => frame::query(&mut out, sql),
            _ => {
                frame::parse(&mut out, "", sql);
                frame::message(&mut out, b'B', |out| {
                    out.put_slice(&[0, 0, 0, 0, 0, 0]);
                    out.put_i16(1);
                    out.put_i16(i16::from(way == Way::Binary));
                });
                if way != Way::Bare {
                    frame::describe(&mut out, b'P', b"");
                }
                let pages: &[i32] = if way == Way::Paged { &[2, 2, 2, 0] } else { &[0] };
                for page in pages {
                    frame::message(&mut out, b'E', |out| {
                        out.put_u8(0);
                        out.put_i32(*page);
                    });
                }
                frame::sync(&mut out);
            }
        }
        self.send(&out);
        self.answer()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // A server that closed is noticed when it is read.
        let _ = self.stream.write_all(bytes);
    }

    /// Reads to the next `ReadyForQuery`.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            let Some((tag, body)) = self.frame() else {
                answer.ended = true;
                return answer;
            };
            if tag != b'K' {
                answer.bytes.push(tag);
                answer.bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
                answer.bytes.extend_from_slice(&body);
            }
            match tag {
                b'D' => answer.rows.push(row(&body)),
                b'd' => answer.copied.extend_from_slice(&body),
                b'E' if answer.error.is_none() => answer.error = Some(report(&body)),
                b'G' => {
                    let mut out = BytesMut::new();
                    frame::message(&mut out, b'd', |out| out.put_slice(b"1\tplain\n"));
                    frame::message(&mut out, b'c', |_| ());
                    self.send(&out);
                }
                b'Z' => {
                    self.status = body.first().copied().unwrap_or_default();
                    answer.status = self.status;
                    return answer;
                }
                _ => {}
            }
        }
    }

    /// Whether the session answers: rolled back if needed, then asked for a constant.
    pub(crate) fn is_alive(&mut self) -> bool {
        if self.status != b'I' && self.ask("rollback", Way::Simple).ended {
            return false;
        }
        let probe = self.ask("select 'alive'", Way::Simple);
        probe.rows == [[Some(b"alive".to_vec())]]
    }

    /// The next message; `None` at the end of the stream.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(found) = frame::next_frame(&self.pending, 1 << 30).expect("sound messages") {
                let body = found.body(&self.pending).to_vec();
                let _ = self.pending.split_to(found.range.end);
                return Some((found.tag, body));
            }
            let mut chunk = vec![0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut out = BytesMut::new();
        frame::terminate(&mut out);
        self.send(&out);
    }
}

fn row(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut cursor = frame::Cursor::new(body);
    let count = cursor.count16().expect("a count");
    (0..count).map(|_| cursor.value().unwrap_or_else(|fault| panic!("{fault}: {body:?}")).map(<[u8]>::to_vec)).collect()
}

fn report(body: &[u8]) -> (String, String) {
    let (mut code, mut message) = (String::new(), String::new());
    for field in body.split(|byte| *byte == 0) {
        let text = String::from_utf8_lossy(field.get(1..).unwrap_or_default()).into_owned();
        match field.first() {
            Some(b'C') => code = text,
            Some(b'M') => message = text,
            _ => {}
        }
    }
    (code, message)
}
