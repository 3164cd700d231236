//! Where a door's connections come from: its own listener, or the shards, which have read a little of
//! each to know whose it is.

use super::proxied::{self, Header, Proxies, ProxyRefusal};
use crate::shards::FromShards;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

pub enum Arrivals {
    Listener(TcpListener, Arc<Proxies>),
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
    pub fn of(listener: std::net::TcpListener, proxies: &Arc<Proxies>) -> std::io::Result<Self> {
        let listener = TcpListener::from_std(listener)?;
        Ok(Self::Listener(listener, Arc::clone(proxies)))
    }

    /// # Errors
    /// The system refuses one; the door goes on.
    pub async fn next(&mut self) -> std::io::Result<(Begun, SocketAddr)> {
        let mut is_forwarded = false;
        let (stream, peer, said) = match self {
            Self::Listener(listener, proxies) => {
                let (stream, peer) = listener.accept().await?;
                is_forwarded = proxies.hold(peer.ip());
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
        let begun = Begun {
            said,
            is_forwarded,
            stream,
        };
        Ok((begun, peer))
    }
}

/// A stream whose beginning was read before: it is given out first.
pub struct Begun {
    said: Vec<u8>,
    /// A balancer is in front: its header comes first.
    is_forwarded: bool,
    stream: TcpStream,
}

impl Begun {
    /// Whom a balancer in front speaks for, if one is; `peer` else.
    ///
    /// # Errors
    /// What it says first is no header that is believed; it left ([`ErrorKind::UnexpectedEof`]).
    pub async fn source(
        &mut self,
        peer: SocketAddr,
    ) -> Result<SocketAddr, Result<ProxyRefusal, std::io::Error>> {
        if !self.is_forwarded {
            return Ok(peer);
        }
        let mut header = Vec::new();
        loop {
            let more = match proxied::read(&header).map_err(Ok)? {
                Header::Whole(source) => return Ok(source.unwrap_or(peer)),
                Header::Wants(more) => more,
            };
            let come = header.len();
            header.resize(come + more, 0);
            let room = header.get_mut(come..).unwrap_or_default();
            let count = self.stream.read(room).await.map_err(Err)?;
            if count == 0 {
                return Err(Err(ErrorKind::UnexpectedEof.into()));
            }
            header.truncate(come + count);
        }
    }

    /// The socket; `None` if some of what was said is still unread.
    pub fn into_socket(self) -> Option<std::net::TcpStream> {
        if !self.said.is_empty() {
            return None;
        }
        self.stream.into_std().ok()
    }
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
