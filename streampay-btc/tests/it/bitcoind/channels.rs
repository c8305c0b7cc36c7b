//! Channels that go as they should, on a real bitcoind.

use super::*;

#[tokio::test]
async fn channels_open_tick_close_together_and_refund_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    two.open(key(0)).await;
    for seq in 1..=100 {
        two.tick(key(0), seq).await;
    }
    two.payee
        .ask(
            key(0),
            Request::Settle {
                cumulative: Msat::ZERO,
            },
        )
        .await;
    two.mine(6).await;
    let report = &two.payee.machine.report()[0];
    assert_eq!(report.state, ChannelState::Settled);
    let fee = report.paid - report.settled.unwrap();
    assert!((300..=2_000).contains(&fee.to_sat()), "{fee}");
    let of_payer = &two.payer.machine.report()[0];
    assert_eq!(of_payer.settled, Some(report.value - report.paid));
    // The expiry of this one comes with nobody doing anything.
    two.open(key(1)).await;
    let report = two.payer.machine.report();
    let report = report.iter().find(|report| report.purse == key(1)).unwrap();
    let left = report.expiry - two.node.core.view(&[]).await.unwrap().tip;
    two.node.mine_new(left - 1).await;
    two.payer.runner.sync().await.unwrap();
    let state = |two: &Two| {
        let report = two.payer.machine.report();
        report
            .iter()
            .find(|report| report.purse == key(1))
            .unwrap()
            .state
    };
    assert_eq!(state(&two), ChannelState::Open, "nothing before T");
    two.mine(8).await;
    assert_eq!(state(&two), ChannelState::Settled);
}

#[tokio::test]
async fn ten_channels_close_in_one_transaction_on_bitcoind() {
    close_together(10).await;
}

/// As many channels as one close takes.
#[tokio::test]
async fn sixty_eight_channels_close_in_one_transaction_on_bitcoind() {
    close_together(68).await;
}

impl Two {
    /// One look closes all that wait for it.
    pub(super) async fn settle_all(&mut self, numbers: core::ops::Range<u32>) {
        for number in numbers {
            let id = RequestId(9_000 + u64::from(number));
            let now = self.payee.clock.now();
            let answer = (self.payee.machine).request(
                now,
                key(number),
                id,
                Request::Settle {
                    cumulative: Msat::ZERO,
                },
            );
            assert!(answer.outcome.is_none());
        }
        self.payee.runner.sync().await.unwrap();
    }
}

/// So many viewers, one close, a reorganisation of it, and every satoshi.
async fn close_together(count: u32) {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    for number in 0..count {
        two.open(key(number)).await;
        for seq in 1..=4 {
            two.tick(key(number), seq).await;
        }
    }
    two.settle_all(0..count).await;
    let outpoint = two.payee.machine.report()[0].outpoint.unwrap();
    let of = json!([[{"txid": outpoint.txid.to_string(), "vout": outpoint.vout}]]);
    let found = two.node.rpc("gettxspendingprevout", of).await;
    let txid = found
        .pointer("/0/spendingtxid")
        .and_then(Value::as_str)
        .unwrap();
    let entry = two.node.rpc("getmempoolentry", json!([txid])).await;
    let vsize = entry.get("vsize").and_then(Value::as_u64).unwrap();
    // A transaction with one payout, and for each channel an input and a P2WPKH change.
    let expected = (83 + 265 * u64::from(count)) / 2;
    assert!(vsize.abs_diff(expected) <= 2, "{vsize}");
    assert!(vsize <= 10_000);
    two.mine(3).await;
    two.node.reorganise(3).await;
    two.mine(7).await;
    let reports = two.payee.machine.report();
    let settled: u64 = reports
        .iter()
        .filter_map(|r| r.settled)
        .map(Amount::to_sat)
        .sum();
    let paid: u64 = reports.iter().map(|report| report.paid.to_sat()).sum();
    let fee = entry.pointer("/fees/base").and_then(Value::as_f64).unwrap();
    let fee = Amount::from_btc(fee).unwrap().to_sat();
    assert!(reports.iter().all(|r| r.state == ChannelState::Settled));
    assert_eq!(paid - settled, fee, "to the satoshi");
}
