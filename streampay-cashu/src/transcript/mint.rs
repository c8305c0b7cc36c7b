//! A mint of fixed keys, and both wallets at it. It signs, and it keeps to what NUT-11 and 14 say of
//! preimages and locktimes; of signatures it sees none.

mod keys;
mod swaps;

use std::collections::{BTreeMap, BTreeSet};

use cdk::dhke::hash_to_curve;
use cdk::nuts::{CurrencyUnit, Proof, PublicKey, SecretKey};
use cdk::secret::Secret;
use streampay_core::units::{PurseKey, XOnlyKey};

use self::keys::check_release;
use super::call::{Call, Coins, Offer, Output, Redeemed, Right};
use super::called::{Called, KeysetFee};
use super::text::{Hex, Int};
use crate::chain::{Funded, Funding, LockKind, Piece, ReceiverKey, first_proof, step_of};
use crate::coin::to_hex;
use crate::fee::{fee_of, split, token_amounts};
use crate::verify::{Dleq, TrustedKeyset, Wanted, verify_funding};

const DENOMINATIONS: [u64; 4] = [1, 2, 4, 8];

/// The keys that a payee's wallet signs with here, and what they come from.
#[derive(Clone)]
pub struct MintKeys {
    /// The payee's long-lived key for locked ecash.
    pub root: ReceiverKey,
    /// The payer's session key.
    pub payer: XOnlyKey,
    /// The payee's session key.
    pub payee: XOnlyKey,
}

/// The mint, and what both wallets remember.
pub struct Mint {
    is_locked: bool,
    ppk: u64,
    epoch: u8,
    time_s: u64,
    keys: MintKeys,
    draws: u64,
    /// Secrets and amounts of locked proofs, by purse and number.
    locked: BTreeMap<(u32, u64), (String, u64)>,
    fundings: BTreeMap<u32, Funded>,
    spent: BTreeSet<String>,
    /// Swaps that it signed, by who asked.
    swaps: BTreeSet<String>,
    /// What came home, by purse and side.
    home: BTreeMap<(u32, bool), u64>,
}

type Answered = Result<Called, String>;

impl Mint {
    /// Its URL.
    pub const URL: &'static str = "https://mint.example";

    /// A mint at which an input costs `ppk` thousandths of a sat. `is_locked`: for the methods with
    /// locked ecash.
    #[must_use]
    pub const fn new(is_locked: bool, ppk: u64, keys: MintKeys) -> Self {
        Self {
            is_locked,
            ppk,
            epoch: 0,
            time_s: 0,
            keys,
            draws: 0,
            locked: BTreeMap::new(),
            fundings: BTreeMap::new(),
            spent: BTreeSet::new(),
            swaps: BTreeSet::new(),
            home: BTreeMap::new(),
        }
    }

    /// Sets its clock, in seconds since 1970.
    pub const fn set_time(&mut self, time_s: u64) {
        self.time_s = time_s;
    }

    /// From now on it signs with another keyset.
    pub const fn rotate(&mut self) {
        self.epoch = 1;
    }

    /// Somebody spends a locked proof behind everybody's back.
    pub fn spend(&mut self, purse: u32, number: u64) {
        if let Some((secret, _)) = self.locked.get(&(purse, number)) {
            self.spent.insert(secret.clone());
        }
    }

    /// Somebody spends a coin behind everybody's back.
    pub fn spend_coin(&mut self, coin: &Coins) {
        self.spent.insert(to_hex(&coin.secret.0));
    }

