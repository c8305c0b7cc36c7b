//! Both sides die at each step and come back from their disks, on a real bitcoind.

use super::*;

const LATER: Option<Outcome> = Some(Outcome::Failed(BackendError::Transient));

impl Two {
    async fn restart(&mut self, purse: PurseKey) {
        self.payer.restart(&[purse]).await;
        self.payee.restart(&[purse]).await;
    }

    /// The transactions that wait for a block.
    async fn mempool(&self) -> Vec<String> {
        let waiting = self.node.rpc("getrawmempool", json!([])).await;
        let waiting = waiting.as_array().unwrap().iter();
        waiting
            .map(|txid| txid.as_str().unwrap().to_owned())
            .collect()
    }

    /// From an address that was shown to a channel that both use: the opening.
    async fn opens_with_a_restart_at_each_step(&mut self, purse: PurseKey) -> Bytes {
        // Offered: the address is shown, nobody has paid.
        self.payer.shared.2.store(true, Ordering::SeqCst);
        assert_eq!(self.ask_open(purse).await, LATER);
        let shown = self.payer.report(purse);
        self.restart(purse).await;
        assert_eq!(self.payer.report(purse), shown);
        assert_eq!(shown.state, ChannelState::Unfunded);
        // Somebody pays while it is dead: found, not asked for again, and waited for.
        let script = shown.address.clone().unwrap().script_pubkey();
        let outpoint = self.node.fund(&script, shown.value).await;
        self.restart(purse).await;
        assert_eq!(self.ask_open(purse).await, LATER);
        self.restart(purse).await;
        let funded = self.payer.report(purse);
        assert_eq!(funded.state, ChannelState::Confirming);
        assert_eq!(funded.outpoint, Some(outpoint));
        assert_eq!(self.ask_open(purse).await, LATER, "in no block");
        // In a block: the opening, the same after a restart but for the time that is left.
        self.mine(1).await;
        self.payer.restart(&[purse]).await;
        let Some(Outcome::Opened(opened)) = self.ask_open(purse).await else {
            panic!("not opened");
        };
        self.payer.restart(&[purse]).await;
        let Some(Outcome::Opened(again)) = self.ask_open(purse).await else {
            panic!("not opened again");
        };
        assert_eq!(again.opening, opened.opening);
        // Shown, and out of its block before the payee looks: known to it, and not taken.
        self.node.reorganise(1).await;
        assert_eq!(self.show(purse, again.opening.clone()).await, LATER);
        self.payee.restart(&[purse]).await;
        assert_eq!(self.show(purse, again.opening.clone()).await, LATER);
        self.mine(1).await;
        self.payee.restart(&[purse]).await;
        let accepted = self.show(purse, again.opening.clone()).await;
        assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
        self.restart(purse).await;
        let accepted = self.show(purse, again.opening.clone()).await;
        assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
        again.opening
    }

    /// Both die between each two messages of a tick.
    async fn ticks_with_restarts(&mut self, purse: PurseKey, seqs: core::ops::RangeInclusive<u64>) {
        for seq in seqs {
            let paid = self.pay(purse, seq).await;
            let Some(Outcome::Paid { payload }) = paid else {
                panic!("{paid:?}");
            };
            self.restart(purse).await;
            assert_eq!(
                self.pay(purse, seq).await,
                Some(Outcome::Paid {
                    payload: payload.clone()
                }),
                "the same again"
            );
            for _ in 0..2 {
                let credited = self.receive(purse, seq, payload.clone()).await;
                assert_eq!(credited, Some(Outcome::Credited));
                self.restart(purse).await;
            }
        }
    }
}

