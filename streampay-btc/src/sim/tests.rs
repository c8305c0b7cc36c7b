use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, FeeRate, ScriptBuf, WPubkeyHash};

use super::*;
use crate::chain::Watch;

fn somebody(number: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([number; 20]))
}

#[test]
fn what_waits_is_mined_and_a_reorganisation_makes_it_wait_again() {
    let chain = SimChain::new();
    let value = Amount::from_sat(10_000);
    let outpoint = chain.pay(&somebody(1), value).unwrap();
    let watch = Watch {
        outpoint,
        script: somebody(1),
        since: 0,
    };
    let depth = || {
        let view = chain.look(core::slice::from_ref(&watch)).unwrap();
        let seen = view.outputs[0].seen.clone();
        seen.map(|seen| seen.depth(view.tip))
    };
    assert_eq!(depth(), Some(0));
    chain.mine(3);
    assert_eq!(depth(), Some(3));
    assert_eq!(chain.balance(&somebody(1)), value);
    chain.reorganise(3, &[]);
    assert_eq!(depth(), Some(0));
    chain.mine(1);
    chain.reorganise(1, &[outpoint.txid]);
    assert_eq!(depth(), None);
}

#[test]
fn dust_and_odd_scripts_do_not_wait() {
    let chain = SimChain::new();
    let dust = chain.pay(&somebody(1), Amount::from_sat(293));
    assert_eq!(dust, Err(Reject::Dust));
    let odd = chain.pay(&ScriptBuf::from_bytes(vec![0x51]), Amount::ONE_BTC);
    assert_eq!(odd, Err(Reject::Script));
}

#[test]
fn blocks_leave_out_what_pays_too_little() {
    let chain = SimChain::new();
    chain.set_rate(FeeRate::from_sat_per_vb_u32(50));
    let view = chain.look(&[]).unwrap();
    assert_eq!(view.fees.rate(10), FeeRate::from_sat_per_vb_u32(50));
    chain.set_away(true);
    assert!(chain.look(&[]).is_err());
}

/// A run that opens two channels and then does whatever.
fn run(bytes: &[u8]) -> Result<Tally, String> {
    let opening = [0, 0, 0, 1, 9, 8, 0, 0, 0, 1];
    let run: Vec<u8> = opening.iter().chain(bytes).copied().collect();
    play(&run)
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_nobody_loses_more_than_the_rules_say(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 20..160),
    ) {
        let played = run(&bytes);
        proptest::prop_assert!(played.is_ok(), "{played:?}");
    }
}

/// Without this the property above could be true of runs in which nothing happens.
#[test]
fn runs_pay_close_and_refund() {
    let mut rng = streampay_core::sim::Rng::new(7);
    let mut all = Tally::default();
    for _ in 0..40 {
        let bytes: Vec<u8> = (0..3).flat_map(|_| rng.bytes()).collect();
        let tally = run(&bytes).unwrap();
        all.closed += tally.closed;
        all.mutual += tally.mutual;
        all.refunded += tally.refunded;
        all.lost += tally.lost;
        all.unfunded += tally.unfunded;
        all.unconfirmed += tally.unconfirmed;
        all.ticks += tally.ticks;
        all.besides += tally.besides;
    }
    println!("{all:?}");
    assert!(
        all.closed > 10
            && all.mutual > 0
            && all.refunded > 3
            && all.ticks > 100
            && all.besides > 0
            && all.unconfirmed > 0,
        "{all:?}"
    );
}

/// A restart gives channels back one by one. The look for the first one let go of the coin that had
/// paid for the close of the second one, and that was booked as if it had cost nothing.
#[test]
fn a_coin_is_known_until_the_close_that_it_paid_for_is_booked() {
    let bytes = <Vec<u8> as bitcoin::hex::FromHex>::from_hex(concat!(
        "61744ba71f2ee72483b1a7ddb59721723db9edc687d383b31a16f137c7120a53f797d4b98cf2baede4a4",
        "6d1e67d88b690ad91480565dae6eb59c94c6031ba869fd1dd5e431c965a92cbf1bc0e47052a3ca458245",
        "6dc0ce9173df4d45ee380e973e897aebfc1de53acc848cada58a7d127f4199d4b9a5a389bd6c022e0745",
        "902d29fcf94656b1bf55cf7dea04be86f97b3af3d7a9f443930aa882",
    ))
    .unwrap();
    run(&bytes).unwrap();
}

/// A close that was outbid once, and whose funding was then replaced for good, was held to be a bid at
/// every block.
#[test]
fn close_whose_funding_is_gone_is_no_bid() {
    let bytes = <Vec<u8> as bitcoin::hex::FromHex>::from_hex(concat!(
        "0d00197e0b03256a478cd8c44d7192078993ac7f7247277f1080167d8aab7b865bf6106aac96cbf7af6f",
        "08b1aa1326d961390dadef729d7f72f42b11189ded84efb7b0c4b3231662b6",
    ))
    .unwrap();
    run(&bytes).unwrap();
}

/// The payee said that closing costs too much while a request had it look, and nobody heard: its bid, as
/// dear as it may be and refused for what hangs on the old one, was held to be one that it could raise.
#[test]
fn bid_that_may_cost_no_more_is_known_as_such_where_a_request_looked() {
    let bytes =
        <Vec<u8> as bitcoin::hex::FromHex>::from_hex("1c560ce3b3648978fd2752afa56e25e96935ccfa")
            .unwrap();
    run(&bytes).unwrap();
}
