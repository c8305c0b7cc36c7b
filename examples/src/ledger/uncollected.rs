//! What a streamer acknowledged and never collected: the viewer has it back.
//!
//! What was paid is the streamer's once it redeems it, or closes the channel, in time. Where it never does, all
//! comes back to the viewer after its time, what was paid too, and no record of either session says so.

use std::collections::BTreeMap;

use streampay_btc::machine::ChannelReport;
use streampay_cashu::{PurseFigures, purse_name};
use streampay_core::session::{PurseLedger, Role, SessionLedger};
use streampay_core::units::{Msat, PurseKey};
use uuid::Uuid;

use super::cash::given;
use crate::pay::Pay;

/// What the books beside the sessions' records have of their purses.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The wallet's, of ecash, by its name for the purse.
    pub ecash: BTreeMap<Uuid, PurseFigures>,
    /// The channels' own: whether what came of a viewer's came by its refund, where they say so.
    pub refunded: BTreeMap<PurseKey, bool>,
}

/// What of a purse that is home was acknowledged and never collected: all of it or nothing. Of a viewer's
/// ecash the wallet's `figures` have to say that nothing is with the streamer, for a mint's ecash may be worth
/// more than a satoshi. Of a channel its own records say so, for the fee of a refund may be more than was paid;
/// those of older versions do not, and what came back has to be more than a close gives.
#[must_use]
pub fn uncollected(session: &SessionLedger, row: &PurseLedger, figures: &Figures) -> Msat {
    let key = PurseKey {
        session: session.session,
        purse: row.purse,
    };
    let more = is_more_back(row.cost, row.acknowledged, row.returned);
    let none = row.home
        && match session.role {
            Role::Payee => row.returned.is_zero(),
            Role::Payer if is_channel(row) => figures.refunded.get(&key).copied().unwrap_or(more),
            Role::Payer => {
                let of = figures.ecash.get(&purse_name(key));
                more && of.is_some_and(|of| given(of) <= 0)
            }
        };
    if none { row.acknowledged } else { Msat::ZERO }
}

/// True where more came back of what something cost than was not paid: then what was paid did too. A close
/// gives back no more than that, whoever signs it.
fn is_more_back(cost: Msat, acknowledged: Msat, returned: Msat) -> bool {
    returned.saturating_plus(acknowledged) > cost
}

fn is_channel(row: &PurseLedger) -> bool {
    row.method == Pay::Btc.method()
}

/// The same of what was `acknowledged` in a viewer's channel, by its own records.
pub(crate) fn uncollected_in(channel: &ChannelReport, acknowledged: Msat) -> Msat {
    let settled = channel.settled.unwrap_or_default().to_sat();
    let settled = Msat::from_sat(settled).unwrap_or(Msat::MAX);
    let more = is_more_back(cost_of(channel), acknowledged, settled);
    match channel.refunded.unwrap_or(more) {
        true => acknowledged,
        false => Msat::ZERO,
    }
}

/// True where other books have to say what became of what a viewer paid.
pub(super) fn may_be_uncollected(session: &SessionLedger) -> bool {
    let mut rows = session.purses.iter();
    let may_be = |row: &PurseLedger| {
        is_channel(row) || is_more_back(row.cost, row.acknowledged, row.returned)
    };
    session.role == Role::Payer && rows.any(|row| row.home && may_be(row))
}

/// What left a viewer's wallet for a channel.
pub(crate) fn cost_of(channel: &ChannelReport) -> Msat {
    let value = channel.value.to_sat();
    let cost = value.saturating_add(channel.funding_fee.to_sat());
    Msat::from_sat(cost).unwrap_or(Msat::MAX)
}
