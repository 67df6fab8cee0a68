//! A leg's socket while its session runs: never blocks, in clear or inside TLS. What arrives lies in shared bytes; what
//! leaves comes from a queue of slices. Handshakes are not here (`stream`), nor is waiting (`engine`).

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

use bytes::{Buf, Bytes, BytesMut};
use chancery_wire::take_next;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::Connection;

use crate::stream::Stream;

/// Bytes asked from the kernel at once.
const READ_BYTES: usize = 64 * 1024;
/// What is read up to this size is copied out of the read buffer, which stays in the cache; more is handed on as it lies.
const COPIED: usize = 8 * 1024;
/// Pieces up to this size are written together.
const SHORT: usize = 1024;
/// Slices handed to one `writev`.
const SLICES: usize = 32;

/// The read buffer of a worker. An idle session owns none.
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    pub(crate) fn new() -> Self {
        Self(vec![0; READ_BYTES])
    }

    /// The first `length` bytes, which were read just now.
    fn take(&mut self, length: usize) -> Bytes {
        if length <= COPIED {
            return Bytes::copy_from_slice(self.0.get(..length).unwrap_or_default());
        }
        let mut whole = Bytes::from(std::mem::replace(&mut self.0, vec![0; READ_BYTES]));
        whole.truncate(length);
        whole
    }
}

/// What a read gave.
pub(crate) enum Arrived {
    Chunk(Bytes),
    Nothing,
    /// The end of the stream, or a broken socket: the same to the session.
    Gone,
}

/// One leg's socket.
pub(crate) struct Socket {
    io: TcpStream,
    tls: Option<Box<Connection>>,
    readiness: Readiness,
}

/// What the kernel said and was not used up. Edges are told once.
struct Readiness {
    readable: bool,
    writable: bool,
    /// The peer's end of the stream is on its way: a short read does not mean that nothing follows.
    closed: bool,
    /// A write failed; nothing more is tried.
    broken: bool,
    /// Records that were read may hold more than was asked for.
    unpacked: bool,
}

impl Socket {
    /// Takes over a socket whose handshake is done.
    pub(crate) fn of(stream: Stream) -> io::Result<Self> {
        let (io, tls) = match stream {
            Stream::Plain(io) => (io, None),
            Stream::Accepted(stream) => {
                let (io, tls) = stream.into_inner();
                (io, Some(Box::new(Connection::Server(tls))))
            }
            Stream::Dialled(stream) => {
                let (io, tls) = stream.into_inner();
                (io, Some(Box::new(Connection::Client(tls))))
            }
        };
        // Nothing is known of it yet, so it is tried.
        let readiness = Readiness { readable: true, writable: true, closed: false, broken: false, unpacked: true };
        Ok(Self { io: TcpStream::from_std(io.into_std()?), tls, readiness })
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.io, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Takes note of what the kernel says.
    pub(crate) fn note(&mut self, event: &Event) {
        self.readiness.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.readiness.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.readiness.closed |= event.is_read_closed() || event.is_error();
    }

    /// Whether a read may give something.
    pub(crate) fn is_readable(&self) -> bool {
        self.readiness.readable || self.readiness.unpacked
    }

    /// What has arrived: one read at most.
    pub(crate) fn read(&mut self, buffer: &mut Buffer) -> Arrived {
        let mut gauge = Gauge { io: &mut self.io, readiness: &mut self.readiness };
        let read = match &mut self.tls {
            None => gauge.read(&mut buffer.0),
            Some(tls) => read_tls(tls, &mut gauge, &mut buffer.0),
        };
        self.readiness.unpacked = self.tls.is_some() && read.is_ok();
        match read {
            Ok(0) => Arrived::Gone,
            Ok(length) => Arrived::Chunk(buffer.take(length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Arrived::Nothing,
            Err(_) => Arrived::Gone,
        }
    }

    /// Writes until everything is out or the socket takes no more.
    pub(crate) fn flush(&mut self, outbox: &mut Outbox) -> io::Result<()> {
        let flushed = self.try_flush(outbox);
        self.readiness.broken |= flushed.is_err();
        flushed.map(drop)
    }

    fn try_flush(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        let mut gauge = Gauge { io: &mut self.io, readiness: &mut self.readiness };
        match &mut self.tls {
            None => outbox.write(&mut gauge),
            Some(tls) => loop {
                // What the connection takes at once is bounded; a socket that is full stops it here.
                let taken = outbox.write(&mut tls.writer())?;
                while tls.wants_write() {
                    match tls.write_tls(&mut gauge) {
                        Ok(0) => return Err(ErrorKind::WriteZero.into()),
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                        Err(error) => return Err(error),
                    }
                }
                if taken {
                    return Ok(true);
                }
            },
        }
    }

    /// Whether records wait that the socket did not take yet.
    pub(crate) fn owes(&self) -> bool {
        !self.readiness.broken && self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Says goodbye, as far as the socket takes it, and closes.
    pub(crate) fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // The peer may be gone already; then there is nobody to say goodbye to.
            let _ = tls.write_tls(&mut self.io);
        }
        let _ = self.io.shutdown(Shutdown::Write);
    }
}

/// The next bytes in clear; 0 at the end of the stream.
fn read_tls(tls: &mut Connection, gauge: &mut Gauge<'_>, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match tls.reader().read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // An end without the word for it may be somebody else's doing: what came before it stands, nothing follows.
            read => return read,
        }
        tls.read_tls(gauge)?;
        if let Err(error) = tls.process_new_packets() {
            // The alert, if the socket takes it.
            let _ = tls.write_tls(gauge);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
    }
}

/// A socket that knows when asking the kernel again would be in vain.
struct Gauge<'s> {
    io: &'s mut TcpStream,
    readiness: &'s mut Readiness,
}

