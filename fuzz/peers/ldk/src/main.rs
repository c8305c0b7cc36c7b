//! Processor time of a payment of LDK and of a tick, and their ratio. See the README.

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::Criterion;
use streampay_btc::bitcoin::Amount;
use streampay_btc::bitcoin::secp256k1::{Keypair, Message, Secp256k1};
use streampay_btc::sim::{SimChain, SimNode, sim_config};
use streampay_core::backend::{BackendMachine as _, Outcome, PurseOffer, Request};
use streampay_core::units::{Msat, PurseId, PurseKey, RequestId, Seq, SessionId, XOnlyKey};

const TICKS: u64 = 12_000;
const STEP: u64 = 400;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let ldk = ldk()?;
    let (payer, payee) = ticks()?;
    println!("LDK: {ldk:.0} us a payment, both nodes");
    println!("ours: {payer:.1} us payer, {payee:.1} us payee a tick");
    println!("ratio: {:.1}", ldk / (payer + payee));
    let (sign, verify) = bare()?;
    println!(
        "libsecp256k1 alone: {sign:.1} us to sign, {verify:.1} us to verify; a tick is {:.2} and {:.2} \
         times that",
        payer / sign,
        payee / verify
    );
    Ok(())
}

/// Microseconds that this thread has run.
fn cpu() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().ok_or("schedstat")?.parse()?;
    Ok(nanoseconds / 1e3)
}

/// One of criterion's iterations is two payments, there and back. It counts by the clock: the part of
/// the time for which the thread ran makes processor time of that.
fn ldk() -> Result<f64> {
    let home = std::env::temp_dir().join(format!("streampay-peer-ldk-{}", std::process::id()));
    let mut criterion = Criterion::default()
        .output_directory(&home)
        .without_plots()
        .measurement_time(Duration::from_secs(20));
    let (start, before) = (Instant::now(), cpu()?);
    lightning::ln::channelmanager::bench::bench_sends(&mut criterion);
    let part = (cpu()? - before) / (start.elapsed().as_secs_f64() * 1e6);
    let path = home.join("bench_sends/new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_slice(&fs::read(path)?)?;
    fs::remove_dir_all(home)?;
    let mean = estimates["mean"]["point_estimate"].as_f64().ok_or("mean")?;
    Ok(mean / 1e3 / 2.0 * part.min(1.0))
}

/// A signature made, and one verified, as ticks have them.
fn bare() -> Result<(f64, f64)> {
    let secp = Secp256k1::new();
    let pair = Keypair::from_seckey_slice(&secp, &[7; 32])?;
    let key = pair.x_only_public_key().0;
    let digest = |number: u64| {
        let mut bytes = [1; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Message::from_digest(bytes)
    };
    let before = cpu()?;
    let signatures: Vec<_> = (1..=TICKS)
        .map(|number| secp.sign_schnorr_no_aux_rand(&digest(number), &pair))
        .collect();
    let signed = cpu()?;
    for (number, signature) in (1..).zip(&signatures) {
        secp.verify_schnorr(signature, &digest(number), &key)?;
    }
    let each = |from: f64, to: f64| (to - from) / TICKS as f64;
    Ok((each(before, signed), each(signed, cpu()?)))
}

/// A channel, and so many ticks on it: payer and payee apart.
fn ticks() -> Result<(f64, f64)> {
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
    let offer = PurseOffer {
        params: payee.machine.params(payee.now)?.encode(),
        tick: Msat::from_sat(STEP)?,
        payer_key: XOnlyKey([1; 32]),
        payee_key: XOnlyKey([2; 32]),
    };
    let most = Msat::from_sat(9_000_000)?;
    let open = Request::Open {
        offer: offer.clone(),
        capacity: most,
        budget: most,
    };
    payer.request(purse, open.clone());
    chain.mine(6);
    let Some(Outcome::Opened(opened)) = payer.request(purse, open) else {
        return Err("not opened".into());
    };
    let opening = opened.opening;
    let accepted = payee.request(purse, Request::Accept { offer, opening });
    if !matches!(accepted, Some(Outcome::Accepted { .. })) {
        return Err("not accepted".into());
    }
    // A candidate is looked at by itself: a tick waits for a view of all.
    payee.look().ok_or("no view")?;
    let before = cpu()?;
    let mut payloads: Vec<Bytes> = Vec::new();
    for seq in 1..=TICKS {
        let pay = Request::Pay {
            seq: Seq(seq),
            amount: Msat::from_sat(STEP)?,
            cumulative: Msat::from_sat(STEP * seq)?,
        };
        let answer = payer.machine.request(payer.now, purse, RequestId(seq), pay);
        let Some(Outcome::Paid { payload }) = answer.outcome else {
            return Err("not paid".into());
        };
        payloads.push(payload);
    }
    let paid = cpu()?;
    for (seq, payload) in (1..).zip(payloads) {
        let receive = Request::Receive {
            seq: Seq(seq),
            amount: Msat::from_sat(STEP)?,
            cumulative: Msat::from_sat(STEP * seq)?,
            payload,
        };
        let answer = payee
            .machine
            .request(payee.now, purse, RequestId(seq), receive);
        if answer.outcome != Some(Outcome::Credited) {
            return Err("not credited".into());
        }
    }
    let each = |from: f64, to: f64| (to - from) / TICKS as f64;
    Ok((each(before, paid), each(paid, cpu()?)))
}
