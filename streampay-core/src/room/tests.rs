use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::session::{CloseCode, Hash, Invitation, Line, Name};
use crate::store::{MemoryStore, Store};
use crate::units::Unix;
use crate::wire::RoomCode;

mod admission;

/// A room, its store, and what came out.
struct Hall {
    room: Room,
    store: MemoryStore,
    now: Now,
    told: Vec<(u8, RoomNews)>,
    closed: Vec<(u8, CloseCode)>,
    events: Vec<RoomEvent>,
    /// Outputs still taken before the process dies.
    left: usize,
}

fn config() -> RoomConfig {
    RoomConfig {
        members_max: 4,
        history: 3,
        ..RoomConfig::new(RoomId([9; 32]))
    }
}

fn listed() -> RoomConfig {
    RoomConfig {
        admission: Admission::Listed,
        ..config()
    }
}

fn session(n: u8) -> SessionId {
    SessionId([n; 32])
}

fn who(n: u8) -> XOnlyKey {
    XOnlyKey([n; 32])
}

fn invitation(n: u8) -> Hash {
    Invitation::new(vec![n; 16]).unwrap().hash()
}

impl Hall {
    fn new(config: RoomConfig) -> Self {
        Self {
            room: Room::new(config),
            store: MemoryStore::new(),
            now: Now {
                mono: Mono(1_000_000),
                unix: Unix(1_000),
            },
            told: vec![],
            closed: vec![],
            events: vec![],
            left: usize::MAX,
        }
    }

    fn input(&mut self, input: RoomInput) {
        self.room.handle(self.now, input).unwrap();
        while self.left > 0 {
            let Some(output) = self.room.poll_output() else {
                return;
            };
            self.left -= 1;
            match output {
                RoomOutput::Persist(changes) => self.store.append(&[changes]).unwrap(),
                RoomOutput::Tell { session, news } => self.told.push((session.0[0], news)),
                RoomOutput::Close { session, code } => {
                    self.closed.push((session.0[0], code));
                }
                RoomOutput::Event(event) => self.events.push(event),
            }
        }
    }

    /// The process dies and comes back.
    fn restart(&mut self) {
        let config = self.room.config.clone();
        let records = self.store.scan(&config.prefix()).unwrap();
        self.room = Room::restore(config, &records).unwrap();
        self.left = usize::MAX;
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono.after_ms(ms);
        self.input(RoomInput::Timeout);
    }

    /// Session `n` of identity `n` is bound.
    fn bound(&mut self, n: u8) {
        self.bound_as(n, n);
    }

    fn bound_as(&mut self, n: u8, identity: u8) {
        self.input(RoomInput::Bound {
            session: session(n),
            identity: who(identity),
        });
    }

    fn gone(&mut self, n: u8) {
        let session = session(n);
        self.input(RoomInput::Gone { session });
    }

    fn ask(&mut self, n: u8, ask: RoomAsk) {
        let session = session(n);
        self.input(RoomInput::Asked { session, ask });
    }

    fn host(&mut self, command: HostCommand) {
        self.input(RoomInput::Host(command));
    }

    /// What the payer of session `n` is answered when it joins.
    fn join_with(&mut self, n: u8, name: &str, shown: Option<Hash>, unpaid: u64) -> RoomNews {
        self.told.clear();
        let ask = RoomAsk::Join {
            name: Name::new(name).unwrap(),
            invitation: shown,
            unpaid: Msat::new(unpaid).unwrap(),
        };
        self.ask(n, ask);
        let is_answer = |(to, news): &&(u8, RoomNews)| *to == n && !news.may_be_dropped();
        let answer = self.told.iter().find(is_answer);
        answer.expect("an answer").1.clone()
    }

    fn join(&mut self, n: u8) -> RoomNews {
        self.join_with(n, "ann", None, 0)
    }

    fn say(&mut self, n: u8, text: &str) {
        self.ask(n, RoomAsk::Chat(Line::new(text).unwrap()));
    }

    /// Texts that session `n` was told since the last time.
    fn heard(&mut self, n: u8) -> Vec<(Option<String>, String)> {
        let own = self.told.extract_if(.., |(to, news)| {
            *to == n && matches!(news, RoomNews::Chat { .. })
        });
        let text = |(_, news)| match news {
            RoomNews::Chat { sender, text } => Some((sender, text.as_str().into())),
            _ => None,
        };
        own.filter_map(text).collect()
    }
}

fn refused(code: RoomCode) -> RoomNews {
    RoomNews::Refused { code }
}

fn is_in(news: &RoomNews) -> bool {
    matches!(news, RoomNews::Joined { .. })
}

