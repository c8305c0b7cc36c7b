//! The page's WebSocket as a link.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use streampay_core::driver::LinkEnd;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Told;

/// How long a session may take to make room for a message: 5 seconds. Spec: transports 1.
const FOLLOW: Duration = Duration::from_secs(5);
/// How long what was said last may take to leave, and the page to take its leave: 2 seconds each.
/// Spec: transports 1.
const FLUSH: Duration = Duration::from_secs(2);

/// Carries messages both ways until one side is gone. What the session said last still leaves.
pub(super) async fn relay(mut socket: WebSocket, end: LinkEnd, told: Told) {
    {
        let LinkEnd { outgoing, incoming } = end;
        let late = async {
            outgoing.closed().await;
            sleep(FLUSH).await;
        };
        tokio::select! {
            () = carry(&mut socket, &outgoing, incoming, &told) => {}
            () = late => tracing::debug!("the page did not take what was said last"),
        }
    }
    let leave = async {
        let _ = socket.send(Message::Close(None)).await;
        // What comes and is not read would have TCP throw away what has not arrived yet.
        while let Some(Ok(_)) = socket.recv().await {}
    };
    let _ = timeout(FLUSH, leave).await;
}

/// A page that says more at once than the queue holds, as the notes of many purses, is not listened to until the
/// session has room for what was heard last.
async fn carry(
    socket: &mut WebSocket,
    session: &mpsc::Sender<Bytes>,
    mut said: mpsc::Receiver<Bytes>,
    told: &Told,
) {
    let mut held: Option<(Instant, Bytes)> = None;
    loop {
        let until = held.as_ref().map(|(since, _)| *since + FOLLOW);
        let room = async {
            match until {
                Some(until) => timeout_at(until, session.reserve()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            from_page = socket.recv(), if held.is_none() => match from_page {
                Some(Ok(Message::Binary(bytes))) => held = Some((Instant::now(), bytes)),
                Some(Ok(Message::Text(said))) if told.hear(&said) => {}
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
            room = room => match (room, held.take()) {
                (Ok(Ok(room)), Some((_, bytes))) => room.send(bytes),
                // A session that is over hears nothing more, and has said something.
                (Ok(_), _) => {}
                (Err(_), _) => {
                    tracing::warn!("the page says more than the session can follow");
                    return;
                }
            },
            from_session = said.recv() => match from_session {
                Some(bytes) => if socket.send(Message::Binary(bytes)).await.is_err() { return },
                None => return,
            },
        }
    }
}
