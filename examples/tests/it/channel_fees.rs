//! The streamer's fee wallet: told where it is, found on the chain, used in a spike, emptied.

use streampay_btc::bitcoin::{Amount, FeeRate};
use streampay_examples::channel::fees;
use streampay_examples::pay::Pay;
use streampay_examples::viewer::watch::Wish;

use crate::cashu_node::sat;
use crate::channel::{
    QUIET, STREAMER, Stage, TICK, VIEWER, all_settled, channels, paid, script, until,
};

const COIN: u64 = 300_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_fee_wallet_closes_in_a_spike_and_can_be_emptied() {
    let mut stage = Stage::new();
    stage.fee_wallet_max = Some(sat(100_000));
    let (streamer, viewer) = (stage.home(STREAMER).await, stage.home(VIEWER).await);
    let (payee, payer) = (channels(&streamer), channels(&viewer));
    assert_eq!(payer.fee_wallet(), None, "only where it was asked for");
    let wallet = payee.fee_wallet().unwrap().address.script_pubkey();
    let holds = async |value: u64| {
        let now = payee.fee_wallet().unwrap();
        (now.balance == sat(value)).then_some(())
    };
    stage.chain.pay(&wallet, Amount::from_sat(COIN)).unwrap();
    stage.chain.mine(1);
    until("the coin is found", async || holds(COIN).await).await;
    let serving = stage.serve(&streamer, &[Pay::Btc]).await;
    let (wishes, watching) = stage.watch(viewer, &serving, &[Pay::Btc]);
    let wanted = stage.pay_what_is_shown(&payer).await;
    stage.chain.mine(1);
    until("ticks", async || (paid(&payee) > 5 * TICK).then_some(())).await;
    stage.chain.set_rate(FeeRate::from_sat_per_vb_u32(200));
    // The channel may not pay that: it is closed while that can still be paid, with the coin.
    let close = until("a close", async || {
        let waiting = stage.chain.waiting().into_iter();
        waiting.max_by_key(|tx| tx.input.len())
    })
    .await;
    assert_eq!(close.input.len(), 2, "{close:?}");
    // No more than what it collects: it waits for the spike to end.
    stage.chain.set_rate(FeeRate::from_sat_per_vb_u32(2));
    let _ = wishes.send(Wish::Leave).await;
    stage
        .mine_until("the session ends", async || watching.is_finished())
        .await;
    let (viewer, _) = watching.await.unwrap();
    stage
        .mine_until("all is home", async || {
            all_settled(&viewer).await && all_settled(&streamer).await
        })
        .await;
    let book = payee.book(&streamer).await.unwrap();
    let home = stage.chain.balance(&script(VIEWER));
    assert_eq!(home, wanted.value - book[0].paid, "no fee of the viewer's");
    assert!(stage.chain.balance(&script(STREAMER)).to_sat() > COIN - 100_000);
    until("it is spent", async || holds(0).await).await;
    // Another coin, and it is taken home.
    stage.chain.pay(&wallet, Amount::from_sat(50_000)).unwrap();
    stage.chain.mine(1);
    fees::show(Some(&payee), true, QUIET).await.unwrap();
    let sweep = stage.chain.waiting().pop().unwrap();
    assert_eq!(sweep.output[0].script_pubkey, script(STREAMER));
    assert!(fees::show(Some(&payee), true, QUIET).await.is_err(), "once");
    assert!(
        fees::show(Some(&payer), false, QUIET).await.is_err(),
        "none"
    );
    let _ = payer;
}