/// Crash at each output: nobody is let in by an invitation whose use was not kept, and nobody
/// hears of it before.
#[test]
fn chat_reaches_all_others_once_and_in_order() {
    let mut hall = Hall::new(config());
    for n in 1..=4 {
        hall.bound(n);
    }
    (1..=3).for_each(|n| drop(hall.join(n)));
    hall.told.clear();
    hall.say(1, "one");
    hall.say(2, "two");
    hall.host(HostCommand::Say(Line::new("three").unwrap()));
    hall.say(4, "who did not join");
    let texts = |heard: Vec<(Option<String>, String)>| -> Vec<String> {
        heard.into_iter().map(|(_, text)| text).collect()
    };
    let heard = hall.heard(3);
    assert!(heard[0].0.as_ref().unwrap().starts_with("ann#"));
    assert_eq!(heard[2].0, None, "the host has no name");
    assert_eq!(texts(heard), ["one", "two", "three"]);
    assert_eq!(texts(hall.heard(1)), ["two", "three"]);
    assert_eq!(texts(hall.heard(4)), [""; 0]);
    // What one missed comes with joining, what one heard does not come again.
    hall.gone(3);
    hall.say(1, "four");
    hall.bound(3);
    drop(hall.join(3));
    assert_eq!(texts(hall.heard(3)), ["four"]);
    drop(hall.join(4));
    assert_eq!(texts(hall.heard(4)), ["two", "three", "four"], "the last 3");
}

#[test]
fn who_is_muted_reaches_nobody_and_stays_so() {
    let mut hall = Hall::new(config());
    (1..=2).for_each(|n| hall.bound(n));
    (1..=2).for_each(|n| drop(hall.join(n)));
    hall.host(HostCommand::Mute(who(1)));
    hall.say(1, "one");
    assert!(hall.heard(2).is_empty());
    hall.restart();
    (1..=2).for_each(|n| hall.bound(n));
    (1..=2).for_each(|n| drop(hall.join(n)));
    hall.say(1, "two");
    assert!(hall.heard(2).is_empty());
    hall.host(HostCommand::Unmute(who(1)));
    hall.say(1, "three");
    assert_eq!(hall.heard(2).len(), 1);
}

#[test]
fn flood_is_cut_to_a_burst_of_five_and_one_a_second_also_over_two_sessions() {
    let mut hall = Hall::new(config());
    hall.bound_as(1, 7);
    hall.bound_as(2, 7);
    hall.bound(3);
    (1..=3).for_each(|n| drop(hall.join(n)));
    hall.pass(10_000);
    hall.told.clear();
    for _ in 0..100 {
        hall.say(1, "x");
        hall.say(2, "y");
    }
    assert_eq!(hall.heard(3).len(), 5);
    hall.pass(3_000);
    (0..100).for_each(|_| hall.say(1, "z"));
    assert_eq!(hall.heard(3).len(), 3);
    // A new connection does not make it more.
    hall.gone(1);
    hall.bound_as(1, 7);
    let ask = RoomAsk::Join {
        name: Name::new("a").unwrap(),
        invitation: None,
        unpaid: Msat::ZERO,
    };
    hall.told.clear();
    (0..100).for_each(|_| hall.ask(1, ask.clone()));
    assert_eq!(hall.told, []);
}

#[test]
fn count_is_told_at_most_once_a_second_and_is_always_right_in_the_end() {
    let mut hall = Hall::new(config());
    hall.bound(1);
    hall.join(1);
    hall.pass(5_000);
    hall.told.clear();
    let counts = |hall: &Hall| -> Vec<u32> {
        let told = hall.told.iter();
        let count = |(to, news): &(u8, RoomNews)| match news {
            RoomNews::Presence { viewers, .. } if *to == 1 => Some(*viewers),
            _ => None,
        };
        told.filter_map(count).collect()
    };
    (2..50).for_each(|n| hall.bound(n));
    assert_eq!(counts(&hall), [2]);
    assert_eq!(
        hall.room.poll_timeout(),
        Some(hall.now.mono.after_ms(1_000))
    );
    hall.pass(1_000);
    assert_eq!(counts(&hall), [2, 49]);
    assert_eq!(hall.room.poll_timeout(), None);
    // A session that is bound anew on another connection is the same viewer.
    hall.bound(2);
    hall.pass(1_000);
    assert_eq!(counts(&hall), [2, 49]);
    assert_eq!(hall.room.viewers(), 49);
}

