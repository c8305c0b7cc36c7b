//! Closing together on a real bitcoind, and every way in which it does not come to that.

use streampay_btc::script::OutputType;

use super::sizes::{p2tr, to_p2tr};
use super::*;

const TICKS: u64 = 30;

/// A channel with some ticks, its payee asked to settle and waiting for the payer.
async fn settling(node: &Arc<Node>, number: u32, mutual_ms: u64) -> (Two, PurseKey) {
    let mut config = to_p2tr(2, OutputType::Taproot);
    config.payee.mutual_ms = mutual_ms;
    let payer = Party::with(node, 1, to_p2tr(1, OutputType::Taproot));
    let payee = Party::with(node, 2, config);
    let (node, purse) = (Arc::clone(node), key(number));
    let mut two = Two { node, payer, payee };
    two.open(purse).await;
    for seq in 1..=TICKS {
        two.tick(purse, seq).await;
    }
    two.payee
        .ask(
            purse,
            Request::Settle {
                cumulative: Msat::ZERO,
            },
        )
        .await;
    two.payer.ask(purse, Request::Release).await;
    (two, purse)
}

impl Two {
    async fn propose(&mut self, purse: PurseKey) {
        let bytes = self.payee.notes[0].clone();
        self.payer.ask(purse, Request::Note { bytes }).await;
    }

    async fn cosign(&mut self, purse: PurseKey) {
        let bytes = self.payer.notes[0].clone();
        self.payee.ask(purse, Request::Note { bytes }).await;
    }

    /// Conservation to the satoshi, and what both sides say of the close that is buried.
    async fn buried(&self, purse: PurseKey) -> Transaction {
        self.mine(7).await;
        let (payer, payee) = (self.payer.report(purse), self.payee.report(purse));
        let watch = Watch {
            outpoint: payer.outpoint.unwrap(),
            script: payer.address.unwrap().script_pubkey(),
            since: 0,
        };
        let view = self.node.core.view(&[watch]).await.unwrap();
        let tx = view.outputs[0].seen.clone().unwrap().spend.unwrap().tx;
        let of = |number| {
            let own = tx
                .output
                .iter()
                .filter(|out| out.script_pubkey == p2tr(number));
            Some(own.map(|out| out.value).sum::<Amount>())
        };
        assert_eq!((payer.settled, payee.settled), (of(1), of(2)));
        tx
    }
}

#[tokio::test]
async fn mutual_close_and_the_other_after_an_abort_at_each_message_on_bitcoind() {
    let Some(node) = node().await else { return };
    let long = 3_600_000;
    let (mut two, purse) = settling(&node, 0, long).await;
    two.propose(purse).await;
    two.cosign(purse).await;
    let tx = two.buried(purse).await;
    assert_eq!(tx.input[0].witness.len(), 1);
    assert!(tx.vsize().abs_diff(154) <= 2, "{}", tx.vsize());
    let report = two.payer.report(purse);
    assert!(
        report.settled.unwrap() > report.value - report.paid,
        "the unused reserve"
    );
    // No proposal arrives; no part; a false one. The window is over at once.
    for number in 1..=3 {
        let (mut two, purse) = settling(&node, number, if number == 3 { long } else { 1 }).await;
        if number > 1 {
            two.propose(purse).await;
        }
        if number == 3 {
            let mut bad = two.payer.notes[0].to_vec();
            *bad.last_mut().unwrap() ^= 1;
            let bytes = bad.into();
            two.payee.ask(purse, Request::Note { bytes }).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        let tx = two.buried(purse).await;
        assert_eq!(tx.input[0].witness.len(), 4, "{number}");
    }
}

/// A nonce is in memory alone: whoever dies begins anew, and the payee that dies closes alone.
#[tokio::test]
async fn both_sides_restart_at_each_message_of_a_mutual_close_on_bitcoind() {
    let Some(node) = node().await else { return };
    let long = 3_600_000;
    // The payee has proposed, and dies; the part comes too late.
    let (mut two, purse) = settling(&node, 10, long).await;
    two.propose(purse).await;
    two.payee.restart(&[purse]).await;
    two.cosign(purse).await;
    assert_eq!(two.buried(purse).await.input[0].witness.len(), 4);
    // The payer dies before it has the proposal, and once it has answered.
    let (mut two, purse) = settling(&node, 11, long).await;
    two.payer.restart(&[purse]).await;
    two.propose(purse).await;
    let bytes = two.payer.notes[0].clone();
    two.payer.restart(&[purse]).await;
    two.payee.ask(purse, Request::Note { bytes }).await;
    // Both die while the close waits.
    let waits = two.waits(purse).await;
    two.payee.restart(&[purse]).await;
    two.payer.restart(&[purse]).await;
    assert_eq!(two.waits(purse).await, waits, "the same");
    assert_eq!(two.buried(purse).await.input[0].witness.len(), 1);
}
