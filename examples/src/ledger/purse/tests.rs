use streampay_btc::bitcoin::OutPoint;
use streampay_btc::machine::ChannelState;
use streampay_core::units::PurseId;

use super::super::tests::channel_session;
use super::*;

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
    fee: 0,
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

/// The channel of [`channel_session`], as its own records have it.
fn report(role: Role, key: PurseKey) -> ChannelReport {
    let payer = role == Role::Payer;
    ChannelReport {
        purse: key,
        role: if payer {
            ChannelRole::Payer
        } else {
            ChannelRole::Payee
        },
        state: ChannelState::Settled,
        descriptor: String::new(),
        address: None,
        value: Amount::from_sat(49_927),
        paid: Amount::from_sat(2_927),
        reserve: Amount::from_sat(927),
        funding_fee: Amount::ZERO,
        outpoint: Some(OutPoint::null()),
        expiry: 552,
        left: None,
        coming: None,
        settled: Some(Amount::from_sat(if payer { 47_000 } else { 2_531 })),
        refunded: None,
        short: None,
        besides: Vec::new(),
        split: Vec::new(),
    }
}

type Both = fn(&mut PurseLedger, &mut ChannelReport);

/// What came of it, by both.
fn came(row: &mut PurseLedger, own: &mut ChannelReport, value: u64) {
    row.returned = sat(value);
    own.settled = Some(Amount::from_sat(value));
}

fn check_channel(role: Role, doctor: Both, has_fee_wallet: bool) -> Vec<Wrong> {
    let mut session = channel_session(role);
    let mut row = session.purses.remove(0);
    let key = PurseKey {
        session: session.session,
        purse: row.purse,
    };
    let mut own = report(role, key);
    doctor(&mut row, &mut own);
    let purse = Purse {
        session: &session,
        row: &row,
    };
    let all = [own];
    let channels = Channels {
        all: &all,
        has_fee_wallet,
    };
    channel(&purse, key, Some(channels))
}

fn check_channels(role: Role, cases: &[(Both, &[(&str, i128)])]) {
    for (number, (doctor, expect)) in cases.iter().enumerate() {
        let wrong = check_channel(role, *doctor, false);
        assert_eq!(wrong.len(), expect.len(), "case {number}: {wrong:?}");
        for ((what, msat), (part, by)) in wrong.iter().zip(*expect) {
            assert!(
                what.contains(part) && msat == by,
                "case {number}: {wrong:?}"
            );
        }
    }
}

#[test]
fn payers_channel_fits_or_what_does_not_is_named() {
    check_channels(
        Role::Payer,
        &[
            (|_, _| {}, &[]),
            // Closed together: what closing did not take of the reserve is back.
            (|row, own| came(row, own, 47_619), &[]),
            // Taken back, and what was paid with it.
            (|row, own| came(row, own, 49_673), &[]),
            // For more than was paid: none but a refund may cost so much, and half of it at most.
            (
                |row, own| {
                    own.refunded = Some(true);
                    came(row, own, 40_000);
                },
                &[],
            ),
            (
                |row, own| {
                    own.refunded = Some(false);
                    came(row, own, 40_000);
                },
                &[("than was ever paid", 7_000_000)],
            ),
            (
                |row, own| {
                    own.refunded = Some(true);
                    came(row, own, 20_000);
                },
                &[("than was ever paid", 4_963_500)],
            ),
            (
                |row, own| came(row, own, 46_999),
                &[("than was ever paid", 1_000)],
            ),
            (
                |row, own| came(row, own, 49_928),
                &[("came back than had left", -1_000)],
            ),
            (
                |row, _| row.returned = sat(46_000),
                &[("differ on what came of it", -1_000_000)],
            ),
            (
                |row, _| row.cost = sat(49_926),
                &[("differ on what left", -1_000)],
            ),
            (
                |row, _| row.acknowledged = sat(2_500),
                &[("last signature pays", 500_000)],
            ),
            (
                |_, own| own.role = ChannelRole::Payee,
                &[("the other side's", 0)],
            ),
            // Never paid from: it comes home for the fee of a refund.
            (
                |row, own| {
                    (row.acknowledged, own.paid) = (Msat::ZERO, Amount::ZERO);
                    came(row, own, 49_600);
                },
                &[],
            ),
            (
                |row, own| {
                    (row.acknowledged, own.paid) = (Msat::ZERO, Amount::ZERO);
                    came(row, own, 20_000);
                },
                &[("than was ever paid", 4_963_500)],
            ),
            // Not home yet: nothing is said of what came back.
            (
                |row, own| (row.home, row.returned, own.settled) = (false, Msat::ZERO, None),
                &[],
            ),
        ],
    );
}

