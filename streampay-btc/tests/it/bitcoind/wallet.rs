//! The fee wallet on a real bitcoind: a spike that the channel cannot pay for, a bump, a restart.

use super::*;

const COIN: u64 = 600_000;

impl Two {
    /// Inputs and fee of what spends the channel and waits for a block.
    async fn close_that_waits(&self, purse: PurseKey) -> (Transaction, u64) {
        let outpoint = self.payee.report(purse).outpoint.unwrap();
        let of = json!([[{"txid": outpoint.txid.to_string(), "vout": outpoint.vout}]]);
        let found = self.node.rpc("gettxspendingprevout", of).await;
        let txid = found.pointer("/0/spendingtxid").unwrap().clone();
        let entry = self
            .node
            .rpc("getmempoolentry", json!([txid.clone()]))
            .await;
        let fee = entry.pointer("/fees/base").and_then(Value::as_f64).unwrap();
        let raw = self.node.rpc("getrawtransaction", json!([txid])).await;
        let tx = deserialize_hex(raw.as_str().unwrap()).unwrap();
        (tx, Amount::from_btc(fee).unwrap().to_sat())
    }
}

#[tokio::test]
async fn the_fee_wallet_pays_for_a_spike_and_its_bumps_on_bitcoind() {
    let Some(node) = node().await else { return };
    let mut config = sim_config(2);
    config.payee.reserve = PayeePolicy::reserve_at(FeeRate::from_sat_per_vb_u32(10));
    config.payee.wallet_fee_max = Amount::from_sat(300_000);
    let (payer, payee) = (Party::new(&node, 1), Party::with(&node, 2, config));
    let mut two = Two { node, payer, payee };
    let purse = key(0);
    two.open(purse).await;
    for seq in 1..=170 {
        two.tick(purse, seq).await;
    }
    let script = two.payee.machine.fee_script();
    let value = Amount::from_sat(COIN);
    two.node.fund(&script, value).await;
    two.payee.runner.sync().await.unwrap();
    assert!(two.payee.machine.fee_coins().is_empty(), "in no block yet");
    two.mine(1).await;
    assert_eq!(two.payee.machine.fee_balance(), value, "found by itself");
    let paid = two.payee.report(purse).paid.to_sat();
    two.payee.shared.1.store(200, Ordering::SeqCst);
    two.payee
        .ask(
            purse,
            Request::Settle {
                cumulative: Msat::ZERO,
            },
        )
        .await;
    let (mut tx, mut fee) = two.close_that_waits(purse).await;
    for rate in [200, 260, 330] {
        if rate > 200 {
            two.payee.shared.1.store(rate, Ordering::SeqCst);
            // An empty block: it waits on.
            two.node.rpc("generateblock", json!([address(), []])).await;
            two.payee.runner.sync().await.unwrap();
            let (next, more) = two.close_that_waits(purse).await;
            assert!(more > fee * 5 / 4, "{more} after {fee}");
            (tx, fee) = (next, more);
        }
        assert_eq!(tx.input.len(), 2);
        assert!(fee / u64::try_from(tx.vsize()).unwrap() >= u64::from(rate) - 1);
        let change = two.payer.report(purse).value.to_sat() - paid;
        assert_eq!(
            tx.output[0].value.to_sat(),
            change,
            "the payer's is the same"
        );
        assert_eq!(tx.output[1].value.to_sat(), paid + COIN - fee);
    }
    two.payee.shared.1.store(2, Ordering::SeqCst);
    two.mine(7).await;
    let report = two.payer.report(purse);
    assert_eq!(report.settled, Some(report.value - report.paid));
    assert_eq!(two.payee.report(purse).state, ChannelState::Settled);
    assert!(two.payee.machine.fee_coins().is_empty(), "spent and buried");
    // What is paid to it later is sent home when that is asked for.
    two.node.fund(&script, value).await;
    two.mine(1).await;
    let rate = FeeRate::from_sat_per_vb_u32(3);
    let sweep = two.payee.machine.sweep_fee_wallet(rate).unwrap();
    assert_eq!(sweep.output[0].script_pubkey, home(2));
    two.payee.shared.broadcast(&sweep).await.unwrap();
    two.payee.runner.sync().await.unwrap();
    assert_eq!(two.payee.machine.fee_balance(), Amount::ZERO);
    assert!(two.payee.machine.sweep_fee_wallet(rate).is_err());
    two.mine(6).await;
    assert!(two.payee.machine.fee_coins().is_empty());
}