#[test]
fn ticks_of_a_tip_are_told_as_one() {
    let mut hall = Hall::new(config());
    (1..=3).for_each(|n| hall.bound(n));
    (1..=2).for_each(|n| drop(hall.join(n)));
    hall.pass(1_000);
    hall.told.clear();
    let give = |hall: &mut Hall, n, sat| {
        let amount = Msat::from_sat(sat).unwrap();
        hall.ask(n, RoomAsk::Tip(amount));
    };
    for _ in 0..7 {
        give(&mut hall, 1, 3);
        hall.pass(900);
    }
    give(&mut hall, 3, 5);
    assert_eq!(hall.told, []);
    hall.pass(1_000);
    let told: Vec<_> = hall
        .told
        .iter()
        .map(|(to, news)| (*to, news.clone()))
        .collect();
    assert!(
        matches!(&told[..], [(1, RoomNews::Tip { amount, .. }), (2, _)] if amount.sat_floor() == 21)
    );
    let of_nobody = |event: &RoomEvent| matches!(event, RoomEvent::Tip { name: None, amount, .. } if amount.sat_floor() == 5);
    assert!(
        hall.events.iter().any(of_nobody),
        "who did not join is told to the host"
    );
    // One who goes is told at once; one who is not there gives nothing.
    hall.told.clear();
    give(&mut hall, 1, 3);
    hall.gone(1);
    give(&mut hall, 1, 3);
    hall.pass(5_000);
    let tips = hall
        .told
        .iter()
        .filter(|(_, news)| matches!(news, RoomNews::Tip { .. }));
    assert_eq!(tips.count(), 2, "to both who are in");
}

#[test]
fn store_that_fails_or_is_slow_lets_nothing_out_and_fills_no_memory() {
    let mut hall = Hall::new(config());
    (1..=2).for_each(|n| hall.bound(n));
    (1..=2).for_each(|n| drop(hall.join(n)));
    hall.left = 0;
    for _ in 0..20_000 {
        let said = HostCommand::Say(Line::new("x").unwrap());
        hall.host(said);
    }
    assert!(hall.room.out.len() <= config().backlog_max() + 1);
    hall.input(RoomInput::PersistFailed);
    hall.left = usize::MAX;
    hall.told.clear();
    hall.bound(3);
    hall.say(1, "x");
    hall.host(HostCommand::Kick(who(1)));
    assert!(hall.told.is_empty() && hall.closed.is_empty());
    assert_eq!(hall.room.viewers(), 3);
}

#[test]
fn debug_shows_no_text_and_no_invitation() {
    let line = Line::new("secret words").unwrap();
    let token = Invitation::new(&b"secret token"[..]).unwrap();
    let ask = RoomAsk::Chat(line.clone());
    let command = HostCommand::Say(line.clone());
    let shown = alloc::format!("{line:?} {token:?} {ask:?} {command:?}");
    assert!(!shown.contains("secret"), "{shown}");
    assert!(Line::new("x".repeat(501)).is_err() && Line::new("").is_err());
    assert!(Invitation::new(vec![0; 65]).is_err());
    let read: Result<Line, _> = serde_json::from_str("\"a\\u202eb\"");
    assert!(read.is_err(), "a line from outside is checked as well");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever they do, in any order: who is there is counted exactly, each line comes once, and
    /// a process that dies forgets who is there and no ban.
    #[test]
    fn any_course_keeps_the_count_and_the_order(
        steps in proptest::collection::vec((0_u8..9, 1_u8..6, 0_u64..2_500), 1..120),
    ) {
        let mut hall = Hall::new(config());
        let (mut there, mut banned) = (BTreeSet::new(), BTreeSet::new());
        let mut number = 0_u32;
        for (what, n, ms) in steps {
            match what {
                0 | 1 => {
                    hall.bound(n);
                    // Who is banned is sent out, and is not there.
                    if banned.contains(&n) { there.remove(&n) } else { there.insert(n) };
                }
                2 => { hall.gone(n); there.remove(&n); }
                3 | 4 => hall.ask(n, RoomAsk::Join {
                    name: Name::new("x").unwrap(), invitation: None, unpaid: Msat::ZERO,
                }),
                5 | 6 => { number += 1; hall.say(n, &number.to_string()); }
                7 if ms % 4 == 0 => { hall.host(HostCommand::Ban(who(n))); banned.insert(n); }
                8 if ms % 4 == 0 => { hall.restart(); there.clear(); hall.told.clear(); }
                _ => hall.pass(ms),
            }
            prop_assert_eq!(usize::try_from(hall.room.viewers()).unwrap(), there.len());
            let joined = hall.room.names().count();
            prop_assert!(joined <= there.len() && joined <= 4);
        }
        for n in 1..6 {
            let texts: Vec<u32> = hall.heard(n).iter().map(|(_, text)| text.parse().unwrap()).collect();
            prop_assert!(texts.windows(2).all(|pair| pair[0] < pair[1]), "{texts:?}");
        }
        hall.restart();
        for n in banned {
            hall.bound(n);
            prop_assert!(hall.closed.contains(&(n, CloseCode::Banned)));
        }
    }
}
