//! Until when money is locked that the streamer has not signed over.

use serde_json::{Value, json};
use streampay_cashu::LockedParams;
use streampay_core::session::{PayerSession, PurseLedger, SessionLedger};
use streampay_core::units::{Msat, Unix};

use crate::ledger::history::{Sums, date};
use crate::pay::Pay;
use crate::report::Report;

/// When the last lock of a session's purses gives way, by this machine's clock; none where nothing
/// of it is locked any more.
#[must_use]
pub fn locked_until(session: &PayerSession) -> Option<Unix> {
    let methods = session.purses();
    let ends = session.purses_out().into_iter().filter_map(|(id, until)| {
        let (_, name) = methods.iter().find(|(of, _)| *of == id)?;
        Some(until?.after_s(params(session, name)?.margin_s()))
    });
    ends.max()
}

/// What a way to pay locks, by the session's terms; none of one that locks no ecash.
fn params(session: &PayerSession, name: &str) -> Option<LockedParams> {
    let mut methods = session.terms()?.methods.iter();
    let method = methods.find(|method| method.name == name)?;
    LockedParams::decode(&method.params).ok()
}

/// What to tell of it.
#[must_use]
pub fn words(until: Unix, now: Unix) -> String {
    match until.0.saturating_sub(now.0).div_ceil(60) {
        0 => "the lock of the rest is over: `viewer recover` brings it home".to_owned(),
        minutes => format!(
            "the rest is locked for another {} h {} min; then `viewer recover` brings it home, \
             whatever the streamer does",
            minutes / 60,
            minutes % 60
        ),
    }
}

/// What a session has out where its store has failed: by what its machine knows alone, for nothing can be read
/// any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    /// Of purses of which it was told what they cost: at most so much.
    out: Msat,
    /// A purse of ecash was being opened, and nobody told what it costs: what the mint has done with it the next
    /// start tells.
    opening: bool,
    /// Nothing of it is locked longer.
    locked_until: Option<Unix>,
}

impl Left {
    /// None where nothing is out.
    fn of(session: &PayerSession, now: Unix) -> Option<Self> {
        let ledger = session.ledger().filter(|ledger| !ledger.settled)?;
        let locks = unopened(&ledger).filter_map(|row| params(session, &row.method));
        // What the mint has not locked by now it does not lock.
        let ends = locks.map(|params| now.after_s(params.lock_s()));
        Self::new(&ledger, ends.chain(locked_until(session)).max())
    }

    fn new(ledger: &SessionLedger, locked_until: Option<Unix>) -> Option<Self> {
        let left = Self {
            out: Sums::of(ledger).out,
            opening: unopened(ledger).any(|row| row.cost.is_zero()),
            locked_until,
        };
        (left.opening || !left.out.is_zero()).then_some(left)
    }

    fn fields(&self, id: &str) -> Value {
        json!({
            "session": id, "out_msat": (!self.out.is_zero()).then_some(self.out.msat()),
            "locked_until_unix_s": self.locked_until.map(|until| until.0),
            "redeem_by_unix_s": null,
        })
    }

    fn words(&self) -> String {
        let out = self.out;
        let what = match (out.is_zero(), self.opening) {
            (true, _) => "the purse that was being opened is not home".to_owned(),
            (false, false) => format!("{out} not home"),
            (false, true) => format!("{out} not home, nor is the purse that was being opened"),
        };
        let until = self.locked_until.map_or(String::new(), |until| {
            let until = date(until);
            format!(
                "; what is locked of it comes home after {until} UTC at the latest, whatever the streamer does"
            )
        });
        format!(
            "{what}{until}. Once the store can be written again, `viewer recover` asks the streamer to sign \
             it over, and brings it home"
        )
    }
}

/// A session's purses of ecash that were not opened, and are not home.
fn unopened(ledger: &SessionLedger) -> impl Iterator<Item = &PurseLedger> {
    let rows = ledger.purses.iter().filter(|row| !row.home && !row.opened);
    rows.filter(|row| row.method != Pay::Btc.method())
}

/// Tells what a session has out, until when, and what to do, where its store has failed.
pub(super) fn tell_left(session: &PayerSession, now: Unix, report: Report) {
    let Some(left) = Left::of(session, now) else {
        return;
    };
    let id = session.session().to_string();
    report.say("unsettled", left.fields(&id));
    let short = id.get(..8).unwrap_or_default();
    report.tell(&format!("session [{short}]: {}", left.words()));
}

#[cfg(test)]
mod tests {
    use streampay_core::session::Role;

    use super::*;
    use crate::ledger::tests::called_off_session;

    #[test]
    fn says_how_long_and_what_to_do() {
        let cases = [
            (100, 100, "is over"),
            (99, 100, "is over"),
            (101, 100, "0 h 1 min"),
            (14_500, 100, "4 h 0 min"),
            (14_501, 100, "4 h 1 min"),
        ];
        for (until, now, expect) in cases {
            let words = words(Unix(until), Unix(now));
            assert!(words.contains(expect), "{words}");
        }
    }
    #[test]
    fn what_is_left_where_the_store_has_failed_is_told_with_its_time_and_what_to_do() {
        let (none, some) = (Msat::ZERO, Msat::from_sat(32).unwrap());
        let until = Some(Unix(1_709_164_800));
        let cases = [
            (
                none,
                true,
                until,
                "purse that was being opened is not home; what",
            ),
            (some, false, until, "32 sat not home; what"),
            (some, true, until, "32 sat not home, nor is the purse"),
            (some, false, None, "32 sat not home. Once"),
        ];
        for (out, opening, locked_until, expect) in cases {
            let left = Left {
                out,
                opening,
                locked_until,
            };
            let words = left.words();
            assert!(words.contains(expect), "{words}");
            assert_eq!(
                words.contains("after 2024-02-29 00:00 UTC"),
                locked_until.is_some()
            );
            assert!(words.contains("`viewer recover`"), "{words}");
        }
    }

    /// A session with these purses: opened, and what they cost as far as it was told.
    fn session(purses: &[(bool, u64)]) -> SessionLedger {
        let mut session = called_off_session(Role::Payer);
        session.settled = false;
        let called_off = session.purses.remove(0);
        let row = |(opened, cost): &(bool, u64)| PurseLedger {
            opened: *opened,
            home: false,
            cost: Msat::from_sat(*cost).unwrap(),
            returned: Msat::ZERO,
            ..called_off.clone()
        };
        session.purses = purses.iter().map(row).collect();
        session
    }

    #[test]
    fn what_is_out_is_null_only_where_nothing_of_it_is_known() {
        // Being opened; beside one that was opened; called off, of which it is known what it costs at most.
        for (purses, out_msat, opening) in [
            (&[(false, 0)][..], Value::Null, true),
            (&[(true, 32), (false, 0)], json!(32_000), true),
            (&[(false, 19)], json!(19_000), false),
            (&[(true, 32), (false, 19)], json!(51_000), false),
        ] {
            let left = Left::new(&session(purses), None).unwrap();
            assert_eq!(left.fields("7")["out_msat"], out_msat, "{purses:?}");
            assert_eq!(left.opening, opening, "{purses:?}");
        }
        // Wholly paid.
        let mut paid = session(&[(true, 32)]);
        paid.purses[0].acknowledged = paid.purses[0].cost;
        assert_eq!(Left::new(&paid, Some(Unix(1))), None);
    }
}
