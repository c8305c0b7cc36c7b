//! Both machines, driven by bytes.

use streampay_core::planted::dangerous_fake_crypto;
use streampay_core::session::{CloseCode, Command, Line, Name, RoomNews};
use streampay_core::sim::{Direction, Fault, Pair, PairConfig, Violation, Weather};
use streampay_core::units::Msat;
use streampay_core::wire::{self, RoomCode};

use crate::actions::Actions;

/// Actions of one input: each is a few bytes.
const ACTIONS_MAX: usize = 24;
/// The longest that one action lasts, in milliseconds.
const STEP_MS: u64 = 20_000;
/// The longest absence, in milliseconds: settling at the end waits for as much.
const AWAY_MS: u64 = 20_000;

/// A whole session under faults, commands and forged messages that the bytes choose: weather,
/// partitions, crashes at any output, a mint that is away or loses its answers, prices that
/// change, messages of anybody's. At each step the simulator's judge looks at all bounds; at the
/// end both sides settle.
///
/// # Panics
/// Where money is lost or made, any bound is broken, or a side does not settle. Where somebody forged, a payment may be
/// lost to who forged.
pub fn session(bytes: &[u8]) {
    let _fast = Pretended::signatures();
    let mut actions = Actions(bytes);
    let mut pair = Pair::new(PairConfig {
        seed: u64::from(actions.byte()),
        window: Msat::from_sat(u64::from(actions.byte() % 4)).unwrap_or_default(),
        preview: Msat::from_sat(u64::from(actions.byte() % 4)).unwrap_or_default(),
        resumable_s: 3_600,
        ..PairConfig::default()
    });
    let mut forged = false;
    for _ in 0..ACTIONS_MAX {
        if actions.is_empty() {
            break;
        }
        let ms = actions.number() % STEP_MS;
        let kind = actions.byte();
        match kind % 16 {
            // Beside the commands of a session: what inputs of before this could not say.
            1 if kind >= 128 => social(&mut pair, &mut actions),
            0 => forged |= inject(&mut pair, &mut actions),
            1 => command(&mut pair, &mut actions),
            kind => {
                let fault = fault(kind, &mut actions);
                judge(pair.run(ms, &[(0, fault)]), forged);
                continue;
            }
        }
        judge(pair.run(ms, &[]), forged);
    }
    judge(pair.settle(), forged);
}

/// Signatures that protect nothing and cost nothing, until it is dropped. Who forges here does it
/// within a bound connection, and has no key; the target `receipts` looks at real ones.
pub(crate) struct Pretended;

impl Pretended {
    pub(crate) fn signatures() -> Self {
        dangerous_fake_crypto(true);
        Self
    }
}

impl Drop for Pretended {
    fn drop(&mut self) {
        dangerous_fake_crypto(false);
    }
}

/// Whoever forges within a bound connection is the peer: it can end the session, and refuse what it was paid. It
/// cannot make money, and breaks no bound of the side that it lies to.
pub(crate) fn judge(run: Result<(), Violation>, forged: bool) {
    match run {
        Ok(()) => {}
        Err(violation) => assert!(forged && violation == Violation::Lost, "{violation}"),
    }
}

/// True where it was a message.
fn inject(pair: &mut Pair, actions: &mut Actions<'_>) -> bool {
    let to = actions.direction();
    let message = actions.message();
    pair.inject(to, &message);
    matches!(wire::decode(&message), Ok(Some(_)))
}

/// Tips, and what two users say to each other by way of a room, whether or not it makes sense.
fn social(pair: &mut Pair, actions: &mut Actions<'_>) {
    pair.open_room();
    let (what, how) = (actions.byte(), actions.byte());
    let sats = Msat::from_sat(u64::from(how % 16)).unwrap_or_default();
    let text = |how: u8| Line::new(format!("line {how}")).ok();
    let news = match what % 9 {
        0 => return pair.tip(sats),
        1 => {
            let Ok(name) = Name::new("ann") else { return };
            let join = Command::Join {
                name,
                invitation: None,
                max_fee: sats,
            };
            return pair.command(Direction::ToPayer, join);
        }
        2 => return pair.command(Direction::ToPayer, Command::Leave),
        3 => {
            let Some(text) = text(how) else { return };
            return pair.command(Direction::ToPayer, Command::Chat(text));
        }
        4 => RoomNews::Joined { name: "ann".into() },
        5 => RoomNews::Refused {
            code: match how % 3 {
                0 => RoomCode::Unpaid,
                1 => RoomCode::Full,
                _ => RoomCode::Other,
            },
        },
        6 => RoomNews::Presence {
            epoch: u64::from(how),
            viewers: u32::from(what),
        },
        7 => {
            let Some(text) = text(how) else { return };
            let sender = (how % 2 == 0).then(|| "bob".into());
            RoomNews::Chat { sender, text }
        }
        _ => RoomNews::Tip {
            sender: "bob".into(),
            amount: sats,
        },
    };
    pair.command(Direction::ToPayee, Command::Room(news));
}

fn command(pair: &mut Pair, actions: &mut Actions<'_>) {
    let to = actions.direction();
    let command = match actions.byte() % 6 {
        0 => Command::Resume,
        1 => Command::WriteOff,
        2 => Command::Agree,
        3 => Command::Decline,
        4 => Command::RequestReceipt,
        _ => Command::Close(CloseCode::Done),
    };
    pair.command(to, command);
}

fn fault(kind: u8, actions: &mut Actions<'_>) -> Fault {
    let (outputs, away_ms) = (u16::from(actions.byte()), actions.number() % AWAY_MS);
    match kind {
        2 | 3 => Fault::CrashPayer { outputs, away_ms },
        4 | 5 => Fault::CrashPayee { outputs, away_ms },
        6 | 7 => Fault::LinkDown(away_ms),
        8 => Fault::MintAway(away_ms),
        9 => Fault::LoseAnswers(actions.byte() % 8),
        10 => Fault::PausePayer(away_ms),
        11 => Fault::FirstMethodAway(away_ms),
        12 => Fault::RefuseOpenings(actions.byte() % 4),
        13 => Fault::OfferTariff(50 + outputs),
        14 => Fault::TopUp(outputs),
        _ => Fault::Weather(weather(actions)),
    }
}

fn weather(actions: &mut Actions<'_>) -> Weather {
    let mut percent = || actions.byte() % 60;
    Weather {
        lose: percent(),
        repeat: percent(),
        delay: percent(),
    }
}
