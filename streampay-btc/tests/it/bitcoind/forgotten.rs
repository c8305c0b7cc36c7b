//! A funding that is taken unconfirmed, and that a real bitcoind forgets.

use super::*;

/// The node forgets what waits for so long, in seconds. Source: Bitcoin Core,
/// `DEFAULT_MEMPOOL_EXPIRY_HOURS`, 336.
const FORGETS_S: u64 = 337 * 3_600;

/// It pays nothing itself, so that only its close can bring it back.
#[tokio::test]
async fn a_close_brings_a_forgotten_funding_along_on_bitcoind() {
    let Some(node) = node().await else { return };
    let mut config = sim_config(2);
    config.payee.zero_conf_max = Amount::from_sat(200_000);
    config.payee.depths.retain(|rule| rule.value_max > 200_000);
    let (payer, payee) = (Party::new(&node, 1), Party::with(&node, 2, config));
    let mut two = Two { node, payer, payee };
    let purse = key(0);
    two.payer.shared.2.store(true, Ordering::SeqCst);
    two.ask_open(purse).await;
    let shown = two.payer.report(purse);
    let script = shown.address.unwrap().script_pubkey();
    let funding = two.node.payment(&script, shown.value, Amount::ZERO).await;
    let txid = funding.compute_txid().to_string();
    two.node
        .rpc("prioritisetransaction", json!([txid, 0, 10_000]))
        .await;
    two.node
        .rpc("sendrawtransaction", json!([serialize_hex(&funding)]))
        .await;
    two.ask_open(purse).await;
    let opened = match two.ask_open(purse).await {
        Some(Outcome::Opened(opened)) => opened,
        other => panic!("{other:?}"),
    };
    let accepted = two.show(purse, opened.opening).await;
    assert!(
        matches!(accepted, Some(Outcome::Accepted { .. })),
        "{accepted:?}"
    );
    for seq in 1..=60 {
        two.tick(purse, seq).await;
    }
    two.payee.runner.sync().await.unwrap();
    // Two weeks later something else comes, and the node looks for what is too old.
    two.node
        .rpc("prioritisetransaction", json!([txid, 0, -10_000]))
        .await;
    let info = two.node.rpc("getblockchaininfo", json!([])).await;
    let later = info.get("time").and_then(Value::as_u64).unwrap() + FORGETS_S;
    two.node.rpc("setmocktime", json!([later])).await;
    let other = two.node.fund(&home(9), Amount::from_sat(50_000)).await;
    let waiting = two.node.rpc("getrawmempool", json!([])).await;
    assert_eq!(waiting, json!([other.txid.to_string()]), "forgotten");
    let hex = serialize_hex(&funding);
    let alone = two.node.core.rpc("sendrawtransaction", json!([hex])).await;
    assert!(alone.is_err(), "nobody takes it alone");
    two.payee.restart(&[purse]).await;
    two.payee.runner.sync().await.unwrap();
    let (fee, size) = two.waits(purse).await;
    assert!(fee > size, "{fee} for {size}");
    two.mine(7).await;
    let (payer, payee) = (two.payer.report(purse), two.payee.report(purse));
    assert_eq!(payer.settled, Some(payer.value - payee.paid));
    assert_eq!(payee.settled.unwrap().to_sat(), payee.paid.to_sat() - fee);
}
