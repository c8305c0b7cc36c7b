//! Locked proofs become plain ones of this wallet alone.

use std::time::Duration;

use cdk::nuts::nut11::P2PKWitness;
use cdk::nuts::nut14::HTLCWitness;
use cdk::nuts::{Id, Proof, State, Witness};
use cdk::wallet::Wallet;
use streampay_core::backend::{BackendError, RefusalCode};

use super::{blocking, states_of};
use crate::chain::{
    Chain, Funded, PIECE, Piece, Preimage, Release, signature_hex, step_of, walk_back,
};
use crate::coin::{Seed, to_hex};
use crate::job::Place;
use crate::locked::drain::Batch;
use crate::locked::job::{LockedDone, Right};
use crate::runner::keysets;
use crate::runner::swap_in::{End, Into, outputs_are_used, swap_inputs};

pub(super) struct Redeem {
    pub(super) place: Place,
    pub(super) funded: Funded,
    pub(super) batch: Batch,
    pub(super) pieces: Vec<u8>,
    pub(super) right: Right,
    pub(super) seed: Seed,
    pub(super) again: bool,
}

/// One batch. Run again it has the same outputs, and finds what the first run did.
pub(super) async fn redeem(
    wallet: &Wallet,
    job: Redeem,
    limit: Duration,
) -> Result<LockedDone, BackendError> {
    let keyset = Id::from_bytes(&job.batch.keyset).map_err(|_| BackendError::Unknown)?;
    let (funded, numbers) = (job.funded.clone(), job.batch.numbers.clone());
    let (right, pieces) = (job.right.clone(), job.pieces);
    let sign = move || inputs(&funded, &numbers, &pieces, &right);
    let inputs = blocking(sign).await?.ok_or(BackendError::Unknown)?;
    let sum = inputs.iter().map(|input| input.amount.to_u64());
    let sum = sum.fold(0, u64::saturating_add);
    let seed = job.seed.child(job.batch.no, b"drain");
    let into = Into {
        place: &job.place,
        seed: &seed,
        keyset,
        net: job.batch.net,
        fee: sum.saturating_sub(job.batch.net),
        again: job.again,
        own: job.right.is_payer(),
    };
    let end = match swap_inputs(wallet, inputs, &into, limit).await {
        Err(BackendError::Rejected(RefusalCode::WrongAmount, _)) => {
            return Ok(LockedDone::OtherFee(keysets(wallet, true).await?));
        }
        // Its number is one of a batch that a search did not find: then it is made anew with another.
        Err(BackendError::Unknown) if outputs_are_used(wallet, &into).await? => {
            return Ok(LockedDone::NumberUsed);
        }
        end => end?,
    };
    match end {
        End::Ours => Ok(LockedDone::Swapped),
        End::OtherKeyset => Ok(LockedDone::OtherKeysets(keysets(wallet, true).await?)),
        End::SpentElsewhere => {
            let states = states_of(wallet, &job.funded, &job.batch.numbers).await?;
            // What is pending may yet come back.
            let spent = states.iter().filter(|(_, state)| *state == State::Spent);
            let spent: Vec<u64> = spent.map(|(number, _)| *number).collect();
            match spent.is_empty() {
                true => Err(BackendError::Transient),
                false => Ok(LockedDone::SomeSpent(spent)),
            }
        }
    }
}

/// The proofs with what opens their locks.
fn inputs(funded: &Funded, numbers: &[u64], pieces: &[u8], right: &Right) -> Option<Vec<Proof>> {
    let (pieces, _) = pieces.as_chunks::<PIECE>();
    let opener = Opener::new(funded, right)?;
    (numbers.iter().zip(pieces))
        .map(|(number, piece)| {
            let mut proof = funded.bare_proof(*number, Piece(piece))?;
            proof.witness = Some(opener.witness(funded, *number, &proof)?);
            Some(proof)
        })
        .collect()
}

enum Opener {
    Key {
        key: cdk::nuts::SecretKey,
        newest: Option<(u64, Preimage)>,
    },
    Release {
        release: Release,
        chain: Option<Chain>,
    },
}

impl Opener {
    fn new(funded: &Funded, right: &Right) -> Option<Self> {
        match right {
            Right::Receive {
                key,
                step,
                preimage,
            } => Some(Self::Key {
                key: key.key().ok()?,
                newest: preimage
                    .as_ref()
                    .map(|preimage| (*step, Preimage::new(*preimage.bytes()))),
            }),
            Right::Refund { key } => Some(Self::Key {
                key: key.key().ok()?,
                newest: None,
            }),
            Right::Release { release, top } => {
                let purse = funded.funding.purse_key();
                let most = funded.funding.steps;
                let release = Release::decode(purse, funded, most, release).ok()?;
                let chain = Chain::new(Preimage::new(*top.bytes()), most);
                let chain = chain.filter(|_| funded.funding.is_chain());
                Some(Self::Release { release, chain })
            }
        }
    }

    fn witness(&self, funded: &Funded, number: u64, proof: &Proof) -> Option<Witness> {
        let step = step_of(number, funded.per_step());
        let (signature, preimage) = match self {
            Self::Key { key, newest } => {
                let signature = key.sign(proof.secret.as_bytes()).ok()?;
                let preimage = match newest {
                    Some((newest_step, newest)) => {
                        Some(walk_back(newest, newest_step.checked_sub(step)?)?)
                    }
                    None => None,
                };
                (signature, preimage)
            }
            Self::Release { release, chain } => {
                let preimage = match chain {
                    Some(chain) => Some(chain.preimage(step)?),
                    None => None,
                };
                (release.signature(funded, number)?, preimage)
            }
        };
        let signatures = vec![signature_hex(&signature)];
        if !funded.funding.is_chain() {
            return Some(Witness::P2PKWitness(P2PKWitness { signatures }));
        }
        // A refund shows no preimage: zeros open no lock, and mints want some.
        let shown = preimage.map_or([0; 32], |preimage| *preimage.dangerous_bytes());
        Some(Witness::HTLCWitness(HTLCWitness {
            preimage: to_hex(&shown),
            signatures: Some(signatures),
        }))
    }
}
