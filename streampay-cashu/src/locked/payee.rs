//! A payee's purse of locked ecash: checked once, credited with a hash a tick, redeemed in batches.

mod held;
mod redeem;
mod refusal;
mod ticks;

use minicbor::bytes::ByteArray;
use streampay_core::backend::{
    Answer, BackendError, Consumed, Effect, Outcome, PurseOffer, RefusalCode, Request,
};
use streampay_core::store::ChangeSet;
use streampay_core::units::{Msat, Now, PurseKey, Unix};

use self::refusal::misfit;
use super::clock::MintClock;
use super::drain::Drain;
use super::job::{Agreed, Locked, LockedDone, LockedJob, Secret32};
use super::record::{self, Credited, Meta, PayeeMeta, Records};
use super::{LockedMachine, LockedPolicy, job};
use crate::chain::{Funded, Funding, FundingError, PurseKeys, ReceiverKey, first_proof};
use crate::coin::Seed;
use crate::job::Place;
use crate::keysets::Keysets;
use crate::machine::{OUT_OF_ORDER, Running, msat, whole_sat};
use crate::pace::Pace;
use crate::params_locked::LockedParams;

const VERIFY: u64 = 1;
const CHECK: u64 = 2;
const SIGN: u64 = 3;
const LEDGER: u64 = 4;
const STEP: u64 = 5;
const FIND: u64 = 6;
/// Batch n is effect `DRAIN + n`.
const DRAIN: u64 = 256;

pub(super) struct PayeePurse {
    key: PurseKey,
    policy: LockedPolicy,
    meta: PayeeMeta,
    funded: Funded,
    /// SHA-256 of the opening; none after a restart.
    opening: [u8; 32],
    stage: Stage,
    /// Why it is refused at first sight.
    misfit: Option<RefusalCode>,
    /// Proofs of paid steps that the funding does not carry.
    pieces: Vec<u8>,
    credited: Credited,
    drain: Drain,
    release: Option<Vec<u8>>,
    running: Running,
    clock: Option<MintClock>,
    /// True where the mint was asked, since the start, that nothing from the next step on is spent.
    checked: bool,
    /// True from a restart until a tick is credited.
    restored: bool,
    /// The last step that was credited before this start: what is above it nobody else may spend.
    before: u64,
    /// A step above it was spent by its payer: nothing more is credited.
    swept: bool,
    /// False after a start, until the mint was asked for batches that the records do not know.
    looked: bool,
    /// A tick that waits for the mint or for its check.
    waiting: Option<Waiting>,
    /// Everything credited is to be redeemed, whatever it wastes.
    redeem_all: bool,
    /// True where the proofs of the opening are known to be locked to us and the mint's.
    proven: bool,
    /// What all other purses have open at this mint, in the unit.
    others: u64,
    retry_at: Option<Unix>,
    /// Batches were made anew for another fee or keyset, and none is home since: when the next may be.
    anew: Pace,
    /// Why batches failed since the last that came home, each told to its user once.
    troubled: Vec<BackendError>,
    /// A search found batches that the records do not know.
    found_more: bool,
}

/// A tick that cannot be decided on the spot.
#[derive(Clone)]
struct Waiting {
    seq: u64,
    /// Steps that were credited before.
    before: u64,
    step: u64,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Being checked; nothing is durable yet.
    Checking,
    /// The mint could not be asked. Only what its secrets are written from is kept.
    Unchecked,
    /// It was refused, and is being signed over to the payer, who need not wait for it then.
    Refused,
    /// It was refused and signed over. Remembered until its locks give way: what was signed may not
    /// have reached the payer.
    GivenBack,
    Open,
    /// It was refused: the machine forgets it.
    Gone,
}

