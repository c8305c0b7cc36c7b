use bitcoin::{Amount, FeeRate};
use bytes::Bytes;
use streampay_core::backend::{
    BackendError, Consumed, Opened, Outcome, PurseOffer, RefusalCode, Request,
};
use streampay_core::units::{Msat, PurseId, PurseKey, Seq, SessionId, XOnlyKey};

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

fn sat(sat: u64) -> Msat {
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
            params: self.payee.machine.params().unwrap().encode(),
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
        assert_eq!(self.payee.request(self.purse, Request::Settle), transient);
        assert_eq!(self.payer.request(self.purse, Request::Release), transient);
        for _ in 0..6 {
            self.chain.mine(1);
            self.payee.look();
            self.payer.look();
        }
        let settled = self.payee.request(self.purse, Request::Settle);
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
        let params = self.payee.machine.params().unwrap().encode();
        ChannelParams::decode(&params).unwrap().reserve.to_sat()
    }

    pub(super) fn balances(&self) -> (u64, u64) {
        let of = |number| self.chain.balance(&home(number)).to_sat();
        (of(PAYER), of(PAYEE))
    }
}

const fn refusal(code: RefusalCode) -> Option<Outcome> {
    Some(Outcome::Failed(BackendError::Rejected(code, Consumed::No)))
}

const EMPTY: Option<Outcome> = Some(Outcome::Failed(BackendError::Fatal(
    RefusalCode::PurseEmpty,
)));
const LATER: Option<Outcome> = Some(Outcome::Failed(BackendError::Transient));

#[test]
fn open_a_hundred_ticks_and_close() {
    let mut rig = Rig::ready();
    for seq in 1..=100 {
        rig.tick(seq);
    }
    let (value, reserve) = (rig.value(), rig.reserve());
    let (settled, refunded) = rig.close();
    let (home, payout) = rig.balances();
    assert_eq!(refunded.sat_floor(), value - reserve - 100 * STEP);
    assert_eq!((refunded.sat_floor(), settled.sat_floor()), (home, payout));
    // 2 sat/vB for a close of 199 vbytes, and a P2WPKH output that is 12 vbytes smaller each.
    let fee = value - home - payout;
    assert!((300..=400).contains(&fee), "{fee}");
    assert!(rig.payee.refused.is_empty() && rig.payer.refused.is_empty());
}

#[test]
fn channel_that_is_spent_to_the_end_needs_no_change() {
    let mut rig = Rig::ready();
    let capacity = (rig.value() - rig.reserve()) / STEP;
    for seq in 1..=capacity {
        rig.tick(seq);
    }
    assert_eq!(rig.pay(capacity + 1), EMPTY);
    let (settled, refunded) = rig.close();
    assert_eq!(refunded, Msat::ZERO);
    assert_eq!(settled.sat_floor(), rig.balances().1);
}

#[test]
fn channel_without_a_tick_costs_nothing_and_comes_back_after_expiry() {
    let mut rig = Rig::ready();
    assert_eq!(
        rig.payee.request(rig.purse, Request::Settle),
        Some(Outcome::Settled {
            settled: Msat::ZERO
        })
    );
    assert_eq!(rig.payer.request(rig.purse, Request::Release), LATER);
    let left = rig.expiry() - rig.chain.tip();
    rig.mine(left - 1);
    assert!(rig.payer.broadcast.is_empty(), "not before T");
    rig.mine(8);
    let refunded = rig.payer.request(rig.purse, Request::Release);
    let home = rig.balances().0;
    assert_eq!(
        refunded,
        Some(Outcome::Released {
            refunded: sat(home)
        })
    );
    let fee = rig.value() - home;
    assert!((200..=300).contains(&fee), "{fee}");
}

