//! One room over three sessions and their links: chat, tips, a kick, a crash, exact counts.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::tests::{configs, media, node, sat};
use super::*;
use crate::meter::{Rate, Reading};
use crate::room::{HostCommand, RoomConfig, RoomEvent, RoomId};
use crate::session::*;
use crate::sim::FakeMint;
use crate::store::MemoryStore;
use crate::units::{Msat, SessionId, XOnlyKey};

/// How long to wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A viewer over all its connections, and the streamer's task for it.
struct Guest {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    links: mpsc::Sender<Connected>,
    identity: XOnlyKey,
    id: SessionId,
    payee: Option<JoinHandle<()>>,
    /// Which connection this is.
    connection: u8,
}

struct House {
    node: Arc<Node>,
    mint: Arc<Mutex<FakeMint>>,
    room: RoomHandle,
    events: mpsc::Receiver<RoomEvent>,
}

async fn house() -> House {
    let mint = Arc::new(Mutex::new(FakeMint::new(sat(1_000))));
    let node = node(&mint, MemoryStore::new()).await;
    let config = RoomConfig::new(RoomId([3; 32]));
    let (room, events) = RoomHandle::open(&node, config).await.unwrap();
    House {
        node,
        mint,
        room,
        events,
    }
}

fn payee_config() -> PayeeConfig {
    let (_, mut payee) = configs();
    Arc::make_mut(&mut payee.terms).tariff.time = Rate::new(sat(2), 1_000).ok();
    payee
}

impl House {
    async fn guest(&self, n: u8) -> Guest {
        let (mut config, _) = configs();
        config.identity = SecretKey::derive(&Entropy([n; 32]), "guest").unwrap();
        config.policy.budget = sat(100);
        config.policy.max_purse = sat(40);
        let identity = config.identity.public();
        let session = PayerSession::new(config, &entropy().unwrap()).unwrap();
        let id = session.session();
        let (ports, user) = Ports::pair();
        let (links, mut connections) = mpsc::channel(4);
        let mut task = SessionTask::new(node(&self.mint, MemoryStore::new()).await, session, ports);
        tokio::spawn(async move {
            while let Some(connected) = connections.recv().await {
                if task.run(Some(connected)).await == Stopped::Ended {
                    return;
                }
            }
        });
        let mut guest = Guest {
            commands: user.commands,
            events: user.events,
            links,
            identity,
            id,
            payee: None,
            connection: n * 10,
        };
        let payee = PayeeSession::new(payee_config(), &entropy().unwrap()).unwrap();
        let (ports, user) = Ports::pair();
        let task = SessionTask::new(Arc::clone(&self.node), payee, ports);
        self.connect(&mut guest, task, user).await;
        guest
    }

    /// A connection, and media as the gate lets it.
    async fn connect(&self, guest: &mut Guest, task: SessionTask<PayeeSession>, user: UserPorts) {
        guest.connection += 1;
        let (a, b) = LinkEnd::pair();
        let identity = ChannelIdentity {
            payer: [guest.connection; 32],
            payee: [guest.connection + 100; 32],
        };
        let start = task.session().reading();
        let (payee_meter, payee_usage) = watch::channel(start);
        let (payer_meter, payer_usage) = watch::channel(Reading::default());
        tokio::spawn(media(user.gate.clone(), payee_meter, payer_meter));
        let mut task = task.in_room(self.room.seat());
        let link = |end| Link { identity, end };
        let connected = Connected {
            link: link(b),
            usage: payee_usage,
        };
        guest.payee = Some(tokio::spawn(async move {
            task.run(Some(connected)).await;
            drop(user);
        }));
        let connected = Connected {
            link: link(a),
            usage: payer_usage,
        };
        guest.links.send(connected).await.unwrap();
    }