impl PayeePurse {
    pub(super) fn accept(
        key: PurseKey,
        chain: bool,
        policy: LockedPolicy,
        receiver: Option<&ReceiverKey>,
        offer: &PurseOffer,
        opening: &[u8],
    ) -> Result<(Self, Answer), BackendError> {
        let own = |code| BackendError::Fatal(code);
        let params =
            LockedParams::decode(&offer.params).map_err(|_| own(RefusalCode::Malformed))?;
        let step = whole_sat(offer.tick).ok_or_else(|| own(RefusalCode::WrongAmount))?;
        let root = receiver
            .filter(|receiver| params.receiver() == Ok(receiver.public()))
            .ok_or_else(|| own(RefusalCode::NoCommonMethod))?;
        let keys = PurseKeys {
            payer: offer.payer_key,
            payee: offer.payee_key,
            purse: key,
        };
        let secret = root
            .of_purse(&keys)
            .ok_or_else(|| own(RefusalCode::Other))?;
        let funding = Funding::decode(key, opening).map_err(|error| {
            refused(match error {
                FundingError::WrongPurse => RefusalCode::WrongSession,
                _ => RefusalCode::Malformed,
            })
        })?;
        let wrong = misfit(&params, &funding, chain, step);
        if wrong == Some(RefusalCode::WrongMint) {
            // Nobody is asked whom the terms do not name.
            return Err(refused(RefusalCode::WrongMint));
        }
        let place = Place::new(key, &funding.mint, &funding.unit);
        let receiver = secret.public_key();
        let funded = funding.with_receiver(receiver);
        let funded = funded.ok_or_else(|| refused(RefusalCode::Malformed))?;
        let meta = PayeeMeta {
            agreed: Agreed {
                chain,
                lock_s: params.lock_s(),
                margin_s: params.margin_s(),
                max_fee_ppk: params.max_fee_ppk(),
            },
            step,
            place,
            key: Secret32::new(secret.to_secret_bytes()),
            ppk: 0,
            keysets: Keysets::default(),
            seed: Seed::new([0; 64]),
            closed: false,
            settled: None,
            refused_until: None,
            due: None,
        };
        let digest = digest(opening);
        let mut purse = Self::new(key, policy, meta, funded, digest, Stage::Checking);
        purse.misfit = wrong;
        let answer = Answer {
            effects: purse.verify(),
            ..Answer::default()
        };
        Ok((purse, answer))
    }

    fn new(
        key: PurseKey,
        policy: LockedPolicy,
        meta: PayeeMeta,
        funded: Funded,
        opening: [u8; 32],
        stage: Stage,
    ) -> Self {
        Self {
            key,
            policy,
            meta,
            funded,
            opening,
            stage,
            misfit: None,
            pieces: Vec::new(),
            credited: Credited::default(),
            drain: Drain::default(),
            release: None,
            running: Running::default(),
            clock: None,
            checked: false,
            restored: false,
            before: 0,
            swept: false,
            looked: true,
            waiting: None,
            redeem_all: false,
            proven: false,
            others: 0,
            retry_at: None,
            anew: Pace::default(),
            troubled: Vec::new(),
            found_more: false,
        }
    }

    pub(super) fn restore(
        key: PurseKey,
        policy: LockedPolicy,
        meta: PayeeMeta,
        records: Records,
    ) -> Option<(Self, Answer)> {
        let locked = records.locked?;
        let funded = locked.funded().ok()?;
        let opening = digest(&funded.funding.encode());
        let mut purse = Self::new(key, policy, meta, funded, opening, Stage::Open);
        purse.pieces = records.pieces;
        // A self that these records do not know may have redeemed what is credited in them.
        purse.before = records.credited.step;
        purse.credited = records.credited;
        purse.drain = records.drain;
        (purse.restored, purse.looked) = (true, false);
        // One that was signed before more was known to be due is as none.
        purse.release = records
            .release
            .filter(|release| purse.starts_after_due(release));
        if purse.meta.refused_until.is_some() {
            purse.stage = Stage::Refused;
            let effects = purse.sign(1);
            let answer = Answer {
                effects,
                ..Answer::default()
            };
            return Some((purse, answer));
        }
        let answer = Answer {
            effects: purse.drain_effect(true),
            // A payer that comes back may have missed it.
            note: purse.release.clone().map(Into::into),
            ..Answer::default()
        };
        Some((purse, answer))
    }

