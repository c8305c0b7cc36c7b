//! An effect's body in words.

use cdk::dhke::hash_to_curve;
use serde::{Deserialize, Serialize};
use streampay_core::backend::Effect;

use super::text::{Hex, Int};
use crate::chain::{Chain, Funded, Preimage, Release, first_proof, step_of, walk_back};
use crate::codec;
use crate::coin::Coin;
use crate::job::{Job, Listed};
use crate::locked::job::{LockedJob, Right as OwnRight};

/// What a machine wants done at a mint or in its wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Call {
    /// Payer: choose a mint, reserve money, draw the purse's seed.
    Plan {
        /// Those it goes along with, in the payee's order.
        mints: Vec<Offer>,
        /// The most that may leave the wallet.
        budget: Int,
    },
    /// Payer: swap what is reserved into these outputs and the change.
    Fund {
        /// The mint's URL.
        mint: String,
        /// The unit.
        unit: String,
        /// The outputs' keyset.
        keyset: Hex,
        /// What goes in, by its Y.
        inputs: Vec<Hex>,
        /// What the purse is made of.
        outputs: Vec<Output>,
        /// Amounts that go back into the wallet.
        change: Vec<Int>,
        /// It may have reached the mint before: look first.
        again: bool,
        /// The mint's time from which it is planned anew instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        latest: Option<Int>,
    },
    /// Payer: nothing is opened; what is reserved is free again.
    Abandon {},
    /// Payer: a funding failed for good. Which of these inputs are spent leave the wallet, the others are
    /// free again; it ends in how many were.
    Forget {
        /// The mint's URL.
        mint: String,
        /// The unit.
        unit: String,
        /// What went in, by its Y.
        inputs: Vec<Hex>,
    },
    /// Payee: learn the mint's keysets.
    Keysets {
        /// The mint's URL.
        mint: String,
        /// The unit.
        unit: String,
        /// A copy will not do.
        refresh: bool,
    },
    /// Payee: all checks of an opening that are not of its form.
    Verify {
        /// The mint's URL.
        mint: String,
        /// The unit.
        unit: String,
        /// The opening.
        opening: Hex,
        /// The purse's key of the payee.
        receiver: Hex,
        /// Why it is refused whatever its proofs are: then only they are checked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        misfit: Option<Int>,
    },
    /// Payee: check the proofs of one step.
    VerifyStep {
        /// Which.
        step: Int,
        /// 97 bytes each.
        proofs: Hex,
    },
    /// The mint's time, and which of these are spent or pending.
    Check {
        /// The mint's URL.
        mint: String,
        /// The unit.
        unit: String,
        /// The first proof that is asked for; that of no proof asks for the time alone.
        from: Int,
        /// The Ys of that one and all after it.
        ys: Vec<Hex>,
    },
    /// Swap locked proofs into outputs of the own wallet.
    Redeem {
        /// The mint's URL.
        mint: String,
        /// The unit.
        unit: String,
        /// By what right.
        by: Right,
        /// Names the outputs: another batch has others.
        batch: Int,
        /// What goes in.
        inputs: Vec<Redeemed>,
        /// The outputs' keyset.
        keyset: Hex,
        /// What the outputs come to.
        net: Int,
        /// It may have reached the mint before: look first.
        again: bool,
    },
    /// Swap plain coins into outputs of the own wallet.
    Swap {
        /// The mint's URL.
        mint: String,
        /// The unit.
        unit: String,
        /// What goes in.
        coins: Vec<Coins>,
        /// The outputs' keyset.
        keyset: Hex,
        /// What the outputs come to.
        net: Int,
        /// It may have reached the mint before: look first.
        again: bool,
        /// The payer's own coming back.
        own: bool,
    },
    /// Payee: sign every proof from this step on over to the payer.
    Sign {
        /// The first.
        from: Int,
        /// What is signed: the proofs' secrets, in order.
        secrets: Vec<String>,
        /// The release asks for preimages above this step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known: Option<Int>,
    },
    /// Outputs of batches that the records do not know, signed by the mint: what of them is unspent
    /// comes home.
    Find {
        /// The mint's URL.
        mint: String,
        /// The unit.
        unit: String,
        /// The first batch.
        from: Int,
    },
    /// Payer: check every signature of a release.
    CheckRelease {
        /// Its bytes.
        release: Hex,
        /// The purse's key of the payee.
        receiver: Hex,
        /// What should be signed: the secrets of the last proofs of the purse, as many as it has
        /// signatures.
        secrets: Vec<String>,
    },
    /// Payer: unsent coins are spendable again, the others forgotten; what came home in all.
    Finish {
        /// Those that nobody has seen.
        unsent: Vec<Coins>,
        /// Those that were sent.
        gone: Vec<Coins>,
    },
    /// What came home of this purse in all, by the own wallet.
    Sum {},
}