/// bitcore-channel: the provider looked at nothing. Each of these is refused, and nothing served.
#[test]
fn funding_is_checked_on_the_own_chain_source() {
    let mut rig = Rig::new();
    rig.open();
    rig.chain.mine(1);
    let Some(Outcome::Opened(opened)) = rig.open() else {
        panic!("not opened");
    };
    // Another payee's key in the same opening: another script.
    let other = PurseOffer {
        params: SimNode::new(&rig.chain, sim_config(9), 9)
            .machine
            .params()
            .unwrap()
            .encode(),
        ..rig.offer()
    };
    let accept = |rig: &mut Rig, offer: PurseOffer, opening: Bytes| {
        let purse = rig.purse;
        rig.payee.request(purse, Request::Accept { offer, opening })
    };
    let offer = rig.offer();
    let found = accept(&mut rig, other, opened.opening.clone());
    assert_eq!(found, refusal(RefusalCode::WrongSession));
    for at in 0..opened.opening.len() {
        let mut bytes = opened.opening.to_vec();
        bytes[at] ^= 1;
        let found = accept(&mut rig, offer.clone(), bytes.into());
        assert!(
            matches!(
                found,
                Some(Outcome::Failed(
                    BackendError::Rejected(..) | BackendError::Transient
                ))
            ),
            "{at} {found:?}"
        );
    }
    let mut elsewhere = sim_config(PAYEE);
    elsewhere.network = Network::Signet;
    let mut elsewhere = SimNode::new(&rig.chain, elsewhere, PAYEE);
    let request = Request::Accept {
        offer: rig.offer(),
        opening: opened.opening.clone(),
    };
    let found = elsewhere.request(rig.purse, request);
    assert_eq!(found, refusal(RefusalCode::NoCommonMethod));
    assert!(matches!(
        rig.accept(&opened),
        Some(Outcome::Accepted { .. })
    ));
}

#[test]
fn unconfirmed_funding_is_not_accepted_and_a_reorganised_one_stops_ticks() {
    let mut rig = Rig::ready();
    rig.tick(1);
    rig.chain.reorganise(1, &[]);
    rig.payee.look();
    rig.payer.look();
    assert_eq!(rig.pay(2), LATER);
    rig.chain.mine(1);
    let payload = rig.payload(2);
    rig.chain.reorganise(1, &[]);
    rig.payee.look();
    assert_eq!(rig.receive(2, payload.clone()), LATER);
    rig.chain.mine(1);
    assert_eq!(rig.receive(2, payload), Some(Outcome::Credited));
}

#[test]
fn funding_that_never_comes_back_is_told() {
    let mut rig = Rig::ready();
    let funding = rig.payer.machine.report()[0].outpoint.unwrap();
    rig.chain.reorganise(1, &[funding.txid]);
    let events = rig.payee.look().unwrap();
    assert_eq!(events, [(rig.purse, WatchEvent::FundingGone)]);
    assert_eq!(
        rig.payee.machine.report()[0].state,
        ChannelState::Confirming
    );
}

/// Streamium: one key for all viewers. Here no two channels share one, nor a signature.
#[test]
fn signature_of_one_channel_is_worth_nothing_in_another() {
    let mut rig = Rig::ready();
    let first = rig.payload(1);
    rig.purse = key(1);
    let opened = rig.opened();
    assert!(matches!(
        rig.accept(&opened),
        Some(Outcome::Accepted { .. })
    ));
    assert_eq!(rig.receive(1, first), refusal(RefusalCode::BadProof));
}

/// Streamium: the refund race at the expiry. Here ticks end, and the close goes out, a margin
/// before it.
#[test]
fn payee_closes_before_the_margin_ends_and_takes_no_tick_in_it() {
    let mut rig = Rig::ready();
    rig.tick(1);
    let margin = 36;
    let left = rig.expiry() - rig.chain.tip();
    rig.mine(left - margin - 1);
    rig.tick(2);
    let late = rig.payload(3);
    rig.mine(1);
    assert_eq!(rig.pay(3), EMPTY);
    assert_eq!(rig.receive(3, late), refusal(RefusalCode::PurseEmpty));
    assert_eq!(rig.payee.broadcast.len(), 1);
    rig.mine(margin + 8);
    assert!(rig.balances().1 > 0);
    assert!(rig.payer.broadcast.is_empty(), "nothing is left to refund");
}

