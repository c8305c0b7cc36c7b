//! One side of a purse: wallet folder, machine, runner, records; all of it can crash.

use std::sync::Arc;
use std::time::Duration;

use crate::purses::{self, records_of};
use streampay_cashu::{AcceptedMint, PurseFigures, Runner, SwapMachine, SwapParams, SwapPolicy};
use streampay_core::backend::{
    Answer, BackendMachine, Effect, EffectResult, Opened, Outcome, PurseOffer, Request,
};
use streampay_core::driver::EffectRunner;
use streampay_core::store::{MemoryStore, Store};
use streampay_core::units::{Msat, Now, PurseId, PurseKey, RequestId, Seq, SessionId, XOnlyKey};
use streampay_examples::mint::{EmbeddedMint, Storage};
use streampay_examples::wallet::WalletFolder;
use tempfile::TempDir;

pub(crate) fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

pub(crate) fn purse(session: u8) -> PurseKey {
    PurseKey {
        session: SessionId([session; 32]),
        purse: PurseId(0),
    }
}

pub(crate) async fn mint(ppk: u64) -> EmbeddedMint {
    let any = "127.0.0.1:0".parse().unwrap();
    EmbeddedMint::start(any, Storage::Memory, ppk)
        .await
        .unwrap()
}

pub(crate) fn offer(mint_url: &str, tick: Msat) -> PurseOffer {
    offer_of(AcceptedMint::sat(mint_url).unwrap(), tick)
}

fn offer_of(mint: AcceptedMint, tick: Msat) -> PurseOffer {
    PurseOffer {
        params: SwapParams::new(vec![mint]).unwrap().encode(),
        tick,
        payer_key: XOnlyKey([1; 32]),
        payee_key: XOnlyKey([2; 32]),
    }
}

/// Where the process dies: at the n-th boundary between two steps, counted down.
#[derive(Debug)]
pub(crate) struct Crash(pub(crate) Option<u64>);

impl Crash {
    pub(crate) fn never() -> Self {
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

pub(crate) struct Node {
    pub(crate) machine: SwapMachine,
    pub(crate) store: MemoryStore,
    wallet: Option<Arc<WalletFolder>>,
    folder: TempDir,
    limit: Duration,
}

impl Node {
    pub(crate) async fn new(mint: &EmbeddedMint, funds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let wallet = Arc::new(WalletFolder::open(folder.path()).unwrap());
        if funds > 0 {
            wallet.deposit(&mint.url(), sat(funds)).await.unwrap();
        }
        Self {
            machine: SwapMachine::new(SwapPolicy::default()),
            store: MemoryStore::new(),
            wallet: Some(wallet),
            folder,
            limit: Duration::from_secs(4),
        }
    }

    pub(crate) fn impatient(&mut self) {
        self.limit = Duration::from_millis(1500);
    }

    pub(crate) fn wallet(&self) -> &Arc<WalletFolder> {
        self.wallet.as_ref().unwrap()
    }

    pub(crate) fn runner(&self) -> Runner {
        Runner::new(self.wallet().clone()).with_limit(self.limit)
    }

    /// Dies and starts again: what was only in memory is gone. What was under way is finished.
    pub(crate) async fn restart(&mut self) {
        self.wallet = None;
        self.wallet = Some(Arc::new(WalletFolder::open(self.folder.path()).unwrap()));
        self.machine = SwapMachine::new(SwapPolicy::default());
        for key in purses::purses_in(&self.store).unwrap() {
            let records = records_of(&self.store, key).unwrap();
            let answer = self.machine.restore(Now::default(), key, records);
            self.work(key, answer, &mut Crash::never()).await.unwrap();
        }
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
            let now = Now::default();
            let answer = self
                .machine
                .request(now, key, RequestId(1), request.clone());
            match self.work(key, answer, crash).await {
                Ok(outcome) => return outcome,
                Err(Died) => self.restart().await,
            }
        }
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
            assert!(next.node_delta.is_empty());
            self.store.append(&[next.delta.within_purse(key)]).unwrap();
            crash.maybe()?;
            outcome = next.outcome.or(outcome);
            waiting.extend(next.effects);
            let Some(effect) = waiting.pop() else {
                return Ok(outcome);
            };
            let result: EffectResult = runner.run(effect).await;
            crash.maybe()?;
            next = self.machine.effect_done(Now::default(), result);
        }
    }

    /// Spendable and pending, at all mints.
    pub(crate) async fn balance(&self) -> (Msat, Msat) {
        let mut sums = (Msat::ZERO, Msat::ZERO);
        for balance in self.wallet().balance().await.unwrap() {
            sums.0 = sums.0.plus(balance.spendable).unwrap();
            sums.1 = sums.1.plus(balance.pending).unwrap();
        }
        sums
    }

    pub(crate) async fn figures(&self, mint: &EmbeddedMint, key: PurseKey) -> PurseFigures {
        let wallet = self.wallet().wallet_at(&mint.url()).await.unwrap();
        streampay_cashu::purse_figures(&wallet, key).await.unwrap()
    }
}

#[derive(Debug)]
struct Died;

/// A payer, a payee, a mint, and a purse between them.
pub(crate) struct Pair {
    pub(crate) mint: EmbeddedMint,
    pub(crate) payer: Node,
    pub(crate) payee: Node,
    pub(crate) key: PurseKey,
    pub(crate) tick: Msat,
    /// The mint's, in thousandths of the tariff.
    pub(crate) price: u64,
}

