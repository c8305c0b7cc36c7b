//! Sessions that have more to say at once than the queue to their peer holds.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::meter::{Grant, PauseReason, Reading};
use crate::session::{ApiMisuse, Input, LinkEvent, Output};
use crate::store::MemoryStore;
use crate::units::{Mono, Now, PurseId, SessionId};

/// As many as a session may have purses, each with a note of two parts.
const MANY: u32 = 800;

/// Says so much as soon as its connection is there, answers all that the peer says, and ends once it has heard so much.
struct Talker {
    says: u32,
    ends_after: usize,
    /// What follows all that it says.
    then: Option<Output>,
    out: VecDeque<Output>,
    heard: Vec<Bytes>,
}

impl Talker {
    const fn new(says: u32, ends_after: usize) -> Self {
        Self {
            says,
            ends_after,
            then: None,
            out: VecDeque::new(),
            heard: Vec::new(),
        }
    }
}

fn said(number: u32) -> Bytes {
    [&b"said"[..], &number.to_be_bytes()].concat().into()
}

fn answer_to(said: &Bytes) -> Bytes {
    [&b"heard"[..], said].concat().into()
}

impl SessionMachine for Talker {
    fn handle(&mut self, _: Now, input: Input) -> Result<(), ApiMisuse> {
        match input {
            Input::Link(LinkEvent::Up { .. }) => {
                self.out.extend((0..self.says).map(said).map(Output::Send));
                self.out.extend(self.then.take());
            }
            Input::Received(bytes) => {
                if bytes.starts_with(b"said") {
                    self.out.push_back(Output::Send(answer_to(&bytes)));
                }
                self.heard.push(bytes);
            }
            _ => {}
        }
        Ok(())
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Mono> {
        None
    }

    fn resume_by(&self) -> Option<Mono> {
        None
    }

    fn is_ended(&self) -> bool {
        self.heard.len() >= self.ends_after
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn id(&self) -> Option<SessionId> {
        None
    }

    fn purses(&self) -> Vec<(PurseId, String)> {
        Vec::new()
    }
}

/// One that says so much, and its user.
async fn talker(says: u32, ends_after: usize) -> (SessionTask<Talker>, UserPorts) {
    task_of(Talker::new(says, ends_after)).await
}

async fn task_of(talker: Talker) -> (SessionTask<Talker>, UserPorts) {
    let writer = StoreWriter::start(Box::new(MemoryStore::new())).unwrap();
    let node: Arc<Node> = Node::builder(writer).build().await.unwrap();
    let (ports, user) = Ports::pair();
    (SessionTask::new(node, talker, ports), user)
}

fn connected(end: LinkEnd) -> (Connected, watch::Sender<Reading>) {
    let identity = ChannelIdentity {
        payer: [1; 32],
        payee: [2; 32],
    };
    let (meter, usage) = watch::channel(Reading::default());
    let link = Link { identity, end };
    (Connected { link, usage }, meter)
}

#[tokio::test]
async fn two_that_have_much_to_say_at_once_and_answer_all_of_it_hear_each_other_out() {
    for (one, other) in [(MANY, 0), (0, MANY), (MANY, MANY)] {
        let all = usize::try_from(one + other).unwrap();
        let (mut payer, _payer_user) = talker(one, all).await;
        let (mut payee, _payee_user) = talker(other, all).await;
        let (a, b) = LinkEnd::pair();
        let ((a, _a_meter), (b, _b_meter)) = (connected(a), connected(b));
        let ended = tokio::join!(payer.run(Some(a)), payee.run(Some(b)));
        assert_eq!(ended, (Stopped::Ended, Stopped::Ended), "{one} {other}");
        for (task, own, peers) in [(&payer, one, other), (&payee, other, one)] {
            let is_answer = |bytes: &&Bytes| bytes.starts_with(b"heard");
            let (answers, words): (Vec<_>, Vec<_>) =
                task.session().heard.iter().partition(is_answer);
            assert!((0..peers).map(said).eq(words.into_iter().cloned()));
            let expected = (0..own).map(|number| answer_to(&said(number)));
            assert!(expected.eq(answers.into_iter().cloned()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_takes_nothing_has_a_connection_of_no_use_after_a_while() {
    let (mut task, _user) = talker(MANY, usize::MAX).await;
    let (end, peer) = LinkEnd::pair();
    let (connected, _meter) = connected(end);
    let began = Instant::now();
    assert_eq!(task.run(Some(connected)).await, Stopped::LinkDown);
    let took = began.elapsed();
    assert!(
        took.abs_diff(Duration::from_secs(30)) < Duration::from_millis(10),
        "{took:?}"
    );
    // What was meant for it goes over no other connection.
    assert!(task.session().out.is_empty());
    drop(peer);
}

/// Its messages wait where they are; what they are answered would wait in memory.
#[tokio::test(start_paused = true)]
async fn peer_that_talks_and_takes_nothing_is_not_listened_to_for_long() {
    let (mut task, _user) = talker(MANY, usize::MAX).await;
    let (end, peer) = LinkEnd::pair();
    let (connected, _meter) = connected(end);
    let talks = async {
        let mut number = 0;
        while peer.outgoing.send(said(number)).await.is_ok() {
            number += 1;
        }
    };
    let (stopped, ()) = tokio::join!(task.run(Some(connected)), talks);
    assert_eq!(stopped, Stopped::LinkDown);
    let heard = task.session().heard.len();
    assert_eq!(heard, LinkEnd::QUEUE);
}

/// One that could hold up what is done beside it would choose when its purses are redeemed.
#[tokio::test(start_paused = true)]
async fn gate_hears_at_once_what_follows_messages_that_wait() {
    let grant = Grant::Paused(PauseReason::ByPayee);
    let (mut task, user) = task_of(Talker {
        then: Some(Output::Gate(grant)),
        ..Talker::new(MANY, usize::MAX)
    })
    .await;
    let mut gate = user.gate.clone();
    let (end, _peer) = LinkEnd::pair();
    let (connected, _meter) = connected(end);
    let began = Instant::now();
    tokio::select! {
        _ = task.run(Some(connected)) => panic!("ended"),
        told = gate.wait_for(|told| *told == grant) => assert!(told.is_ok()),
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn peer_that_takes_a_message_now_and_then_has_no_longer_for_all_of_them() {
    let (mut task, _user) = talker(MANY, usize::MAX).await;
    let (end, mut peer) = LinkEnd::pair();
    let (connected, _meter) = connected(end);
    let began = Instant::now();
    let takes = async {
        loop {
            tokio::time::sleep(Duration::from_secs(7)).await;
            if peer.incoming.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    };
    let stopped = tokio::select! {
        stopped = task.run(Some(connected)) => stopped,
        () = takes => unreachable!(),
    };
    assert_eq!(stopped, Stopped::LinkDown);
    assert!(began.elapsed() < Duration::from_secs(31));
}

/// What came of an effect it would throw away, where its next start runs that once more.
#[tokio::test(start_paused = true)]
async fn session_that_is_over_says_its_last_words_and_takes_nothing() {
    let (task, _user) = talker(MANY, 0).await;
    let (end, mut peer) = LinkEnd::pair();
    let (connected, _meter) = connected(end);
    let hears = async {
        let mut words = Vec::new();
        for number in 0.. {
            if number < 100 {
                let _ = peer.outgoing.try_send(said(number));
            }
            match peer.incoming.recv().await {
                Some(word) => words.push(word),
                None => break,
            }
        }
        words
    };
    let ends = async {
        let mut task = task;
        let stopped = task.run(Some(connected)).await;
        (stopped, task.session().heard.len())
    };
    let (ended, words) = tokio::join!(ends, hears);
    assert_eq!(ended, (Stopped::Ended, 0));
    assert!((0..MANY).map(said).eq(words));
}