/// Streamium: lost state was lost money. Here each side comes back from its disk, at any step.
#[test]
fn restarts_at_every_step_change_nothing() {
    let mut rig = Rig::new();
    for round in 0..2 {
        if round == 1 {
            rig.chain.mine(1);
        }
        rig.open();
        rig.payer.restart(&[rig.purse]);
    }
    let Some(Outcome::Opened(opened)) = rig.open() else {
        panic!("not opened");
    };
    rig.accept(&opened);
    rig.payee.restart(&[rig.purse]);
    assert!(matches!(
        rig.accept(&opened),
        Some(Outcome::Accepted { .. })
    ));
    for seq in 1..=5 {
        let payload = rig.payload(seq);
        rig.payer.restart(&[rig.purse]);
        assert_eq!(rig.payload(seq), payload);
        assert_eq!(rig.receive(seq, payload.clone()), Some(Outcome::Credited));
        rig.payee.restart(&[rig.purse]);
        assert_eq!(rig.receive(seq, payload), Some(Outcome::Credited));
    }
    assert_eq!(rig.payee.request(rig.purse, Request::Settle), LATER);
    rig.payee.restart(&[rig.purse]);
    rig.payer.restart(&[rig.purse]);
    let value = rig.value();
    rig.mine(6);
    let (home, payout) = rig.balances();
    assert_eq!(home, value - rig.reserve() - 5 * STEP);
    assert!(payout > 0 && rig.payee.refused.is_empty());
}

#[test]
fn close_that_was_dropped_is_broadcast_again() {
    let mut rig = Rig::ready();
    rig.tick(1);
    rig.payee.request(rig.purse, Request::Settle);
    let close = rig.payee.broadcast[0].compute_txid();
    rig.mine(3);
    rig.chain.reorganise(4, &[close]);
    rig.payee.restart(&[rig.purse]);
    assert_eq!(rig.payee.broadcast.len(), 2);
    rig.chain.mine(1);
    rig.mine(8);
    assert!(rig.balances().1 > 0);
}

/// Streamium: a fixed fee. Here the close is bumped until it is in a block.
#[test]
fn fee_spike_is_followed_until_the_close_is_in_a_block() {
    let mut rig = Rig::ready();
    for seq in 1..=150 {
        rig.tick(seq);
    }
    rig.payee.request(rig.purse, Request::Settle);
    for sat_vb in [5, 20, 80] {
        rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
        rig.payee.look();
        assert_eq!(rig.balances().1, 0);
        rig.mine(1);
    }
    rig.mine(1);
    assert!(rig.balances().1 > 0, "{:?}", rig.payee.refused);
    assert!(rig.payee.refused.is_empty(), "{:?}", rig.payee.refused);
}

#[test]
fn tick_is_refused_where_closing_would_cost_too_much() {
    let mut rig = Rig::ready();
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(100));
    rig.payee.look();
    let payload = rig.payload(1);
    assert_eq!(rig.receive(1, payload), refusal(RefusalCode::FeeTooHigh));
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(2));
    rig.payee.look();
    rig.tick(1);
}

#[test]
fn loss_is_stated_where_closing_is_uneconomic() {
    let mut rig = Rig::ready();
    rig.tick(1);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(500));
    rig.payee.request(rig.purse, Request::Settle);
    let events = rig.payee.look().unwrap();
    let uneconomic = |event: &WatchEvent| matches!(event, WatchEvent::Uneconomic { .. });
    let told = events.iter().any(|(_, event)| uneconomic(event));
    let cheap = rig.payee.broadcast.iter().all(|tx| tx.output.len() == 2);
    assert!(told || cheap, "{events:?}");
}

#[test]
fn no_tick_after_a_broadcast() {
    let mut rig = Rig::ready();
    rig.tick(1);
    let late = rig.payload(2);
    rig.payee.request(rig.purse, Request::Settle);
    assert_eq!(
        rig.receive(2, late.clone()),
        refusal(RefusalCode::PurseEmpty)
    );
    rig.payee.restart(&[rig.purse]);
    assert_eq!(rig.receive(2, late), refusal(RefusalCode::PurseEmpty));
    rig.payer.look();
    assert_eq!(rig.pay(3), EMPTY);
}

