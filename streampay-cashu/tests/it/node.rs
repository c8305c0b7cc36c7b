//! One side of a purse: wallet, machine, runner, records; its process can die between any two
//! steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cdk::mint_url::MintUrl;
use cdk::nuts::CurrencyUnit;
use cdk::wallet::Wallet;
use streampay_cashu::chain::ReceiverKey;
use streampay_cashu::{
    AcceptedMint, CallBudget, LockedMachine, LockedParams, LockedPolicy, Runner, SwapMachine,
    SwapPolicy, Wallets,
};
use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Effect, Outcome, PurseOffer, Request, RestoredPurse,
};
use streampay_core::driver::EffectRunner;
use streampay_core::store::{ChangeSet, MemoryStore, Store, purse_prefix};
use streampay_core::units::{
    Mono, Msat, Now, PurseId, PurseKey, RequestId, SessionId, Unix, XOnlyKey,
};

pub(crate) use crate::pair::Pair;

use crate::mint::{Purseless, TestMint, URL};

pub(crate) fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

pub(crate) fn purse(purse: u32) -> PurseKey {
    PurseKey {
        session: SessionId([7; 32]),
        purse: PurseId(purse),
    }
}

pub(crate) fn receiver() -> ReceiverKey {
    ReceiverKey::from_bytes(&[9; 32]).unwrap()
}

pub(crate) fn params() -> LockedParams {
    let mint = AcceptedMint::sat(URL).unwrap();
    LockedParams::new(vec![mint], receiver().public()).unwrap()
}

pub(crate) fn offer(params: &LockedParams, tick: u64) -> PurseOffer {
    PurseOffer {
        params: params.encode(),
        tick: sat(tick),
        payer_key: XOnlyKey([1; 32]),
        payee_key: XOnlyKey([2; 32]),
    }
}

/// The three ways to pay in ecash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Chain,
    P2pk,
    Swap,
}

impl Mode {
    pub(crate) const ALL: [Self; 3] = [Self::Chain, Self::P2pk, Self::Swap];

    pub(crate) fn machine(self, policy: LockedPolicy) -> Box<dyn BackendMachine> {
        match self {
            Self::Chain => Box::new(LockedMachine::chain(policy, Some(receiver()))),
            Self::P2pk => Box::new(LockedMachine::p2pk(policy, Some(receiver()))),
            Self::Swap => Box::new(SwapMachine::new(SwapPolicy::default())),
        }
    }
}

impl From<bool> for Mode {
    fn from(chain: bool) -> Self {
        if chain { Self::Chain } else { Self::P2pk }
    }
}

/// Everybody's wallet at one mint, and what its owner thinks of that.
pub(crate) struct OneWallet {
    wallet: Arc<Wallet>,
    trusts_locks: bool,
    max_fee_ppk: u64,
    needed_nuts: &'static [u8],
    budget: Option<CallBudget>,
}

impl OneWallet {
    pub(crate) const fn new(wallet: Arc<Wallet>) -> Self {
        Self {
            wallet,
            trusts_locks: true,
            max_fee_ppk: u64::MAX,
            needed_nuts: &[],
            budget: None,
        }
    }

    pub(crate) const fn needing(mut self, nuts: &'static [u8]) -> Self {
        self.needed_nuts = nuts;
        self
    }
}

#[async_trait]
impl Wallets for OneWallet {
    async fn wallet(&self, mint: &MintUrl, unit: &CurrencyUnit) -> Option<Arc<Wallet>> {
        let known = self.wallet.mint_url == *mint && self.wallet.unit == *unit;
        known.then(|| self.wallet.clone())
    }

    fn trusts_locks(&self, _: &MintUrl) -> bool {
        self.trusts_locks
    }

    fn max_fee_ppk(&self, _: &MintUrl) -> u64 {
        self.max_fee_ppk
    }

    fn needed_nuts(&self, _: &MintUrl) -> Vec<u8> {
        self.needed_nuts.to_vec()
    }

    fn budget(&self, _: &MintUrl) -> Option<CallBudget> {
        self.budget
    }
}

/// Where the process dies: at the n-th boundary between two steps, counted down.
pub(crate) struct Crash(pub(crate) Option<u64>);

impl Crash {
    pub(crate) const fn never() -> Self {
        Self(None)
    }