impl Gauge<'_> {
    fn retried(mut act: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match act() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// A short write means that the socket is full; the kernel will say when it is not.
    fn wrote(&mut self, wanted: usize, done: io::Result<usize>) -> io::Result<usize> {
        let full = matches!(&done, Ok(written) if *written < wanted)
            || matches!(&done, Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.readiness.writable &= !full;
        done
    }
}

impl Read for Gauge<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.readiness.readable {
            return Err(ErrorKind::WouldBlock.into());
        }
        let read = Self::retried(|| self.io.read(into));
        // Linux tells an edge when more comes after a short read (`epoll(7)`).
        let drained = match &read {
            Ok(length) => *length < into.len() && !self.readiness.closed,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        self.readiness.readable &= !drained;
        read
    }
}

impl Write for Gauge<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.readiness.writable {
            return Err(ErrorKind::WouldBlock.into());
        }
        let done = Self::retried(|| self.io.write(bytes));
        self.wrote(bytes.len(), done)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.readiness.writable {
            return Err(ErrorKind::WouldBlock.into());
        }
        let done = Self::retried(|| self.io.write_vectored(slices));
        self.wrote(slices.iter().map(|slice| slice.len()).sum(), done)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes on their way out of one leg.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Bytes>,
    /// Short pieces behind the queue, copied together: the kernel takes one long piece for less than many short ones.
    tail: BytesMut,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        let short = bytes.len() <= SHORT;
        if short && self.tail.is_empty() {
            match self.queue.pop_back_if(|last| last.len() <= SHORT) {
                Some(last) => self.tail.extend_from_slice(&last),
                None => return self.queue.push_back(bytes),
            }
        }
        if short {
            return self.tail.extend_from_slice(&bytes);
        }
        self.close_tail();
        self.queue.push_back(bytes);
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// Bytes waiting.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Writes until everything is out (true) or no more is taken (false).
    fn write(&mut self, to: &mut impl Write) -> io::Result<bool> {
        self.close_tail();
        while let Some(front) = self.queue.front() {
            // The common case by far; a plain `write` costs the kernel less than a `writev` of one slice.
            let written = if self.queue.len() == 1 {
                to.write(front)
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = self.queue.len().min(SLICES);
                for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
                    *slice = IoSlice::new(bytes);
                }
                to.write_vectored(&slices[..count])
            };
            match written {
                // A TLS connection whose buffer is full takes nothing.
                Ok(0) => return Ok(false),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(front) = self.queue.front_mut() {
            if front.len() > written {
                front.advance(written);
                return;
            }
            written -= front.len();
            take_next(&mut self.queue);
        }
    }
}