    /// Does what a purse's machine wants; `is_payer` says whose.
    ///
    /// # Errors
    /// A text where what is wanted cannot be had, or is not as it should be.
    pub fn answer(&mut self, purse: PurseKey, is_payer: bool, call: &Call) -> Answered {
        match call {
            Call::Plan { mints, budget } => {
                let offer = mints.first().ok_or("no mint")?;
                self.plan(offer, budget.0)
            }
            Call::Fund {
                keyset, outputs, ..
            } if self.is_locked => self.fund(purse, keyset, outputs),
            Call::Fund { outputs, .. } => self.fund_plain(purse, outputs),
            Call::Abandon {} => Ok(Called::Sum { sum: Int(0) }),
            Call::Keysets { .. } => Ok(Called::Keysets {
                keysets: self.keysets(),
                seed: self.draw(),
            }),
            Call::Verify {
                opening,
                receiver,
                misfit,
                ..
            } => self.verify(purse, (opening, receiver), *misfit),
            Call::VerifyStep { step, proofs } => self.verify_step(purse, step.0, proofs),
            Call::Check { from, .. } => Ok(Called::Checked {
                time: Int(self.time_s),
                spent: self.spent_of(purse, from.0..),
            }),
            Call::Redeem {
                by,
                batch,
                inputs,
                keyset,
                net,
                ..
            } => {
                let name = format!("{is_payer} {} {}", purse.purse.0, batch.0);
                self.redeem(purse, is_payer, (*by, inputs), (name, keyset, net.0))
            }
            Call::Swap {
                coins, keyset, net, ..
            } => self.swap(purse, is_payer, coins, (keyset, net.0)),
            Call::Find { from, .. } => Ok(Called::Found {
                batch: Int(self.newest_batch(purse, is_payer, from.0)),
            }),
            Call::Sign {
                from,
                secrets,
                known,
            } => self.sign(purse, (from.0, *known), secrets),
            Call::CheckRelease {
                release,
                receiver,
                secrets,
            } => check_release(release, receiver, secrets),
            Call::Finish { unsent, .. } => {
                let back: u64 = unsent.iter().map(|coin| coin.amount.0).sum();
                let sum = self.home_of(purse, is_payer).saturating_add(back);
                Ok(Called::Sum { sum: Int(sum) })
            }
            // It refuses none.
            Call::Forget { .. } => Ok(Called::Sum { sum: Int(0) }),
            Call::Sum {} => Ok(Called::Sum {
                sum: Int(self.home_of(purse, is_payer)),
            }),
        }
    }

    fn home_of(&self, purse: PurseKey, is_payer: bool) -> u64 {
        let home = self.home.get(&(purse.purse.0, is_payer));
        home.copied().unwrap_or_default()
    }

    /// What is random elsewhere.
    fn draw(&mut self) -> Hex {
        self.draws = self.draws.saturating_add(1);
        let half = |name: &str| digest(&format!("{name} {}", self.draws));
        Hex([half("one"), half("two")].concat())
    }

    fn plan(&mut self, offer: &Offer, budget: u64) -> Answered {
        let net = offer.net.0;
        let amounts = match self.is_locked {
            true => split(net, &DENOMINATIONS),
            false => token_amounts(net, self.ppk, &DENOMINATIONS, net),
        };
        let amounts = amounts.ok_or("no such amount")?;
        let fee = fee_of(self.ppk);
        let face = amounts
            .iter()
            .fold(0, |sum: u64, one| sum.saturating_add(*one));
        let most = budget.saturating_sub(fee).checked_div(face);
        let seed = self.draw();
        let input = hash_to_curve(&seed.0).map_err(|error| error.to_string())?;
        let locked = self.is_locked;
        Ok(Called::Planned {
            mint: offer.mint.clone(),
            unit: offer.unit.clone(),
            keyset: self.active_id()?,
            seed,
            inputs: vec![Hex(input.to_bytes().to_vec())],
            amounts: amounts.into_iter().map(Int).collect(),
            count: Int(offer.count.0.min(most.unwrap_or_default())),
            change: vec![Int(1)],
            fee: Int(fee),
            time: locked.then_some(Int(self.time_s)),
            ppk: locked.then_some(Int(self.ppk)),
        })
    }

    fn fund(&mut self, purse: PurseKey, keyset: &Hex, outputs: &[Output]) -> Answered {
        let mut proofs = Vec::new();
        for (number, output) in (0..).zip(outputs) {
            let secret = output.secret.clone().ok_or("an output without a secret")?;
            let r = output
                .r
                .as_ref()
                .ok_or("an output without a blinding factor")?;
            let r = SecretKey::from_slice(&r.0).map_err(|error| error.to_string())?;
            let amount = output.amount.0;
            let proof = self.signed(keyset, amount, Secret::new(secret.clone()), r)?;
            proofs.extend(Piece::of(&proof).ok_or("no DLEQ proof")?);
            self.locked
                .insert((purse.purse.0, number), (secret, amount));
        }
        Ok(Called::Funded {
            proofs: Some(Hex(proofs)),
            coins: Vec::new(),
            keysets: Vec::new(),
        })
    }

