//! A payer, a payee and a mint, and what they say to each other.

use std::sync::Arc;

use streampay_cashu::{LockedParams, SwapParams};
use streampay_core::backend::{Outcome, PurseOffer, Request};
use streampay_core::units::{Msat, Seq};

use crate::mint::TestMint;
use crate::node::{Mode, Node, offer, params, purse, sat};

/// A payer, a payee, a mint.
pub(crate) struct Pair {
    pub(crate) mint: Arc<TestMint>,
    pub(crate) payer: Node,
    pub(crate) payee: Node,
    /// Of the modes with locks.
    pub(crate) params: LockedParams,
    pub(crate) tick: u64,
    pub(crate) mode: Mode,
    /// Steps that the payee's session credited.
    pub(crate) credited: u64,
}

impl Pair {
    pub(crate) async fn new(mode: impl Into<Mode>, ppk: u64, funds: u64, tick: u64) -> Self {
        let (mint, mode) = (TestMint::new(ppk).await, mode.into());
        Self {
            payer: Node::new(&mint, mode, 1, funds).await,
            payee: Node::new(&mint, mode, 2, 0).await,
            mint,
            params: params(),
            tick,
            mode,
            credited: 0,
        }
    }

    fn offer(&self) -> PurseOffer {
        let locked = offer(&self.params, self.tick);
        match self.mode {
            Mode::Swap => PurseOffer {
                params: SwapParams::new(self.params.mints().to_vec())
                    .unwrap()
                    .encode(),
                ..locked
            },
            Mode::Chain | Mode::P2pk => locked,
        }
    }

    pub(crate) async fn opened(
        mode: impl Into<Mode>,
        ppk: u64,
        funds: u64,
        tick: u64,
        ticks: u64,
    ) -> Self {
        let mut pair = Self::new(mode, ppk, funds, tick).await;
        pair.open(0, ticks).await;
        pair
    }

    pub(crate) fn open_request(&self, ticks: u64) -> Request {
        Request::Open {
            offer: self.offer(),
            capacity: sat(self.tick * ticks),
            budget: Msat::MAX,
        }
    }

    /// The payer's opening of a purse.
    pub(crate) async fn offered(&mut self, of: u32, ticks: u64) -> bytes::Bytes {
        let request = self.open_request(ticks);
        match self.payer.ask(purse(of), request).await {
            Some(Outcome::Opened(opened)) => {
                assert_eq!(opened.capacity, sat(self.tick * ticks));
                opened.opening
            }
            other => panic!("not opened: {other:?}"),
        }
    }

    pub(crate) fn accept_request(&self, opening: bytes::Bytes) -> Request {
        Request::Accept {
            offer: self.offer(),
            opening,
        }
    }

    pub(crate) async fn open(&mut self, of: u32, ticks: u64) {
        let opening = self.offered(of, ticks).await;
        let request = self.accept_request(opening);
        let accepted = self.payee.ask(purse(of), request).await;
        let capacity = sat(self.tick * ticks);
        let quantum = sat(1);
        assert_eq!(accepted, Some(Outcome::Accepted { capacity, quantum }));
    }

    pub(crate) fn pay_request(&self, seq: u64, step: u64) -> Request {
        Request::Pay {
            seq: Seq(seq),
            amount: sat(self.tick),
            cumulative: sat(self.tick * step),
        }
    }

    pub(crate) fn receive_request(&self, seq: u64, step: u64, payload: bytes::Bytes) -> Request {
        Request::Receive {
            seq: Seq(seq),
            amount: sat(self.tick),
            cumulative: sat(self.tick * step),
            payload,
        }
    }

    pub(crate) async fn paid(&mut self, seq: u64, step: u64) -> bytes::Bytes {
        let request = self.pay_request(seq, step);
        match self.payer.ask(purse(0), request).await {
            Some(Outcome::Paid { payload }) => payload,
            other => panic!("not paid: {other:?}"),
        }
    }

    pub(crate) async fn tick(&mut self, seq: u64) {
        let payload = self.paid(seq, seq).await;
        let request = self.receive_request(seq, seq, payload);
        let credited = self.payee.ask(purse(0), request).await;
        assert_eq!(credited, Some(Outcome::Credited), "tick {seq}");
        let acked = self.acked_request(seq, seq);
        assert_eq!(self.payer.ask(purse(0), acked).await, None);
        self.credited = seq;
    }

    pub(crate) async fn ticks(&mut self, ticks: core::ops::RangeInclusive<u64>) {
        for seq in ticks {
            self.tick(seq).await;
        }
    }

    pub(crate) fn acked_request(&self, seq: u64, step: u64) -> Request {
        Request::Acked {
            seq: Seq(seq),
            cumulative: sat(self.tick * step),
        }
    }

    pub(crate) fn settle_request(&self, steps: u64) -> Request {
        Request::Settle {
            cumulative: sat(self.tick * steps),
        }
    }

    pub(crate) async fn settle(&mut self) -> u64 {
        let request = self.settle_request(self.credited);
        match self.payee.ask(purse(0), request).await {
            Some(Outcome::Settled { settled }) => settled.sat_floor(),
            other => panic!("not settled: {other:?}"),
        }
    }

    /// Carries the payee's note over.
    pub(crate) async fn show_note(&mut self) -> Option<Outcome> {
        let bytes = self.payee.notes.get(&purse(0)).cloned()?;
        self.payer.ask(purse(0), Request::Note { bytes }).await
    }

    pub(crate) async fn release(&mut self) -> u64 {
        match self.payer.ask(purse(0), Request::Release).await {
            Some(Outcome::Released { refunded }) => refunded.sat_floor(),
            other => panic!("not released: {other:?}"),
        }
    }
}
