//! A payment method as cheap as `cashu-chain`: a payment is a preimage of 32 bytes, one hash to check,
//! and the newest one is what the payee keeps.

use std::collections::HashMap;
use std::sync::OnceLock;

use async_trait::async_trait;
use bytes::Bytes;
use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Consumed, Effect, EffectResult, Opened, Outcome,
    RefusalCode, Request, RestoredPurse,
};
use streampay_core::driver::EffectRunner;
use streampay_core::session::TaggedHash;
use streampay_core::units::{Msat, Now, PurseKey, RequestId};

pub(crate) const METHOD: &str = "preimages";
/// Payments of a chain.
const LENGTH: usize = 8_192;

fn hash(preimage: &[u8; 32]) -> [u8; 32] {
    TaggedHash::new("streampay/bench/chain")
        .bytes32(preimage)
        .finish()
        .0
}

/// The preimage of this number; that of 0 is public. All payers share the chain: it is the payee that
/// is measured, which cannot know.
pub(crate) fn preimage(number: u64) -> [u8; 32] {
    static CHAIN: OnceLock<Vec<[u8; 32]>> = OnceLock::new();
    let chain = CHAIN.get_or_init(|| {
        let mut chain = vec![[7; 32]];
        for _ in 0..LENGTH {
            chain.push(hash(&chain[chain.len() - 1]));
        }
        chain
    });
    chain[LENGTH - usize::try_from(number).unwrap()]
}

/// The number of the newest preimage, and it.
type Newest = (u64, [u8; 32]);

/// The machine of both sides.
#[derive(Default)]
pub(crate) struct Preimages(HashMap<PurseKey, Newest>);

impl BackendMachine for Preimages {
    fn method(&self) -> &'static str {
        METHOD
    }

    fn request(&mut self, _: Now, purse: PurseKey, _: RequestId, request: Request) -> Answer {
        let quantum = Msat::new(1).unwrap();
        match request {
            Request::Open { capacity, .. } => Answer::outcome(Outcome::Opened(Opened {
                opening: Bytes::copy_from_slice(&preimage(0)),
                capacity,
                cost: capacity,
                quantum,
                usable_until: None,
            })),
            Request::Pay { seq, .. } => Answer::outcome(Outcome::Paid {
                payload: Bytes::copy_from_slice(&preimage(seq.0)),
            }),
            Request::Accept { opening, .. } => {
                let Ok(root) = <[u8; 32]>::try_from(opening.as_ref()) else {
                    return Answer::failed(BackendError::Fatal(RefusalCode::Malformed));
                };
                self.0.insert(purse, (0, root));
                let capacity = Msat::MAX;
                self.kept(purse, Outcome::Accepted { capacity, quantum })
            }
            Request::Receive { seq, payload, .. } => {
                let newest = self.0.get_mut(&purse);
                let shown = <[u8; 32]>::try_from(payload.as_ref());
                if let (Some(newest), Ok(shown)) = (newest, shown)
                    && seq.0 > newest.0
                    && (newest.0..seq.0).fold(shown, |at, _| hash(&at)) == newest.1
                {
                    *newest = (seq.0, shown);
                    return self.kept(purse, Outcome::Credited);
                }
                let refused = BackendError::Rejected(RefusalCode::Malformed, Consumed::No);
                Answer::failed(refused)
            }
            _ => Answer::default(),
        }
    }

    fn effect_done(&mut self, _: Now, _: EffectResult) -> Answer {
        Answer::default()
    }

    fn restore_node(&mut self, _: RestoredPurse) {}

    fn restore(&mut self, _: Now, purse: PurseKey, records: RestoredPurse) -> Answer {
        let value = records.first().map(|(_, value)| value.split_at(8));
        let (number, newest) = value.unwrap();
        let number = u64::from_be_bytes(number.try_into().unwrap());
        self.0.insert(purse, (number, newest.try_into().unwrap()));
        Answer::default()
    }

    fn forget(&mut self, purse: PurseKey) {
        self.0.remove(&purse);
    }
}

impl Preimages {
    /// The outcome, and the newest preimage made durable with it.
    fn kept(&self, purse: PurseKey, outcome: Outcome) -> Answer {
        let (number, newest) = self.0[&purse];
        let mut answer = Answer::outcome(outcome);
        let value = [&number.to_be_bytes()[..], &newest[..]].concat();
        answer.delta.put(*b"n", value);
        answer
    }
}

/// There is nobody to call.
pub(crate) struct Nobody;

#[async_trait]
impl EffectRunner for Nobody {
    async fn run(&self, effect: Effect) -> EffectResult {
        EffectResult {
            purse: effect.purse,
            id: effect.id,
            result: Err(BackendError::Transient),
        }
    }
}
