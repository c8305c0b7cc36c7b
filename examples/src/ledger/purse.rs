//! Whether the two books agree on one purse.

use cdk::mint_url::MintUrl;
use streampay_btc::bitcoin::Amount;
use streampay_btc::machine::{ChannelReport, Role as ChannelRole};
use streampay_cashu::{AcceptedMint, LockedParams, PurseFigures, SwapParams, check_mint_url};
use streampay_core::session::{PurseLedger, Role, SessionLedger};
use streampay_core::units::{Msat, PurseKey};

use super::cash::{earned, given, of};
use crate::pay::Pay;

/// One row, and the session that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purse<'a> {
    pub(super) session: &'a SessionLedger,
    pub(super) row: &'a PurseLedger,
}

/// What is wrong, and by how much.
pub(super) type Wrong = (&'static str, i128);

const GONE: &str = "more is gone than was ever paid from it";
const SHORT: &str = "less was redeemed than was acknowledged";
const NOTHING: &str = "nothing was redeemed of what was acknowledged";
const UNSIGNED: &str = "more was acknowledged than the channel's last signature pays";
const UNCOLLECTED: &str = "what was acknowledged was never collected: the channel's time was over";
const CLOSED_SHORT: &str =
    "less came of the channel than was acknowledged, by more than closing may cost";

/// True of what is nothing wrong in a folder that was restored from a backup. Ecash of the purse came home to the
/// self that was lost, which spent it on: nobody can find it again, and the mint tells nobody for what it went. Of a
/// channel the signatures that came after the backup were lost, and a receipt says what they paid.
pub(super) fn may_be_lost(what: &str) -> bool {
    [GONE, SHORT, NOTHING, UNSIGNED, UNCOLLECTED, CLOSED_SHORT].contains(&what)
}

/// The mints of a payee's purses that were redeemed, as far as that was worth it.
pub(super) fn mints_to_redeem_at(session: &SessionLedger) -> Vec<MintUrl> {
    let rows = session.purses.iter();
    let rows = rows.filter(|row| session.role == Role::Payee && row.home);
    rows.flat_map(|row| mints_of(&Purse { session, row }))
        .filter_map(|mint| check_mint_url(mint.url()).ok())
        .collect()
}

/// The mints that the terms name for the purse's method.
fn mints_of(purse: &Purse<'_>) -> Vec<AcceptedMint> {
    let mut methods = purse.session.terms.methods.iter();
    let method = methods.find(|method| method.name == purse.row.method);
    let mints = method.and_then(|method| match method.name == Pay::Swap.method() {
        true => Some(SwapParams::decode(&method.params).ok()?.mints().to_vec()),
        false => Some(LockedParams::decode(&method.params).ok()?.mints().to_vec()),
    });
    mints.unwrap_or_default()
}

/// A purse of ecash, beside what the wallet's book has of it at a mint with such an input fee. Where it
/// has nothing, the purse was of one of the mints `anywhere`.
pub(super) fn ecash<'a>(
    purse: &Purse<'_>,
    figures: &PurseFigures,
    mint: Option<(&MintUrl, u64)>,
    anywhere: impl Iterator<Item = (&'a MintUrl, u64)>,
) -> Vec<Wrong> {
    let price = |(mint, ppk): (&MintUrl, u64)| Price::at(purse, mint, ppk);
    match (purse.session.role, mint) {
        (Role::Payer, mint) => paid(purse.row, figures, mint.and_then(price)),
        (Role::Payee, Some(mint)) => received(purse.row, figures, price(mint)),
        (Role::Payee, None) => {
            let dust = anywhere.filter_map(price).any(|price| {
                let due = price.of(purse.row, purse.row.acknowledged);
                price.is_dust(due)
            });
            let wrong = received(purse.row, figures, None);
            wrong.into_iter().filter(|_| !dust).collect()
        }
    }
}

fn paid(row: &PurseLedger, figures: &PurseFigures, price: Option<Price>) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let mut same = |what, record: Msat, book: Msat| {
        if record != book {
            wrong.push((what, of(record) - of(book)));
        }
    };
    if row.opened {
        same(
            "the session and the wallet differ on what left for it",
            row.cost,
            figures.left,
        );
    }
    if row.home {
        same(
            "the session and the wallet differ on what came back",
            row.returned,
            figures.returned,
        );
    }
    if given(figures) < 0 {
        wrong.push(("more came back than had left", given(figures)));
    }
    let worth = match price {
        Some(price) => price.gives(row, row.made),
        // From one that was called off nothing was paid.
        None if !row.opened => 0,
        None => return wrong,
    };
    let over = given(figures) - worth;
    let is_dust = price.is_some_and(|price| price.is_dust(over));
    if row.home && over > 0 && !is_dust {
        wrong.push((GONE, over));
    }
    wrong
}

