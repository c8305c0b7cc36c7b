//! A whole session within the test: both sides with folders of their own, a link in memory, a mint
//! over HTTP, and a counter for media. What the programs do, without WebRTC.

use std::time::Duration;

use streampay_cashu::{AcceptedMint, LockedParams, SwapParams};
use streampay_core::driver::{
    ChannelIdentity, Connected, Link, LinkEnd, Ports, SessionTask, Stopped, UserPorts, entropy,
};
use streampay_core::meter::{Grant, PauseReason, Rate, Reading, Tariff};
use streampay_core::session::{
    CloseCode, Command, Event, PayeeConfig, PayeeSession, PayerConfig, PayerSession, Policy,
};
use streampay_core::units::{Msat, Unix};
use streampay_core::wire::{Method, Terms};
use streampay_examples::error::AppError;
use streampay_examples::home::Home;
use streampay_examples::pay::Pay;
use streampay_examples::report::Report;
use streampay_examples::wallet::MintLimits;
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

use crate::cashu_node::sat;

/// A way to pay. What is tested for one is tested for all.
pub(crate) type Mode = Pay;

/// What the payee's terms say of `mode`. `lock` is the lock and its margin, in seconds.
fn method(mode: Mode, mint: &str, payee: &Home, lock: Option<(u64, u64)>) -> Method {
    let mints = vec![AcceptedMint::sat(mint).unwrap()];
    let params = match (mode, lock) {
        (Mode::Swap, _) => SwapParams::new(mints).unwrap().encode(),
        (Mode::Chain | Mode::P2pk, lock) => {
            let params = LockedParams::new(mints, payee.receiver.public()).unwrap();
            let lock = lock.unwrap_or_else(|| (params.lock_s(), params.margin_s()));
            params.with_lock(lock.0, lock.1).unwrap().encode()
        }
        (Mode::Btc, _) => unreachable!("no mint"),
    };
    Method {
        name: mode.method().into(),
        params: params.to_vec(),
    }
}

/// Short enough for a test, long enough for a loaded machine.
pub(crate) fn quick() -> MintLimits {
    MintLimits {
        request: Duration::from_millis(1500),
        payment: Duration::from_secs(4),
        pause: Duration::from_millis(100),
        ..MintLimits::default()
    }
}

/// Held while a mint is paid: one after the other.
static DEPOSITS: Mutex<()> = Mutex::const_new(());

/// One side: its folder, which outlives its process.
pub(crate) struct Party {
    folder: TempDir,
    home: Option<Home>,
}

impl Party {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open_with(folder.path(), quick()).await.unwrap();
        Self {
            folder,
            home: Some(home),
        }
    }

    /// With money, for which it waits: a mint in Python takes its time to sign, most of all for many
    /// at once.
    pub(crate) async fn with(mint: &str, funds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let patient = MintLimits {
            request: Duration::from_secs(30),
            ..quick()
        };
        let home = Home::open_with(folder.path(), patient).await.unwrap();
        let alone = DEPOSITS.lock().await;
        let deposited = home.wallet.deposit(mint, sat(funds)).await;
        assert_eq!(deposited.unwrap(), sat(funds));
        drop(alone);
        let mut party = Self {
            folder,
            home: Some(home),
        };
        party.restart().await;
        party
    }

    pub(crate) fn home(&self) -> &Home {
        self.home.as_ref().unwrap()
    }

    /// The process ends at once and starts again: what was only in memory is gone.
    pub(crate) async fn restart(&mut self) {
        self.home = None;
        let until = Instant::now() + Duration::from_secs(10);
        // Its threads let go of the folder a moment later.
        self.home = loop {
            match Home::open_with(self.folder.path(), quick()).await {
                Ok(home) => break Some(home),
                Err(AppError::Wallet(_) | AppError::Store(_)) if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
    }

    /// Spendable and pending, at all mints.
    pub(crate) async fn held(&self) -> (Msat, Msat) {
        let mut sums = (Msat::ZERO, Msat::ZERO);
        for at in self.home().wallet.balance().await.unwrap() {
            sums.0 = sums.0.plus(at.spendable).unwrap();
            sums.1 = sums.1.plus(at.pending).unwrap();
        }
        sums
    }
}

/// What a session is to be like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    /// What both sides fall back to, in this order.
    pub(crate) else_by: Vec<Mode>,
    /// The lock of locked ecash and its margin, in seconds, if not the usual.
    pub(crate) lock: Option<(u64, u64)>,
    pub(crate) mint: String,
    /// One tick, in satoshi, and the media it buys.
    pub(crate) tick: u64,
    pub(crate) tick_ms: u64,
    /// The payee's process dies when so many ticks are acknowledged, and never comes back.
    pub(crate) vanish_at: Option<usize>,
    /// The most in one purse, in satoshi, if not the budget.
    pub(crate) purse: Option<u64>,
    /// The payer leaves when so much is acknowledged.
    pub(crate) leave_at: u64,
    pub(crate) budget: u64,
    /// A session that takes longer is stuck.
    pub(crate) limit: Duration,
}

