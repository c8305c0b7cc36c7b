//! Ticks a second of a payee's process with 10 000 sessions, on one core, without real signatures
//! and without a disk: from the bytes of a tick over the backend's answer and what is made durable
//! to the bytes of the ack.
//!
//! ```sh
//! cargo bench -p streampay-fuzz --bench ticks
//! ```

use std::fs::read_to_string;
use std::sync::Arc;
use std::time::Instant;

use streampay_core::planted::dangerous_fake_crypto;
use streampay_core::wire::{Message, Terms, decode};

mod house;

/// What a streamer's machine should do at least.
const AIM: f64 = 1_000_000.0;
/// Ticks of each session.
const ROUNDS: u64 = 40;

fn main() {
    dangerous_fake_crypto(true);
    let offer = house::offer();
    let payees = (0..house::SESSIONS).map(|number| house::payee(number, &offer));
    let mut payees: Vec<_> = payees.collect();
    let start = Instant::now();
    let (mut best, mut acks, mut seq) = (0_f64, 0_u64, 1);
    check(&offer);
    // Five times, for other processes fill the caches too.
    for _ in 0..5 {
        let (before, first) = (seconds(start), acks);
        for _ in 0..ROUNDS {
            seq += 1;
            let tick = house::tick(seq, &[0x5a; 32]);
            for payee in &mut payees {
                acks += u64::try_from(house::give(payee, &tick).len()).unwrap_or_default();
            }
        }
        let ticks = u32::try_from(acks - first).unwrap_or(u32::MAX);
        best = best.max(f64::from(ticks) / (seconds(start) - before));
    }
    let wanted = (seq - 1) * house::SESSIONS;
    assert_eq!(acks, wanted, "a tick was not acknowledged");
    let sessions = house::SESSIONS;
    println!("{best:.0} ticks a second over {sessions} sessions (aim: at least {AIM:.0})");
}

/// What is counted is acks, of all that was paid.
fn check(offer: &Arc<Terms>) {
    let mut payee = house::payee(house::SESSIONS, offer);
    let said = house::give(&mut payee, &house::tick(2, &[0x5a; 32]));
    let said: Vec<_> = said.iter().map(|said| decode(said)).collect();
    let acks = |said: &_| match said {
        Ok(Some(Message::Ack(ack))) => Some(ack.evidence.receipt),
        _ => None,
    };
    let receipts: Vec<_> = said.iter().filter_map(acks).collect();
    let total = payee.credited();
    assert!(receipts.iter().all(|of| of.seq.0 == 2 && of.total == total));
    assert_eq!((said.len(), receipts.len()), (1, 1), "{said:?}");
}

/// The processor's time that this process had, in seconds; where nothing tells, the clock's.
fn seconds(start: Instant) -> f64 {
    let told = read_to_string("/proc/self/schedstat").unwrap_or_default();
    let told = told
        .split_whitespace()
        .next()
        .and_then(|ns| ns.parse::<f64>().ok());
    told.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns / 1e9)
}
