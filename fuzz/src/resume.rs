//! Sessions taken up again by a side that lies about where they stood.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use streampay_core::sim::{Fault, Pair, PairConfig};
use streampay_core::units::Msat;
use streampay_core::wire::{self, Evidence, Message};

use crate::actions::Actions;
use crate::session::{Pretended, judge};

/// Connections of one input.
const RESUMES_MAX: usize = 12;
/// The longest time between two of them, in milliseconds.
const STEP_MS: u64 = 12_000;
/// So many messages of earlier connections are remembered.
const SEEN_MAX: usize = 64;

/// A session that breaks and is resumed again and again, after crashes of either side. What is
/// said at a resumption the bytes change: messages lost, said twice, replaced by those of earlier
/// connections, with receipts of another time, or with a bit flipped. At each step the
/// simulator's judge looks at all bounds; at the end both sides settle.
///
/// # Panics
/// Where money is lost or made, any bound is broken, or a side does not settle. Where somebody lied, a payment may be
/// lost to who lied.
pub fn resume(bytes: &[u8]) {
    let _fast = Pretended::signatures();
    let mut actions = Actions(bytes);
    let mut pair = Pair::new(PairConfig {
        seed: u64::from(actions.byte()),
        window: Msat::from_sat(u64::from(actions.byte() % 3)).unwrap_or_default(),
        ..PairConfig::default()
    });
    let lied = Arc::new(AtomicBool::new(false));
    let lies = actions.rest_after(2 * 5 * RESUMES_MAX);
    let mut liar = Liar {
        choices: lies,
        at: 0,
        seen: Vec::new(),
        lied: lied.clone(),
    };
    pair.tamper(move |_, bytes| liar.hear(bytes));
    for _ in 0..RESUMES_MAX {
        if actions.is_empty() {
            break;
        }
        let (kind, ms) = (actions.byte(), actions.number() % STEP_MS);
        let away_ms = actions.number() % STEP_MS;
        let outputs = u16::from(kind / 4);
        let fault = match kind % 4 {
            0 => Fault::CrashPayer { outputs, away_ms },
            1 => Fault::CrashPayee { outputs, away_ms },
            _ => Fault::LinkDown(away_ms),
        };
        let run = pair.run(ms + 2_000, &[(0, fault)]);
        judge(run, lied.load(Ordering::Relaxed));
    }
    pair.tamper(|_, bytes| vec![bytes.clone()]);
    let run = pair.run(STEP_MS, &[(0, Fault::LinkDown(500))]);
    judge(run, lied.load(Ordering::Relaxed));
    judge(pair.settle(), lied.load(Ordering::Relaxed));
}

/// Somebody between the two who can change what is said, within the bound connection.
struct Liar {
    choices: Vec<u8>,
    at: usize,
    seen: Vec<Bytes>,
    lied: Arc<AtomicBool>,
}

impl Liar {
    fn choice(&mut self) -> usize {
        let choice = self.choices.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        usize::from(choice)
    }

    fn hear(&mut self, bytes: &Bytes) -> Vec<Bytes> {
        let Ok(Some(message)) = wire::decode(bytes) else {
            return vec![bytes.clone()];
        };
        if !is_of_a_resumption(&message) {
            return vec![bytes.clone()];
        }
        let told = self.tell(bytes, message);
        if told.len() != 1 || told.first() != Some(bytes) {
            self.lied.store(true, Ordering::Relaxed);
        }
        if self.seen.len() < SEEN_MAX {
            self.seen.push(bytes.clone());
        }
        told
    }

    fn tell(&mut self, bytes: &Bytes, message: Message) -> Vec<Bytes> {
        let (kind, which) = (self.choice(), self.choice());
        let old = (which.checked_rem(self.seen.len())).and_then(|at| self.seen.get(at));
        match kind % 12 {
            7 => vec![],
            8 => vec![bytes.clone(), bytes.clone()],
            9 => old.into_iter().cloned().collect(),
            10 => {
                let mut changed = bytes.to_vec();
                let bit = which.wrapping_mul(251) % (changed.len() * 8);
                if let Some(byte) = changed.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                vec![changed.into()]
            }
            11 => {
                let old = old.and_then(|old| wire::decode(old).ok().flatten());
                let other = old.as_ref().and_then(evidence);
                vec![wire::encode(&with_evidence(message, other))]
            }
            _ => vec![bytes.clone()],
        }
    }
}

const fn is_of_a_resumption(message: &Message) -> bool {
    matches!(
        message,
        Message::Hello(_)
            | Message::Welcome(_)
            | Message::Bind(_)
            | Message::Ready(_)
            | Message::Resume(_)
            | Message::Reading(_)
    )
}

fn evidence(message: &Message) -> Option<Evidence> {
    match message {
        Message::Hello(hello) => hello.evidence,
        Message::Ready(ready) => ready.evidence,
        _ => None,
    }
}

fn with_evidence(mut message: Message, evidence: Option<Evidence>) -> Message {
    match &mut message {
        Message::Hello(hello) => hello.evidence = evidence,
        Message::Ready(ready) => ready.evidence = evidence,
        _ => {}
    }
    message
}