#[test]
fn payees_channel_brought_what_is_signed_over_less_a_close() {
    check_channels(
        Role::Payee,
        &[
            (|_, _| {}, &[]),
            // The reserve and a third of what is due, or half of all.
            (|row, own| came(row, own, 1_334), &[]),
            (
                |row, own| came(row, own, 1_333),
                &[("by more than closing may cost", 1_000)],
            ),
            (
                |row, own| came(row, own, 0),
                &[("never collected", 2_000_000)],
            ),
            (
                |row, _| row.returned = Msat::ZERO,
                &[("differ on what came of it", -2_531_000)],
            ),
            (
                |_, own| own.paid = Amount::from_sat(2_427),
                &[("last signature pays", 500_000)],
            ),
            (
                |row, own| {
                    (row.acknowledged, own.paid) = (Msat::ZERO, Amount::ZERO);
                    came(row, own, 0);
                },
                &[],
            ),
            (
                |row, own| (row.home, row.returned, own.settled) = (false, Msat::ZERO, None),
                &[],
            ),
        ],
    );
    // Coins that help to close it come out of what it brings.
    let helped: Both = |row, own| came(row, own, 100);
    assert_eq!(check_channel(Role::Payee, helped, false).len(), 1);
    assert_eq!(check_channel(Role::Payee, helped, true), []);
}

#[test]
fn a_channel_that_nothing_tells_of_is_found() {
    let mut session = channel_session(Role::Payer);
    let mut row = session.purses.remove(0);
    let key = PurseKey {
        session: session.session,
        purse: row.purse,
    };
    let found = |row: &PurseLedger, channels| {
        let purse = Purse {
            session: &session,
            row,
        };
        channel(&purse, key, channels).len()
    };
    let none = Channels {
        all: &[],
        has_fee_wallet: false,
    };
    assert_eq!((found(&row, None), found(&row, Some(none))), (1, 1));
    row.opened = false;
    assert_eq!((found(&row, None), found(&row, Some(none))), (0, 0));
}

/// By hand, and by the tokens of `streampay-cashu`'s own tests.
#[test]
fn token_brings_the_fee_of_redeeming_it_along() {
    for (net, ppk, fee) in [
        (2, 0, 0),
        (2, 100, 1),
        (8, 100, 1),
        (1, 1_000, 1),
        (2, 1_000, 2),
        (1_023, 100, 1),
        (7, 400, 1),
    ] {
        assert_eq!(token_fee(net, ppk), fee, "{net} at {ppk} ppk");
    }
}

#[test]
fn plain_tokens_give_a_payment_and_its_fee_each_and_no_more() {
    // 12 tokens of 2 sat and 1 for redeeming them; 4 sat come home, and 2 were the mint's.
    let row = PurseLedger {
        method: "cashu-swap".to_owned(),
        cost: sat(42),
        made: sat(24),
        acknowledged: sat(24),
        step: sat(2),
        returned: sat(4),
        ..row()
    };
    let price = Some(Price {
        step: 2,
        fee: token_fee(2, 100),
        ppk: 100,
    });
    for (returned, fees, expect) in [
        (4, 2, None),
        (3, 2, None),
        (2, 2, Some(2_000)),
        (1, 2, Some(3_000)),
    ] {
        let row = PurseLedger {
            returned: sat(returned),
            ..row.clone()
        };
        let figures = PurseFigures {
            left: sat(42),
            returned: sat(returned),
            received: Msat::ZERO,
            fees: sat(fees),
        };
        let wrong = paid(&row, &figures, price);
        let found = wrong.first().map(|(what, msat)| {
            assert_eq!(*what, GONE);
            *msat
        });
        assert_eq!(found, expect, "{returned} {wrong:?}");
    }
}
