//! What a payer's channel is to be: its limits, its value, its expiry. Spec: bitcoin 1.2.

use bitcoin::{Amount, Network};
use streampay_core::backend::{PurseOffer, RefusalCode};
use streampay_core::units::{Msat, PurseKey, Unix};

use super::payee::cost_max;
use super::payer::Payer;
use super::record::Deed;
use super::watch::close_weight;
use super::{Chain, Env};
use crate::chain::FeeTable;
use crate::params::{ChannelParams, ParamFields};
use crate::policy::PayeePolicy;
use crate::script::{FundingOutput, OutputType};
use crate::tx::fee_for;

/// Blocks beyond the payee's shortest life and the confirmations: for a funding that takes long.
const SLACK: u32 = 12;

/// A block of the main chain, and when it was made.
const MAIN_BLOCK: (u32, u64) = (840_000, 1_713_571_767);
/// Blocks came every 578 seconds since the first, and every 594 since that one: never faster than this for
/// long.
const BLOCK_S_MIN: u64 = 540;

/// A reserve above so many times what one's own estimate makes it is more than a close needs: a payee that
/// closes together with the payer could have what is over for itself.
const RESERVE_TIMES: u64 = 4;
/// The estimate for so many blocks.
const SOON: u32 = 2;
/// A reserve of today goes by the estimate for so many, as a payee's does by default.
const TODAY: u32 = 6;

impl Payer {
    /// Checks the payee's terms against the payer's limits, and fixes everything but the outpoint.
    pub(super) fn plan(
        &self,
        env: &Env<'_>,
        key: PurseKey,
        offer: &PurseOffer,
        most: Msat,
        chain: &Chain,
    ) -> Result<Deed, RefusalCode> {
        let tip = chain.tip;
        let params = ChannelParams::decode(&offer.params);
        let params = params.map_err(|_| RefusalCode::NoCommonMethod)?;
        let policy = &env.config.payer;
        if params.network != env.config.network {
            return Err(RefusalCode::NoCommonMethod);
        }
        let step = offer.tick.sat_ceil();
        let kind = *params.types.first().unwrap_or(&OutputType::Taproot);
        let longest = params.life_max.min(policy.life);
        let close = fee_for(close_weight(kind), chain.fees.rate(longest / 2));
        let covers = |reserve: Amount| {
            let most = cost_max(reserve.to_sat(), step);
            close.is_ok_and(|fee| fee.to_sat() <= most)
        };
        let reserve = reserve(params.reserve, policy.reserve_max, &chain.fees, covers)?;
        let value = plan_value(env, &params, reserve, most, step)?;
        let depth = params.depth_for(value).ok_or(RefusalCode::WrongAmount)?;
        let needed = params
            .life_min
            .saturating_add(depth)
            .saturating_add(SLACK)
            .min(params.life_max);
        if depth > policy.depth_max || params.margin > policy.margin_max || needed > longest {
            return Err(RefusalCode::WrongLock);
        }
        if height_max(params.network, env.now.unix).is_some_and(|most| tip > most) {
            return Err(RefusalCode::Other);
        }
        let expiry = tip.checked_add(longest).ok_or(RefusalCode::Other)?;
        let payer = self.secret.public();
        let payee = params.payee.channel_key(&payer, key);
        let payee = payee.map_err(|_| RefusalCode::WrongLock)?;
        FundingOutput::new(kind, payer, payee, expiry).map_err(|_| RefusalCode::WrongLock)?;
        Ok(Deed {
            kind: kind.code(),
            payer: payer.serialize().into(),
            payee: payee.serialize().into(),
            expiry,
            value: value.to_sat(),
            reserve: reserve.to_sat(),
            change: policy.home.to_bytes().into(),
            margin: params.margin,
            step,
            depth,
            since: tip,
        })
    }
}

/// The reserve that the terms ask, or more: they may be of a cheaper day, and where theirs does not cover a
/// close now the payee would take no tick. Never more than the payer's limit. Spec: bitcoin 1.2, 4.6.
fn reserve(
    asked: Amount,
    limit: Amount,
    fees: &FeeTable,
    covers: impl Fn(Amount) -> bool,
) -> Result<Amount, RefusalCode> {
    let usual = PayeePolicy::reserve_at(fees.rate(SOON)).to_sat();
    if asked.to_sat() > usual.saturating_mul(RESERVE_TIMES) || asked > limit {
        return Err(RefusalCode::FeeTooHigh);
    }
    if covers(asked) {
        return Ok(asked);
    }
    let today = PayeePolicy::reserve_at(fees.rate(TODAY));
    let today = today.max(asked).min(limit);
    if covers(today) {
        Ok(today)
    } else {
        Err(RefusalCode::FeeTooHigh)
    }
}

/// The highest that the chain can be by now, for the expiry is counted from where it is said to be; none
/// on a chain whose blocks keep no pace. All signets begin with the same block, and each keeps its own.
fn height_max(network: Network, now: Unix) -> Option<u32> {
    if network != Network::Bitcoin {
        return None;
    }
    let (height, at) = MAIN_BLOCK;
    let since = now.0.saturating_sub(at) / BLOCK_S_MIN;
    let since = u32::try_from(since).unwrap_or(u32::MAX);
    Some(height.saturating_add(since))
}

/// The most that fits limits and budget, such that a whole number of ticks empties the channel, or
/// leaves an output that nodes relay.
fn plan_value(
    env: &Env<'_>,
    params: &ParamFields,
    reserve: Amount,
    most: Msat,
    step: u64,
) -> Result<Amount, RefusalCode> {
    let policy = &env.config.payer;
    let dust = policy.home.minimal_non_dust().to_sat();
    let rest = if step < dust { dust } else { 0 };
    let most = most
        .sat_floor()
        .saturating_sub(policy.funding_fee_max.to_sat())
        .min(policy.value_max.to_sat())
        .min(params.value_max().to_sat());
    let reserve = reserve.to_sat();
    let ticks = most.saturating_sub(reserve).saturating_sub(rest);
    let count = ticks.checked_div(step).ok_or(RefusalCode::WrongAmount)?;
    if count == 0 {
        return Err(RefusalCode::OverBudget);
    }
    let value = count
        .checked_mul(step)
        .and_then(|value| value.checked_add(reserve))
        .and_then(|value| value.checked_add(rest));
    value.map(Amount::from_sat).ok_or(RefusalCode::WrongAmount)
}
