//! A run of two nodes with channels, driven by bytes, judged at every step. For property tests and
//! for fuzzing.

mod judge;
mod moves;

use std::collections::BTreeMap;

use bitcoin::{Amount, FeeRate, OutPoint};
use bytes::Bytes;
use streampay_core::backend::{Opened, Request, RestoredPurse};
use streampay_core::units::{Msat, PurseId, PurseKey, SessionId};

use super::{Reject, SimChain, SimNode, open_home, sim_config};
use crate::machine::{ChannelReport, Role, WalletCoin, WatchEvent};
use crate::script::OutputType;

const PAYER: u8 = 1;
const PAYEE: u8 = 2;
/// How many there are, by the last byte.
const CHANNELS: [usize; 3] = [4, 2, 3];
/// One tick in satoshi.
const STEP: u64 = 700;
/// As in the payee's defaults.
const MARGIN: u32 = 36;
/// The last height before the expiry at which a payee may look for the first time in the margin.
/// Source: BOLT 2.
const DEADLINE: u32 = 18;
/// How long a payer may take to sign a mutual close, in milliseconds.
const MUTUAL_MS: u64 = 60_000;
/// As in the payee's defaults.
const BATCH_WAIT: u32 = 6;
/// What the payee's fee wallet pays for one close at most; it has some coins of twice as much.
const WALLET_FEE: u64 = 15_000;
const COINS: usize = 3;
/// What a block takes, in milliseconds.
const BLOCK_MS: u64 = 600_000;
const RATES: [u32; 6] = [1, 2, 3, 10, 60, 300];
/// What the payer's wallet pays for a funding of about 100 vB, in satoshi.
const FUNDING_FEES: [u64; 4] = [110, 300, 1_100, 6_500];
/// The most that a payee takes unconfirmed, where it does: more than a channel here, or less.
const ZERO_CONF_MAX: [u64; 2] = [200_000, 20_000];

/// Runs what the bytes say, two a step, and then settles everything.
///
/// # Errors
/// The invariant that does not hold, in words.
pub fn play(bytes: &[u8]) -> Result<Tally, String> {
    // What the last byte leaves at its default in most runs, others try.
    let odd = bytes.last().copied().unwrap_or_default();
    let mut world = World::new(odd);
    for step in bytes.chunks_exact(2) {
        if let [what, how] = step {
            world.step(*what, *how);
            world.judge()?;
        }
    }
    // Half of the runs end without a word: the watch alone closes in time.
    world.settle_all(bytes.last().is_none_or(|last| last.is_multiple_of(2)));
    world.judge()?;
    world.judge_end()
}

/// How the channels of a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By a close of the payee's, or of both.
    pub closed: u32,
    /// Of these, by both together.
    pub mutual: u32,
    /// By a refund of the payer's.
    pub refunded: u32,
    /// By a refund though ticks were acknowledged: the run had forbidden the payee to be in time.
    pub lost: u32,
    /// Never funded, or not for good.
    pub unfunded: u32,
    /// Accepted while the funding waited for a block.
    pub unconfirmed: u32,
    /// Ticks acknowledged.
    pub ticks: u64,
    /// Paid to channels' addresses besides, and come home.
    pub besides: u32,
}

struct Channel {
    purse: PurseKey,
    opened: Option<Opened>,
    accepted: bool,
    /// Ticks acknowledged, durably.
    acked: u64,
    /// The highest cumulative that the payer ever signed, in ticks.
    signed: u64,
    /// Payments on their way or lost, by the cumulative in ticks.
    sent: Vec<(u64, Bytes)>,
    seq: u64,
    /// Where it was funded, as far as the payer or the payee ever said.
    outpoints: Vec<OutPoint>,
    /// With what reserve, as the payer put it into the channel.
    reserves: BTreeMap<OutPoint, u64>,
    /// What was paid to its address besides.
    besides: Vec<OutPoint>,
    /// The payee looked in time.
    watched: bool,
    /// Of these outputs it was said that spending them costs too much, once at least.
    capped: Vec<OutPoint>,
    /// It was said so in the margin.
    uneconomic: bool,
    kind: OutputType,
    /// It was accepted while its funding waited for a block.
    unconfirmed: bool,
}

