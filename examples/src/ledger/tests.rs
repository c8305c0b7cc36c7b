use std::collections::BTreeMap;

use streampay_cashu::PurseFigures;
use streampay_core::meter::Reading;
use streampay_core::session::PurseLedger;
use streampay_core::units::{Msat, PurseId, SessionId, XOnlyKey};
use uuid::Uuid;

use super::audit::check;
use super::cash::Cash;
use super::history::Sums;
use super::*;

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

fn of_ecash(name: Uuid, figures: PurseFigures) -> Figures {
    Figures {
        ecash: BTreeMap::from([(name, figures)]),
        ..Figures::default()
    }
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
    tell_cost(&mut session, &of_ecash(name, figures), &[]);
    let sums = Sums::of(&session);
    assert_eq!(
        (sums.paid, sums.returned, sums.fees),
        (sat(22), sat(19), sat(3))
    );
    assert_eq!(sums.out, Msat::ZERO);

    // One that never got so far has cost nothing, and a payee's is none of it.
    let mut session = called_off_session(Role::Payer);
    tell_cost(&mut session, &Figures::default(), &[]);
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
        let figures = of_ecash(name, figures);
        tell_cost(&mut session, &figures, &[]);
        let cash = Cash {
            deposited: 22_000,
            spendable: 19_000,
            fees: i128::from(fees) * 1_000,
            given: given * 1_000,
            purses: figures.ecash,
            ..Cash::default()
        };
        let mint = "https://mint.example".parse().unwrap();
        let audit = check(&[session], None, BTreeMap::from([(mint, cash)]), None);
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
    let fields = history::fields(&session, &Figures::default());
    assert_eq!(fields["reserve_msat"], 531_000);
    // One that is redeemed for a fee has none.
    session.purses[0].returned = sat(3_400);
    let sums = Sums::of(&session);
    assert_eq!((sums.reserve, sums.fees), (Msat::ZERO, sat(100)));
}

/// One channel of 49 927 sat, closed with 2 000 sat paid and 927 for closing.
pub(crate) fn channel_session(role: Role) -> SessionLedger {
    let mut session = called_off_session(role);
    session.purses = vec![PurseLedger {
        purse: PurseId(0),
        method: "btc-cltv".to_owned(),
        opened: true,
        home: true,
        capacity: sat(48_500),
        cost: sat(if role == Role::Payer { 49_927 } else { 0 }),
        made: sat(2_000),
        acknowledged: sat(2_000),
        step: sat(500),
        returned: sat(if role == Role::Payer { 47_000 } else { 2_531 }),
    }];
    session
}

#[test]
fn what_a_streamer_never_collected_is_taken_off_what_it_was_paid() {
    // What came of it; uncollected, fees, beyond what was acknowledged.
    for (role, returned, expect) in [
        (Role::Payer, 47_000, [0, 927, 0]),
        (Role::Payer, 47_927, [0, 0, 0]),
        (Role::Payer, 49_673, [2_000, 254, 0]),
        (Role::Payee, 2_531, [0, 0, 531]),
        (Role::Payee, 1_900, [0, 100, 0]),
        (Role::Payee, 0, [2_000, 0, 0]),
    ] {
        let mut session = channel_session(role);
        session.purses[0].returned = sat(returned);
        let sums = Sums::of(&session);
        let told = [sums.uncollected, sums.fees, sums.reserve];
        assert_eq!(told, expect.map(sat), "{role:?} {returned}");
        let fields = history::fields(&session, &Figures::default());
        let field = |name: &str| fields[name].as_u64().unwrap();
        match role {
            Role::Payer => assert_eq!(
                field("paid_msat") + field("uncollected_msat"),
                field("acknowledged_msat") + field("fees_msat") + field("returned_msat")
            ),
            Role::Payee => assert_eq!(
                field("acknowledged_msat") + field("reserve_msat"),
                field("returned_msat") + field("fees_msat") + field("uncollected_msat")
            ),
        }
        // While it is out nobody knows.
        session.purses[0].home = false;
        assert_eq!(Sums::of(&session).uncollected, Msat::ZERO);
    }
}

/// A refund that costs more than was paid brings no more back than a close does: its channel's records tell.
#[test]
fn dear_refund_of_a_channel_is_told_from_a_close() {
    let mut session = channel_session(Role::Payer);
    session.purses[0].returned = sat(47_000);
    let key = PurseKey {
        session: session.session,
        purse: PurseId(0),
    };
    for (refunded, uncollected, fees) in [
        (None, 0, 927),
        (Some(false), 0, 927),
        (Some(true), 2_000, 2_927),
    ] {
        let figures = Figures {
            refunded: refunded
                .map(|refunded| (key, refunded))
                .into_iter()
                .collect(),
            ..Figures::default()
        };
        assert!(may_be_uncollected(&session), "the channels are asked");
        let sums = Sums::with(&session, &figures);
        assert_eq!((sums.uncollected, sums.fees), (sat(uncollected), sat(fees)));
        assert_eq!(sums.reached(), sat(2_000 - uncollected));
    }
}

#[test]
fn ecash_that_came_back_was_collected_unless_the_wallets_book_has_nothing_with_the_streamer() {
    let mut session = channel_session(Role::Payer);
    let row = &mut session.purses[0];
    row.method = "cashu-chain".to_owned();
    (row.cost, row.acknowledged, row.returned) = (sat(22), sat(12), sat(19));
    let name = purse_name(PurseKey {
        session: session.session,
        purse: PurseId(0),
    });
    // Of a mint whose ecash is worth more than a satoshi less is given for as much.
    for (fees, uncollected, rest) in [(3, 12, 3), (1, 0, 0)] {
        let figures = PurseFigures {
            left: sat(22),
            returned: sat(19),
            received: Msat::ZERO,
            fees: sat(fees),
        };
        let sums = Sums::with(&session, &of_ecash(name, figures));
        assert_eq!((sums.uncollected, sums.fees), (sat(uncollected), sat(rest)));
    }
}