#[tokio::test]
async fn both_sides_restart_at_each_step_of_a_close_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    let purse = key(0);
    let opening = two.opens_with_a_restart_at_each_step(purse).await;
    two.ticks_with_restarts(purse, 1..=20).await;
    // Closing is durable and nothing is broadcast; what is told to come back does it.
    let last = two.pay(purse, 21).await;
    let Some(Outcome::Paid { payload: late }) = last else {
        panic!("{last:?}");
    };
    two.payer.dies_at(purse, Request::Release).await;
    let refused = two.pay(purse, 22).await;
    assert!(matches!(refused, Some(Outcome::Failed(_))), "{refused:?}");
    assert!(two.mempool().await.is_empty(), "the payer closes nothing");
    two.payee
        .dies_at(
            purse,
            Request::Settle {
                cumulative: Msat::ZERO,
            },
        )
        .await;
    let close = two.mempool().await;
    assert_eq!(close.len(), 1, "the restart broadcasts it");
    // It waits: the same one, however often both die, and no tick any more.
    for _ in 0..3 {
        two.restart(purse).await;
        assert_eq!(two.mempool().await, close);
        assert_eq!(two.payee.report(purse).state, ChannelState::Closing);
        let refused = two.receive(purse, 21, late.clone()).await;
        assert!(matches!(refused, Some(Outcome::Failed(_))), "{refused:?}");
        let shut = two.show(purse, opening.clone()).await;
        assert!(!matches!(shut, Some(Outcome::Credited)), "{shut:?}");
    }
    // In a block, deeper and deeper.
    for depth in 1..=6 {
        assert_eq!(two.payee.report(purse).state, ChannelState::Closing);
        assert_eq!(
            two.payee
                .ask(
                    purse,
                    Request::Settle {
                        cumulative: Msat::ZERO
                    }
                )
                .await,
            LATER
        );
        two.mine(1).await;
        two.restart(purse).await;
        assert!(two.mempool().await.is_empty(), "at {depth}");
    }
    let (payer, payee) = (two.payer.report(purse), two.payee.report(purse));
    let reserve = two.payee.config.payee.reserve.to_sat();
    assert_eq!(payee.paid.to_sat(), 20 * STEP + reserve);
    assert_eq!(payer.settled, Some(payer.value - payee.paid));
    assert_eq!(payee.state, ChannelState::Settled);
    for _ in 0..2 {
        let settled = two
            .payee
            .ask(
                purse,
                Request::Settle {
                    cumulative: Msat::ZERO,
                },
            )
            .await;
        let own = sat(payee.settled.unwrap().to_sat());
        assert_eq!(settled, Some(Outcome::Settled { settled: own }));
        let released = two.payer.ask(purse, Request::Release).await;
        let refunded = sat(payer.settled.unwrap().to_sat());
        assert_eq!(released, Some(Outcome::Released { refunded }));
        two.restart(purse).await;
    }
}

/// The payee is gone after a tick: the payer dies at each step of its refund.
#[tokio::test]
async fn the_payer_restarts_at_each_step_of_a_refund_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    let purse = key(0);
    two.open(purse).await;
    two.tick(purse, 1).await;
    two.payer.dies_at(purse, Request::Release).await;
    let report = two.payer.report(purse);
    let tip = two.node.core.view(&[]).await.unwrap().tip;
    two.node.mine_new(report.expiry - 1 - tip).await;
    two.payer.restart(&[purse]).await;
    assert!(two.mempool().await.is_empty(), "nothing at T - 1");
    two.node.mine_new(1).await;
    two.payer.restart(&[purse]).await;
    let refund = two.mempool().await;
    assert_eq!(refund.len(), 1);
    two.payer.restart(&[purse]).await;
    assert_eq!(two.mempool().await, refund);
    for depth in 1..=6 {
        assert_eq!(two.payer.ask(purse, Request::Release).await, LATER);
        two.node.mine_new(1).await;
        two.payer.restart(&[purse]).await;
        assert!(two.mempool().await.is_empty(), "at {depth}");
    }
    let after = two.payer.report(purse);
    assert_eq!(after.state, ChannelState::Settled);
    let fee = report.value - after.settled.unwrap();
    assert!((100..=5_000).contains(&fee.to_sat()), "{fee}");
}