fn received(row: &PurseLedger, figures: &PurseFigures, price: Option<Price>) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if !row.home {
        return wrong;
    }
    if row.returned != figures.received {
        wrong.push((
            "the session and the wallet differ on what arrived",
            of(row.returned) - of(figures.received),
        ));
    }
    if let Some(price) = price {
        let short = price.of(row, row.acknowledged) - earned(figures);
        if short > 0 && !price.is_dust(short) {
            wrong.push((SHORT, short));
        }
    } else if !row.acknowledged.is_zero() && figures.received.is_zero() {
        wrong.push((NOTHING, of(row.acknowledged)));
    }
    wrong
}

/// The home's channels, by their own records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channels<'a> {
    pub(super) all: &'a [ChannelReport],
    /// Coins of the streamer's help to close them: then a close may cost all that it collects.
    pub(super) has_fee_wallet: bool,
}

/// A bitcoin channel, beside what its own records say; none where nobody ever said on which chain they are.
pub(super) fn channel(
    purse: &Purse<'_>,
    key: PurseKey,
    channels: Option<Channels<'_>>,
) -> Vec<Wrong> {
    let (row, mut wrong) = (purse.row, Vec::new());
    let own = channels.and_then(|channels| channels.all.iter().find(|own| own.purse == key));
    let (Some(channels), Some(own)) = (channels, own) else {
        // One that never came to be has no records.
        if row.opened {
            wrong.push(("there is nothing that says what became of its channel", 0));
        }
        return wrong;
    };
    let role = match purse.session.role {
        Role::Payer => ChannelRole::Payer,
        Role::Payee => ChannelRole::Payee,
    };
    if role != own.role {
        wrong.push(("the channel is the other side's", 0));
    }
    let settled = own.settled.map_or(0, msat);
    if row.home && of(row.returned) != settled {
        wrong.push((
            "the session and the channel differ on what came of it",
            of(row.returned) - settled,
        ));
    }
    // The reserve is no payment, and in the first signature.
    let ticks = (msat(own.paid) - msat(own.reserve)).max(0);
    if of(row.acknowledged) > ticks {
        wrong.push((UNSIGNED, of(row.acknowledged) - ticks));
    }
    match role {
        ChannelRole::Payer => wrong.extend(paid_into(row, own)),
        ChannelRole::Payee if row.home && !row.acknowledged.is_zero() => {
            wrong.extend(collected(row, own, channels.has_fee_wallet));
        }
        ChannelRole::Payee => {}
    }
    wrong
}

/// What was paid to the address is what was paid on, what came back, and fees: of a close at most the reserve, for
/// no signature gives more. A refund takes back what was paid too, and its fee is at most half of it; of one that an
/// older version settled, and that was paid from, it is not known that it was one.
fn paid_into(row: &PurseLedger, own: &ChannelReport) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let cost = msat(own.value) + msat(own.funding_fee);
    if row.opened && of(row.cost) != cost {
        let what = "the session and the channel differ on what left for it";
        wrong.push((what, of(row.cost) - cost));
    }
    let Some(settled) = own.settled.filter(|_| row.home && own.outpoint.is_some()) else {
        return wrong;
    };
    let gone = msat(own.value) - msat(settled);
    let refunded = own.refunded == Some(true) || own.paid == Amount::ZERO;
    let most = match refunded {
        true => msat(own.value) / 2,
        false => msat(own.paid),
    };
    if gone > most {
        wrong.push((GONE, gone - most));
    }
    if gone < 0 {
        wrong.push(("more came back than had left", gone));
    }
    wrong
}

