//! A [`Link`] over TCP: each message is a frame of four bytes of length, big-endian, and that many
//! bytes. The first frame of either side is `streampay/1` and 32 random bytes.
//!
//! **TCP has no certificates.** What both sides know the connection by is the two random values:
//! it tells this connection from every other, so that nothing of one can be used on another. It
//! does not tell whether somebody in the middle passes everything on, who may then read, hold
//! back and drop, and could show the media to others. So a link of this kind stays on this
//! machine; [`TcpReach::DangerousNetwork`] is for a network that is protected by itself, as a
//! tunnel or TLS around the stream.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, sink};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ChannelIdentity, Link, LinkEnd, entropy};
use crate::session::Role;

/// How far away a peer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpReach {
    /// On this machine.
    Loopback,
    /// Anywhere: see the module's warning.
    DangerousNetwork,
}

/// What a stream of this protocol begins with.
const MAGIC: &[u8] = b"streampay/1";
/// The first frame: the magic and 32 random bytes.
const OPENING: usize = MAGIC.len() + 32;
/// How long a peer has to say its first frame, and to take any frame: 10 seconds. Chosen
/// arbitrarily: longer than any loss that TCP repairs by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last messages may take to leave: 2 seconds. Spec: transports 1.
const FLUSH: Duration = Duration::from_secs(2);

/// Makes a link of a stream that was connected or accepted. `role` is that of this side. Two
/// bounded queues and one task, which ends when either side does.
///
/// # Errors
/// `PermissionDenied` where the peer is further away than `reach`; `InvalidData` where it speaks
/// something else; `TimedOut` where it says nothing; what the stream says.
pub async fn tcp_link(mut stream: TcpStream, role: Role, reach: TcpReach) -> io::Result<Link> {
    if !is_within(stream.peer_addr()?.ip(), reach) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_nodelay(true)?;
    let own = entropy()?.0;
    let peer = timeout(PATIENCE, exchange(&mut stream, &own)).await??;
    let identity = match role {
        Role::Payer => ChannelIdentity::of_tcp(&own, &peer),
        Role::Payee => ChannelIdentity::of_tcp(&peer, &own),
    };
    let (end, ours) = LinkEnd::pair();
    tokio::spawn(pump(stream, ours));
    Ok(Link { identity, end })
}

fn is_within(ip: IpAddr, reach: TcpReach) -> bool {
    match reach {
        TcpReach::Loopback => ip.to_canonical().is_loopback(),
        TcpReach::DangerousNetwork => true,
    }
}

async fn exchange(stream: &mut TcpStream, own: &[u8; 32]) -> io::Result<[u8; 32]> {
    write_frame(stream, &[MAGIC, own].concat()).await?;
    let opening = read_frame(stream, OPENING).await?;
    opening
        .strip_prefix(MAGIC)
        .and_then(|random| random.try_into().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Carries messages both ways until one side is gone. What the session said last still leaves.
async fn pump(stream: TcpStream, end: LinkEnd) {
    let (mut read, mut write) = stream.into_split();
    let LinkEnd {
        outgoing,
        mut incoming,
    } = end;
    {
        let reading = async {
            while let Ok(message) = read_frame(&mut read, LinkEnd::MESSAGE_MAX).await {
                if outgoing.send(message).await.is_err() {
                    break;
                }
            }
        };
        let writing = async {
            while let Some(message) = incoming.recv().await {
                let written = timeout(PATIENCE, write_frame(&mut write, &message)).await;
                if !matches!(written, Ok(Ok(()))) {
                    break;
                }
            }
        };
        let mut writing = core::pin::pin!(writing);
        tokio::select! {
            () = &mut writing => {}
            // A session that is over hears nothing more, and has said something.
            () = reading => if outgoing.is_closed() {
                let _ = timeout(FLUSH, writing).await;
            },
        }
    }
    let _ = write.shutdown().await;
    // What comes and is not read would have TCP throw away what has not arrived yet.
    let _ = timeout(FLUSH, copy(&mut read, &mut sink())).await;
}

/// One frame of 1 to `max` bytes; nothing is held for a longer one.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Bytes> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length == 0 || length > max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = BytesMut::zeroed(length);
    stream.read_exact(&mut frame).await?;
    Ok(frame.freeze())
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = BytesMut::with_capacity(bytes.len().saturating_add(4));
    frame.put_u32(length);
    frame.extend_from_slice(bytes);
    stream.write_all(&frame).await
}

#[cfg(test)]
mod tests;