    /// True while work for a stranger is under way: a check, or signing what was refused over.
    pub(super) fn is_checking(&self) -> bool {
        matches!(self.stage, Stage::Checking | Stage::Refused)
    }

    /// True where its check has to begin anew, with the whole opening.
    pub(super) fn is_unchecked(&self) -> bool {
        self.stage == Stage::Unchecked
    }

    pub(super) fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    pub(super) fn request(&mut self, now: Now, request: Request) -> Answer {
        match request {
            Request::Accept { opening, .. } => self.accept_again(&opening),
            Request::Receive {
                seq,
                amount,
                cumulative,
                payload,
            } => self.receive(now, seq, (amount, cumulative), &payload),
            Request::Settle { cumulative } => self.settle(now, cumulative),
            // Whatever a payer says to a note, it ends nothing.
            Request::Note { bytes } => self.shown(now, &bytes),
            _ => Answer::failed(OUT_OF_ORDER),
        }
    }

    fn accept_again(&mut self, opening: &[u8]) -> Answer {
        if digest(opening) != self.opening {
            return Answer::failed(refused(RefusalCode::OutOfOrder));
        }
        match self.stage {
            Stage::Checking => Answer {
                effects: self.verify(),
                ..Answer::default()
            },
            Stage::Open => self.accepted(),
            Stage::Unchecked | Stage::Refused | Stage::GivenBack | Stage::Gone => {
                Answer::failed(OUT_OF_ORDER)
            }
        }
    }

    fn verify(&mut self) -> Vec<Effect> {
        let verify = LockedJob::Verify {
            place: self.meta.place.clone(),
            locked: self.locked(),
            agreed: self.meta.agreed,
            misfit: self.misfit.map(RefusalCode::code),
        };
        self.running.start(self.key, VERIFY, || job(verify))
    }

    /// Signs over to the payer what is not paid for.
    fn sign(&mut self, from: u64) -> Vec<Effect> {
        let sign = LockedJob::Sign {
            locked: self.bare(),
            from,
            key: self.meta.key.clone(),
            known: self.is_short().then_some(self.credited.step),
        };
        self.running.start(self.key, SIGN, || job(sign))
    }

    fn accepted(&self) -> Answer {
        let capacity = self.meta.step.saturating_mul(self.funded.funding.steps);
        Answer::outcome(Outcome::Accepted {
            capacity: msat(capacity),
            quantum: LockedMachine::QUANTUM,
        })
    }

    pub(super) fn effect_done(
        &mut self,
        now: Now,
        id: u64,
        done: Result<LockedDone, BackendError>,
    ) -> Answer {
        if !self.running.ended(id) {
            // Told before: what came of it is said.
            return Answer::default();
        }
        match (id, done) {
            (VERIFY, done) => self.verified(now, done),
            (CHECK, done) => self.mint_checked(now, done),
            (SIGN, Ok(LockedDone::Signed(release))) => self.signed(now, release.into()),
            (SIGN, _) if self.stage == Stage::Refused => {
                // The next start signs it, or its locktime brings it back.
                self.stage = Stage::GivenBack;
                Answer::default()
            }
            (STEP, done) => self.step_verified(now, done),
            (FIND, done) => self.found(now, done),
            (LEDGER, Ok(LockedDone::Sum(settled))) => self.settled(settled),
            (SIGN | LEDGER, done) => Answer::failed(done.err().unwrap_or(BackendError::Unknown)),
            (id, done) => match id.checked_sub(DRAIN) {
                Some(no) => self.drained(now, no, done),
                None => Answer::failed(done.err().unwrap_or(BackendError::Unknown)),
            },
        }
    }

