//! Long runs of two nodes with channels: `cargo run --release -p streampay-btc --example play --
//! FROM COUNT` plays so many seeds and stops at the first that breaks a rule.

use streampay_btc::sim::{Tally, play};
use streampay_core::sim::Rng;

fn main() -> Result<(), String> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut number = |default| numbers.next().and_then(Result::ok).unwrap_or(default);
    let (from, count) = (number(1), number(100));
    let mut all = Tally::default();
    for seed in from..from.saturating_add(count) {
        let mut rng = Rng::new(seed);
        let length = rng.next() % 12;
        let opening = [0, 0, 0, 1, 9, 8, 0, 0, 0, 1];
        let bytes: Vec<u8> = opening
            .into_iter()
            .chain((0..=length).flat_map(|_| rng.bytes()))
            .collect();
        let tally = play(&bytes).map_err(|error| format!("seed {seed}: {error}"))?;
        all.closed = all.closed.saturating_add(tally.closed);
        all.mutual = all.mutual.saturating_add(tally.mutual);
        all.refunded = all.refunded.saturating_add(tally.refunded);
        all.lost = all.lost.saturating_add(tally.lost);
        all.unfunded = all.unfunded.saturating_add(tally.unfunded);
        all.unconfirmed = all.unconfirmed.saturating_add(tally.unconfirmed);
        all.ticks = all.ticks.saturating_add(tally.ticks);
        all.besides = all.besides.saturating_add(tally.besides);
    }
    println!("{count} runs from seed {from}: {all:?}");
    Ok(())
}
