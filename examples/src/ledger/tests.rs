use streampay_core::meter::Reading;
use streampay_core::session::PurseLedger;
use streampay_core::units::{Msat, PurseId, SessionId, XOnlyKey};

use super::audit::check;
use super::cash::Cash;
use super::history::Sums;
use super::*;

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

/// One purse of 22 sat that was called off while it was made, of which 19 came back.
pub(crate) fn called_off_session(role: Role) -> SessionLedger {
    SessionLedger {
        session: SessionId([7; 32]),
        role,
        peer: XOnlyKey([1; 32]),
        terms: crate::board::tests::terms(),
        began: None,
        ended: None,
        code: None,
        settled: true,
        reading: Reading::default(),
        tips: Msat::ZERO,
        written_off: Msat::ZERO,
        receipt: None,
        proof: None,
        purses: vec![PurseLedger {
            purse: PurseId(3),
            method: "cashu-p2pk".to_owned(),
            opened: false,
            home: true,
            capacity: sat(19),
            cost: sat(19),
            made: Msat::ZERO,
            acknowledged: Msat::ZERO,
            step: sat(1),
            returned: sat(19),
        }],
    }
}

#[test]
fn fees_of_a_purse_that_was_called_off_are_in_the_books() {
    let mut session = called_off_session(Role::Payer);
    let name = purse_name(called_off(&session)[0]);
    let figures = PurseFigures {
        left: sat(22),
        returned: sat(19),
        received: Msat::ZERO,
        fees: sat(3),
    };
    tell_cost(&mut session, &BTreeMap::from([(name, figures)]));
    let sums = Sums::of(&session);
    assert_eq!(
        (sums.paid, sums.returned, sums.fees),
        (sat(22), sat(19), sat(3))
    );
    assert_eq!(sums.out, Msat::ZERO);

    // One that never got so far has cost nothing, and a payee's is none of it.
    let mut session = called_off_session(Role::Payer);
    tell_cost(&mut session, &BTreeMap::new());
    assert_eq!(Sums::of(&session).fees, Msat::ZERO);
    assert!(called_off(&called_off_session(Role::Payee)).is_empty());
}

#[test]
fn audit_of_a_purse_that_was_called_off_comes_out_at_zero_or_says_what_is_gone() {
    let name = purse_name(called_off(&called_off_session(Role::Payer))[0]);
    for (fees, given, expect) in [(3, 0, None), (1, 2, Some(2_000))] {
        let mut session = called_off_session(Role::Payer);
        let figures = PurseFigures {
            left: sat(22),
            returned: sat(19),
            received: Msat::ZERO,
            fees: sat(fees),
        };
        let purses = BTreeMap::from([(name, figures)]);
        tell_cost(&mut session, &purses);
        let cash = Cash {
            deposited: 22_000,
            spendable: 19_000,
            fees: i128::from(fees) * 1_000,
            given: given * 1_000,
            purses,
            ..Cash::default()
        };
        let mint = "https://mint.example".parse().unwrap();
        let audit = check(&[session], &[], BTreeMap::from([(mint, cash)]), None);
        let found = audit.findings.first().map(|finding| finding.msat);
        assert_eq!(found, expect, "{:?}", audit.findings);
    }
}

#[test]
fn what_closing_a_channel_did_not_take_is_told_beside_what_was_earned() {
    let mut session = called_off_session(Role::Payee);
    let row = &mut session.purses[0];
    (row.opened, row.acknowledged, row.returned) = (true, sat(3_500), sat(4_031));
    let sums = Sums::of(&session);
    assert_eq!((sums.reserve, sums.fees), (sat(531), Msat::ZERO));
    let fields = history::fields(&session);
    assert_eq!(fields["reserve_msat"], 531_000);
    // One that is redeemed for a fee has none.
    session.purses[0].returned = sat(3_400);
    let sums = Sums::of(&session);
    assert_eq!((sums.reserve, sums.fees), (Msat::ZERO, sat(100)));
}
