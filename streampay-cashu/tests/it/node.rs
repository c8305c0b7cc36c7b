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
use streampay_cashu::{AcceptedMint, LockedMachine, LockedParams, LockedPolicy, Runner, Wallets};
use streampay_core::backend::{
    Answer, BackendMachine, Effect, Outcome, PurseOffer, Request, RestoredPurse,
};
use streampay_core::driver::EffectRunner;
use streampay_core::store::{ChangeSet, MemoryStore, Store, purse_prefix};
use streampay_core::units::{
    Mono, Msat, Now, PurseId, PurseKey, RequestId, Seq, SessionId, Unix, XOnlyKey,
};

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

pub(crate) struct OneWallet(pub(crate) Arc<Wallet>);

#[async_trait]
impl Wallets for OneWallet {
    async fn wallet(&self, mint: &MintUrl, unit: &CurrencyUnit) -> Option<Arc<Wallet>> {
        let known = self.0.mint_url == *mint && self.0.unit == *unit;
        known.then(|| self.0.clone())
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
    pub(crate) machine: LockedMachine,
    chain: bool,
    pub(crate) policy: LockedPolicy,
    pub(crate) store: MemoryStore,
    pub(crate) purses: Purseless,
    pub(crate) now: Now,
    /// What was last left for the other side, of each purse.
    pub(crate) notes: BTreeMap<PurseKey, bytes::Bytes>,
}

impl Node {
    pub(crate) async fn new(mint: &Arc<TestMint>, chain: bool, seed: u8, funds: u64) -> Self {
        let policy = LockedPolicy::default();
        Self {
            machine: machine(chain, policy),
            chain,
            policy,
            store: MemoryStore::new(),
            purses: Purseless::new(mint, seed, funds).await,
            now: Now {
                mono: Mono(5_000),
                unix: Unix(cdk::util::unix_time()),
            },
            notes: BTreeMap::new(),
        }
    }

    pub(crate) fn set_policy(&mut self, policy: LockedPolicy) {
        self.policy = policy;
        self.machine = machine(self.chain, policy);
    }

    pub(crate) const fn after_s(&mut self, seconds: u64) {
        self.now.mono.0 += seconds * 1000;
        self.now.unix.0 += seconds;
    }

    pub(crate) fn runner(&self) -> Runner {
        let wallets = Arc::new(OneWallet(self.purses.wallet.clone()));
        Runner::new(wallets).with_limit(Duration::from_secs(20))
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
        self.machine = machine(self.chain, self.policy);
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
            waiting.extend(next.effects);
            if waiting.is_empty() {
                return Ok(outcome);
            }
            let result = runner.run(waiting.remove(0)).await;
            crash.maybe()?;
            next = self.machine.effect_done(self.now, result);
        }
    }

    pub(crate) async fn spendable(&self) -> u64 {
        self.purses.spendable().await
    }
}

fn machine(chain: bool, policy: LockedPolicy) -> LockedMachine {
    match chain {
        true => LockedMachine::chain(policy, Some(receiver())),
        false => LockedMachine::p2pk(policy, Some(receiver())),
    }
}

/// A payer, a payee, a mint.
pub(crate) struct Pair {
    pub(crate) mint: Arc<TestMint>,
    pub(crate) payer: Node,
    pub(crate) payee: Node,
    pub(crate) params: LockedParams,
    pub(crate) tick: u64,
}

impl Pair {
    pub(crate) async fn new(chain: bool, ppk: u64, funds: u64, tick: u64) -> Self {
        let mint = TestMint::new(ppk).await;
        Self {
            payer: Node::new(&mint, chain, 1, funds).await,
            payee: Node::new(&mint, chain, 2, 0).await,
            mint,
            params: params(),
            tick,
        }
    }

    pub(crate) async fn opened(chain: bool, ppk: u64, funds: u64, tick: u64, ticks: u64) -> Self {
        let mut pair = Self::new(chain, ppk, funds, tick).await;
        pair.open(0, ticks).await;
        pair
    }

    pub(crate) fn open_request(&self, ticks: u64) -> Request {
        Request::Open {
            offer: offer(&self.params, self.tick),
            capacity: sat(self.tick * ticks),
            budget: Msat::MAX,
        }
    }

    /// The payer's opening of a purse.
    pub(crate) async fn offered(&mut self, of: u32, ticks: u64) -> bytes::Bytes {
        let request = self.open_request(ticks);
        match self.payer.ask(purse(of), request).await {
            Some(Outcome::Opened(opened)) => {
                assert_eq!(opened.capacity, sat(self.tick * ticks));
                opened.opening
            }
            other => panic!("not opened: {other:?}"),
        }
    }

    pub(crate) fn accept_request(&self, opening: bytes::Bytes) -> Request {
        Request::Accept {
            offer: offer(&self.params, self.tick),
            opening,
        }
    }

    pub(crate) async fn open(&mut self, of: u32, ticks: u64) {
        let opening = self.offered(of, ticks).await;
        let request = self.accept_request(opening);
        let accepted = self.payee.ask(purse(of), request).await;
        let capacity = sat(self.tick * ticks);
        let quantum = sat(1);
        assert_eq!(accepted, Some(Outcome::Accepted { capacity, quantum }));
    }

    pub(crate) fn pay_request(&self, seq: u64, step: u64) -> Request {
        Request::Pay {
            seq: Seq(seq),
            amount: sat(self.tick),
            cumulative: sat(self.tick * step),
        }
    }

    pub(crate) fn receive_request(&self, seq: u64, step: u64, payload: bytes::Bytes) -> Request {
        Request::Receive {
            seq: Seq(seq),
            amount: sat(self.tick),
            cumulative: sat(self.tick * step),
            payload,
        }
    }

    pub(crate) async fn paid(&mut self, seq: u64, step: u64) -> bytes::Bytes {
        let request = self.pay_request(seq, step);
        match self.payer.ask(purse(0), request).await {
            Some(Outcome::Paid { payload }) => payload,
            other => panic!("not paid: {other:?}"),
        }
    }

    pub(crate) async fn tick(&mut self, seq: u64) {
        let payload = self.paid(seq, seq).await;
        let request = self.receive_request(seq, seq, payload);
        let credited = self.payee.ask(purse(0), request).await;
        assert_eq!(credited, Some(Outcome::Credited), "tick {seq}");
        let acked = Request::Acked { seq: Seq(seq) };
        assert_eq!(self.payer.ask(purse(0), acked).await, None);
    }

    pub(crate) async fn ticks(&mut self, ticks: core::ops::RangeInclusive<u64>) {
        for seq in ticks {
            self.tick(seq).await;
        }
    }

    pub(crate) async fn settle(&mut self) -> u64 {
        match self.payee.ask(purse(0), Request::Settle).await {
            Some(Outcome::Settled { settled }) => settled.sat_floor(),
            other => panic!("not settled: {other:?}"),
        }
    }

    /// Carries the payee's note over.
    pub(crate) async fn show_note(&mut self) -> Option<Outcome> {
        let bytes = self.payee.notes.get(&purse(0)).cloned()?;
        self.payer.ask(purse(0), Request::Note { bytes }).await
    }

    pub(crate) async fn release(&mut self) -> u64 {
        match self.payer.ask(purse(0), Request::Release).await {
            Some(Outcome::Released { refunded }) => refunded.sat_floor(),
            other => panic!("not released: {other:?}"),
        }
    }
}
