use minicbor::bytes::ByteVec;

use crate::session::record::{PayerPurse, PurseState};
use crate::units::{Msat, PurseId, RequestId, Seq, Unix};

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

/// An open purse with payments of 1 sat, usable from 1000 s to 2000 s.
fn purse(capacity: u64, paid: u64) -> PayerPurse {
    PayerPurse {
        id: PurseId(0),
        method: 0,
        state: PurseState::Open,
        capacity: sat(capacity),
        cost: sat(capacity),
        paid: sat(paid),
        acked: sat(paid),
        seq: Seq(paid),
        pending: None,
        opening: ByteVec::from(Vec::new()),
        request: RequestId(0),
        refunded: Msat::ZERO,
        step: sat(1),
        opened: 1_000,
        until: Some(2_000),
        called_off: None,
    }
}

#[test]
fn purse_lasts_while_a_fifth_and_three_payments_are_left() {
    for (capacity, paid, lasts) in [
        (100, 0, true),
        (100, 80, true),
        (100, 81, false),
        (102, 81, true),
        (102, 82, false),
        (10, 7, true),
        (10, 8, false),
    ] {
        let purse = purse(capacity, paid);
        assert_eq!(purse.lasts(Unix(1_000)), lasts, "{paid} of {capacity}");
    }
}

#[test]
fn purse_grows_old_in_the_last_fifth_of_its_time_and_pays_until_the_end() {
    for (now, lasts, pays) in [
        (1_000, true, true),
        (1_799, true, true),
        (1_800, false, true),
        (1_999, false, true),
        (2_000, false, false),
    ] {
        let purse = purse(100, 0);
        assert_eq!(purse.lasts(Unix(now)), lasts, "{now}");
        assert_eq!(purse.can_pay(Unix(now)), pays, "{now}");
    }
}

#[test]
fn purse_pays_whole_payments_while_it_is_open() {
    for (paid, state, pays) in [
        (9, PurseState::Open, true),
        (10, PurseState::Open, false),
        (0, PurseState::Opening, false),
        (0, PurseState::Offered, false),
        (0, PurseState::Closing, false),
        (0, PurseState::Done, false),
    ] {
        let purse = PayerPurse {
            state,
            ..purse(10, paid)
        };
        assert_eq!(purse.can_pay(Unix(1_000)), pays, "{paid}");
    }
    let part = PayerPurse {
        paid: Msat::new(9_001).unwrap(),
        ..purse(10, 0)
    };
    assert!(!part.can_pay(Unix(1_000)));
}
