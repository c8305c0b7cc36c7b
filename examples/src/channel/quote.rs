//! What a channel costs beyond the price, before anything is paid.

use streampay_btc::bitcoin::Amount;
use streampay_btc::machine::ChannelMachine;
use streampay_btc::params::{ChannelParams, ParamFields};
use streampay_core::wire::Terms;

/// Minutes a block takes on average.
const BLOCK_MIN: u32 = 10;

/// What the terms ask of a channel; none where they offer none.
#[must_use]
pub fn params(terms: &Terms) -> Option<ParamFields> {
    let mut methods = terms.methods.iter();
    let method = methods.find(|method| method.name == ChannelMachine::METHOD)?;
    ChannelParams::decode(&method.params).ok()
}

/// The offer in words.
#[must_use]
pub fn words(asked: &ParamFields, life: u32) -> String {
    let depths: Vec<String> = (asked.depths.iter())
        .map(|rule| {
            let most = Amount::from_sat(rule.value_max).to_sat();
            format!("{} up to {most} sat", rule.depth)
        })
        .collect();
    let longest = life.min(asked.life_max);
    let hours = longest.saturating_mul(BLOCK_MIN) / 60;
    format!(
        "by btc, over a channel on {} that you fund. Closing it costs {} sat, of which what is \
         unused comes back; funding it costs what your wallet says. It waits for confirmations \
         first ({}). If the streamer is never seen again, what you did not pay comes back after {} \
         blocks, about {hours} h",
        asked.network,
        asked.reserve.to_sat(),
        depths.join(", "),
        longest,
    )
}
