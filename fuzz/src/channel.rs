//! Bitcoin channels of two nodes on a simulated chain.

use streampay_btc::sim::play;

/// Bytes of one input: two a step.
const STEPS_MAX: usize = 2 * 256;

/// Two to four channels of a payer and a payee, judged by Bitcoin Core's script code: ticks that jump, are
/// lost, repeated or changed, disks that fail or are replaced by older ones, blocks,
/// reorganisations, fees that spike, mempools that are full, fundings that are taken unconfirmed, pay
/// little, are replaced or forgotten, payments to their addresses besides, a chain source that is away,
/// closes by one and by both. In the end all is settled, and nobody has lost more than the rules say.
///
/// # Panics
/// Where somebody has, or where a transaction is one that nodes do not relay.
pub fn channel(bytes: &[u8]) {
    // Two channels are open, and one tick is paid.
    let opening = [0, 0, 0, 1, 9, 8, 0, 0, 0, 1];
    let run: Vec<u8> = (opening.iter().chain(bytes.iter().take(STEPS_MAX)))
        .copied()
        .collect();
    let played = play(&run);
    assert!(played.is_ok(), "{played:?}");
}