/// What came of a payee's channel is what is signed over, less what closing may cost. Spec: bitcoin 5.4.
fn collected(row: &PurseLedger, own: &ChannelReport, has_fee_wallet: bool) -> Option<Wrong> {
    let settled = own.settled.map_or(0, msat);
    if settled == 0 {
        return Some((UNCOLLECTED, of(row.acknowledged)));
    }
    let (paid, reserve) = (own.paid.to_sat(), own.reserve.to_sat());
    let due = paid.saturating_sub(reserve);
    let most = match has_fee_wallet {
        true => paid,
        false => reserve.saturating_add(due / 3).max(paid / 2),
    };
    let least = msat(own.paid) - i128::from(most) * 1_000;
    (settled < least).then_some((CLOSED_SHORT, least - settled))
}

fn msat(amount: Amount) -> i128 {
    i128::from(amount.to_sat()) * 1_000
}

/// What a mint's ecash is worth in a session.
#[derive(Clone, Copy, Debug)]
struct Price {
    /// One payment, in satoshi of the mint.
    step: u64,
    /// What comes on top of each: a plain token brings the fee of redeeming it along, in satoshi of the mint.
    fee: u64,
    /// What redeeming a proof takes at most, in thousandths of a satoshi.
    ppk: u64,
}

impl Price {
    fn at(purse: &Purse<'_>, mint: &MintUrl, ppk: u64) -> Option<Self> {
        let mints = mints_of(purse);
        let url = mint.to_string();
        let same = |of: &&AcceptedMint| of.url().trim_end_matches('/') == url.trim_end_matches('/');
        let mint = mints.iter().find(same)?;
        let step = mint.price_of(purse.row.step.sat_ceil());
        let fee = match purse.row.method == Pay::Swap.method() {
            true => token_fee(step, ppk),
            false => 0,
        };
        Some(Self { step, fee, ppk })
    }

    /// What `credit` took in the mint's ecash, in millisatoshi.
    fn of(self, row: &PurseLedger, credit: Msat) -> i128 {
        let steps = credit.msat().checked_div(row.step.msat());
        i128::from(steps.unwrap_or_default()) * i128::from(self.step) * 1_000
    }

    /// The most that payments of `credit` took of the payer's, in millisatoshi.
    fn gives(self, row: &PurseLedger, credit: Msat) -> i128 {
        let steps = credit.msat().checked_div(row.step.msat());
        let fees = i128::from(steps.unwrap_or_default()) * i128::from(self.fee) * 1_000;
        self.of(row, credit) + fees
    }

    /// True where a rest is worth no more than the fee of redeeming it. Nobody does.
    fn is_dust(self, msat: i128) -> bool {
        let sat = u64::try_from(msat / 1_000).unwrap_or(u64::MAX);
        let steps = sat.div_ceil(self.step.max(1));
        let proofs = steps.saturating_mul(self.step.count_ones().into());
        sat <= proofs.saturating_mul(self.ppk).div_ceil(1_000)
    }
}

/// What a token holds beyond `net`, which is left after the fee of redeeming it: the least that pays for its
/// proofs, of which each is a power of two. Spec: cashu 2.
fn token_fee(net: u64, ppk: u64) -> u64 {
    let most = u64::from(u64::BITS).saturating_mul(ppk).div_ceil(1_000);
    let pays = |fee: &u64| {
        let proofs = u64::from(net.saturating_add(*fee).count_ones());
        proofs.saturating_mul(ppk).div_ceil(1_000) <= *fee
    };
    (0..=most).find(pays).unwrap_or(most)
}

#[cfg(test)]
mod tests;