struct World {
    chain: SimChain,
    payer: SimNode,
    payee: SimNode,
    channels: Vec<Channel>,
    away: bool,
    snapshots: [Vec<RestoredPurse>; 2],
    /// The payee lost what it had written.
    forgot: bool,
    /// What blocks ask, in sat/vB.
    rate: u32,
    /// A changed payment was credited, or a false opening accepted, or either on a funding that nobody can
    /// close.
    deceived: bool,
    /// The most that the payee takes unconfirmed.
    zero_conf_max: u64,
    /// How the payer's wallet pays, besides what a step says.
    payments: u8,
    /// The payee has seen the chain as it is.
    current: bool,
    /// What the payee broadcast and was judged.
    judged: usize,
}

impl World {
    fn new(odd: u8) -> Self {
        let has = |bit: u8| odd & (1 << bit) != 0;
        let chain = SimChain::new();
        let zero_conf_max = match (has(5), has(6)) {
            (true, small) => ZERO_CONF_MAX.get(usize::from(small)).copied(),
            (false, _) => None,
        };
        let zero_conf_max = zero_conf_max.unwrap_or_default();
        let node = |number| {
            let mut config = sim_config(number);
            config.payee.zero_conf_max = Amount::from_sat(zero_conf_max);
            config
                .payee
                .depths
                .retain(|rule| rule.value_max > zero_conf_max);
            config.payee.mutual_ms = MUTUAL_MS;
            config.payee.wallet_fee_max = Amount::from_sat(WALLET_FEE);
            if has(2) {
                config.payee.batch_wait = BATCH_WAIT;
            }
            if number == PAYER {
                config.payer.home = open_home();
            }
            SimNode::new(&chain, config, number)
        };
        let channel = |number: usize| Channel {
            purse: PurseKey {
                session: SessionId([7; 32]),
                purse: PurseId(u32::try_from(number).unwrap_or_default()),
            },
            opened: None,
            accepted: false,
            acked: 0,
            signed: 0,
            sent: Vec::new(),
            seq: 0,
            outpoints: Vec::new(),
            reserves: BTreeMap::new(),
            besides: Vec::new(),
            watched: false,
            capped: Vec::new(),
            uneconomic: false,
            kind: match has(if number.is_multiple_of(2) { 3 } else { 4 }) {
                false => OutputType::Taproot,
                true => OutputType::Wsh,
            },
            unconfirmed: false,
        };
        let count = CHANNELS.get(usize::from(odd) % CHANNELS.len());
        let count = count.copied().unwrap_or(2);
        let mut payee = node(PAYEE);
        give_coins(&chain, &mut payee);
        Self {
            payer: node(PAYER),
            payee,
            channels: (0..count).map(channel).collect(),
            chain,
            away: false,
            snapshots: [Vec::new(), Vec::new()],
            forgot: false,
            rate: 2,
            deceived: false,
            zero_conf_max,
            payments: if zero_conf_max > 0 { odd & 7 } else { 0 },
            current: false,
            judged: 0,
        }
    }