impl Plan {
    pub(crate) fn new(mode: Mode, mint: &str) -> Self {
        Self {
            mode,
            else_by: Vec::new(),
            lock: None,
            vanish_at: None,
            purse: None,
            mint: mint.to_owned(),
            tick: 2,
            tick_ms: 300,
            leave_at: 10,
            budget: 60,
            limit: Duration::from_secs(60),
        }
    }

    fn tariff(&self) -> Tariff {
        Tariff {
            time: Rate::new(sat(self.tick), self.tick_ms).ok(),
            bytes: None,
        }
    }

    fn modes(&self) -> impl Iterator<Item = Mode> {
        core::iter::once(self.mode).chain(self.else_by.iter().copied())
    }

    /// What `payee` signs.
    pub(crate) fn terms(&self, payee: &Home) -> Terms {
        let method = |mode| method(mode, &self.mint, payee, self.lock);
        Terms {
            title: "a counter".into(),
            tariff: self.tariff(),
            tick: sat(self.tick),
            preview: Msat::ZERO,
            window: Msat::ZERO,
            tolerance_permille: 20,
            tolerance_ms: 1_000,
            live_ms: 2_000,
            methods: self.modes().map(method).collect(),
            join_fee: Msat::ZERO,
            resumable_s: 86_400,
            expires: Unix(u64::MAX),
            payee: payee.identity.public(),
        }
    }

    pub(crate) fn payee(&self, home: &Home) -> PayeeConfig {
        PayeeConfig {
            identity: home.identity.clone(),
            preview_left: Msat::ZERO,
            terms: self.terms(home).into(),
            unpaid_ms: 60_000,
        }
    }