    fn fund_plain(&self, purse: PurseKey, outputs: &[Output]) -> Answered {
        let mut coins = Vec::new();
        let keyset = self.active_id()?;
        for (number, output) in (0_u64..).zip(outputs) {
            let name = |what: &str| digest(&format!("{what} {} {number}", purse.purse.0));
            let secret = Secret::new(to_hex(&name("secret")));
            let r = SecretKey::from_slice(&name("blinding")).map_err(|error| error.to_string())?;
            let proof = self.signed(&keyset, output.amount.0, secret, r)?;
            coins.push(Coins {
                keyset: keyset.clone(),
                amount: output.amount,
                secret: Hex(name("secret").to_vec()),
                c: Hex(proof.c.to_bytes().to_vec()),
            });
        }
        Ok(Called::Funded {
            proofs: None,
            coins,
            keysets: self.keysets(),
        })
    }

    fn verify(
        &mut self,
        purse: PurseKey,
        (opening, receiver): (&Hex, &Hex),
        misfit: Option<Int>,
    ) -> Answered {
        let funding = Funding::decode(purse, &opening.0).map_err(|error| error.to_string())?;
        let key = PublicKey::from_slice(&receiver.0);
        let key = key.map_err(|error| error.to_string())?;
        let funded = funding.with_receiver(key).ok_or("no such key")?;
        let pieces = funded.funding.pieces.to_vec();
        if funded.funding.is_chain() {
            self.verify_proofs(&funded, 0..funded.proofs(), &pieces)?;
        }
        self.fundings.insert(purse.purse.0, funded);
        if let Some(code) = misfit {
            return Ok(Called::Refused { code });
        }
        Ok(Called::Verified {
            time: Int(self.time_s),
            ppk: Int(self.ppk),
            keysets: self.keysets(),
            seed: self.draw(),
        })
    }

    fn verify_step(&self, purse: PurseKey, step: u64, proofs: &Hex) -> Answered {
        let funded = self.funding(purse)?;
        let per_step = funded.per_step();
        let numbers = first_proof(step, per_step)..first_proof(step.saturating_add(1), per_step);
        self.verify_proofs(funded, numbers, &proofs.0)?;
        Ok(Called::Good {})
    }

    fn verify_proofs(
        &self,
        funded: &Funded,
        numbers: core::ops::Range<u64>,
        pieces: &[u8],
    ) -> Result<(), String> {
        let (pieces, _) = pieces.as_chunks();
        let mut proofs: Vec<(Proof, u64, LockKind)> = Vec::new();
        for (number, piece) in numbers.zip(pieces) {
            let proof = funded.proof(number, Piece(piece)).ok_or("no proof")?;
            let kind = funded.kind(step_of(number, funded.per_step()));
            let amount = funded.amount(number).ok_or("no amount")?;
            proofs.push((proof, amount, kind.ok_or("no lock")?));
        }
        let keyset = TrustedKeyset::new(self.keyset_of(0)?).map_err(|error| error.to_string())?;
        let wanted = Wanted {
            keyset: &keyset,
            unit: &CurrencyUnit::Sat,
            terms: funded.terms,
            refund_window_s: crate::locked::REFUND_WINDOW_S,
            max_fee_ppk: 1_000,
        };
        let all = proofs
            .iter()
            .map(|(proof, amount, kind)| (proof, *amount, *kind));
        let verified = verify_funding(all, &wanted, &BTreeSet::new(), &Dleq);
        verified.map(|_| ()).map_err(|error| error.to_string())
    }

    fn funding(&self, purse: PurseKey) -> Result<&Funded, String> {
        let funded = self.fundings.get(&purse.purse.0);
        funded.ok_or_else(|| "no such funding".into())
    }
}

fn digest(text: &str) -> [u8; 32] {
    digest_of(text.as_bytes())
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    use bitcoin_hashes::{Hash, sha256};
    sha256::Hash::hash(bytes).to_byte_array()
}

impl core::fmt::Debug for MintKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MintKeys").finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Mint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mint")
            .field("ppk", &self.ppk)
            .field("time_s", &self.time_s)
            .finish_non_exhaustive()
    }
}