    fn step(&mut self, what: u8, how: u8) {
        let at = usize::from(how) % self.channels.len().max(1);
        let amount = u64::from(how >> 4);
        match what % 24 {
            0 => self.open(at, how),
            1..=4 => self.tick(at, 1, true),
            5 => self.tick(at, 1, false),
            6 => self.tick(at, amount, true),
            7 => self.replay(at, how, false),
            8 if how < 96 => self.lie(at, how),
            8 => self.replay(at, how, true),
            9 | 10 => self.mine(u32::from(how >> 3).saturating_add(1)),
            11 => {
                self.chain
                    .reorganise(u32::from(how % 6).saturating_add(1), &[]);
                self.look();
            }
            12 => {
                let rate = RATES.get(usize::from(how) % RATES.len());
                self.rate = rate.copied().unwrap_or(2);
                self.chain.set_rate(FeeRate::from_sat_per_vb_u32(self.rate));
                self.look();
            }
            13 => {
                self.away = !self.away;
                self.chain.set_away(self.away);
            }
            14 => self.restart_payer(),
            15 => self.restart_payee(),
            16 => self.old_disk(how),
            17 => {
                let purse = self.channels.get(at).map(|channel| channel.purse);
                if let Some(purse) = purse {
                    self.payee.request(
                        purse,
                        Request::Settle {
                            cumulative: Msat::ZERO,
                        },
                    );
                    // The messages of a mutual close, as far as they come.
                    [PAYEE, PAYER]
                        .into_iter()
                        .take(usize::from(how % 3))
                        .for_each(|from| self.show(from, 0));
                }
            }
            18 => {
                let purse = self.channels.get(at).map(|channel| channel.purse);
                if let Some(purse) = purse {
                    self.payer.request(purse, Request::Release);
                }
            }
            19 => self.show(PAYEE, how),
            20 => self.show(PAYER, how),
            21 if matches!(how % 8, 0 | 3) => {
                let (at, how) = besides_of(how, self.channels.len());
                self.pay_besides(at, how);
            }
            21 => self.hang(at, how),
            22 => match how >> 1 & 3 {
                0 | 1 => self.bump(at),
                2 => self.full(how >> 3),
                _ => self.forget(at),
            },
            _ => self.fail_disk(at, how >> 4),
        }
    }

    fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            for node in [&mut self.payer, &mut self.payee] {
                node.now.mono = node.now.mono.after_ms(BLOCK_MS);
            }
            self.chain.mine(1);
            self.look();
        }
    }

    fn look(&mut self) {
        let payer = self.payer.look().unwrap_or_default();
        let payee = self.payee.look();
        let looked = payee.is_some();
        self.current = looked;
        let mut events = payee.unwrap_or_default();
        events.extend(payer);
        for node in [&mut self.payer, &mut self.payee] {
            events.append(&mut node.told);
        }
        for (purse, event) in events {
            let mut channels = self.channels.iter_mut();
            let channel = channels.find(|channel| channel.purse == purse);
            if let (Some(channel), WatchEvent::Uneconomic { outpoint, .. }) = (channel, event) {
                channel.capped.push(outpoint);
            }
        }
        let tip = self.chain.tip();
        for report in self.reports() {
            let left = report.expiry.saturating_sub(tip);
            let mut channels = self.channels.iter_mut();
            let Some(channel) = channels.find(|channel| channel.purse == report.purse) else {
                continue;
            };
            if let Some(outpoint) = report.outpoint
                && !channel.outpoints.contains(&outpoint)
            {
                channel.outpoints.push(outpoint);
            }
            if let (Some(outpoint), Role::Payer) = (report.outpoint, report.role) {
                channel.reserves.insert(outpoint, report.reserve.to_sat());
            }
            let own = report.role == Role::Payee;
            channel.watched |= own && looked && (DEADLINE..=MARGIN).contains(&left);
            if own && (1..=MARGIN).contains(&left) {
                channel.uneconomic |= looked && report.short.is_some();
            }
        }
    }

    /// How all channels stand, as each side sees it.
    fn reports(&self) -> Vec<ChannelReport> {
        let mut reports = self.payer.machine.report();
        reports.extend(self.payee.machine.report());
        reports
    }

    fn purses(&self) -> Vec<PurseKey> {
        self.channels.iter().map(|channel| channel.purse).collect()
    }

    /// One side's disk takes nothing any more: at a tick, or while the chain is looked at.
    fn fail_disk(&mut self, at: usize, how: u8) {
        let payer = how & 1 != 0;
        let node = if payer {
            &mut self.payer
        } else {
            &mut self.payee
        };
        node.store.fail_from_now_on();
        if how & 2 == 0 {
            self.tick(at, 1, true);
        } else {
            self.mine(u32::from(how >> 2).saturating_add(1));
        }
        if payer {
            self.restart_payer();
        } else {
            self.restart_payee();
        }
    }

    fn restart_payer(&mut self) {
        self.remember();
        // It does not know what it bid before.
        let bid = |(_, reject): &(_, Reject)| *reject != Reject::Replacement;
        self.payer.refused.retain(bid);
        let purses = self.purses();
        self.payer.restart(&purses);
    }

    fn restart_payee(&mut self) {
        self.remember();
        let bid = |(_, reject): &(_, Reject)| *reject != Reject::Replacement;
        self.payee.refused.retain(bid);
        let purses = self.purses();
        self.payee.restart(&purses);
    }

    fn remember(&mut self) {
        let [payer, payee] = &mut self.snapshots;
        payer.push(self.payer.snapshot());
        payee.push(self.payee.snapshot());
    }

    /// One side's disk is replaced by an older one.
    fn old_disk(&mut self, how: u8) {
        let payer = how.is_multiple_of(2);
        let purses = self.purses();
        let [of_payer, of_payee] = &self.snapshots;
        let (node, all) = if payer {
            (&mut self.payer, of_payer)
        } else {
            self.forgot = true;
            (&mut self.payee, of_payee)
        };
        let pick = usize::from(how / 2).checked_rem(all.len());
        if let Some(snapshot) = pick.and_then(|pick| all.get(pick)) {
            node.roll_back(snapshot);
        }
        node.refused
            .retain(|(_, reject)| *reject != Reject::Replacement);
        node.restart(&purses);
        if payer {
            // A channel that the old disk does not know: its kit is what brings it home.
            let known: Vec<PurseKey> = (node.machine.report().iter())
                .map(|report| report.purse)
                .collect();
            for channel in &mut self.channels {
                if !known.contains(&channel.purse) {
                    channel.opened = None;
                }
            }
        }
    }

    fn settle_all(&mut self, asked: bool) {
        self.away = false;
        self.chain.set_away(false);
        self.rate = 1;
        self.chain.set_rate(FeeRate::from_sat_per_vb_u32(1));
        self.chain.set_floor(FeeRate::from_sat_per_vb_u32(1));
        self.restart_payer();
        self.restart_payee();
        for purse in self.purses().into_iter().filter(|_| asked) {
            self.payee.request(
                purse,
                Request::Settle {
                    cumulative: Msat::ZERO,
                },
            );
            self.payer.request(purse, Request::Release);
        }
        let tip = self.chain.tip();
        let last = self.reports().into_iter().map(|report| report.expiry).max();
        let left = last.unwrap_or(tip).saturating_sub(tip);
        self.mine(left.saturating_add(20));
    }
}

/// Which channel's address is paid to besides, and what: by bits that do not say already that one is.
fn besides_of(how: u8, channels: usize) -> (usize, u8) {
    (usize::from(how >> 3 & 3) % channels.max(1), how >> 5)
}

fn give_coins(chain: &SimChain, payee: &mut SimNode) {
    let value = Amount::from_sat(2 * WALLET_FEE);
    let script = payee.machine.fee_script();
    let since = chain.tip();
    let paid = (0..COINS).filter_map(|_| chain.pay(&script, value).ok());
    let coins: Vec<WalletCoin> = paid
        .map(|outpoint| WalletCoin {
            outpoint,
            value,
            since,
        })
        .collect();
    chain.mine(1);
    if let Ok(action) = payee.machine.add_fee_coins(&coins) {
        payee.act(action);
    }
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap_or(Msat::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_channels_address_is_paid_to_besides_with_every_value() {
        for channels in CHANNELS {
            let all = (0..=u8::MAX).filter(|how| matches!(how % 8, 0 | 3));
            let paid: BTreeSet<_> = all
                .map(|how| besides_of(how, channels))
                .map(|(at, how)| (at, how % 3))
                .collect();
            assert_eq!(paid.len(), channels * 3);
        }
    }
}
