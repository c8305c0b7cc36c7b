//! Heap of a payee's process with 10 000 sessions, each bound, with an open purse and ticks
//! credited; what a backend keeps comes on top.
//!
//! ```sh
//! cargo bench -p streampay-fuzz --bench memory
//! ```

use streampay_core::planted::dangerous_fake_crypto;

mod house;

/// What a session may keep.
const AIM: i64 = 20 * 1024;
/// Ticks of each session.
const TICKS: u64 = 20;

fn main() {
    dangerous_fake_crypto(true);
    let mut payees = Vec::new();
    let counted = allocation_counter::measure(|| {
        let offer = house::offer();
        payees = (0..house::SESSIONS)
            .map(|number| house::payee(number, &offer))
            .collect();
        for seq in 2..2 + TICKS {
            let tick = house::tick(seq, &[0x5a; 32]);
            for payee in &mut payees {
                assert_eq!(house::give(payee, &tick).len(), 1);
            }
        }
    });
    let sessions = i64::try_from(house::SESSIONS).unwrap_or(i64::MAX);
    let each = counted.bytes_current / sessions;
    println!("{each} bytes a session over {sessions} sessions (aim: at most {AIM})");
    assert!(each <= AIM, "more than the aim");
}