    fn verified(&mut self, now: Now, done: Result<LockedDone, BackendError>) -> Answer {
        if self.stage != Stage::Checking {
            return Answer::default();
        }
        let chain = self.meta.agreed.chain;
        if self.meta.closed {
            // Nobody wants it any more.
            self.proven = match done {
                Ok(LockedDone::Verified { .. }) => chain,
                Ok(LockedDone::Refused(_) | LockedDone::Proven) => true,
                _ => false,
            };
            return self.give_back(now);
        }
        match done {
            Ok(LockedDone::Verified {
                time_s,
                ppk,
                keysets,
                seed,
            }) => {
                self.proven = chain;
                if !self
                    .policy
                    .allows_fee(ppk, self.funded.per_step(), self.meta.step)
                {
                    return self.refuse(now, refused(RefusalCode::FeeTooHigh));
                }
                self.clock = Some(MintClock::new(time_s, now));
                self.checked = true;
                self.stage = Stage::Open;
                (self.meta.ppk, self.meta.keysets, self.meta.seed) = (ppk, keysets, seed);
                let mut answer = self.accepted();
                self.put_meta(&mut answer.delta);
                record::put_locked(&mut answer.delta, &self.locked());
                answer
            }
            Ok(LockedDone::Refused(code)) => {
                self.proven = true;
                self.refuse(now, refused(RefusalCode::from_code(code)))
            }
            Ok(LockedDone::Proven) => {
                self.proven = true;
                self.unchecked(BackendError::Transient)
            }
            Ok(_) => Answer::failed(BackendError::Unknown),
            Err(error @ BackendError::Rejected(..)) => self.refuse(now, error),
            Err(error) => self.unchecked(error),
        }
    }

    /// Shown again, it is checked again.
    fn unchecked(&mut self, error: BackendError) -> Answer {
        self.stage = Stage::Unchecked;
        self.funded.funding = self.funded.funding.without_pieces();
        Answer::failed(error)
    }

    fn locked(&self) -> Locked {
        Locked::new(self.funded.funding.clone(), self.funded.terms.receiver)
    }

    /// The same without the proofs' own bytes, which most effects need not carry.
    fn bare(&self) -> Locked {
        Locked::new(
            self.funded.funding.without_pieces(),
            self.funded.terms.receiver,
        )
    }

    fn put_meta(&self, delta: &mut ChangeSet) {
        record::put_meta(delta, &Meta::Payee(self.meta.clone()));
    }

    fn proofs_until(&self, step: u64) -> u64 {
        first_proof(step.saturating_add(1), self.funded.per_step())
    }

    pub(super) fn mint(&self) -> &str {
        &self.meta.place.mint
    }

    fn per_step(&self) -> u64 {
        u64::try_from(self.funded.per_step()).unwrap_or(u64::MAX)
    }

    /// Whether crediting `steps` more would leave more open at this mint than the policy allows.
    /// Where nothing is open, one payment always may be.
    fn is_over_exposed(&self, steps: u64) -> bool {
        if self.is_held() {
            return true;
        }
        let open = self.open().saturating_add(self.others);
        let more = steps.saturating_mul(self.meta.step);
        open > 0 && msat(open.saturating_add(more)) > self.policy.exposure
    }

    /// What is credited and not redeemed, in the unit: whole steps.
    pub(super) fn open(&self) -> u64 {
        let home = self
            .drain
            .next
            .checked_div(self.per_step())
            .unwrap_or_default();
        let open = self.credited.step.saturating_sub(home);
        open.saturating_mul(self.meta.step)
    }

    /// Takes the mint's time as another purse has learnt it, where that is newer.
    pub(super) fn hear(&mut self, clock: Option<MintClock>) {
        let own = self.clock;
        let newer = clock.filter(|clock| own.is_none_or(|own| clock.is_newer(&own)));
        self.clock = newer.or(own);
    }

    pub(super) const fn clock(&self) -> Option<MintClock> {
        self.clock
    }

    /// What other purses have open at the mint, and the most that may be, where it has a limit of its own.
    pub(super) fn set_others(&mut self, others: u64, most: Option<Msat>) {
        self.others = others;
        self.policy.exposure = most.unwrap_or(self.policy.exposure);
    }
}

fn refused(code: RefusalCode) -> BackendError {
    BackendError::Rejected(code, Consumed::No)
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    use bitcoin_hashes::{Hash, sha256};
    sha256::Hash::hash(bytes).to_byte_array()
}

fn digest_record(bytes: &[u8]) -> Option<ByteArray<32>> {
    Some(digest(bytes).into())
}
