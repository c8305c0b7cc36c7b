//! What a payer's channel is to be: its limits, its value, its expiry. Spec: bitcoin 1.2.

use bitcoin::Amount;
use streampay_core::backend::{PurseOffer, RefusalCode};
use streampay_core::units::{Msat, PurseKey};

use super::Env;
use super::payer::Payer;
use super::record::Deed;
use crate::params::{ChannelParams, ParamFields};
use crate::script::{FundingOutput, OutputType};

/// Blocks beyond the payee's shortest life and the confirmations: for a funding that takes long.
const SLACK: u32 = 12;

impl Payer {
    /// Checks the payee's terms against the payer's limits, and fixes everything but the outpoint.
    pub(super) fn plan(
        &self,
        env: &Env<'_>,
        key: PurseKey,
        offer: &PurseOffer,
        most: Msat,
        tip: u32,
    ) -> Result<Deed, RefusalCode> {
        let params = ChannelParams::decode(&offer.params);
        let params = params.map_err(|_| RefusalCode::NoCommonMethod)?;
        let policy = &env.config.payer;
        if params.network != env.config.network {
            return Err(RefusalCode::NoCommonMethod);
        }
        if params.reserve > policy.reserve_max {
            return Err(RefusalCode::FeeTooHigh);
        }
        let step = offer.tick.sat_ceil();
        let value = plan_value(env, &params, most, step)?;
        let depth = params.depth_for(value).ok_or(RefusalCode::WrongAmount)?;
        let longest = params.life_max.min(policy.life);
        let needed = params
            .life_min
            .saturating_add(depth)
            .saturating_add(SLACK)
            .min(params.life_max);
        if depth > policy.depth_max || params.margin > policy.margin_max || needed > longest {
            return Err(RefusalCode::WrongLock);
        }
        let expiry = tip.checked_add(longest).ok_or(RefusalCode::Other)?;
        let payer = self.secret.public();
        let payee = params.payee.channel_key(&payer, key);
        let payee = payee.map_err(|_| RefusalCode::WrongLock)?;
        let kind = *params.types.first().unwrap_or(&OutputType::Taproot);
        FundingOutput::new(kind, payer, payee, expiry).map_err(|_| RefusalCode::WrongLock)?;
        Ok(Deed {
            kind: kind.code(),
            payer: payer.serialize().into(),
            payee: payee.serialize().into(),
            expiry,
            value: value.to_sat(),
            reserve: params.reserve.to_sat(),
            change: policy.home.to_bytes().into(),
            margin: params.margin,
            step,
            depth,
            since: tip,
        })
    }
}

/// The most that fits limits and budget, such that a whole number of ticks empties the channel, or
/// leaves an output that nodes relay.
fn plan_value(
    env: &Env<'_>,
    params: &ParamFields,
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
    let reserve = params.reserve.to_sat();
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
