//! Opening and ticks, and what is refused.

use super::*;

#[test]
fn open_a_hundred_ticks_and_close() {
    let mut rig = Rig::ready();
    for seq in 1..=100 {
        rig.tick(seq);
    }
    let (value, reserve) = (rig.value(), rig.reserve());
    let (settled, refunded) = rig.close();
    let (home, payout) = rig.balances();
    assert_eq!(refunded.sat_floor(), value - reserve - 100 * STEP);
    assert_eq!((refunded.sat_floor(), settled.sat_floor()), (home, payout));
    // 2 sat/vB for a close of 199 vbytes, and a P2WPKH output that is 12 vbytes smaller each.
    let fee = value - home - payout;
    assert!((300..=400).contains(&fee), "{fee}");
    assert!(rig.payee.refused.is_empty() && rig.payer.refused.is_empty());
}

#[test]
fn channel_that_is_spent_to_the_end_needs_no_change() {
    let mut rig = Rig::ready();
    let capacity = (rig.value() - rig.reserve()) / STEP;
    for seq in 1..=capacity {
        rig.tick(seq);
    }
    assert_eq!(rig.pay(capacity + 1), EMPTY);
    let (settled, refunded) = rig.close();
    assert_eq!(refunded, Msat::ZERO);
    assert_eq!(settled.sat_floor(), rig.balances().1);
}

#[test]
fn funding_is_checked_on_the_own_chain_source() {
    let mut rig = Rig::new();
    rig.open();
    rig.chain.mine(1);
    let Some(Outcome::Opened(opened)) = rig.open() else {
        panic!("not opened");
    };
    // Another payee's key in the same opening: another script.
    let other = PurseOffer {
        params: SimNode::new(&rig.chain, sim_config(9), 9)
            .machine
            .params(rig.payee.now)
            .unwrap()
            .encode(),
        ..rig.offer()
    };
    let accept = |rig: &mut Rig, offer: PurseOffer, opening: Bytes| {
        let purse = rig.purse;
        rig.payee.request(purse, Request::Accept { offer, opening })
    };
    let offer = rig.offer();
    let found = accept(&mut rig, other, opened.opening.clone());
    assert_eq!(found, refusal(RefusalCode::WrongSession));
    for at in 0..opened.opening.len() {
        let mut bytes = opened.opening.to_vec();
        bytes[at] ^= 1;
        let found = accept(&mut rig, offer.clone(), bytes.into());
        assert!(
            matches!(
                found,
                Some(Outcome::Failed(
                    BackendError::Rejected(..) | BackendError::Transient
                ))
            ),
            "{at} {found:?}"
        );
    }
    let mut elsewhere = sim_config(PAYEE);
    elsewhere.network = Network::Signet;
    let mut elsewhere = SimNode::new(&rig.chain, elsewhere, PAYEE);
    let request = Request::Accept {
        offer: rig.offer(),
        opening: opened.opening.clone(),
    };
    let found = elsewhere.request(rig.purse, request);
    assert_eq!(found, refusal(RefusalCode::NoCommonMethod));
    assert!(matches!(
        rig.accept(&opened),
        Some(Outcome::Accepted { .. })
    ));
}

#[test]
fn unconfirmed_funding_is_not_accepted_and_a_reorganised_one_stops_ticks() {
    let mut rig = Rig::new();
    let opened = rig.opened();
    rig.chain.reorganise(1, &[]);
    assert_eq!(rig.accept(&opened), LATER, "it waits for a block");
    rig.chain.mine(1);
    let accepted = rig.accept(&opened);
    assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
    rig.tick(1);
    rig.chain.reorganise(1, &[]);
    rig.payee.look();
    rig.payer.look();
    assert_eq!(rig.pay(2), LATER);
    rig.chain.mine(1);
    let payload = rig.payload(2);
    rig.chain.reorganise(1, &[]);
    rig.payee.look();
    assert_eq!(rig.receive(2, payload.clone()), LATER);
    rig.chain.mine(1);
    assert_eq!(rig.receive(2, payload), Some(Outcome::Credited));
}