/// A mint that a payer goes along with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Offer {
    /// Its URL.
    pub mint: String,
    /// The unit.
    pub unit: String,
    /// What a tick is there.
    pub net: Int,
    /// The most ticks of a purse.
    pub count: Int,
}

/// An output that a purse is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Output {
    /// Its amount.
    pub amount: Int,
    /// Its secret, where both sides know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Its blinding factor, where both sides know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<Hex>,
}

/// A plain proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Coins {
    /// Its keyset.
    pub keyset: Hex,
    /// Its amount.
    pub amount: Int,
    /// Its secret, as sent: 32 bytes.
    pub secret: Hex,
    /// The mint's signature, unblinded.
    pub c: Hex,
}

/// A locked proof that is spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Redeemed {
    /// Its number in the purse.
    pub number: Int,
    /// What its witness shows beside a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preimage: Option<Hex>,
}

/// Who spends a locked proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Right {
    /// The payee, by its own signature.
    Receiver,
    /// The payer, by the payee's.
    Release,
    /// The payer, by its own, after the locktime.
    Refund,
}

impl Call {
    /// What an effect asks for; none where it is of no machine of this crate.
    #[must_use]
    pub fn of(effect: &Effect) -> Option<Self> {
        match codec::decode::<Job>(&effect.body, usize::MAX).ok()? {
            Job::Plan { mints, budget, .. } => Some(plan(&mints, budget)),
            Job::Fund { plan, again } => {
                let outputs = (0..plan.count).flat_map(|_| plan.token.iter());
                let outputs = outputs.map(|amount| Output {
                    amount: Int(*amount),
                    secret: None,
                    r: None,
                });
                Some(Self::Fund {
                    outputs: outputs.collect(),
                    mint: plan.place.mint,
                    unit: plan.place.unit,
                    keyset: hex(&plan.keyset),
                    inputs: plan.inputs.iter().map(|y| hex(&**y)).collect(),
                    change: plan.change.into_iter().map(Int).collect(),
                    again,
                    latest: None,
                })
            }
            Job::Keysets { place, refresh } => Some(Self::Keysets {
                mint: place.mint,
                unit: place.unit,
                refresh,
            }),
            Job::SwapIn { swap } => Some(Self::Swap {
                coins: coins(&swap.coins)?,
                mint: swap.place.mint,
                unit: swap.place.unit,
                keyset: hex(&swap.keyset),
                net: Int(swap.net),
                again: swap.again,
                own: swap.own,
            }),
            Job::Finish { unsent, gone, .. } => Some(Self::Finish {
                unsent: coins(&unsent)?,
                gone: coins(&gone)?,
            }),
            Job::Received { .. } => Some(Self::Sum {}),
            Job::Abandon { .. } => Some(Self::Abandon {}),
            Job::Locked(job) => Self::of_locked(*job),
        }
    }

