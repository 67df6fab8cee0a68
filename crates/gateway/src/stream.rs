//! A socket in clear or inside TLS, read into a shared buffer and written from a queue of slices.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// Bytes asked from the kernel at once.
const READ_BYTES: usize = 64 * 1024;
/// A buffer with less room than this is replaced.
const READ_BYTES_MIN: usize = 16 * 1024;
/// Pieces up to this size are copied together.
const SHORT: usize = 1024;
/// Slices handed to one `writev`.
const SLICES: usize = 32;

thread_local! {
    /// The read buffer of this worker. An idle session owns none; what was read is split off, and the allocation is
    /// used again when the last piece of it is gone.
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// One leg's socket.
pub(crate) enum Stream {
    Plain(TcpStream),
    Accepted(Box<server::TlsStream<TcpStream>>),
    Dialled(Box<client::TlsStream<TcpStream>>),
}

impl Stream {
    /// What has arrived, as soon as something has. Empty at the end of the stream.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
                buffer.reserve(READ_BYTES);
            }
            // The future holds no state of its own: dropping it after one poll loses nothing.
            let read = match self {
                Self::Plain(socket) => pin!(socket.read_buf(buffer)).poll(cx),
                Self::Accepted(stream) => pin!(stream.read_buf(buffer)).poll(cx),
                Self::Dialled(stream) => pin!(stream.read_buf(buffer)).poll(cx),
            };
            ready!(read)?;
            Poll::Ready(Ok(buffer.split().freeze()))
        })
    }

    /// The next bytes of a handshake.
    pub(crate) async fn chunk(&mut self) -> io::Result<Bytes> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes).await,
            Self::Accepted(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::Dialled(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    pub(crate) async fn shutdown(&mut self) {
        // The peer may be gone already; then there is nobody to say goodbye to.
        let _ = match self {
            Self::Plain(socket) => socket.shutdown().await,
            Self::Accepted(stream) => stream.shutdown().await,
            Self::Dialled(stream) => stream.shutdown().await,
        };
    }
}

/// Bytes on their way out of one leg.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Bytes>,
    /// Short pieces behind the queue, copied together: the kernel takes one long piece for less than many short ones.
    tail: BytesMut,
    bytes: usize,
    /// TLS has records that the socket did not take yet.
    unflushed: bool,
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
        self.queue.is_empty() && self.tail.is_empty() && !self.unflushed
    }

    /// Writes until everything is out (`Ready`) or the socket takes no more (`Pending`).
    pub(crate) fn poll_flush(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close_tail();
        while let Some(front) = self.queue.front() {
            if let (1, Stream::Plain(socket)) = (self.queue.len(), &mut *stream) {
                // The common case by far; a plain `write` costs the kernel less than a `writev` of one slice.
                let written = ready!(pin!(socket.write(front)).poll(cx))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.advance(written);
                continue;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.queue.len().min(SLICES);
            for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(bytes);
            }
            let slices = &slices[..count];
            let written = match stream {
                Stream::Plain(socket) => ready!(pin!(socket.write_vectored(slices)).poll(cx))?,
                Stream::Accepted(tls) => ready!(pin!(tls.write_vectored(slices)).poll(cx))?,
                Stream::Dialled(tls) => ready!(pin!(tls.write_vectored(slices)).poll(cx))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = !matches!(stream, Stream::Plain(_));
            self.advance(written);
        }
        if self.unflushed {
            match stream {
                Stream::Plain(_) => {}
                Stream::Accepted(tls) => ready!(pin!(tls.flush()).poll(cx))?,
                Stream::Dialled(tls) => ready!(pin!(tls.flush()).poll(cx))?,
            }
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(front) = self.queue.front_mut() {
            if front.len() > written {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.queue.pop_front();
        }
    }
}
