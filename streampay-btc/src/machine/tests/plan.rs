//! What a payer puts money into, whatever the other side or its own chain source says.

use bitcoin::Network;
use streampay_core::units::Unix;

use super::*;
use crate::params::ParamFields;

/// Late in 2026.
const NOW: u64 = 1_795_000_000;

fn opens(rig: &mut Rig) -> bool {
    rig.open();
    !rig.chain.waiting().is_empty()
}

/// The expiry is counted from it: money would be locked for years.
#[test]
fn tip_that_cannot_be_yet_locks_no_money() {
    let main = Network::Bitcoin;
    // A signet of one's own has blocks as it likes, and its first is that of all others.
    let own = Network::Signet;
    for (network, tip, fits) in [
        (main, 970_000, true),
        (main, 1_100_000, false),
        (own, 970_000, true),
    ] {
        let mut rig = Rig::new();
        for (number, node) in [(PAYER, &mut rig.payer), (PAYEE, &mut rig.payee)] {
            let mut config = sim_config(number);
            config.network = network;
            *node = SimNode::new(&rig.chain, config, number);
            node.now.unix = Unix(NOW);
        }
        rig.chain.mine(tip - rig.chain.tip());
        assert_eq!(opens(&mut rig), fits, "{network}: {tip}");
    }
}

/// A streamer that began on a dear day is not refused for it on a cheap one.
#[test]
fn reserve_goes_with_the_fees_of_each_offer() {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.reserve_target = 6;
    let least = config.payee.reserve.to_sat();
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    let none = |rig: &Rig| rig.payee.machine.params(rig.payee.now) == Err(ParamsError::NoView);
    assert!(none(&rig), "nothing is known yet");
    let dear = FeeRate::from_sat_per_vb_u32(40);
    rig.chain.set_rate(dear);
    rig.payee.look();
    assert_eq!(rig.reserve(), PayeePolicy::reserve_at(dear).to_sat());
    rig.payee.now.mono.0 += STALE_MS;
    assert!(none(&rig), "fees of an hour ago are not those of today");
    rig.payee.look();
    let old = rig.offer();
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(1));
    rig.payee.look();
    assert_eq!(rig.reserve(), least);
    assert!(opens(&mut rig));
    rig.chain.mine(1);
    let Some(Outcome::Opened(opened)) = rig.open() else {
        panic!("not opened");
    };
    // Fees that rise between offer and channel change nothing of what was signed.
    let offer = rig.offer();
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(3));
    rig.payee.look();
    assert_ne!(offer, rig.offer());
    let opening = opened.opening;
    let accept = |offer| Request::Accept {
        offer,
        opening: opening.clone(),
    };
    let other = rig.payee.request(rig.purse, accept(old));
    assert!(matches!(other, Some(Outcome::Failed(_))), "{other:?}");
    let accepted = rig.payee.request(rig.purse, accept(offer));
    assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
}

/// As where a session goes on by terms of a cheaper day: the payee would take no tick, and only `T` gives
/// back what is in a channel that was never paid from.
#[test]
fn reserve_that_pays_for_no_close_today_is_raised_within_the_payers_limit() {
    // 927 sat of reserve and a third of a tick, for 199 vB; 20 000 sat at most.
    for (sat_vb, reserve) in [
        (2, Some(927)),
        (5, Some(927)),
        (6, Some(2_121)),
        (40, Some(12_270)),
        (100, Some(20_000)),
        (102, None),
    ] {
        let mut rig = Rig::new();
        assert_eq!((rig.reserve(), STEP), (927, 500));
        let old = rig.offer();
        rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
        assert_eq!(rig.offer(), old);
        let opened = opens(&mut rig);
        assert_eq!(opened, reserve.is_some(), "{sat_vb} sat/vB");
        let Some(reserve) = reserve else {
            let refused = BackendError::Fatal(RefusalCode::FeeTooHigh);
            assert_eq!(rig.open(), Some(Outcome::Failed(refused)));
            continue;
        };
        rig.chain.mine(1);
        let Some(Outcome::Opened(opened)) = rig.open() else {
            panic!("not opened");
        };
        rig.accept(&opened);
        rig.tick(1);
        for node in [&rig.payer, &rig.payee] {
            let report = node.machine.report().remove(0);
            let paid = Amount::from_sat(reserve + STEP);
            assert_eq!(
                (report.reserve.to_sat(), report.paid),
                (reserve, paid),
                "{sat_vb} sat/vB"
            );
        }
        rig.payee.restart(&[rig.purse]);
        rig.payer.restart(&[rig.purse]);
        rig.tick(2);
        let (settled, refunded) = rig.close();
        assert_eq!(
            (refunded.sat_floor(), settled.sat_floor()),
            rig.balances(),
            "{sat_vb} sat/vB"
        );
        assert_eq!(refunded.sat_floor(), rig.value() - reserve - 2 * STEP);
    }
}

/// The terms ask for so much: a payer puts no less into a channel, whatever it says.
#[test]
fn channel_with_less_reserve_than_the_terms_ask_is_refused() {
    let mut rig = Rig::new();
    let opened = rig.opened();
    let offer = rig.offer();
    let params = ChannelParams::decode(&offer.params).unwrap();
    for (more, fits) in [(1, false), (0, true)] {
        let reserve = params.reserve + Amount::from_sat(more);
        let fields = ParamFields {
            reserve,
            ..params.clone()
        };
        let params = ChannelParams::new(&fields).unwrap().encode();
        let offer = PurseOffer {
            params,
            ..offer.clone()
        };
        let opening = opened.opening.clone();
        let found = rig
            .payee
            .request(rig.purse, Request::Accept { offer, opening });
        match fits {
            true => assert!(matches!(found, Some(Outcome::Accepted { .. })), "{found:?}"),
            false => assert_eq!(found, refusal(RefusalCode::WrongAmount)),
        }
    }
}

/// One that closes together with the payer has it for itself, ticks or none.
#[test]
fn reserve_far_above_what_a_close_costs_is_refused() {
    for (reserve, sat_vb, fits) in [(3_000, 2, true), (8_000, 2, false), (8_000, 10, true)] {
        let mut rig = Rig::new();
        let mut config = sim_config(PAYEE);
        config.payee.reserve = Amount::from_sat(reserve);
        rig.payee = SimNode::new(&rig.chain, config, PAYEE);
        rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
        assert_eq!(opens(&mut rig), fits, "{reserve} at {sat_vb} sat/vB");
    }
}