    fn of_locked(job: LockedJob) -> Option<Self> {
        Some(match job {
            LockedJob::Plan { mints, budget, .. } => plan(&mints, budget),
            LockedJob::Fund {
                plan,
                locked,
                again,
                latest,
            } => Self::Fund {
                outputs: outputs(&locked.funded().ok()?)?,
                mint: plan.place.mint,
                unit: plan.place.unit,
                keyset: hex(&plan.keyset),
                inputs: plan.inputs.iter().map(|y| hex(&**y)).collect(),
                change: plan.change.into_iter().map(Int).collect(),
                again,
                latest: Some(Int(latest)),
            },
            LockedJob::Forget { plan } => Self::Forget {
                mint: plan.place.mint,
                unit: plan.place.unit,
                inputs: plan.inputs.iter().map(|y| hex(&**y)).collect(),
            },
            LockedJob::Verify {
                place,
                locked,
                misfit,
                ..
            } => Self::Verify {
                mint: place.mint,
                unit: place.unit,
                opening: Hex(locked.funding.encode()),
                receiver: hex(&locked.funded().ok()?.terms.receiver.to_bytes()),
                misfit: misfit.map(|code| Int(code.into())),
            },
            LockedJob::VerifyStep { step, pieces, .. } => Self::VerifyStep {
                step: Int(step),
                proofs: hex(&pieces),
            },
            LockedJob::Check {
                place,
                locked,
                from,
                ..
            } => Self::Check {
                mint: place.mint,
                unit: place.unit,
                from: Int(from),
                ys: ys(&locked.funded().ok()?, from)?,
            },
            LockedJob::Redeem {
                place,
                locked,
                batch,
                right,
                again,
                ..
            } => Self::Redeem {
                inputs: redeemed(&locked.funded().ok()?, &batch.numbers, &right)?,
                mint: place.mint,
                unit: place.unit,
                by: match right {
                    OwnRight::Receive { .. } => Right::Receiver,
                    OwnRight::Release { .. } => Right::Release,
                    OwnRight::Refund { .. } => Right::Refund,
                },
                batch: Int(batch.no),
                keyset: hex(&batch.keyset),
                net: Int(batch.net),
                again,
            },
            LockedJob::Find { place, from, .. } => Self::Find {
                mint: place.mint,
                unit: place.unit,
                from: Int(from),
            },
            LockedJob::Sign {
                locked,
                from,
                known,
                ..
            } => Self::Sign {
                known: known.map(Int),
                from: Int(from),
                secrets: secrets(&locked.funded().ok()?, from)?,
            },
            LockedJob::CheckRelease { locked, release } => {
                let funded = locked.funded().ok()?;
                let purse = funded.funding.purse_key();
                let steps = funded.funding.steps();
                let read = Release::decode(purse, &funded, steps, &release).ok()?;
                Self::CheckRelease {
                    release: hex(&release),
                    receiver: hex(&funded.terms.receiver.to_bytes()),
                    secrets: secrets(&funded, read.from)?,
                }
            }
            LockedJob::Ledger { .. } => Self::Sum {},
        })
    }
}

fn hex(bytes: &[u8]) -> Hex {
    Hex(bytes.to_vec())
}

fn plan(mints: &[Listed], budget: u64) -> Call {
    let offers = mints.iter().map(|listed| Offer {
        mint: listed.place.mint.clone(),
        unit: listed.place.unit.clone(),
        net: Int(listed.tick),
        count: Int(listed.count),
    });
    Call::Plan {
        mints: offers.collect(),
        budget: Int(budget),
    }
}

fn coins(coins: &[Coin]) -> Option<Vec<Coins>> {
    let each = coins.iter().map(|coin| {
        Some(Coins {
            keyset: hex(coin.keyset_bytes()),
            amount: Int(coin.amount),
            secret: hex(coin.secret()),
            c: hex(&coin.to_proof().ok()?.c.to_bytes()),
        })
    });
    each.collect()
}

fn outputs(funded: &Funded) -> Option<Vec<Output>> {
    let each = (0..funded.proofs()).map(|number| {
        Some(Output {
            amount: Int(funded.amount(number)?),
            secret: Some(funded.secret(number)?.to_string()),
            r: Some(hex(&funded.blinding(number)?.to_secret_bytes())),
        })
    });
    each.collect()
}

fn secrets(funded: &Funded, from: u64) -> Option<Vec<String>> {
    let numbers = first_proof(from, funded.per_step())..funded.proofs();
    let each = numbers.map(|number| Some(funded.secret(number)?.to_string()));
    each.collect()
}

fn ys(funded: &Funded, from: u64) -> Option<Vec<Hex>> {
    let each = (from..funded.proofs()).map(|number| {
        let secret = funded.secret(number)?;
        let y = hash_to_curve(secret.as_bytes()).ok()?;
        Some(hex(&y.to_bytes()))
    });
    each.collect()
}

fn redeemed(funded: &Funded, numbers: &[u64], right: &OwnRight) -> Option<Vec<Redeemed>> {
    let each = numbers.iter().map(|number| {
        let step = step_of(*number, funded.per_step());
        let shown = match right {
            _ if !funded.funding.is_chain() => None,
            OwnRight::Receive {
                step: newest,
                preimage,
                ..
            } => {
                let newest_preimage = Preimage::new(*preimage.as_ref()?.bytes());
                Some(walk_back(&newest_preimage, newest.checked_sub(step)?)?)
            }
            OwnRight::Release { top, .. } => {
                let chain = Chain::new(Preimage::new(*top.bytes()), funded.funding.steps())?;
                Some(chain.preimage(step)?)
            }
            OwnRight::Refund { .. } => Some(Preimage::new([0; 32])),
        };
        Some(Redeemed {
            number: Int(*number),
            preimage: shown.map(|shown| hex(shown.dangerous_bytes())),
        })
    });
    each.collect()
}
