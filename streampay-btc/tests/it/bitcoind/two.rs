//! A viewer and a streamer, and what passes between them.

use super::*;

pub(super) fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

pub(super) fn key(number: u32) -> PurseKey {
    PurseKey {
        session: SessionId([5; 32]),
        purse: PurseId(number),
    }
}

pub(super) const STEP: u64 = 500;

pub(super) struct Two {
    pub(super) node: Arc<Node>,
    pub(super) payer: Party,
    pub(super) payee: Party,
}

impl Two {
    pub(super) fn offer(&self) -> PurseOffer {
        PurseOffer {
            params: self
                .payee
                .machine
                .params(self.payee.clock.now())
                .unwrap()
                .encode(),
            tick: sat(STEP),
            payer_key: XOnlyKey([1; 32]),
            payee_key: XOnlyKey([2; 32]),
        }
    }

    pub(super) async fn ask_open(&mut self, purse: PurseKey) -> Option<Outcome> {
        let open = Request::Open {
            offer: self.offer(),
            capacity: sat(100_000),
            budget: sat(100_000),
        };
        self.payer.ask(purse, open).await
    }

    pub(super) async fn show(&mut self, purse: PurseKey, opening: Bytes) -> Option<Outcome> {
        let offer = self.offer();
        let accept = Request::Accept { offer, opening };
        self.payee.ask(purse, accept).await
    }

    pub(super) async fn open(&mut self, purse: PurseKey) {
        self.ask_open(purse).await;
        self.node.mine_new(1).await;
        let Some(Outcome::Opened(opened)) = self.ask_open(purse).await else {
            panic!("not opened");
        };
        let accepted = self.show(purse, opened.opening).await;
        assert!(
            matches!(accepted, Some(Outcome::Accepted { .. })),
            "{accepted:?}"
        );
    }

    pub(super) async fn pay(&mut self, purse: PurseKey, seq: u64) -> Option<Outcome> {
        let (amount, cumulative) = (sat(STEP), sat(seq * STEP));
        let pay = Request::Pay {
            seq: Seq(seq),
            amount,
            cumulative,
        };
        self.payer.ask(purse, pay).await
    }

    pub(super) async fn receive(
        &mut self,
        purse: PurseKey,
        seq: u64,
        payload: Bytes,
    ) -> Option<Outcome> {
        let (amount, cumulative) = (sat(STEP), sat(seq * STEP));
        let receive = Request::Receive {
            seq: Seq(seq),
            amount,
            cumulative,
            payload,
        };
        self.payee.ask(purse, receive).await
    }

    pub(super) async fn tick(&mut self, purse: PurseKey, seq: u64) {
        let Some(Outcome::Paid { payload }) = self.pay(purse, seq).await else {
            panic!("not paid");
        };
        let credited = self.receive(purse, seq, payload).await;
        assert_eq!(credited, Some(Outcome::Credited));
    }

    pub(super) async fn mine(&self, blocks: u32) {
        for _ in 0..blocks {
            self.node.mine_new(1).await;
            self.payee.runner.sync().await.unwrap();
            self.payer.runner.sync().await.unwrap();
        }
    }
}