#[test]
fn nothing_is_concluded_while_the_chain_source_is_away() {
    let mut rig = Rig::new();
    rig.chain.set_away(true);
    assert_eq!(rig.open(), LATER);
    rig.chain.set_away(false);
    let opened = rig.opened();
    rig.chain.set_away(true);
    assert_eq!(rig.accept(&opened), LATER);
    rig.chain.set_away(false);
    assert!(matches!(
        rig.accept(&opened),
        Some(Outcome::Accepted { .. })
    ));
    rig.tick(1);
    rig.chain.set_away(true);
    // A view is good for an hour.
    rig.tick(2);
    let payload = rig.payload(3);
    rig.payee.now.mono = rig.payee.now.mono.after_ms(STALE_MS);
    assert_eq!(rig.receive(3, payload), LATER);
}

#[test]
fn payers_limits_hold_whatever_the_terms_say() {
    type Change = fn(&mut ChannelConfig);
    let cases: [(Change, RefusalCode); 5] = [
        (
            |payer| payer.payer.reserve_max = Amount::from_sat(10),
            RefusalCode::FeeTooHigh,
        ),
        (|payer| payer.payer.margin_max = 35, RefusalCode::WrongLock),
        (|payer| payer.payer.depth_max = 0, RefusalCode::WrongLock),
        (|payer| payer.payer.life = 100, RefusalCode::WrongLock),
        (
            |payer| payer.payer.value_max = Amount::from_sat(1_000),
            RefusalCode::OverBudget,
        ),
    ];
    for (change, code) in cases {
        let mut rig = Rig::new();
        let mut config = sim_config(PAYER);
        change(&mut config);
        rig.payer = SimNode::new(&rig.chain, config, PAYER);
        let expected = Some(Outcome::Failed(BackendError::Fatal(code)));
        assert_eq!(rig.open(), expected);
        assert!(rig.chain.waiting().is_empty(), "no money moved");
    }
}

#[test]
fn many_channels_are_closed_together() {
    let mut rig = Rig::new();
    for number in 0..10 {
        rig.purse = key(number);
        let opened = rig.opened();
        assert!(matches!(
            rig.accept(&opened),
            Some(Outcome::Accepted { .. })
        ));
        rig.tick(1);
        rig.tick(2);
    }
    let mut config = sim_config(PAYEE);
    config.payee.batch_wait = 2;
    let keys: Vec<PurseKey> = (0..10).map(key).collect();
    let disk = rig.payee.snapshot();
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    rig.payee.roll_back(&disk);
    rig.payee.restart(&keys);
    for key in &keys {
        assert_eq!(rig.payee.request(*key, Request::Settle), LATER);
    }
    assert!(rig.payee.broadcast.is_empty(), "they wait for each other");
    rig.mine(3);
    assert_eq!(rig.payee.broadcast.len(), 1);
    assert_eq!(rig.payee.broadcast[0].input.len(), 10);
    rig.mine(8);
    let settled: u64 = (rig.payee.machine.report().iter())
        .map(|report| report.settled.unwrap().to_sat())
        .sum();
    assert_eq!(settled, rig.balances().1);
}

#[test]
fn batch_member_that_nears_its_margin_is_taken_out_and_closed_alone() {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.batch_wait = 1;
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    for number in 0..3 {
        rig.purse = key(number);
        let opened = rig.opened();
        assert!(matches!(
            rig.accept(&opened),
            Some(Outcome::Accepted { .. })
        ));
        for seq in 1..=20 {
            rig.tick(seq);
        }
        // The first expires first.
        rig.mine(if number == 0 { 30 } else { 0 });
    }
    let tip = rig.chain.tip();
    let first = rig.payee.machine.report()[0].expiry;
    rig.mine(first - tip - 39);
    for number in 0..3 {
        rig.payee.request(key(number), Request::Settle);
    }
    rig.mine(1);
    assert_eq!(rig.payee.broadcast.len(), 1);
    assert_eq!(rig.payee.broadcast[0].input.len(), 3);
    // It gets into no block for a while.
    let together = rig.payee.broadcast.len();
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(60));
    rig.chain.mine(2);
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(3));
    rig.payee.look();
    assert!(rig.payee.refused.is_empty(), "{:?}", rig.payee.refused);
    let after: Vec<usize> = (rig.payee.broadcast.iter().skip(together))
        .map(|tx| tx.input.len())
        .collect();
    assert_eq!(after, [2, 1], "the rest, then the urgent one alone");
    rig.mine(8);
    assert!(
        rig.payee
            .machine
            .report()
            .iter()
            .all(|report| report.settled.is_some())
    );
}
