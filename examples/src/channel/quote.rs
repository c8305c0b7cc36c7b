//! What a channel costs beyond the price, before anything is paid.

use streampay_btc::bitcoin::Amount;
use streampay_btc::machine::ChannelMachine;
use streampay_btc::params::{ChannelParams, ParamFields};
use streampay_core::units::Msat;
use streampay_core::wire::Terms;

use super::{Channels, hours, sat};

/// The least that every kind of output may be worth. Spec: bitcoin 4.4.
const DUST_SAT: u64 = 546;
/// What the terms ask of a channel; none where they offer none.
#[must_use]
pub fn params(terms: &Terms) -> Option<ParamFields> {
    let mut methods = terms.methods.iter();
    let method = methods.find(|method| method.name == ChannelMachine::METHOD)?;
    ChannelParams::decode(&method.params).ok()
}

/// The least budget for a channel with one payment: settle reserve, what is set aside for the funding's
/// fee, and an output that nodes relay.
#[must_use]
pub fn needs(asked: &ParamFields, channels: &Channels, payment: Msat) -> Msat {
    let beside = asked.reserve.to_sat();
    let beside = beside.saturating_add(channels.funding_fee_max().to_sat());
    sat(beside.saturating_add(DUST_SAT)).saturating_plus(payment)
}

/// The offer in words, to a payer that puts at most `reserve_max` aside for closing.
#[must_use]
pub fn words(asked: &ParamFields, life: u32, reserve_max: Amount) -> String {
    let depths: Vec<String> = (asked.depths.iter())
        .map(|rule| match (rule.depth, rule.value_max) {
            (0, most) => format!(
                "none up to {most} sat where your wallet's transaction is of version 3, else 1"
            ),
            (depth, most) => format!("{depth} up to {most} sat"),
        })
        .collect();
    let longest = life.min(asked.life_max);
    let hours = hours(longest);
    format!(
        "by btc, over a channel on {} that you fund. Closing it costs {} sat, where fees rise \
         before it opens up to {}, of which what is unused comes back if the streamer closes together with you; funding it costs what your wallet says. It waits for confirmations \
         first ({}). If the streamer is never seen again, what you did not pay comes back after {} \
         blocks, about {hours} h",
        asked.network,
        asked.reserve.to_sat(),
        reserve_max.to_sat(),
        depths.join(", "),
        longest,
    )
}
