//! Reorganisations, fees and sides that never come back on a real bitcoind.

use super::*;

#[tokio::test]
async fn a_funding_that_a_reorganisation_takes_back_stops_ticks_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    let purse = key(0);
    two.open(purse).await;
    two.tick(purse, 1).await;
    two.node.reorganise(1).await;
    for side in [&two.payer, &two.payee] {
        side.runner.sync().await.unwrap();
        assert_eq!(side.report(purse).state, ChannelState::Confirming);
    }
    let pay = Request::Pay {
        seq: Seq(2),
        amount: sat(STEP),
        cumulative: sat(2 * STEP),
    };
    let paid = two.payer.ask(purse, pay).await;
    assert!(matches!(paid, Some(Outcome::Failed(_))), "{paid:?}");
    // It waits again, and a block takes it.
    two.mine(1).await;
    two.tick(purse, 2).await;
}

/// Everything costs 100 sat/vB, then 500. A close goes as far as it may, at every block, and says so
/// where that is not enough; what it may cost is never exceeded.
#[tokio::test]
async fn a_spike_to_500_is_followed_as_far_as_it_may_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    let (rich, poor) = (key(0), key(1));
    two.open(rich).await;
    two.open(poor).await;
    for seq in 1..=150 {
        two.tick(rich, seq).await;
    }
    two.tick(poor, 1).await;
    two.payee.shared.1.store(100, Ordering::SeqCst);
    for purse in [rich, poor] {
        two.payee
            .ask(
                purse,
                Request::Settle {
                    cumulative: Msat::ZERO,
                },
            )
            .await;
    }
    let reserve = PayeePolicy::reserve_at(FeeRate::from_sat_per_vb_u32(10)).to_sat();
    let most = |two: &Two, purse| {
        let paid = two.payee.report(purse).paid.to_sat();
        reserve + (paid - reserve) / 3
    };
    let first = [two.waits(rich).await, two.waits(poor).await];
    assert!((99..=101).contains(&(first[0].0 / first[0].1)), "{first:?}");
    assert!(first[1].0 <= most(&two, poor), "{first:?}");
    let lost = |two: &Two, of: PurseKey| {
        let news = two.payee.runner.news();
        news.iter()
            .any(|(purse, event)| *purse == of && matches!(event, WatchEvent::Uneconomic { .. }))
    };
    assert!(lost(&two, poor), "stated");
    two.payee.shared.1.store(500, Ordering::SeqCst);
    // An empty block: both wait on.
    two.node.rpc("generateblock", json!([address(), []])).await;
    two.payee.runner.sync().await.unwrap();
    let then = [two.waits(rich).await, two.waits(poor).await];
    assert!(then[0].0 > first[0].0 * 5 / 4, "{first:?} {then:?}");
    assert!(then[0].0 <= most(&two, rich), "{then:?}");
    assert_eq!(then[1], first[1], "as dear as it may be");
    assert!(lost(&two, rich), "stated");
    two.payee.shared.1.store(2, Ordering::SeqCst);
    two.mine(8).await;
    for (purse, (fee, _)) in [(rich, then[0]), (poor, then[1])] {
        let report = two.payee.report(purse);
        assert_eq!(report.settled.unwrap().to_sat(), report.paid.to_sat() - fee);
    }
}

impl Two {
    /// Fee and virtual size of what spends a channel and waits for a block.
    pub(super) async fn waits(&self, purse: PurseKey) -> (u64, u64) {
        let outpoint = self.payee.report(purse).outpoint.unwrap();
        let of = json!([[{"txid": outpoint.txid.to_string(), "vout": outpoint.vout}]]);
        let found = self.node.rpc("gettxspendingprevout", of).await;
        let txid = found.pointer("/0/spendingtxid").unwrap().clone();
        let entry = self.node.rpc("getmempoolentry", json!([txid])).await;
        let fee = entry.pointer("/fees/base").and_then(Value::as_f64).unwrap();
        let vsize = entry.get("vsize").and_then(Value::as_u64).unwrap();
        (Amount::from_btc(fee).unwrap().to_sat(), vsize)
    }
}

/// One channel with twenty ticks.
async fn paid_twenty(node: Arc<Node>) -> (Two, PurseKey) {
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    let purse = key(0);
    two.open(purse).await;
    for seq in 1..=20 {
        two.tick(purse, seq).await;
    }
    (two, purse)
}

/// The viewer never comes back: the streamer's watch alone closes when the margin comes.
#[tokio::test]
async fn a_dead_viewer_costs_the_streamer_nothing_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (two, purse) = paid_twenty(node).await;
    let report = two.payee.report(purse);
    let tip = two.node.core.view(&[]).await.unwrap().tip;
    two.node.mine_new(report.expiry - 36 - tip).await;
    for _ in 0..8 {
        two.payee.runner.sync().await.unwrap();
        two.node.mine_new(1).await;
    }
    two.payee.runner.sync().await.unwrap();
    let report = two.payee.report(purse);
    assert_eq!(report.state, ChannelState::Settled);
    assert!(report.settled.unwrap() > report.paid / 2, "{report:?}");
}

/// The streamer never comes back, with ticks that it was paid: the viewer has all of it again at T, but
/// for the fee.
#[tokio::test]
async fn a_dead_streamer_costs_the_viewer_the_wait_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (two, purse) = paid_twenty(node).await;
    let report = two.payer.report(purse);
    let tip = two.node.core.view(&[]).await.unwrap().tip;
    two.node.mine_new(report.expiry - 1 - tip).await;
    two.payer.runner.sync().await.unwrap();
    let watch = Watch {
        outpoint: report.outpoint.unwrap(),
        script: report.address.clone().unwrap().script_pubkey(),
        since: 0,
    };
    let view = two.node.core.view(&[watch]).await.unwrap();
    let spend = view.outputs[0].seen.clone().unwrap().spend;
    assert_eq!(spend, None, "nothing at T - 1");
    // Whoever signs it all the same: nodes take it from T on, and not a block before.
    let kit = two.payer.machine.rescue_kit(purse).unwrap();
    assert_eq!(kit.refunds.len(), 3);
    let verdicts = async |wanted: Option<&str>| {
        for (rate, refund) in &kit.refunds {
            let raw = json!([[serialize_hex(refund)], 0]);
            let verdict = two.node.rpc("testmempoolaccept", raw).await;
            let why = verdict.pointer("/0/reject-reason").and_then(Value::as_str);
            assert_eq!(why, wanted, "{rate} sat/vB: {verdict}");
        }
    };
    verdicts(Some("non-final")).await;
    two.node.mine_new(1).await;
    verdicts(None).await;
    for _ in 0..8 {
        two.payer.runner.sync().await.unwrap();
        two.node.mine_new(1).await;
    }
    two.payer.runner.sync().await.unwrap();
    let after = two.payer.report(purse);
    assert_eq!(after.state, ChannelState::Settled);
    let fee = report.value - after.settled.unwrap();
    assert!((100..=5_000).contains(&fee.to_sat()), "{fee}");
}
