//! A socket in clear or inside TLS, for handshakes and for the gateway's own errands.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

/// Bytes asked from the kernel at once. Handshakes and rows of the catalog are short.
const READ_BYTES: usize = 16 * 1024;

/// One leg's socket.
pub(crate) enum Stream {
    Plain(TcpStream),
    Accepted(Box<server::TlsStream<TcpStream>>),
    Dialled(Box<client::TlsStream<TcpStream>>),
}

impl Stream {
    /// What has arrived, as soon as something has. Empty at the end of the stream.
    pub(crate) async fn chunk(&mut self) -> io::Result<Bytes> {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        match self {
            Self::Plain(socket) => socket.read_buf(&mut buffer).await?,
            Self::Accepted(stream) => stream.read_buf(&mut buffer).await?,
            Self::Dialled(stream) => stream.read_buf(&mut buffer).await?,
        };
        Ok(buffer.freeze())
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