    pub(crate) fn payer(&self, home: &Home, payee: &Home) -> PayerConfig {
        PayerConfig {
            identity: home.identity.clone(),
            payee: payee.identity.public(),
            policy: Policy {
                budget: sat(self.budget),
                max_purse: sat(self.purse.unwrap_or(self.budget)),
                max_tariff: self.tariff(),
                max_tick: sat(self.tick),
                methods: self.modes().map(|mode| mode.method().to_owned()).collect(),
                stall_close_ms: 60_000,
            },
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub(crate) payer: Vec<Event>,
    pub(crate) payee: Vec<Event>,
    /// All media that was let through.
    pub(crate) media_ms: u64,
    pub(crate) acknowledged: Msat,
    /// The methods of the payer's purses, in their order.
    pub(crate) methods: Vec<String>,
    pub(crate) credited: Msat,
    /// Both sides' money was where it belongs when the session ended.
    pub(crate) settled: (bool, bool),
    pub(crate) stuck: bool,
}

impl Played {
    /// Names of what happened out of the ordinary, in order, each once in a row.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let both = self.payer.iter().chain(&self.payee);
        let mut names: Vec<String> = both
            .filter_map(|event| match event {
                Event::Paused { reason, .. } => Some(format!("paused ({reason})")),
                Event::BackendTrouble { error } => Some(format!("trouble ({error})")),
                Event::TickRefused { code, .. } => Some(format!("refused ({code})")),
                Event::PurseRefused { code, .. } => Some(format!("purse refused ({code})")),
                Event::TickReclaimed { .. } => Some("reclaimed".to_owned()),
                Event::TickLost { .. } => Some("lost".to_owned()),
                Event::Unsettled { error, .. } => Some(format!("unsettled ({error})")),
                Event::Closed { code, .. } if *code != CloseCode::Done => {
                    Some(format!("closed ({code})"))
                }
                _ => None,
            })
            .collect();
        names.dedup();
        names
    }

    pub(crate) fn said(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.payer.iter().chain(&self.payee).any(wanted)
    }
}

/// Plays a session from its first message until it is settled. `at_tick` is called with the number
/// of each tick when it is acknowledged.
pub(crate) async fn play(
    payer: &Party,
    payee: &Party,
    plan: &Plan,
    mut at_tick: impl FnMut(usize),
) -> Played {
    let (a, b) = LinkEnd::pair();
    let identity = ChannelIdentity {
        payer: [1; 32],
        payee: [2; 32],
    };
    let link = |end| Link { identity, end };
    let (sent, payee_usage) = watch::channel(Reading::default());
    let (received, payer_usage) = watch::channel(Reading::default());
    let entropy = || entropy().unwrap();

    let session = PayeeSession::new(plan.payee(payee.home()), &entropy()).unwrap();
    let (ports, payee_user) = Ports::pair();
    let mut task = SessionTask::new(payee.home().node.clone(), session, ports);
    let media = tokio::spawn(media(payee_user.gate.clone(), sent, received));
    let payee_link = link(b);
    let limit = plan.limit;
    let of_payee = tokio::spawn(async move {
        let connected = Connected {
            link: payee_link,
            usage: payee_usage,
        };
        let ran = async {
            if task.run(Some(connected)).await == Stopped::LinkDown {
                task.tell(Command::Close(CloseCode::Done)).await.unwrap();
                task.run(None).await;
            }
        };
        let stuck = tokio::time::timeout(limit, ran).await.is_err();
        (
            task.session().credited(),
            task.session().is_settled(),
            stuck,
        )
    });

    let config = plan.payer(payer.home(), payee.home());
    let session = PayerSession::new(config, &entropy()).unwrap();
    let (ports, payer_user) = Ports::pair();
    let mut task = SessionTask::new(payer.home().node.clone(), session, ports);
    let payer_link = link(a);
    let of_payer = tokio::spawn(async move {
        let connected = Connected {
            link: payer_link,
            usage: payer_usage,
        };
        let ran = async {
            if task.run(Some(connected)).await == Stopped::LinkDown {
                task.tell(Command::Close(CloseCode::Done)).await.unwrap();
                task.run(None).await;
            }
        };
        let stuck = tokio::time::timeout(limit, ran).await.is_err();
        let purses = task.session().purses().into_iter();
        (
            task.session().acknowledged(),
            purses.map(|(_, method)| method).collect(),
            task.session().is_settled(),
            stuck,
        )
    });

    let UserPorts {
        commands,
        mut events,
        gate: _gate,
    } = payer_user;
    let payee_events = tokio::spawn(collect(payee_user.events));
    let mut played = Played::default();
    let mut ticks = 0;
    while let Some(event) = events.recv().await {
        if let Event::TickPaid { total, .. } = event {
            ticks += 1;
            at_tick(ticks);
            if plan.vanish_at == Some(ticks) {
                of_payee.abort();
            }
            if total >= sat(plan.leave_at) {
                let _ = commands.send(Command::Close(CloseCode::Done)).await;
            }
        }
        // As a program does where nobody can be asked.
        let drift = matches!(
            event,
            Event::Paused {
                by_peer: false,
                reason: PauseReason::Drift
            }
        );
        if drift {
            let _ = commands.send(Command::Close(CloseCode::Drift)).await;
        }
        if matches!(event, Event::TickLost { .. }) {
            let _ = commands.send(Command::Close(CloseCode::PaymentLost)).await;
        }
        played.payer.push(event);
    }
    let (acknowledged, methods, payer_settled, payer_stuck) = of_payer.await.unwrap();
    let of_payee = match (of_payee.await, plan.vanish_at) {
        (Err(_), Some(_)) => (acknowledged, false, false),
        (ended, _) => ended.unwrap(),
    };
    let (credited, payee_settled, payee_stuck) = of_payee;
    played.payee = payee_events.await.unwrap();
    played.media_ms = media.await.unwrap().media_ms;
    (played.acknowledged, played.methods) = (acknowledged, methods);
    played.credited = credited;
    played.settled = (payer_settled, payee_settled);
    played.stuck = payer_stuck || payee_stuck;
    played
}

async fn collect(mut events: mpsc::Receiver<Event>) -> Vec<Event> {
    let mut all = Vec::new();
    while let Some(event) = events.recv().await {
        all.push(event);
    }
    all
}

/// Media as fast as the gate lets it, both meters alike, until the gate is gone.
pub(crate) async fn media(
    mut gate: watch::Receiver<Grant>,
    payee: watch::Sender<Reading>,
    payer: watch::Sender<Reading>,
) -> Reading {
    let mut every = tokio::time::interval(Duration::from_millis(10));
    loop {
        every.tick().await;
        if gate.has_changed().is_err() {
            return *payee.borrow();
        }
        let now = *payee.borrow();
        let next = Reading {
            media_ms: now.media_ms + 10,
            ..now
        };
        if gate.borrow_and_update().admits(next) {
            payee.send_replace(next);
            payer.send_replace(next);
        }
    }
}

/// Runs `recover` of both programs, and says whether nothing is left to do.
pub(crate) async fn recover_both(payer: &Party, payee: &Party) -> bool {
    let report = Report { json: false };
    let viewer = streampay_examples::viewer::recover::recover(payer.home(), report);
    let viewer = viewer.await.unwrap();
    let streamer = streampay_examples::streamer::serve::recover(payee.home(), report);
    let streamer = streamer.await.unwrap();
    let mut waiting = 0;
    for party in [payer, payee] {
        for at in party.home().wallet.recover().await.unwrap() {
            waiting += at.waiting;
        }
    }
    viewer && streamer && waiting == 0
}

/// The payee keeps no more than was used and one tick ahead; the payer uses no more than was paid.
/// What both hold is what the mint owes, and nothing is under way.
pub(crate) async fn all_is_fair(
    plan: &Plan,
    played: &Played,
    (payer, funds): (&Party, u64),
    payee: &Party,
    outstanding: Msat,
    fees: Msat,
) -> Result<(), String> {
    let used = plan.tariff().price(Reading {
        media_ms: played.media_ms,
        bytes: 0,
    });
    let ((left, payer_pending), (earned, payee_pending)) = (payer.held().await, payee.held().await);
    // A tick, and a lead of at most a fifth of it; rounded up to whole satoshi.
    let ahead = sat(plan.tick + plan.tick.div_ceil(5) + 1);
    // A swap's token brings its own fee along; what is locked is redeemed out of what it pays.
    let to_redeem = match plan.mode {
        Mode::Swap => Msat::ZERO,
        Mode::Chain | Mode::P2pk | Mode::Btc => fees,
    };
    let checks = [
        (
            payer_pending == Msat::ZERO,
            "the payer's money is under way",
        ),
        (
            payee_pending == Msat::ZERO,
            "the payee's money is under way",
        ),
        (
            left.plus(earned).unwrap() == outstanding,
            "money is lost or made",
        ),
        (
            outstanding.plus(fees).unwrap() == sat(funds),
            "the mint's sums do not fit",
        ),
        (
            earned.plus(to_redeem).unwrap() >= played.acknowledged,
            "acknowledged and not collected",
        ),
        (
            earned <= used.plus(ahead).unwrap(),
            "the payee has more than used and a tick ahead",
        ),
        (
            used <= played.credited,
            "more was used than was ever credited",
        ),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, broken)) => Err(format!(
            "{broken}: {left} + {payer_pending} pending, {earned} + {payee_pending} pending, \
             owed {outstanding}, fees {fees}, used {used}, acknowledged {}, credited {}",
            played.acknowledged, played.credited,
        )),
    }
}