/// The payer is gone after twenty ticks: the payee dies at each step of its close at the margin, and after
/// each restart goes on from its disk alone.
#[tokio::test]
async fn the_payee_restarts_at_each_step_of_a_close_at_the_margin_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    let purse = key(0);
    two.open(purse).await;
    for seq in 1..=20 {
        two.tick(purse, seq).await;
    }
    let report = two.payee.report(purse);
    let tip = two.node.core.view(&[]).await.unwrap().tip;
    two.node.mine_new(report.expiry - 37 - tip).await;
    two.payee.restart(&[purse]).await;
    assert!(two.mempool().await.is_empty(), "nothing before the margin");
    two.node.mine_new(1).await;
    two.payee.restart(&[purse]).await;
    assert_eq!(two.mempool().await.len(), 1);
    // It does not know what it bid at this height, and bids once more.
    two.payee.restart(&[purse]).await;
    assert_eq!(two.mempool().await.len(), 1);
    // Out of its block again: the restart finds it waiting.
    two.node.mine_new(1).await;
    two.payee.restart(&[purse]).await;
    two.node.reorganise(1).await;
    two.payee.restart(&[purse]).await;
    assert_eq!(two.mempool().await.len(), 1);
    for depth in 1..=6 {
        assert_eq!(two.payee.report(purse).state, ChannelState::Closing);
        two.node.mine_new(1).await;
        two.payee.restart(&[purse]).await;
        assert!(two.mempool().await.is_empty(), "at {depth}");
    }
    let after = two.payee.report(purse);
    assert_eq!(after.state, ChannelState::Settled);
    assert_eq!(after.paid, report.paid);
    let fee = after.paid - after.settled.unwrap();
    assert!((100..=5_000).contains(&fee.to_sat()), "{fee}");
}

/// Neither asks for anything after a tick, and both die at each height: the payee's close is what comes, and
/// the payer books the rest.
#[tokio::test]
async fn both_sides_restart_from_the_margin_to_the_end_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    let purse = key(0);
    two.open(purse).await;
    for seq in 1..=20 {
        two.tick(purse, seq).await;
    }
    let report = two.payee.report(purse);
    let tip = two.node.core.view(&[]).await.unwrap().tip;
    two.node.mine_new(report.expiry - 37 - tip).await;
    for _ in 0..9 {
        two.restart(purse).await;
        two.restart(purse).await;
        two.node.mine_new(1).await;
    }
    two.restart(purse).await;
    let (payer, payee) = (two.payer.report(purse), two.payee.report(purse));
    assert_eq!(payee.state, ChannelState::Settled);
    assert_eq!(payer.state, ChannelState::Settled);
    assert_eq!(payer.settled, Some(payer.value - payee.paid));
}

/// The payee holds no tick and is alive: it closes nothing. Both die at each step of the payer's refund.
#[tokio::test]
async fn both_sides_restart_at_each_step_of_a_refund_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    let purse = key(0);
    two.open(purse).await;
    two.payer.dies_at(purse, Request::Release).await;
    let report = two.payer.report(purse);
    let tip = two.node.core.view(&[]).await.unwrap().tip;
    two.node.mine_new(report.expiry - 1 - tip).await;
    two.restart(purse).await;
    assert!(two.mempool().await.is_empty(), "nothing at T - 1");
    two.node.mine_new(1).await;
    two.payee.restart(&[purse]).await;
    assert!(
        two.mempool().await.is_empty(),
        "the payee has nothing to close"
    );
    two.restart(purse).await;
    let refund = two.mempool().await;
    assert_eq!(refund.len(), 1);
    for depth in 1..=6 {
        two.restart(purse).await;
        assert_eq!(two.payer.ask(purse, Request::Release).await, LATER);
        two.node.mine_new(1).await;
        two.restart(purse).await;
        assert!(two.mempool().await.is_empty(), "at {depth}");
    }
    let after = two.payer.report(purse);
    assert_eq!(after.state, ChannelState::Settled);
    let fee = report.value - after.settled.unwrap();
    assert!((100..=5_000).contains(&fee.to_sat()), "{fee}");
    let settle = Request::Settle {
        cumulative: Msat::ZERO,
    };
    let settled = two.payee.ask(purse, settle).await;
    assert_eq!(
        settled,
        Some(Outcome::Settled {
            settled: Msat::ZERO
        })
    );
}
