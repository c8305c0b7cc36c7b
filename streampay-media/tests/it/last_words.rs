//! What a session said last, where its program closes the connection at once.

use std::time::Duration;

use bytes::Bytes;
use streampay_core::driver::{Link, LinkEnd};

use crate::rig::{Pair, Rig};

/// Who says them.
#[derive(Clone, Copy, Debug)]
enum Side {
    Viewer,
    Streamer,
}

/// How its program leaves.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// As where a session is over: it lets go of its link, then the connection is closed.
    Closing,
    /// The same, and the connection is dropped.
    Dropping,
    /// As where a session is given up: the connection is closed while it could say more.
    Early,
}

/// As many as may wait, and several times what is sent before anything of it is acknowledged.
fn words() -> impl Iterator<Item = Bytes> {
    (0..).take(LinkEnd::QUEUE).map(|number| {
        let mut word = vec![7; 1_024];
        word[0] = number;
        word.into()
    })
}

/// Says all at once, closes, and gives the other side's link.
async fn said_and_left(pair: Pair, side: Side, leaves: Leaves) -> (Link, impl Sized) {
    let (ours, theirs) = match side {
        Side::Viewer => (pair.viewer.link, pair.link),
        Side::Streamer => (pair.link, pair.viewer.link),
    };
    for word in words() {
        ours.end.outgoing.try_send(word).unwrap();
    }
    let ours = matches!(leaves, Leaves::Early).then_some(ours);
    let mut stays = (None, None, ours);
    match (side, leaves) {
        (Side::Viewer, Leaves::Dropping) => {
            drop(pair.viewer.connection);
            stays.0 = Some(pair.streamer);
        }
        (Side::Viewer, _) => {
            pair.viewer.connection.close().await.unwrap();
            stays.0 = Some(pair.streamer);
        }
        (Side::Streamer, Leaves::Dropping) => {
            drop(pair.streamer);
            stays.1 = Some(pair.viewer.connection);
        }
        (Side::Streamer, _) => {
            pair.streamer.close().await;
            stays.1 = Some(pair.viewer.connection);
        }
    }
    (theirs, stays)
}

#[tokio::test]
async fn what_was_said_last_leaves_before_the_connection_closes() {
    let mut rig = Rig::new(1).await;
    for side in [Side::Viewer, Side::Streamer] {
        for leaves in [Leaves::Closing, Leaves::Dropping, Leaves::Early] {
            let pair = rig.connect().await;
            let (mut link, _stays) = said_and_left(pair, side, leaves).await;
            let heard = async {
                let mut heard = Vec::new();
                while let Some(word) = link.end.incoming.recv().await {
                    heard.push(word);
                }
                heard
            };
            let heard = tokio::time::timeout(Duration::from_secs(20), heard).await;
            let heard = heard.unwrap();
            assert!(
                words().eq(heard.iter().cloned()),
                "{side:?} {leaves:?}: {}",
                heard.len()
            );
        }
    }
}

/// The notes of many purses, where each is looked at before the next is taken.
#[tokio::test]
async fn what_was_said_last_is_heard_where_it_is_taken_late() {
    let mut rig = Rig::new(1).await;
    let mut pair = rig.connect().await;
    let said = (0..200_u32).map(|number| Bytes::copy_from_slice(&number.to_be_bytes()));
    for word in said.clone() {
        pair.link.end.outgoing.send(word).await.unwrap();
    }
    drop(pair.link);
    pair.streamer.close().await;
    // As where it shows that the streamer is gone, some seconds later.
    let closer = pair.viewer.connection.closer();
    drop(pair.viewer.connection);
    closer.closed().await;
    for word in said {
        assert_eq!(pair.viewer.link.end.incoming.recv().await, Some(word));
    }
    assert_eq!(pair.viewer.link.end.incoming.recv().await, None);
}
