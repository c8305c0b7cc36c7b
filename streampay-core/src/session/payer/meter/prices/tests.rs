use super::{Prices, Stood};
use crate::meter::{NextTariff, Rate, Reading, Schedule, Tariff};
use crate::units::Msat;

fn msat(amount: u64) -> Msat {
    Msat::new(amount).unwrap()
}

const fn at(media_ms: u64) -> Reading {
    Reading { media_ms, bytes: 0 }
}

fn by(amount: u64, per: u64) -> Tariff {
    Tariff {
        time: Rate::new(msat(amount), per).ok(),
        bytes: None,
    }
}

/// 1 msat a ms, and from 1 000 msat on `amount` in `per` ms, which is not confirmed.
fn open(amount: u64, per: u64) -> Prices {
    let (from, tariff) = (msat(1_000), by(amount, per));
    let next = Some(NextTariff { from, tariff });
    let agreed = Schedule {
        next,
        ..Schedule::new(by(1, 1))
    };
    Prices {
        agreed,
        alone: Some(agreed.alone()),
    }
}

fn confirmed(amount: u64, per: u64) -> Prices {
    let alone = None;
    Prices {
        alone,
        ..open(amount, per)
    }
}

#[test]
fn until_it_is_confirmed_the_dearer_of_two_prices_is_used() {
    for (prices, used) in [
        (open(1, 10), 3_000),
        (confirmed(1, 10), 1_200),
        (open(3, 1), 7_000),
        (confirmed(3, 1), 7_000),
    ] {
        assert_eq!(prices.used(at(900)), msat(900));
        assert_eq!(prices.used(at(3_000)), msat(used));
        // On the payee's word no more than 500 msat beyond what came.
        let own = prices.used(at(2_000)).saturating_plus(msat(500));
        let word = prices.used_of(at(2_000), at(90_000), msat(500));
        assert_eq!(word, own);
    }
}

/// By the one price what comes is nothing, by the other a thousand times a payment.
#[test]
fn what_is_cheap_by_one_of_two_prices_alone_is_within_no_limit() {
    let (from, to) = (at(1_500), at(2_500));
    for (prices, within) in [
        (open(1, 1_000), false),
        (confirmed(1, 1_000), true),
        (open(5, 1), false),
        (confirmed(5, 1), false),
        (open(1, 2), true),
    ] {
        let most = if within { msat(1_000) } else { msat(999) };
        assert_eq!(prices.are_within(Msat::ZERO, from, to, most), within);
    }
    // What is bought is no less than what came.
    let prices = open(1, 1_000);
    assert!(prices.are_within(msat(2_400), from, to, msat(100)));
    assert!(!prices.are_within(msat(2_399), from, to, msat(100)));
}

#[test]
fn payment_buys_what_it_buys_by_the_dearer_of_two_prices() {
    for (prices, ms) in [
        (open(1, 1_000), 500),
        (confirmed(1, 1_000), 500_000),
        (open(5, 1), 100),
        (confirmed(5, 1), 100),
    ] {
        assert_eq!(prices.bought_ms(at(2_000), msat(500)), ms);
    }
}

#[test]
fn what_stood_is_worth_either_price_until_one_of_them_holds() {
    let (open, confirmed) = (open(1, 10), confirmed(1, 10));
    let stood = open.stood(at(2_000));
    assert_eq!((stood.agreed, stood.alone), (msat(1_100), msat(2_000)));
    let certain = confirmed.stood(at(2_000));
    assert_eq!((certain.agreed, certain.alone), (msat(1_100), msat(1_100)));
    let most = |stood: Msat| stood.saturating_plus(msat(300));
    for (prices, stood, last) in [
        (&open, stood, 2_300),
        (&confirmed, stood, 5_000),
        (&confirmed, certain, 5_000),
    ] {
        assert!(prices.fit(stood, at(last), most), "{last}");
        assert!(!prices.fit(stood, at(last + 10), most), "{last}");
    }
    let dear = Stood {
        agreed: msat(1_000),
        ..stood
    };
    assert!(!open.fit(dear, at(4_001), |_| msat(1_300)));
}