    /// The streamer's task dies and comes back from the store.
    async fn crash(&self, guest: &mut Guest) {
        let task = guest.payee.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    async fn come_back(&self, guest: &mut Guest) {
        let records = self.node.records_of(guest.id).await.unwrap();
        let identity = payee_config().identity;
        let now = self.node.clock().now();
        let payee = PayeeSession::restore(identity, 30_000, now, guest.id, &records).unwrap();
        let (ports, user) = Ports::pair();
        let task = SessionTask::restored(Arc::clone(&self.node), payee, &records, ports);
        self.connect(guest, task, user).await;
    }

    async fn until_viewers(&self, wanted: u32) {
        let wait = async {
            while self.room.viewers() != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("as many viewers");
    }
}

impl Guest {
    async fn command(&self, command: Command) {
        self.commands.send(command).await.unwrap();
    }

    async fn join(&self, name: &str) {
        let name = Name::new(name).unwrap();
        let (invitation, max_fee) = (None, Msat::ZERO);
        self.command(Command::Join {
            name,
            invitation,
            max_fee,
        })
        .await;
    }

    async fn say(&self, text: &str) {
        self.command(Command::Chat(Line::new(text).unwrap())).await;
    }

    async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the session lives");
                if wanted(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the event")
    }

    async fn until_joined(&mut self) {
        self.until(|event| matches!(event, Event::News(RoomNews::Joined { .. })))
            .await;
    }

    async fn hears(&mut self) -> (String, String) {
        let chat = |event: &Event| matches!(event, Event::News(RoomNews::Chat { .. }));
        match self.until(chat).await {
            Event::News(RoomNews::Chat { sender, text }) => {
                (sender.unwrap_or_default(), text.as_str().into())
            }
            _ => unreachable!("waited for a chat"),
        }
    }
}

#[tokio::test]
async fn three_viewers_chat_tip_crash_and_are_sent_out_with_exact_counts() {
    let mut house = house().await;
    let mut guests: Vec<Guest> = Vec::new();
    for n in 1..=3 {
        let mut guest = house.guest(n).await;
        guest.join(["ann", "bob", "cid"][usize::from(n) - 1]).await;
        guest.until_joined().await;
        guests.push(guest);
    }
    house.until_viewers(3).await;
    guests[0].say("hello").await;
    for guest in &mut guests[1..] {
        let (sender, text) = guest.hears().await;
        assert!(sender.starts_with("ann#") && text == "hello");
    }
    let open = |event: &Event| matches!(event, Event::TickPaid { .. });
    guests[1].until(open).await;
    guests[1].command(Command::Tip(sat(4))).await;
    for guest in &mut guests {
        let tip = |event: &Event| {
            matches!(event, Event::News(RoomNews::Tip { sender, amount })
                if sender.starts_with("bob#") && *amount == sat(4))
        };
        guest.until(tip).await;
    }
    house.crash(&mut guests[2]).await;
    assert_eq!(house.room.viewers(), 2, "at once");
    guests[0].say("you there?").await;
    house.come_back(&mut guests[2]).await;
    guests[2].until_joined().await;
    assert_eq!(house.room.viewers(), 3);
    assert_eq!(guests[2].hears().await.1, "you there?");
    house
        .room
        .host(HostCommand::Kick(guests[0].identity))
        .unwrap();
    let out = |event: &Event| {
        matches!(
            event,
            Event::Closed {
                code: CloseCode::Removed,
                ..
            }
        )
    };
    guests[0].until(out).await;
    house.until_viewers(2).await;
    let left = async {
        while let Some(event) = house.events.recv().await {
            if matches!(event, RoomEvent::Viewers { viewers: 2 }) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, left).await.unwrap();
    for guest in &mut guests[1..] {
        guest.command(Command::Close(CloseCode::Done)).await;
        guest
            .until(|event| matches!(event, Event::Settled { .. }))
            .await;
    }
    house.until_viewers(0).await;
}

/// A member that takes nothing loses lines; those who do hear all, and the host is not held up.
#[tokio::test]
async fn slow_member_loses_lines_and_holds_up_nobody() {
    let house = house().await;
    let (mut slow, mut quick) = (house.room.seat(), house.room.seat());
    let ask = || RoomAsk::Join {
        name: Name::new("x").unwrap(),
        invitation: None,
        unpaid: Msat::ZERO,
    };
    for (n, seat) in [(1, &mut slow), (2, &mut quick)] {
        seat.sync(Some(SessionId([n; 32])), Some(XOnlyKey([n; 32])));
        seat.ask(ask());
    }
    let mut heard = 0;
    for _ in 0..400 {
        house
            .room
            .host(HostCommand::Say(Line::new("x").unwrap()))
            .unwrap();
        while let Ok(room::Word::News(news)) =
            tokio::time::timeout(Duration::from_millis(2), quick.next()).await
        {
            heard += u32::from(matches!(news, RoomNews::Chat { .. }));
            if matches!(news, RoomNews::Chat { .. }) {
                break;
            }
        }
    }
    while let Ok(room::Word::News(_)) =
        tokio::time::timeout(Duration::from_millis(20), quick.next()).await
    {
        heard += 1;
    }
    assert!(heard >= 400, "{heard}");
    // An answer still gets through to the slow one, and so does its end.
    slow.ask(ask());
    house
        .room
        .host(HostCommand::Kick(XOnlyKey([1; 32])))
        .unwrap();
    let (mut lines, mut answers, mut closed) = (0, 0, false);
    while let Ok(word) = tokio::time::timeout(Duration::from_millis(50), slow.next()).await {
        match word {
            room::Word::News(RoomNews::Chat { .. }) => lines += 1,
            room::Word::News(RoomNews::Joined { .. }) => answers += 1,
            room::Word::News(_) => {}
            room::Word::Close(code) => closed = code == CloseCode::Removed,
        }
    }
    assert!((200..=256).contains(&lines), "{lines}");
    assert_eq!((answers, closed), (2, true));
    // A task that is dropped is gone, one that took its place is not.
    assert_eq!(house.room.viewers(), 2);
    let mut again = house.room.seat();
    again.sync(Some(SessionId([2; 32])), Some(XOnlyKey([2; 32])));
    drop(quick);
    assert_eq!(house.room.viewers(), 2);
    drop((slow, again));
    assert_eq!(house.room.viewers(), 0);
}

#[tokio::test]
async fn ban_survives_the_process() {
    let store = MemoryStore::new();
    let mint = Arc::new(Mutex::new(FakeMint::new(sat(1))));
    let config = RoomConfig::new(RoomId([3; 32]));
    let who = XOnlyKey([1; 32]);
    for first in [true, false] {
        let node = node(&mint, store.clone()).await;
        let (room, _events) = RoomHandle::open(&node, config.clone()).await.unwrap();
        if first {
            room.host(HostCommand::Ban(who)).unwrap();
        }
        let mut seat = room.seat();
        seat.sync(Some(SessionId([1; 32])), Some(who));
        // Told after the ban is durable.
        let word = tokio::time::timeout(PATIENCE, seat.next()).await.unwrap();
        assert!(matches!(word, room::Word::Close(CloseCode::Banned)));
        assert_eq!(room.viewers(), 0);
    }
}

#[tokio::test]
async fn host_is_told_that_the_rooms_store_failed() {
    let mint = Arc::new(Mutex::new(FakeMint::new(sat(1))));
    let mut store = MemoryStore::new();
    store.fail_from_now_on();
    let node = node(&mint, store).await;
    let config = RoomConfig::new(RoomId([3; 32]));
    let (room, mut events) = RoomHandle::open(&node, config).await.unwrap();
    room.host(HostCommand::Ban(XOnlyKey([1; 32]))).unwrap();
    let told = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap();
    assert_eq!(told, Some(RoomEvent::StoreFailed));
    assert!(room.is_failed());
    let again = room.host(HostCommand::Ban(XOnlyKey([2; 32])));
    assert_eq!(again, Err(crate::store::StoreError::Poisoned));
}