#[test]
fn funding_that_never_comes_back_is_told() {
    let mut rig = Rig::ready();
    let funding = rig.payer.machine.report()[0].outpoint.unwrap();
    rig.chain.reorganise(1, &[funding.txid]);
    let events = rig.payee.look().unwrap();
    assert_eq!(events, [(rig.purse, WatchEvent::FundingGone)]);
    assert_eq!(
        rig.payee.machine.report()[0].state,
        ChannelState::Confirming
    );
}

#[test]
fn signature_of_one_channel_is_worth_nothing_in_another() {
    let mut rig = Rig::ready();
    let first = rig.payload(1);
    rig.purse = key(1);
    let opened = rig.opened();
    assert!(matches!(
        rig.accept(&opened),
        Some(Outcome::Accepted { .. })
    ));
    assert_eq!(rig.receive(1, first), refusal(RefusalCode::BadProof));
}

#[test]
fn tick_is_refused_where_closing_would_cost_too_much() {
    let mut rig = Rig::ready();
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(100));
    rig.payee.look();
    let payload = rig.payload(1);
    assert_eq!(rig.receive(1, payload), refusal(RefusalCode::FeeTooHigh));
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(2));
    rig.payee.look();
    rig.tick(1);
}

#[test]
fn no_tick_after_a_broadcast() {
    let mut rig = Rig::ready();
    rig.tick(1);
    let late = rig.payload(2);
    rig.payee.request(
        rig.purse,
        Request::Settle {
            cumulative: Msat::ZERO,
        },
    );
    assert_eq!(
        rig.receive(2, late.clone()),
        refusal(RefusalCode::PurseEmpty)
    );
    rig.payee.restart(&[rig.purse]);
    assert_eq!(rig.receive(2, late), refusal(RefusalCode::PurseEmpty));
    rig.payer.look();
    assert_eq!(rig.pay(3), EMPTY);
}

#[test]
fn nothing_is_concluded_while_the_chain_source_is_away() {
    let mut rig = Rig::new();
    rig.chain.set_away(true);
    assert_eq!(rig.open(), LATER);
    rig.chain.set_away(false);
    let opened = rig.opened();
    rig.chain.set_away(true);
    assert_eq!(rig.accept(&opened), LATER);
    rig.chain.set_away(false);
    assert!(matches!(
        rig.accept(&opened),
        Some(Outcome::Accepted { .. })
    ));
    rig.tick(1);
    rig.chain.set_away(true);
    // A view is good for an hour.
    rig.tick(2);
    let payload = rig.payload(3);
    assert!(rig.payee.machine.has_view(rig.payee.now));
    rig.payee.now.mono = rig.payee.now.mono.after_ms(STALE_MS);
    assert!(!rig.payee.machine.has_view(rig.payee.now));
    assert_eq!(rig.receive(3, payload), LATER);
}

#[test]
fn payers_limits_hold_whatever_the_terms_say() {
    type Change = fn(&mut ChannelConfig);
    let cases: [(Change, RefusalCode); 5] = [
        (
            |payer| payer.payer.reserve_max = Amount::from_sat(10),
            RefusalCode::FeeTooHigh,
        ),
        (|payer| payer.payer.margin_max = 35, RefusalCode::WrongLock),
        (|payer| payer.payer.depth_max = 0, RefusalCode::WrongLock),
        (|payer| payer.payer.life = 100, RefusalCode::WrongLock),
        (
            |payer| payer.payer.value_max = Amount::from_sat(1_000),
            RefusalCode::OverBudget,
        ),
    ];
    for (change, code) in cases {
        let mut rig = Rig::new();
        let mut config = sim_config(PAYER);
        change(&mut config);
        rig.payer = SimNode::new(&rig.chain, config, PAYER);
        let expected = Some(Outcome::Failed(BackendError::Fatal(code)));
        assert_eq!(rig.open(), expected);
        assert!(rig.chain.waiting().is_empty(), "no money moved");
    }
}

/// Its process began anew, and its payee signed a receipt for more than was paid.
#[test]
fn update_that_rests_on_what_was_never_signed_is_not_made() {
    let mut rig = Rig::ready();
    rig.tick(1);
    rig.payer.restart(&[rig.purse]);
    assert_eq!(rig.pay(6), EMPTY);
    rig.payload(2);
}
