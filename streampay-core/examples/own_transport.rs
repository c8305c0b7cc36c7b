//! How to write a transport: messages as lines of text over any two pipes, such as the standard
//! input and output of a program at the other end of an `ssh`.
//!
//! ```sh
//! cargo run -p streampay-core --example own_transport --features sim,tcp
//! ```
//!
//! A transport owes the session four things, see [`Link`]: whole messages in their order, a bound
//! on what waits, the news that the connection is gone, and a [`ChannelIdentity`] that both sides
//! compute alike and that no other connection has. [`check_link`] is the suite.
//!
//! The identity is what keeps somebody in the middle out: WebRTC takes it from the certificates of
//! both sides. Pipes have none, so that here it is two random values, which tell this connection
//! from every other and protect nothing more: the pipes must be protected by themselves, as `ssh`
//! does it. Spec: transports 2.

#![allow(
    clippy::disallowed_methods,
    reason = "a transport has tasks and randomness"
)]

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use streampay_core::driver::{ChannelIdentity, Link, LinkEnd, entropy};
use streampay_core::session::Role;
use streampay_core::sim::check_link;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader,
};
use tokio::time::timeout;

/// The longest line: a message in hexadecimal and the line's end.
const LINE_MAX: usize = 2 * LinkEnd::MESSAGE_MAX + 1;
/// How long a peer has to say who it is, and to take a line.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes a link of two pipes. `role` is that of this side.
///
/// # Errors
/// `InvalidData` where the peer says something else first; `TimedOut` where it says nothing; what
/// the pipes say.
pub async fn line_link(
    read: impl AsyncRead + Unpin + Send + 'static,
    mut write: impl AsyncWrite + Unpin + Send + 'static,
    role: Role,
) -> io::Result<Link> {
    let mut read = BufReader::new(read);
    let own = entropy()?.0;
    let greeted = async {
        write_line(&mut write, &own).await?;
        read_line(&mut read).await
    };
    let theirs = timeout(PATIENCE, greeted).await??;
    let theirs: [u8; 32] = theirs.as_ref().try_into().map_err(|_| bad())?;
    if theirs == own {
        // It says back what it hears: it is nobody else.
        return Err(bad());
    }
    let (payer, payee) = match role {
        Role::Payer => (own, theirs),
        Role::Payee => (theirs, own),
    };
    let (end, ours) = LinkEnd::pair();
    tokio::spawn(carry(read, write, ours));
    Ok(Link {
        identity: ChannelIdentity { payer, payee },
        end,
    })
}

/// Carries messages until one side is gone. Both queues are bounded, and a message waits in the
/// pipe until the session has room: nothing piles up.
async fn carry(
    mut read: impl AsyncBufRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    end: LinkEnd,
) {
    let LinkEnd {
        outgoing,
        mut incoming,
    } = end;
    let reading = async {
        while let Ok(message) = read_line(&mut read).await {
            if outgoing.send(message).await.is_err() {
                break;
            }
        }
    };
    let writing = async {
        while let Some(message) = incoming.recv().await {
            let written = timeout(PATIENCE, write_line(&mut write, &message)).await;
            if !matches!(written, Ok(Ok(()))) {
                break;
            }
        }
    };
    // The session's end is dropped: what it said last has left, for the queue is in order.
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    let _ = write.shutdown().await;
}

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a message")
}

/// One message of 1 to [`LinkEnd::MESSAGE_MAX`] bytes. Of a longer line no more is held than that.
async fn read_line(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Bytes> {
    let mut line = Vec::new();
    let limit = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
    read.take(limit).read_until(b'\n', &mut line).await?;
    let Some((b'\n', digits)) = line.split_last() else {
        // Too long, or the end.
        return Err(bad());
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    match bytes {
        Some(bytes) if !bytes.is_empty() && rest.is_empty() => Ok(bytes.into()),
        _ => Err(bad()),
    }
}

fn byte([high, low]: &[u8; 2]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

async fn write_line(write: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    use std::fmt::Write as _;
    let mut line = String::with_capacity(bytes.len() * 2 + 1);
    for byte in bytes {
        write!(line, "{byte:02x}").map_err(io::Error::other)?;
    }
    line.push('\n');
    write.write_all(line.as_bytes()).await?;
    write.flush().await
}

/// Two sides of one process, joined by pipes in memory.
///
/// # Errors
/// As [`line_link`].
pub async fn joined() -> io::Result<(Link, Link)> {
    let (payer, payee) = tokio::io::duplex(4_096);
    let ((pr, pw), (er, ew)) = (tokio::io::split(payer), tokio::io::split(payee));
    tokio::try_join!(
        line_link(pr, pw, Role::Payer),
        line_link(er, ew, Role::Payee)
    )
}

#[cfg_attr(test, allow(dead_code, reason = "the tests have no main"))]
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    joined().await?;
    check_link(|| async {
        joined()
            .await
            .unwrap_or_else(|error| unreachable!("{error}"))
    })
    .await;
    println!("the suite passes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn own_transport_passes_the_suite() {
        check_link(|| async { joined().await.unwrap() }).await;
    }

    #[tokio::test]
    async fn line_that_is_no_message_ends_the_link() {
        let long = vec![b'0'; LINE_MAX + 1];
        let wrong: [&[u8]; 5] = [b"\n", b"0\n", b"0g\n", b"00", &long];
        for line in wrong {
            let (near, far) = tokio::io::duplex(4 * LINE_MAX);
            let (read, write) = tokio::io::split(near);
            let link = tokio::spawn(line_link(read, write, Role::Payee));
            let (mut read, mut write) = tokio::io::split(far);
            let mut greeting = [0; 65];
            read.read_exact(&mut greeting).await.unwrap();
            write_line(&mut write, &[1; 32]).await.unwrap();
            let mut link = link.await.unwrap().unwrap();
            write.write_all(line).await.unwrap();
            write.shutdown().await.unwrap();
            assert_eq!(link.end.incoming.recv().await, None, "{line:?}");
        }
    }

    #[tokio::test]
    async fn echo_is_no_peer() {
        let (near, far) = tokio::io::duplex(4_096);
        let (read, write) = tokio::io::split(near);
        let link = tokio::spawn(line_link(read, write, Role::Payer));
        let (mut read, mut write) = tokio::io::split(far);
        tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
        assert!(link.await.unwrap().is_err());
    }
}
