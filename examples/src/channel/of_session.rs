//! What one session has in its channels.

use streampay_btc::bitcoin::Amount;
use streampay_btc::machine::Role;
use streampay_core::session::{PayerSession, PurseLedger};
use streampay_core::units::{Msat, PurseId, PurseKey, SessionId};

use super::{Channels, height, sat};
use crate::error::AppError;
use crate::home::Home;
use crate::ledger::uncollected::{cost_of, uncollected_in};

impl Channels {
    /// True where all that a session has out are channels that nobody has paid for, as far as the
    /// chain says.
    pub(crate) async fn only_unpaid(
        &self,
        home: &Home,
        session: &PayerSession,
    ) -> Result<bool, AppError> {
        let (out, book) = (session.purses_out(), self.book(home).await?);
        let unpaid = |id: PurseId| {
            let mut own = book.iter().filter(|channel| channel.outpoint.is_none());
            own.any(|own| own.purse.session == session.session() && own.purse.purse == id)
        };
        Ok(!out.is_empty() && out.into_iter().all(|(id, _)| unpaid(id)))
    }

    /// How all that a session has out stands, where it is in channels alone, and each of them is
    /// unpaid or on its way home by a transaction that the chain shows: what is on its way. None
    /// where there is something to do or to wait for.
    pub(crate) async fn on_the_way(
        &self,
        home: &Home,
        session: &PayerSession,
    ) -> Result<Option<Msat>, AppError> {
        let (out, book) = (session.purses_out(), self.book(home).await?);
        let mut sum = Msat::ZERO;
        for (id, _) in &out {
            let purse = PurseKey {
                session: session.session(),
                purse: *id,
            };
            let Some(own) = book.iter().find(|channel| channel.purse == purse) else {
                return Ok(None);
            };
            // A refund gives back all but its own fee; a close what is not paid, or more.
            let least = own.value.checked_sub(own.paid).unwrap_or(Amount::ZERO);
            match own.coming {
                Some(coming)
                    if own.settled.is_none() && (coming >= least || own.left == Some(0)) =>
                {
                    sum = sum.saturating_plus(sat(coming.to_sat()));
                }
                None if own.outpoint.is_none() => {}
                _ => return Ok(None),
            }
        }
        Ok((!sum.is_zero()).then_some(sum))
    }

    /// Until when a session's channels are locked that nobody closes, in words; none where none is.
    pub(crate) async fn locked(
        &self,
        home: &Home,
        session: &PayerSession,
    ) -> Result<Option<String>, AppError> {
        let own = self.book(home).await?.into_iter().filter(|channel| {
            let of_session = channel.purse.session == session.session();
            let open = channel.settled.is_none() && channel.coming.is_none();
            of_session && open && channel.role == Role::Payer && channel.outpoint.is_some()
        });
        Ok(own.max_by_key(|channel| channel.expiry).map(|channel| {
            let left = match channel.left {
                Some(left) => format!(", in {left} blocks"),
                None => String::new(),
            };
            format!(
                "what is in the channel beyond your payments comes back when the streamer closes \
                 it, at the latest after block {}{left}: `viewer recover --wait` takes it back then",
                height(channel.expiry, channel.left)
            )
        }))
    }

    /// What left the wallet into a session's channels, what has come back, and what of that had been
    /// acknowledged in these `rows`.
    pub(crate) async fn sums(
        &self,
        home: &Home,
        id: SessionId,
        rows: &[PurseLedger],
    ) -> Result<[Msat; 3], AppError> {
        let own = self.book(home).await?.into_iter();
        let own = own.filter(|channel| {
            channel.purse.session == id && channel.role == Role::Payer && channel.outpoint.is_some()
        });
        Ok(own.fold([Msat::ZERO; 3], |[out, back, taken], channel| {
            let row = rows.iter().find(|row| row.purse == channel.purse.purse);
            let acknowledged = row.map_or(Msat::ZERO, |row| row.acknowledged);
            let (cost, settled) = (cost_of(&channel), channel.settled.unwrap_or_default());
            let settled = sat(settled.to_sat());
            let lost = uncollected_in(&channel, acknowledged);
            [
                out.saturating_plus(cost),
                back.saturating_plus(settled),
                taken.saturating_plus(lost),
            ]
        }))
    }
}