    fn maybe(&mut self) -> Result<(), Died> {
        match &mut self.0 {
            Some(0) => {
                self.0 = None;
                Err(Died)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

pub(crate) struct Died;

pub(crate) struct Node {
    pub(crate) machine: Box<dyn BackendMachine>,
    mode: Mode,
    pub(crate) policy: LockedPolicy,
    pub(crate) store: MemoryStore,
    pub(crate) purses: Purseless,
    pub(crate) now: Now,
    pub(crate) trusts_locks: bool,
    pub(crate) max_fee_ppk: u64,
    pub(crate) needed_nuts: &'static [u8],
    pub(crate) budget: Option<CallBudget>,
    /// What was last left for the other side, of each purse.
    pub(crate) notes: BTreeMap<PurseKey, bytes::Bytes>,
    /// What its user was told of redeeming.
    pub(crate) troubles: Vec<BackendError>,
}

impl Node {
    pub(crate) async fn new(
        mint: &Arc<TestMint>,
        mode: impl Into<Mode>,
        seed: u8,
        funds: u64,
    ) -> Self {
        let (mode, policy) = (mode.into(), LockedPolicy::default());
        Self {
            machine: mode.machine(policy),
            mode,
            policy,
            store: MemoryStore::new(),
            purses: Purseless::new(mint, seed, funds).await,
            now: Now {
                mono: Mono(5_000),
                unix: Unix(cdk::util::unix_time()),
            },
            trusts_locks: true,
            max_fee_ppk: u64::MAX,
            needed_nuts: &[],
            budget: None,
            notes: BTreeMap::new(),
            troubles: Vec::new(),
        }
    }

    pub(crate) fn set_policy(&mut self, policy: LockedPolicy) {
        self.policy = policy;
        self.machine = self.mode.machine(policy);
    }

    pub(crate) fn set_machine(&mut self, machine: LockedMachine) {
        self.machine = Box::new(machine);
    }

    pub(crate) const fn after_s(&mut self, seconds: u64) {
        self.now.mono.0 += seconds * 1000;
        self.now.unix.0 += seconds;
    }

    pub(crate) fn runner(&self) -> Runner {
        let wallets = OneWallet {
            wallet: self.purses.wallet.clone(),
            trusts_locks: self.trusts_locks,
            max_fee_ppk: self.max_fee_ppk,
            needed_nuts: self.needed_nuts,
            budget: self.budget,
        };
        Runner::new(Arc::new(wallets)).with_limit(Duration::from_secs(20))
    }

    pub(crate) fn records(&self, key: PurseKey) -> RestoredPurse {
        let prefix = purse_prefix(key);
        let found = self.store.scan(&prefix).unwrap();
        let cut = |(key, value): (Vec<u8>, Vec<u8>)| (key[prefix.len()..].to_vec(), value);
        found.into_iter().map(cut).collect()
    }

    /// Puts an old backup of one purse back.
    pub(crate) fn put_back(&mut self, key: PurseKey, backup: &RestoredPurse) {
        let mut changes = ChangeSet::new();
        for (sub, _) in self.records(key) {
            changes.remove(sub);
        }
        for (sub, value) in backup {
            changes.put(sub.clone(), value.clone());
        }
        self.store.append(&[changes.within_purse(key)]).unwrap();
    }

    /// Dies and starts again: what was only in memory is gone.
    pub(crate) async fn restart(&mut self, keys: &[PurseKey]) -> Option<Outcome> {
        self.machine = self.mode.machine(self.policy);
        self.now.mono = Mono(1_000);
        let mut outcome = None;
        for key in keys {
            let records = self.records(*key);
            let answer = self.machine.restore(self.now, *key, records);
            let end = self.work(*key, answer, &mut Crash::never()).await;
            outcome = end.ok().flatten().or(outcome);
        }
        outcome
    }

    pub(crate) async fn ask(&mut self, key: PurseKey, request: Request) -> Option<Outcome> {
        self.ask_crashing(key, request, &mut Crash::never()).await
    }

    /// The same request again after a crash on the way, as a session would.
    pub(crate) async fn ask_crashing(
        &mut self,
        key: PurseKey,
        request: Request,
        crash: &mut Crash,
    ) -> Option<Outcome> {
        loop {
            let answer = self
                .machine
                .request(self.now, key, RequestId(1), request.clone());
            match self.work(key, answer, crash).await {
                Ok(outcome) => return outcome,
                Err(Died) => drop(Box::pin(self.restart(&[key])).await),
            }
        }
    }

    /// Tells the machine the time, if it wants to know.
    pub(crate) async fn wake(&mut self, key: PurseKey) -> Option<Outcome> {
        let due = self.machine.wake_at(key)? <= self.now.unix;
        if !due {
            return None;
        }
        let answer = self.machine.wake(self.now, key);
        let end = self.work(key, answer, &mut Crash::never()).await;
        end.ok().flatten()
    }

    async fn work(
        &mut self,
        key: PurseKey,
        answer: Answer,
        crash: &mut Crash,
    ) -> Result<Option<Outcome>, Died> {
        let runner = self.runner();
        let mut outcome = None;
        let mut waiting: Vec<Effect> = Vec::new();
        let mut next = answer;
        loop {
            crash.maybe()?;
            self.store.append(&[next.delta.within_purse(key)]).unwrap();
            crash.maybe()?;
            outcome = next.outcome.or(outcome);
            if let Some(note) = next.note {
                self.notes.insert(key, note);
            }
            self.troubles.extend(next.trouble);
            waiting.extend(next.effects);
            if waiting.is_empty() {
                return Ok(outcome);
            }
            let result = runner.run(waiting.remove(0)).await;
            crash.maybe()?;
            next = self.machine.effect_done(self.now, result);
        }
    }

    /// As a payee does that has served before.
    pub(crate) async fn knows_the_keys(&self) {
        let policy = cdk::wallet::types::KeysetLoadPolicy::Refresh;
        self.purses.wallet.keysets(policy).await.unwrap();
    }

    pub(crate) async fn spendable(&self) -> u64 {
        self.purses.spendable().await
    }

    /// All that it has is in tokens that were sent, and that nobody has taken yet.
    pub(crate) async fn sends_all(&self) {
        let store = &self.purses.wallet.localstore;
        let all = store.get_proofs(None, None, None, None).await.unwrap();
        let ys = all.iter().map(|info| info.y).collect();
        let sent = cdk::nuts::State::PendingSpent;
        store.update_proofs_state(ys, sent).await.unwrap();
    }
}