impl Pair {
    pub(crate) async fn new(ppk: u64, funds: u64, tick: u64) -> Self {
        let mint = mint(ppk).await;
        let payer = Node::new(&mint, funds).await;
        let payee = Node::new(&mint, 0).await;
        Self {
            mint,
            payer,
            payee,
            key: purse(7),
            tick: sat(tick),
            price: 1_000,
        }
    }

    fn accepted(&self) -> AcceptedMint {
        let mint = AcceptedMint::sat(&self.mint.url()).unwrap();
        mint.with_price_permille(self.price).unwrap()
    }

    pub(crate) async fn opened(ppk: u64, funds: u64, tick: u64, ticks: u64) -> Self {
        let mut pair = Self::new(ppk, funds, tick).await;
        let capacity = pair.open(ticks, &mut Crash::never()).await;
        assert_eq!(capacity, pair.tick.times(ticks).unwrap());
        pair
    }

    pub(crate) async fn open(&mut self, ticks: u64, crash: &mut Crash) -> Msat {
        let offer = offer_of(self.accepted(), self.tick);
        let request = Request::Open {
            offer: offer.clone(),
            capacity: self.tick.times(ticks).unwrap(),
            budget: Msat::MAX,
        };
        let opened = self.payer.ask_crashing(self.key, request, crash).await;
        let Some(Outcome::Opened(Opened {
            opening, capacity, ..
        })) = opened
        else {
            panic!("not opened: {opened:?}");
        };
        let request = Request::Accept { offer, opening };
        let accepted = self.payee.ask_crashing(self.key, request, crash).await;
        assert_eq!(
            accepted,
            Some(Outcome::Accepted {
                capacity,
                quantum: Msat::from_sat(1).unwrap()
            })
        );
        capacity
    }

    pub(crate) fn pay(&self, seq: u64) -> Request {
        Request::Pay {
            seq: Seq(seq),
            amount: self.tick,
            cumulative: self.tick.times(seq).unwrap(),
        }
    }

    pub(crate) fn receive(&self, seq: u64, payload: &bytes::Bytes) -> Request {
        Request::Receive {
            seq: Seq(seq),
            amount: self.tick,
            cumulative: self.tick.times(seq).unwrap(),
            payload: payload.clone(),
        }
    }

    pub(crate) async fn paid(&mut self, seq: u64) -> bytes::Bytes {
        let request = self.pay(seq);
        match self.payer.ask(self.key, request).await {
            Some(Outcome::Paid { payload }) => payload,
            other => panic!("not paid: {other:?}"),
        }
    }

    pub(crate) async fn credit(&mut self, seq: u64, payload: &bytes::Bytes) -> Outcome {
        let request = self.receive(seq, payload);
        self.payee.ask(self.key, request).await.unwrap()
    }

    pub(crate) async fn whole_tick(&mut self, seq: u64) {
        let payload = self.paid(seq).await;
        assert_eq!(self.credit(seq, &payload).await, Outcome::Credited);
        let acked = Request::Acked {
            seq: Seq(seq),
            cumulative: Msat::ZERO,
        };
        assert_eq!(self.payer.ask(self.key, acked).await, None);
    }

    pub(crate) async fn release(&mut self) -> Msat {
        match self.payer.ask(self.key, Request::Release).await {
            Some(Outcome::Released { refunded }) => refunded,
            other => panic!("not released: {other:?}"),
        }
    }

    pub(crate) async fn settle(&mut self) -> Msat {
        match self
            .payee
            .ask(
                self.key,
                Request::Settle {
                    cumulative: Msat::ZERO,
                },
            )
            .await
        {
            Some(Outcome::Settled { settled }) => settled,
            other => panic!("not settled: {other:?}"),
        }
    }

    /// Ends the purse on both sides and checks that each sum agrees with every other: the wallets
    /// with the mint's ledger, the outcomes with the wallets' ledgers and balances.
    pub(crate) async fn settles_conserved(&mut self, funds: u64, credited: u64) {
        let refunded = self.release().await;
        let settled = self.settle().await;
        let ledger = self.mint.ledger().await.unwrap();
        let (payer, payer_pending) = self.payer.balance().await;
        let (payee, payee_pending) = self.payee.balance().await;
        assert_eq!((payer_pending, payee_pending), (Msat::ZERO, Msat::ZERO));
        assert_eq!(payer.plus(payee).unwrap(), ledger.outstanding());
        let with_fees = ledger.outstanding().plus(ledger.fees).unwrap();
        assert_eq!(with_fees, sat(funds), "{ledger:?}");

        let net = sat(self.accepted().price_of(self.tick.sat_floor()));
        assert_eq!(settled, net.times(credited).unwrap());
        assert_eq!(settled, payee);
        let left = self.payer.figures(&self.mint, self.key).await;
        assert_eq!(left.returned, refunded);
        assert_eq!(
            payer,
            sat(funds).minus(left.left).unwrap().plus(refunded).unwrap()
        );
        let paid = left.left;
        let parts = settled.plus(ledger.fees).unwrap().plus(refunded).unwrap();
        assert_eq!(paid, parts, "paid = settled + fees + refunded");
        assert_eq!(
            self.payee.figures(&self.mint, self.key).await.received,
            settled
        );
    }
}
