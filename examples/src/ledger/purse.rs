//! Whether the two books agree on one purse.

use cdk::mint_url::MintUrl;
use streampay_btc::machine::{ChannelReport, Role as ChannelRole};
use streampay_cashu::{AcceptedMint, LockedParams, PurseFigures, SwapParams, check_mint_url};
use streampay_core::session::{PurseLedger, Role, SessionLedger};
use streampay_core::units::Msat;

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

/// True of what is nothing wrong in a folder that was restored from a backup: ecash of the purse came home to the
/// self that was lost, which spent it on. Nobody can find it again, and the mint tells nobody for what it went.
pub(super) fn may_be_spent_on(what: &str) -> bool {
    [GONE, SHORT, NOTHING].contains(&what)
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
    // From one that was called off nothing was paid.
    let (worth, is_exact) = match price {
        Some(price) => (price.of(row, row.made), price.is_exact),
        None => (0, false),
    };
    let over = given(figures) - worth;
    let is_dust = price.is_some_and(|price| price.is_dust(over));
    if row.home && (is_exact || !row.opened) && over > 0 && !is_dust {
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

/// A bitcoin channel, beside what its own records say. Without a chain to look at there are none,
/// and nothing is said.
pub(super) fn channel(purse: &Purse<'_>, channel: Option<&ChannelReport>) -> Vec<Wrong> {
    let (row, mut wrong) = (purse.row, Vec::new());
    let Some(channel) = channel else {
        return wrong;
    };
    let settled = channel.settled.map_or(0, |amount| amount.to_sat());
    let settled = i128::from(settled) * 1_000;
    let role = match purse.session.role {
        Role::Payer => ChannelRole::Payer,
        Role::Payee => ChannelRole::Payee,
    };
    if role != channel.role {
        wrong.push(("the channel is the other side's", 0));
    }
    if row.home && of(row.returned) != settled {
        wrong.push((
            "the session and the channel differ on what came of it",
            of(row.returned) - settled,
        ));
    }
    let paid = i128::from(channel.paid.to_sat()) * 1_000;
    if of(row.acknowledged) > paid {
        wrong.push((
            "more was acknowledged than the channel's last signature pays",
            of(row.acknowledged) - paid,
        ));
    }
    wrong
}

/// What a mint's ecash is worth in a session.
#[derive(Clone, Copy, Debug)]
struct Price {
    /// One payment, in satoshi of the mint.
    step: u64,
    /// True where a payment is just that; plain tokens bring a fee along.
    is_exact: bool,
    /// What redeeming a proof takes at most, in thousandths of a satoshi.
    ppk: u64,
}

impl Price {
    fn at(purse: &Purse<'_>, mint: &MintUrl, ppk: u64) -> Option<Self> {
        let mints = mints_of(purse);
        let url = mint.to_string();
        let same = |of: &&AcceptedMint| of.url().trim_end_matches('/') == url.trim_end_matches('/');
        let mint = mints.iter().find(same)?;
        Some(Self {
            step: mint.price_of(purse.row.step.sat_ceil()),
            is_exact: purse.row.method != Pay::Swap.method(),
            ppk,
        })
    }

    /// What `credit` took in the mint's ecash, in millisatoshi.
    fn of(self, row: &PurseLedger, credit: Msat) -> i128 {
        let steps = credit.msat().checked_div(row.step.msat());
        i128::from(steps.unwrap_or_default()) * i128::from(self.step) * 1_000
    }

    /// True where a rest is worth no more than the fee of redeeming it. Nobody does.
    fn is_dust(self, msat: i128) -> bool {
        let sat = u64::try_from(msat / 1_000).unwrap_or(u64::MAX);
        let steps = sat.div_ceil(self.step.max(1));
        let proofs = steps.saturating_mul(self.step.count_ones().into());
        sat <= proofs.saturating_mul(self.ppk).div_ceil(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streampay_core::units::PurseId;

    fn sat(sat: u64) -> Msat {
        Msat::from_sat(sat).unwrap()
    }

    /// One of 20 sat, opened for 2 sat, 12 ticks made and acknowledged, 7 sat back for 1 sat.
    fn row() -> PurseLedger {
        PurseLedger {
            purse: PurseId(0),
            method: "cashu-chain".to_owned(),
            opened: true,
            home: true,
            capacity: sat(20),
            cost: sat(22),
            made: sat(12),
            acknowledged: sat(12),
            step: sat(1),
            returned: sat(7),
        }
    }

    fn figures() -> PurseFigures {
        PurseFigures {
            left: sat(22),
            returned: sat(7),
            received: Msat::ZERO,
            fees: sat(3),
        }
    }

    const PRICE: Option<Price> = Some(Price {
        step: 1,
        is_exact: true,
        ppk: 100,
    });

    #[test]
    fn payers_purse_fits_or_what_does_not_is_named() {
        type Doctor = fn(&mut PurseLedger, &mut PurseFigures);
        let cases: [(Doctor, &[(&str, i128)]); 7] = [
            (|_, _| {}, &[]),
            (|row, _| row.cost = sat(23), &[("what left for it", 1_000)]),
            (
                |row, _| row.returned = sat(6),
                &[("what came back", -1_000)],
            ),
            (
                // A rest of one proof, which is worth its fee.
                |row, figures| {
                    (row.returned, figures.returned) = (sat(6), sat(6));
                },
                &[],
            ),
            (
                |row, figures| {
                    (row.returned, figures.returned) = (sat(4), sat(4));
                },
                &[("than was ever paid", 3_000)],
            ),
            (
                // Not home yet: nothing is said of what came back.
                |row, figures| {
                    (row.home, row.returned) = (false, Msat::ZERO);
                    figures.returned = sat(2);
                },
                &[],
            ),
            (
                |row, figures| {
                    (row.returned, figures.returned) = (sat(30), sat(30));
                },
                &[("came back than had left", -11_000)],
            ),
        ];
        for (number, (doctor, expect)) in cases.into_iter().enumerate() {
            let (mut row, mut figures) = (row(), figures());
            doctor(&mut row, &mut figures);
            let wrong = paid(&row, &figures, PRICE);
            assert_eq!(wrong.len(), expect.len(), "case {number}: {wrong:?}");
            for ((what, msat), (part, by)) in wrong.iter().zip(expect) {
                assert!(
                    what.contains(part) && msat == by,
                    "case {number}: {wrong:?}"
                );
            }
        }
    }

    #[test]
    fn payees_purse_was_redeemed_for_what_it_acknowledged() {
        let row = PurseLedger {
            cost: Msat::ZERO,
            returned: sat(11),
            ..row()
        };
        let redeemed = |received, fees| PurseFigures {
            received: sat(received),
            fees: sat(fees),
            ..PurseFigures::default()
        };
        assert_eq!(received(&row, &redeemed(11, 1), PRICE), []);
        // The last one is worth its fee.
        assert_eq!(received(&row, &redeemed(11, 0), PRICE), []);
        let less = PurseLedger {
            returned: sat(9),
            ..row.clone()
        };
        let short = received(&less, &redeemed(9, 1), PRICE);
        assert_eq!(short, [("less was redeemed than was acknowledged", 2_000)]);
        let other = received(&row, &redeemed(10, 2), PRICE);
        assert_eq!(other.len(), 1);
        let open = PurseLedger { home: false, ..row };
        assert_eq!(received(&open, &redeemed(0, 0), PRICE), []);
    }
}
