//! Openings against terms, and how each is refused at sight.

use serde_json::{Value, json};
use streampay_core::backend::{BackendError, BackendMachine, Effect, Outcome, PurseOffer, Request};
use streampay_core::units::{Mono, Msat, Now, PurseId, PurseKey, RequestId, SessionId, Unix};

use super::{Mint, PLAIN, URL, at, encode, limited, locked, priced};
use crate::codec;
use crate::job::Job;
use crate::locked::job::LockedJob;
use crate::vectors::{KEY, funding, hex, keys, root};
use crate::wire::Opening;
use crate::{LockedMachine, SwapMachine};

fn now() -> Now {
    Now {
        mono: Mono(1_000),
        unix: Unix(1_800_000_000),
    }
}

/// The refusal that a payee's machine takes first, at sight of the opening, though it may go on to
/// check the proofs; none where it goes on to ask the mint.
fn refusal(machine: &mut dyn BackendMachine, offer: PurseOffer, opening: Vec<u8>) -> Option<u16> {
    let request = Request::Accept {
        offer,
        opening: opening.into(),
    };
    let answer = machine.request(now(), KEY, RequestId(1), request);
    match answer.outcome {
        None => answer.effects.first().and_then(misfit),
        Some(Outcome::Failed(BackendError::Rejected(code, _))) => Some(code.code()),
        other => panic!("{other:?}"),
    }
}

fn misfit(effect: &Effect) -> Option<u16> {
    match codec::decode::<Job>(&effect.body, usize::MAX).unwrap() {
        Job::Locked(job) => match *job {
            LockedJob::Verify { misfit, .. } => misfit,
            _ => None,
        },
        _ => None,
    }
}

/// Openings against terms: the tick is 10 sat.
pub(super) fn openings() -> Vec<Value> {
    let offer = |params: &[u8]| PurseOffer {
        params: params.to_vec().into(),
        tick: Msat::new(10_000).unwrap(),
        payer_key: keys().payer,
        payee_key: keys().payee,
    };
    let elsewhere = PurseKey {
        session: SessionId([8; 32]),
        purse: PurseId(3),
    };
    let other = at("https://other.example");
    let swap = |mint: &str, unit: &str, count| {
        codec::encode(&Opening::new(KEY, mint.into(), unit.into(), count))
    };
    let strange = codec::encode(&Opening::new(elsewhere, URL.into(), "sat".into(), 3));
    let dear = Mint {
        price: Some(1_100),
        most: Some(35),
        ..PLAIN
    };
    let chain = |change: &dyn Fn(&mut crate::chain::Funding)| {
        let mut funding = funding();
        change(&mut funding);
        funding.encode()
    };
    // What the funding of `funding.json` is worth: 4 steps of 10.
    let as_it_is = chain(&|_| {});
    let cases: Vec<(&str, bool, Vec<Mint>, Vec<u8>)> = vec![
        ("as listed", false, vec![PLAIN], swap(URL, "sat", 64)),
        (
            "within the limit",
            false,
            vec![limited(30)],
            swap(URL, "sat", 3),
        ),
        (
            "above the limit",
            false,
            vec![limited(39)],
            swap(URL, "sat", 4),
        ),
        (
            "within the limit at its price",
            false,
            vec![dear],
            swap(URL, "sat", 3),
        ),
        (
            "above the limit at its price",
            false,
            vec![Mint {
                most: Some(32),
                ..dear
            }],
            swap(URL, "sat", 3),
        ),
        (
            "a limit below one tick",
            false,
            vec![limited(9)],
            swap(URL, "sat", 1),
        ),
        ("no token", false, vec![PLAIN], swap(URL, "sat", 0)),
        ("65 tokens", false, vec![PLAIN], swap(URL, "sat", 65)),
        (
            "a mint that is not listed",
            false,
            vec![other],
            swap(URL, "sat", 3),
        ),
        (
            "a mint, spelt otherwise",
            false,
            vec![PLAIN],
            swap("https://mint.example/", "sat", 3),
        ),
        ("another unit", false, vec![PLAIN], swap(URL, "msat", 3)),
        ("of another session", false, vec![PLAIN], strange),
        ("nothing", false, vec![PLAIN], Vec::new()),
        ("chain: at par", true, vec![PLAIN], as_it_is.clone()),
        (
            "chain: a step at another price",
            true,
            vec![priced(1_100)],
            as_it_is.clone(),
        ),
        (
            "chain: a price that rounds up to it",
            true,
            vec![priced(901)],
            as_it_is.clone(),
        ),
        (
            "chain: a price that does not",
            true,
            vec![priced(900)],
            as_it_is.clone(),
        ),
        (
            "chain: just within the limit",
            true,
            vec![limited(40)],
            as_it_is.clone(),
        ),
        (
            "chain: above the limit",
            true,
            vec![limited(39)],
            as_it_is.clone(),
        ),
        (
            "chain: a mint that is not listed",
            true,
            vec![other],
            as_it_is.clone(),
        ),
        (
            "chain: another unit",
            true,
            vec![PLAIN],
            chain(&|funding| funding.unit = "usd".into()),
        ),
        (
            "chain: no locks",
            true,
            vec![PLAIN],
            chain(&|funding| {
                (funding.locks, funding.pieces) = (Vec::new().into(), Vec::new().into());
            }),
        ),
        (
            "chain: a refund key that is none",
            true,
            vec![PLAIN],
            chain(&|funding| {
                funding.refund = [9; 33].into();
            }),
        ),
        (
            "chain: a keyset that is none",
            true,
            vec![PLAIN],
            chain(&|funding| {
                funding.keyset = vec![1; 7].into();
            }),
        ),
        (
            "chain: a mint that is not listed, and too much",
            true,
            vec![Mint {
                most: Some(1),
                ..other
            }],
            as_it_is,
        ),
    ];
    cases
        .into_iter()
        .map(|(name, is_chain, mints, opening)| {
            let params = encode(&mints, is_chain.then(locked));
            let machine: &mut dyn BackendMachine = match is_chain {
                true => &mut LockedMachine::chain(Default::default(), Some(root())),
                false => &mut SwapMachine::default(),
            };
            let code = refusal(machine, offer(&params), opening.clone());
            json!({
                "name": name,
                "method": if is_chain { "cashu-chain" } else { "cashu-swap" },
                "tick": "10000", "params": hex(&params), "opening": hex(&opening),
                "refusal": code.map(|code| code.to_string()),
            })
        })
        .collect()
}
