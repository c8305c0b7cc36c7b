//! The fee wallet: it pays what channels may not, and nobody else's money changes.

use bitcoin::{OutPoint, ScriptBuf};

use super::*;
use crate::sim::home;

const COIN: u64 = 400_000;
/// What is due in the channel, in ticks.
const TICKS: u64 = 160;

/// A channel with some ticks, and a payee whose wallet pays up to `most` a close.
fn rig(most: u64) -> Rig {
    let mut rig = Rig::new();
    let mut config = sim_config(PAYEE);
    config.payee.wallet_fee_max = Amount::from_sat(most);
    rig.payee = SimNode::new(&rig.chain, config, PAYEE);
    let opened = rig.opened();
    let accepted = rig.accept(&opened);
    assert!(matches!(accepted, Some(Outcome::Accepted { .. })));
    (1..=TICKS).for_each(|seq| rig.tick(seq));
    rig
}

impl Rig {
    fn coin(&self, script: &ScriptBuf, value: u64) -> WalletCoin {
        let since = self.chain.tip();
        let value = Amount::from_sat(value);
        let outpoint = self.chain.pay(script, value).unwrap();
        WalletCoin {
            outpoint,
            value,
            since,
        }
    }

    fn give(&mut self, coin: WalletCoin) {
        let action = self.payee.machine.add_fee_coins(&[coin]).unwrap();
        self.payee.act(action);
    }

    /// A coin in the wallet, confirmed.
    fn funded_wallet(&mut self) {
        let coin = self.coin(&self.payee.machine.fee_script(), COIN);
        self.give(coin);
        self.chain.mine(1);
        self.payee.look();
    }

    fn settle_at(&mut self, sat_vb: u32) {
        self.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
        self.payee.request(
            self.purse,
            Request::Settle {
                cumulative: Msat::ZERO,
            },
        );
    }

    /// What a close costs, a coin of the wallet in it or not.
    fn fee(&self, tx: &Transaction) -> u64 {
        let coins = tx.input.iter().filter_map(|input| {
            let (funding, _) = self.chain.transaction(input.previous_output.txid)?;
            Some(funding.output[0].value.to_sat())
        });
        let out = tx.output.iter().map(|out| out.value.to_sat());
        coins.sum::<u64>() - out.sum::<u64>()
    }

    /// What the channel alone may cost.
    fn own_most(&self) -> u64 {
        self.reserve() + TICKS * STEP / 3
    }

    fn assert_payer_gets_the_same(&self, tx: &Transaction) {
        let change = self.value() - self.reserve() - TICKS * STEP;
        assert_eq!(tx.output[0].value.to_sat(), change);
        assert_eq!(tx.output[0].script_pubkey, home(PAYER));
        assert!(self.payee.refused.is_empty(), "{:?}", self.payee.refused);
    }
}

#[test]
fn a_spike_is_paid_for_by_the_wallet_and_the_payer_gets_the_same() {
    let mut rig = rig(200_000);
    rig.funded_wallet();
    rig.settle_at(300);
    let tx = rig.payee.broadcast.last().unwrap().clone();
    assert_eq!(tx.input.len(), 2);
    let (fee, size) = (rig.fee(&tx), u64::try_from(tx.vsize()).unwrap());
    assert!((size * 300..=size * 300 + 300).contains(&fee), "{fee}");
    rig.assert_payer_gets_the_same(&tx);
    rig.mine(7);
    let (home, payout) = rig.balances();
    let paid = rig.reserve() + TICKS * STEP;
    assert_eq!(home, rig.value() - paid);
    assert_eq!(payout, paid + COIN - fee, "the rest of the coin is there");
    assert!(rig.payee.machine.fee_coins().is_empty(), "it is spent");
    let report = rig.payee.machine.report().remove(0);
    assert_eq!(report.settled, Some(Amount::from_sat(paid - fee)));
}

#[test]
fn without_consent_or_need_no_coin_is_used() {
    for (most, sat_vb) in [(0, 300), (200_000, 3)] {
        let mut rig = rig(most);
        rig.funded_wallet();
        rig.settle_at(sat_vb);
        let tx = rig.payee.broadcast.last().cloned();
        if let Some(tx) = &tx {
            assert_eq!(tx.input.len(), 1, "{most}");
            rig.assert_payer_gets_the_same(tx);
        }
        assert_eq!(rig.payee.machine.fee_coins().len(), 1);
    }
}

#[test]
fn the_wallet_pays_no_more_than_its_limit() {
    let mut rig = rig(10_000);
    rig.funded_wallet();
    rig.settle_at(300);
    let events = rig.payee.look();
    let tx = rig.payee.broadcast.last().unwrap().clone();
    let fee = rig.fee(&tx);
    assert!(fee <= rig.own_most() + 10_000, "{fee}");
    assert!(fee > rig.own_most() + 9_000, "{fee}");
    assert!(events.is_some());
    rig.assert_payer_gets_the_same(&tx);
}

#[test]
fn a_close_with_a_coin_is_bumped_each_block_and_after_a_restart() {
    let mut rig = rig(300_000);
    rig.funded_wallet();
    rig.settle_at(100);
    let mut old = rig.fee(rig.payee.broadcast.last().unwrap());
    for sat_vb in [180, 230, 290] {
        rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(sat_vb));
        rig.chain.mine(1);
        if sat_vb == 230 {
            rig.payee.restart(&[rig.purse]);
            assert_eq!(rig.payee.machine.fee_coins().len(), 1, "it is durable");
        } else {
            rig.payee.look();
        }
        let tx = rig.payee.broadcast.last().unwrap().clone();
        let fee = rig.fee(&tx);
        assert!(fee > old * 5 / 4, "{fee} after {old}");
        assert_eq!(tx.input.len(), 2);
        rig.assert_payer_gets_the_same(&tx);
        old = fee;
    }
    rig.mine(7);
    assert!(rig.payee.machine.fee_coins().is_empty());
    assert_eq!(rig.balances().1, rig.reserve() + TICKS * STEP + COIN - old);
}

