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

/// What the wallet's book has of each purse, by its name for it.
pub type Figures = BTreeMap<Uuid, PurseFigures>;

/// What of a purse that is home was acknowledged and never collected: all of it or nothing. Of a viewer's
/// ecash the wallet's `figures` have to say that nothing is with the streamer, for a mint's ecash may be worth
/// more than a satoshi.
#[must_use]
pub fn uncollected(session: &SessionLedger, row: &PurseLedger, figures: &Figures) -> Msat {
    let none = match session.role {
        Role::Payee => row.home && row.returned.is_zero(),
        Role::Payer if row.home && is_more_back(row.cost, row.acknowledged, row.returned) => {
            let name = purse_name(PurseKey {
                session: session.session,
                purse: row.purse,
            });
            let is_channel = row.method == Pay::Btc.method();
            is_channel || figures.get(&name).is_some_and(|of| given(of) <= 0)
        }
        Role::Payer => false,
    };
    if none { row.acknowledged } else { Msat::ZERO }
}

/// True where more came back of what something cost than was not paid: then what was paid did too. A close
/// gives back no more than that, whoever signs it.
pub(crate) fn is_more_back(cost: Msat, acknowledged: Msat, returned: Msat) -> bool {
    returned.saturating_plus(acknowledged) > cost
}

/// True where the wallet's book has to say what became of a viewer's ecash.
pub(super) fn may_be_uncollected(session: &SessionLedger) -> bool {
    let mut rows = session.purses.iter();
    session.role == Role::Payer
        && rows.any(|row| row.home && is_more_back(row.cost, row.acknowledged, row.returned))
}

/// What left a viewer's wallet for a channel.
pub(crate) fn cost_of(channel: &ChannelReport) -> Msat {
    let value = channel.value.to_sat();
    let cost = value.saturating_add(channel.funding_fee.to_sat());
    Msat::from_sat(cost).unwrap_or(Msat::MAX)
}
