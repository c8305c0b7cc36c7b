//! Channels of both output types with one streamer.

use streampay_btc::script::OutputType;

use super::*;

const KINDS: [OutputType; 2] = [OutputType::Taproot, OutputType::Wsh];

/// Four channels, by turns P2TR and P2WSH, are closed in one transaction; one more P2WSH is refunded.
/// The node's own test takes everything that is broadcast.
#[tokio::test]
async fn channels_of_both_types_are_closed_together_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    let mut open = Vec::new();
    for (number, kind) in (0..5).zip(KINDS.into_iter().cycle()) {
        two.payee.config.payee.types = vec![kind];
        two.payee.restart(&open).await;
        two.open(key(number)).await;
        open.push(key(number));
        for seq in 1..=3 {
            two.tick(key(number), seq).await;
        }
    }
    two.payee.config.payee.types = vec![OutputType::Wsh];
    two.payee.restart(&open).await;
    let refunded = key(5);
    two.open(refunded).await;
    two.settle_all(0..5).await;
    let outpoint = |of: &Party, number| of.report(key(number)).outpoint.unwrap();
    let all: Vec<OutPoint> = (0..5).map(|number| outpoint(&two.payee, number)).collect();
    let spend = json!([[{"txid": all[0].txid.to_string(), "vout": all[0].vout}]]);
    let found = two.node.rpc("gettxspendingprevout", spend).await;
    let txid = found.pointer("/0/spendingtxid").unwrap().clone();
    let raw = two.node.rpc("getrawtransaction", json!([txid])).await;
    let close: Transaction = deserialize_hex(raw.as_str().unwrap()).unwrap();
    let spent: Vec<OutPoint> = (close.input.iter())
        .map(|input| input.previous_output)
        .collect();
    assert!(
        all.iter().all(|of| spent.contains(of)) && spent.len() == 5,
        "{close:?}"
    );
    two.mine(6).await;
    for number in 0..5 {
        assert_eq!(two.payee.report(key(number)).state, ChannelState::Settled);
        // The reserve and three ticks.
        let report = two.payer.report(key(number));
        assert_eq!(report.settled, report.value.checked_sub(report.paid));
    }
    let report = two.payer.report(refunded);
    let left = report.expiry - two.node.core.view(&[]).await.unwrap().tip;
    two.node.mine_new(left - 1).await;
    two.payer.runner.sync().await.unwrap();
    assert_eq!(two.payer.report(refunded).state, ChannelState::Open);
    two.mine(8).await;
    let report = two.payer.report(refunded);
    assert_eq!(report.state, ChannelState::Settled);
    let fee = report.value - report.settled.unwrap();
    assert!(fee < Amount::from_sat(10_000), "{fee}");
}