#[test]
fn coins_that_are_not_there_or_not_ours_harm_no_close() {
    for case in 0..4 {
        let mut rig = rig(200_000);
        let own = rig.payee.machine.fee_script();
        let mut coin = match case {
            // Paid to somebody else.
            0 => rig.coin(&home(9), COIN),
            _ => rig.coin(&own, COIN),
        };
        match case {
            1 => coin.value = Amount::from_sat(COIN + 1),
            2 => coin.outpoint = OutPoint::new(coin.outpoint.txid, 1),
            _ => {}
        }
        // It waits for a block where it is the last case.
        if case < 3 {
            rig.chain.mine(1);
        }
        rig.give(coin);
        rig.settle_at(300);
        let tx = rig.payee.broadcast.last().unwrap().clone();
        assert_eq!(tx.input.len(), 1, "{case}");
        rig.assert_payer_gets_the_same(&tx);
    }
}

#[test]
fn a_coin_whose_block_is_gone_is_used_no_more() {
    let mut rig = rig(300_000);
    let coin = rig.coin(&rig.payee.machine.fee_script(), COIN);
    rig.chain.mine(1);
    rig.give(coin);
    rig.settle_at(300);
    assert_eq!(rig.payee.broadcast.last().unwrap().input.len(), 2);
    rig.chain.reorganise(1, &[coin.outpoint.txid]);
    rig.payee.look();
    let tx = rig.payee.broadcast.last().unwrap().clone();
    assert_eq!(tx.input.len(), 1, "as dear as the channel may be");
    rig.assert_payer_gets_the_same(&tx);
}

#[test]
fn each_coin_helps_one_close_at_a_time() {
    let mut rig = rig(200_000);
    let first = rig.purse;
    rig.purse = key(1);
    let opened = rig.opened();
    rig.accept(&opened);
    (1..=TICKS).for_each(|seq| rig.tick(seq));
    rig.funded_wallet();
    // Both are in their margin: each is closed alone.
    let left = rig.expiry() - rig.chain.tip();
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(300));
    rig.chain.mine(left - 20);
    rig.payee.look();
    let inputs: Vec<usize> = (rig.payee.broadcast.iter())
        .map(|tx| tx.input.len())
        .collect();
    assert_eq!(inputs, [2, 1], "{first:?}");
    assert!(rig.payee.refused.is_empty(), "{:?}", rig.payee.refused);
}

#[test]
fn a_wallet_with_a_key_of_its_own_is_emptied_to_the_payout() {
    let mut rig = rig(200_000);
    let own = rig.payee.machine.fee_script();
    let other = ChannelMachine::new(sim_config(PAYEE), &Seed([PAYEE; 32])).unwrap();
    assert_eq!(other.fee_script(), own);
    let other = other.with_fee_seed(&Seed([9; 32])).unwrap();
    assert_ne!(other.fee_script(), own);
    let rate = FeeRate::from_sat_per_vb_u32(10);
    let machine = rig.payee.machine.clone();
    assert!(machine.sweep_fee_wallet(rate).is_err(), "nothing in it");
    rig.funded_wallet();
    assert_eq!(machine.fee_balance().to_sat(), COIN);
    let tx = machine.sweep_fee_wallet(rate).unwrap();
    let size = u64::try_from(tx.vsize()).unwrap();
    assert_eq!(tx.output[0].value.to_sat(), COIN - 10 * size);
    assert_eq!(tx.output[0].script_pubkey, home(PAYEE));
    rig.chain.submit(tx).unwrap();
    rig.payee.look();
    assert_eq!(machine.fee_balance(), Amount::ZERO, "its spend waits");
    rig.mine(7);
    assert!(machine.fee_coins().is_empty());
}

#[test]
fn the_wallet_is_bounded() {
    let rig = rig(1);
    let coin = |vout| WalletCoin {
        outpoint: OutPoint::new(bitcoin::hashes::Hash::all_zeros(), vout),
        value: Amount::from_sat(1_000),
        since: 0,
    };
    let many: Vec<WalletCoin> = (0..65).map(coin).collect();
    let machine = &rig.payee.machine;
    assert_eq!(machine.add_fee_coins(&many), Err(TooManyCoins));
    assert!(machine.fee_coins().is_empty());
    assert!(machine.add_fee_coins(&many[..64]).is_ok());
    assert_eq!(machine.watched().len(), 65);
}

#[test]
fn a_close_never_costs_more_than_it_collects() {
    let mut rig = rig(300_000);
    rig.funded_wallet();
    rig.settle_at(1_000);
    rig.mine(1);
    let claim = rig.reserve() + TICKS * STEP;
    assert!(!rig.payee.broadcast.is_empty());
    for tx in &rig.payee.broadcast {
        assert!(rig.fee(tx) <= claim, "{}", rig.fee(tx));
    }
    rig.chain.set_rate(FeeRate::from_sat_per_vb_u32(2));
    rig.mine(7);
    assert!(rig.balances().1 >= COIN, "the coin came back whole");
}
