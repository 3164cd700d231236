//! Where a door's connections come from: its own listener, or the shards, which have read a little of
//! each to know whose it is.

use crate::shards::FromShards;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

pub enum Arrivals {
    Listener(TcpListener),
    Handed(FromShards),
}

/// A connection with what it has said already.
pub struct Arrived {
    pub socket: std::net::TcpStream,
    pub peer: SocketAddr,
    pub said: Vec<u8>,
}

impl Arrivals {
    /// # Errors
    /// The system does not take the listener over.
    pub fn of(listener: std::net::TcpListener) -> std::io::Result<Self> {
        TcpListener::from_std(listener).map(Self::Listener)
    }

    /// # Errors
    /// The system refuses one; the door goes on.
    pub async fn next(&mut self) -> std::io::Result<(Begun, SocketAddr)> {
        let (stream, peer, said) = match self {
            Self::Listener(listener) => {
                let (stream, peer) = listener.accept().await?;
                (stream, peer, Vec::new())
            }
            Self::Handed(handed) => match handed.recv().await {
                Some(arrived) => {
                    let stream = TcpStream::from_std(arrived.socket)?;
                    (stream, arrived.peer, arrived.said)
                }
                // The shards have ended: nobody comes any more.
                None => std::future::pending().await,
            },
        };
        // Without it a small answer waits for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        Ok((Begun { said, stream }, peer))
    }
}

/// A stream whose beginning was read before: it is given out first.
pub struct Begun {
    said: Vec<u8>,
    stream: TcpStream,
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.said.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = self.said.len().min(into.remaining());
        into.put_slice(self.said.get(..count).unwrap_or_default());
        self.said.drain(..count);
        if self.said.is_empty() {
            self.said = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
