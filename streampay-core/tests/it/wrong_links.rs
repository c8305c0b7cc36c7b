//! A good link with one thing wrong: the suite must say so.

use std::time::Duration;

use bytes::Bytes;
use streampay_core::driver::{ChannelIdentity, Link, LinkEnd};
use streampay_core::sim::check_link;
use tokio::sync::mpsc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// Nothing: the suite passes.
    Nothing,
    /// Each side says something else of the connection.
    OtherIdentity,
    /// Both sides have one certificate.
    SameIdentity,
    /// The second of two messages comes first.
    Reorders,
    /// Every tenth message is lost.
    Loses,
    /// Every tenth message comes twice.
    Repeats,
    /// Messages come in pieces of what fits into one packet.
    Splits,
    /// What is longer than a packet is cut.
    Cuts,
    /// What was said last does not arrive.
    DropsLastWords,
    /// Nobody hears that the link is gone.
    NeverEnds,
    /// A message of any length is delivered.
    TakesAnyLength,
    /// Everything waits in memory.
    PilesUp,
}

fn joined(wrong: Wrong) -> (Link, Link) {
    let identity = ChannelIdentity {
        payer: [1; 32],
        payee: [if wrong == Wrong::SameIdentity { 1 } else { 2 }; 32],
    };
    let other = ChannelIdentity {
        payee: [if wrong == Wrong::OtherIdentity {
            3
        } else {
            identity.payee[0]
        }; 32],
        ..identity
    };
    let ((payer, a), (payee, b)) = (LinkEnd::pair(), LinkEnd::pair());
    tokio::spawn(carry(wrong, a.incoming, b.outgoing));
    tokio::spawn(carry(wrong, b.incoming, a.outgoing));
    let payer = Link {
        identity,
        end: payer,
    };
    let identity = other;
    (
        payer,
        Link {
            identity,
            end: payee,
        },
    )
}

async fn carry(wrong: Wrong, mut from: mpsc::Receiver<Bytes>, to: mpsc::Sender<Bytes>) {
    let (mut count, mut held) = (0_u32, Vec::new());
    while let Some(message) = from.recv().await {
        count += 1;
        if wrong != Wrong::TakesAnyLength && message.len() > LinkEnd::MESSAGE_MAX {
            return;
        }
        let tenth = count.is_multiple_of(10);
        let pieces = match wrong {
            Wrong::Splits => message.chunks(1_200).map(Bytes::copy_from_slice).collect(),
            Wrong::Cuts => vec![message.slice(..message.len().min(1_200))],
            Wrong::Loses if tenth => vec![],
            Wrong::Repeats if tenth => vec![message.clone(), message],
            Wrong::Reorders if count > 45 && held.is_empty() => {
                held.push(message);
                vec![]
            }
            Wrong::Reorders => {
                let mut pieces = vec![message];
                pieces.append(&mut held);
                pieces
            }
            Wrong::DropsLastWords if count <= 3 && from.is_empty() && from.is_closed() => vec![],
            Wrong::PilesUp => {
                held.push(message.clone());
                to.try_send(message).into_iter().for_each(drop);
                vec![]
            }
            _ => vec![message],
        };
        for piece in pieces {
            if to.send(piece).await.is_err() {
                return;
            }
        }
    }
    if wrong == Wrong::NeverEnds {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
}

/// In virtual time, which the session in the suite cannot have: its store is a thread. What is wrong
/// is found before.
#[tokio::test(start_paused = true)]
async fn each_wrong_link_is_found() {
    let cases = [
        (Wrong::OtherIdentity, "both sides know the connection"),
        (Wrong::SameIdentity, "is not the other's"),
        (Wrong::Reorders, "in order"),
        (Wrong::Loses, "nothing is heard"),
        (Wrong::Repeats, "a message of"),
        (Wrong::Splits, "a message of 1201 bytes"),
        (Wrong::Cuts, "a message of 1201 bytes"),
        (Wrong::DropsLastWords, "last"),
        (Wrong::NeverEnds, "the end of a link: nothing is heard"),
        (Wrong::TakesAnyLength, "too long was delivered"),
        (Wrong::PilesUp, "64 MiB wait"),
    ];
    for (wrong, word) in cases {
        let ends = tokio::spawn(check_link(move || async move { joined(wrong) })).await;
        let Err(error) = ends else {
            panic!("{wrong:?} passes");
        };
        let panic = error.into_panic();
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        let said = said.unwrap_or_default();
        assert!(said.contains(word), "{wrong:?}: {said}");
    }
}

#[tokio::test]
async fn link_with_nothing_wrong_passes() {
    check_link(|| async { joined(Wrong::Nothing) }).await;
}
