//! The machine over a simulated chain.

use bitcoin::{Amount, FeeRate};
use bytes::Bytes;
use streampay_core::backend::{
    BackendError, Consumed, Opened, Outcome, PurseOffer, RefusalCode, Request,
};
use streampay_core::units::{Msat, PurseId, PurseKey, Seq, SessionId, XOnlyKey};

mod audit;
mod away;
mod batch;
mod besides;
mod called_off;
mod candidates;
mod close;
mod deep;
mod disk;
mod margins;
mod mutual;
mod pay;
mod pinned;
mod plan;
mod refund;
mod replaced;
mod spend;
mod split;
mod stranded;
mod waiting;
mod wallet;

use super::*;
use crate::sim::{SimChain, SimNode, home, sim_config};

pub(super) const STEP: u64 = 500;
pub(super) const PAYER: u8 = 1;
pub(super) const PAYEE: u8 = 2;

/// A viewer and a streamer with one channel.
pub(super) struct Rig {
    pub(super) chain: SimChain,
    pub(super) payer: SimNode,
    pub(super) payee: SimNode,
    pub(super) purse: PurseKey,
}

pub(super) fn key(number: u32) -> PurseKey {
    PurseKey {
        session: SessionId([7; 32]),
        purse: PurseId(number),
    }
}

pub(super) fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

impl Rig {
    pub(super) fn new() -> Self {
        let chain = SimChain::new();
        Self {
            payer: SimNode::new(&chain, sim_config(PAYER), PAYER),
            payee: SimNode::new(&chain, sim_config(PAYEE), PAYEE),
            purse: key(0),
            chain,
        }
    }

    pub(super) fn offer(&self) -> PurseOffer {
        PurseOffer {
            params: self.payee.machine.params(self.payee.now).unwrap().encode(),
            tick: sat(STEP),
            payer_key: XOnlyKey([1; 32]),
            payee_key: XOnlyKey([2; 32]),
        }
    }

    pub(super) fn open(&mut self) -> Option<Outcome> {
        let request = Request::Open {
            offer: self.offer(),
            capacity: sat(100_000),
            budget: sat(100_000),
        };
        self.payer.request(self.purse, request)
    }

    pub(super) fn accept(&mut self, opened: &Opened) -> Option<Outcome> {
        let request = Request::Accept {
            offer: self.offer(),
            opening: opened.opening.clone(),
        };
        self.payee.request(self.purse, request)
    }

    pub(super) fn opened(&mut self) -> Opened {
        self.open();
        self.chain.mine(1);
        match self.open() {
            Some(Outcome::Opened(opened)) => opened,
            other => panic!("{other:?}"),
        }
    }

    /// A channel that both sides use.
    pub(super) fn ready() -> Self {
        let mut rig = Self::new();
        let opened = rig.opened();
        let accepted = rig.accept(&opened);
        assert!(
            matches!(accepted, Some(Outcome::Accepted { .. })),
            "{accepted:?}"
        );
        rig
    }

    pub(super) fn pay(&mut self, seq: u64) -> Option<Outcome> {
        let request = Request::Pay {
            seq: Seq(seq),
            amount: sat(STEP),
            cumulative: sat(seq * STEP),
        };
        self.payer.request(self.purse, request)
    }

    pub(super) fn payload(&mut self, seq: u64) -> Bytes {
        match self.pay(seq) {
            Some(Outcome::Paid { payload }) => payload,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn receive(&mut self, seq: u64, payload: Bytes) -> Option<Outcome> {
        let request = Request::Receive {
            seq: Seq(seq),
            amount: sat(STEP),
            cumulative: sat(seq * STEP),
            payload,
        };
        self.payee.request(self.purse, request)
    }

    pub(super) fn tick(&mut self, seq: u64) {
        let payload = self.payload(seq);
        assert_eq!(self.receive(seq, payload), Some(Outcome::Credited), "{seq}");
    }

    pub(super) fn close(&mut self) -> (Msat, Msat) {
        let transient = Some(Outcome::Failed(BackendError::Transient));
        assert_eq!(
            self.payee.request(
                self.purse,
                Request::Settle {
                    cumulative: Msat::ZERO
                }
            ),
            transient
        );
        assert_eq!(self.payer.request(self.purse, Request::Release), transient);
        for _ in 0..6 {
            self.chain.mine(1);
            self.payee.look();
            self.payer.look();
        }
        let settled = self.payee.request(
            self.purse,
            Request::Settle {
                cumulative: Msat::ZERO,
            },
        );
        let released = self.payer.request(self.purse, Request::Release);
        match (settled, released) {
            (Some(Outcome::Settled { settled }), Some(Outcome::Released { refunded })) => {
                (settled, refunded)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.chain.mine(1);
            self.payee.look();
            self.payer.look();
        }
    }

    pub(super) fn expiry(&self) -> u32 {
        self.payer.machine.report()[0].expiry
    }

    pub(super) fn value(&self) -> u64 {
        self.payer.machine.report()[0].value.to_sat()
    }

    pub(super) fn reserve(&self) -> u64 {
        let params = self.payee.machine.params(self.payee.now).unwrap().encode();
        ChannelParams::decode(&params).unwrap().reserve.to_sat()
    }

    pub(super) fn balances(&self) -> (u64, u64) {
        let of = |number| self.chain.balance(&home(number)).to_sat();
        (of(PAYER), of(PAYEE))
    }
}

pub(super) const fn refusal(code: RefusalCode) -> Option<Outcome> {
    Some(Outcome::Failed(BackendError::Rejected(code, Consumed::No)))
}

pub(super) const EMPTY: Option<Outcome> = Some(Outcome::Failed(BackendError::Fatal(
    RefusalCode::PurseEmpty,
)));
pub(super) const LATER: Option<Outcome> = Some(Outcome::Failed(BackendError::Transient));
