//! A tick against the bare operation of libsecp256k1: `cargo run --release -p streampay-btc
//! --example bench`. Prints microseconds, the least of many batches, and their ratio; then what a
//! channel weighs in closes of 1, 10 and 50. Asserts nothing: times are for reading.

#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program to measure with"
)]

use std::hint::black_box;
use std::time::Instant;

use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1};
use bitcoin::{Amount, FeeRate, Network, OutPoint, ScriptBuf, Txid};
use streampay_btc::keys::{KeyError, NodeKeys, Seed};
use streampay_btc::script::{FundingOutput, OutputType};
use streampay_btc::sim::{SimChain, SimNode, sim_config};
use streampay_btc::tx::{CloseInput, ClosePlan, Contract, close_tx, virtual_size};
use streampay_core::backend::{BackendMachine as _, Opened, Outcome, PurseOffer, Request};
use streampay_core::units::{Msat, PurseId, PurseKey, RequestId, Seq, SessionId, XOnlyKey};

const BATCH: u64 = 32;
const BATCHES: u64 = 400;

/// The least time of one of so many, in microseconds.
fn least(mut once: impl FnMut(u64)) -> f64 {
    let mut least = f64::MAX;
    for batch in 0..BATCHES {
        let start = Instant::now();
        for number in 0..BATCH {
            once(batch * BATCH + number);
        }
        least = least.min(start.elapsed().as_secs_f64() * 1e6 / 32.0);
    }
    least
}

fn main() -> Result<(), String> {
    let secp = Secp256k1::new();
    let pair = Keypair::from_seckey_slice(&secp, &[7; 32]).map_err(|error| error.to_string())?;
    let digest = |number: u64| {
        let mut bytes = [1; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Message::from_digest(bytes)
    };
    let key = pair.x_only_public_key().0;
    let signature = secp.sign_schnorr_no_aux_rand(&digest(0), &pair);
    let sign = least(|number| {
        black_box(secp.sign_schnorr_no_aux_rand(&digest(number), &pair));
    });
    let verify = least(|_| {
        black_box(secp.verify_schnorr(&signature, &digest(0), &key)).ok();
    });
    let mut bench = Bench::open()?;
    let mut payloads = Vec::new();
    let payer = least(|number| payloads.push(bench.pay(number + 1)));
    let payee = least(|number| {
        let at = usize::try_from(number).unwrap_or_default();
        bench.receive(number + 1, payloads.get(at).cloned().unwrap_or_default());
    });
    println!(
        "sign {sign:.1} us, payer's tick {payer:.1} us: {:.2} times",
        payer / sign
    );
    println!(
        "verify {verify:.1} us, payee's tick {payee:.1} us: {:.2} times",
        payee / verify
    );
    for kind in [OutputType::Taproot, OutputType::Wsh] {
        for count in [1, 10, 50] {
            let size = close_size(kind, count).map_err(|error| error.to_string())?;
            println!("{kind:?}, {count} closed together: {size:.1} vB a channel");
        }
    }
    Ok(())
}

/// Virtual bytes of each of so many channels that one transaction closes, change and payout P2TR.
fn close_size(kind: OutputType, count: u32) -> Result<f64, Box<dyn std::error::Error>> {
    let network = Network::Regtest;
    let (payers, payees) = (
        NodeKeys::new(&Seed([1; 32]), network)?,
        NodeKeys::new(&Seed([2; 32]), network)?,
    );
    let home = |keys: &NodeKeys| {
        let key = keys.fee_wallet()?.public().x_only_public_key().0;
        Ok::<_, KeyError>(ScriptBuf::new_p2tr(&Secp256k1::new(), key, None))
    };
    let paid = Amount::from_sat(50_000);
    let mut channels = Vec::new();
    for number in 0..count {
        let purse = PurseKey {
            session: SessionId([3; 32]),
            purse: PurseId(number),
        };
        let payer = payers.payer(purse)?;
        let payee = payees.payee(&payer.public(), purse)?;
        let output = FundingOutput::new(kind, payer.public(), payee.public(), 900_000)?;
        let (value, reserve) = (Amount::from_sat(100_000), Amount::from_sat(1_000));
        let place = OutPoint::new(Txid::from_byte_array([9; 32]), number);
        let contract = Contract::new(network, output, place, value, reserve, home(&payers)?)?;
        let signature = contract.sign_update(&payer, paid)?;
        channels.push((contract, signature, payee));
    }
    let inputs: Vec<CloseInput<'_>> = (channels.iter())
        .map(|(contract, signature, secret)| CloseInput {
            contract,
            paid,
            signature,
            secret,
        })
        .collect();
    let tx = close_tx(&ClosePlan {
        channels: &inputs,
        coins: &[],
        payout: &home(&payees)?,
        extra: &[],
        rate: FeeRate::BROADCAST_MIN,
    })?;
    let size = u32::try_from(virtual_size(tx.weight()))?;
    Ok(f64::from(size) / f64::from(count))
}

struct Bench {
    payer: SimNode,
    payee: SimNode,
    purse: PurseKey,
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap_or_default()
}

impl Bench {
    /// A channel with a tick of 400 sat for every round.
    fn open() -> Result<Self, String> {
        let chain = SimChain::new();
        let node = |number| {
            let mut config = sim_config(number);
            config.payer.value_max = Amount::from_sat(9_000_000);
            SimNode::new(&chain, config, number)
        };
        let (mut payer, mut payee) = (node(1), node(2));
        let purse = PurseKey {
            session: SessionId([3; 32]),
            purse: PurseId(0),
        };
        let params = payee
            .machine
            .params(payee.now)
            .map_err(|error| error.to_string())?;
        let offer = PurseOffer {
            params: params.encode(),
            tick: sat(400),
            payer_key: XOnlyKey([1; 32]),
            payee_key: XOnlyKey([2; 32]),
        };
        let open = Request::Open {
            offer: offer.clone(),
            capacity: sat(9_000_000),
            budget: sat(9_000_000),
        };
        payer.request(purse, open.clone());
        chain.mine(6);
        let Some(Outcome::Opened(Opened { opening, .. })) = payer.request(purse, open) else {
            return Err("not opened".into());
        };
        let accept = Request::Accept { offer, opening };
        match payee.request(purse, accept) {
            // A candidate is looked at by itself: a tick waits for a view of all.
            Some(Outcome::Accepted { .. }) if payee.look().is_some() => Ok(Self {
                payer,
                payee,
                purse,
            }),
            other => Err(format!("{other:?}")),
        }
    }

    fn pay(&mut self, seq: u64) -> bytes::Bytes {
        let request = Request::Pay {
            seq: Seq(seq),
            amount: sat(400),
            cumulative: sat(400 * seq),
        };
        let now = self.payer.now;
        let answer = (self.payer.machine).request(now, self.purse, RequestId(seq), request);
        match answer.outcome {
            Some(Outcome::Paid { payload }) => payload,
            other => panic!("{other:?}"),
        }
    }

    fn receive(&mut self, seq: u64, payload: bytes::Bytes) {
        let request = Request::Receive {
            seq: Seq(seq),
            amount: sat(400),
            cumulative: sat(400 * seq),
            payload,
        };
        let now = self.payee.now;
        let answer = (self.payee.machine).request(now, self.purse, RequestId(seq), request);
        assert_eq!(answer.outcome, Some(Outcome::Credited));
    }
}
