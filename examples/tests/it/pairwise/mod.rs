//! Everything that a session meets, combined so that each two of them meet: the way to pay, the
//! mint's fee, what befalls the mint, how the session ends, who starts again: in the middle of a session that
//! the viewer leaves early, right after something befell the mint, else between two. All sessions at once, with
//! ticks of a second. Against nutshell (`.ci/nutshell run`) what can be done to it from here.
//!
//! Not two and two, but all 216 combinations, a dozen at once, at cdk's mint and at nutshells:
//!
//! ```sh
//! cargo test -p streampay-examples --test it pairwise::whole -- --ignored --nocapture
//! .ci/nutshell run cargo test -p streampay-examples --test it pairwise::whole -- --ignored --nocapture
//! ```
//!
//! `STREAMPAY_ROWS=48..96` before either runs the rows of these numbers alone, `48..` those from there on:
//! each line says its number.

mod rows;

use std::sync::Arc;
use std::time::Duration;

use cdk::nuts::CurrencyUnit;
use streampay_cashu::{MintFault, MintPolicy};
use streampay_core::units::Msat;
use streampay_examples::ledger::audit::audit;
use streampay_examples::mint::faults_for_testing::Fault;
use streampay_examples::mint::{EmbeddedMint, Storage};
use streampay_examples::quote::{self, Costs};
use tokio::sync::{Barrier, Mutex, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use crate::cashu_node::sat;
use crate::foreign::foreign_mints;
use crate::live::{Party, Plan, Played, play, recover_both};
use crate::nutshell::{self, Front, Nutshell};
use crate::taken_up::{self, Dies};

use Again::{Nobody, Payee, Payer};
use End::{Early, Spent, Vanished};
use Mint::{Calm, ChangesKeys, Limits, Restarts};
use rows::{Again, End, FEES, Mint, ROWS, Row};
use rows::{all_at_nutshell, all_rows, calm_rows, has_a_lock_to_wait_for, range};
use rows::{struck_at_nutshell, struck_rows};
use streampay_examples::pay::Pay::Swap;

const FUNDS: u64 = 100;
const TICK: u64 = 2;
/// Short, by the mint's real clock: three ticks fit before the margin. An opening may be a quarter of
/// the lock late.
const LOCK: (u64, u64) = (28, 4);
/// A mint in Python, on a busy machine, makes an opening more than seven seconds late.
const LOCK_AT_NUTSHELL: (u64, u64) = (60, 4);
/// When keys end that do, in seconds of Unix time.
const YEAR_2100: u64 = 4_102_444_800;
/// For what is locked to come home: the lock, and some.
const PATIENCE: Duration = Duration::from_secs(60 + LOCK_AT_NUTSHELL.0);

fn plan(row: Row, url: &str, lock: (u64, u64)) -> Plan {
    let (mode, _, _, end, _) = row;
    let plan = Plan {
        tick: TICK,
        tick_ms: 1_000,
        limit: Duration::from_secs(90),
        ..Plan::new(mode, url)
    };
    match end {
        Early => Plan {
            leave_at: 8,
            ..plan
        },
        Spent => Plan {
            leave_at: 60,
            budget: 14,
            ..plan
        },
        Vanished => Plan {
            vanish_at: Some(3),
            lock: Some(lock),
            ..plan
        },
    }
}

/// The mint, and what is going to happen to it.
struct Stage {
    url: String,
    mint: JoinHandle<EmbeddedMint>,
    now: Arc<Semaphore>,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn new(ppk: u64, what: Mint) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::Folder(folder.path().join("mint"));
        let any = "127.0.0.1:0".parse().unwrap();
        let mint = EmbeddedMint::start(any, storage.clone(), ppk)
            .await
            .unwrap();
        let (url, now) = (mint.url(), Arc::new(Semaphore::new(0)));
        let (address, told) = (
            url.trim_start_matches("http://").parse().unwrap(),
            now.clone(),
        );
        let befallen = async move {
            let _ = told.acquire().await;
            match what {
                Calm => {}
                Limits => mint.faults_for_testing().set("/", Fault::TooMany(1), 3),
                ChangesKeys => {
                    let amounts = (0..32).map(|bit| 1_u64 << bit).collect();
                    let inner = mint.mint_for_testing();
                    let rotated = inner.rotate_keyset(CurrencyUnit::Sat, amounts, ppk, true, None);
                    rotated.await.unwrap();
                }
                Restarts => {
                    mint.stop().await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    return EmbeddedMint::start(address, storage, ppk).await.unwrap();
                }
            }
            mint
        };
        Self {
            url,
            mint: tokio::spawn(befallen),
            now,
            _folder: folder,
        }
    }
}

/// What both wallets hold.
async fn held(payer: &Party, payee: &Party) -> Msat {
    let (left, earned) = (payer.held().await.0, payee.held().await.0);
    left.plus(earned).unwrap()
}

/// What is in neither wallet: the mint's fees, or money that is lost.
async fn missing(payer: &Party, payee: &Party) -> Msat {
    let held = held(payer, payee).await;
    sat(FUNDS).minus(held).expect("money was made")
}

/// Without a fee nothing is missing, whatever happened. With one, no more than was quoted, what
/// opening the purse anew costs, a token that is swapped back, and for each side a batch more.
fn is_no_more_than_fees(row: Row, costs: &Costs, played: &Played, missing: Msat) {
    let quoted = costs.after(played.credited.sat_floor() / TICK);
    let more = [costs.opening, costs.fee, sat(2)].into_iter();
    let most = match row.1 {
        0 => Msat::ZERO,
        _ => more.fold(quoted, Msat::saturating_plus),
    };
    assert!(
        missing <= most,
        "{row:?}: {missing} of {most}, {quoted} quoted"
    );
}

/// Each wallet has its fees in its book, and that is all that is missing.
async fn is_in_the_books(row: Row, payer: &Party, payee: &Party, missing: Msat) {
    let mut fees = 0;
    for party in [payer, payee] {
        let audit = audit(party.home()).await.unwrap();
        assert!(audit.balances(), "{row:?}: {:?}", audit.findings);
        fees += audit.mints.values().map(|cash| cash.fees).sum::<i128>();
    }
    let missing = i128::from(missing.msat());
    assert_eq!(fees, missing, "{row:?}: fees in the books, and missing");
}

fn is_as_quoted(row: Row, costs: &Costs, played: &Played, fees: Msat) {
    let quoted = costs.after(played.credited.sat_floor() / TICK);
    // Coming home may take a swap of a token that was sent and not taken.
    let most = match row.0 {
        Swap => quoted.plus(costs.fee).unwrap(),
        _ => quoted,
    };
    assert!(
        (quoted..=most).contains(&fees),
        "{row:?}: {fees} of {quoted}"
    );
}

/// Both sides until nothing is under way any more.
async fn brought_home(row: Row, payer: &Party, payee: &Party, played: &Played) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !recover_both(payer, payee).await {
        let late = tokio::time::Instant::now() > until;
        assert!(
            !late,
            "{row:?}: {:?} {:?} {:?}",
            payer.held().await,
            payee.held().await,
            played.troubles()
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let pending = (payer.held().await.1, payee.held().await.1);
    assert_eq!(pending, (Msat::ZERO, Msat::ZERO), "{row:?}");
}

/// What both sides hold at the end.
async fn runs(
    row: Row,
    (url, lock): (&str, (u64, u64)),
    mut payer: Party,
    strike: Option<Arc<Semaphore>>,
) -> Msat {
    let (mode, ppk, what, end, again) = row;
    let mut payee = Party::new().await;
    let plan = plan(row, url, lock);
    let terms = plan.terms(payee.home());
    let costs = quote::costs(payer.home(), &terms, &[mode], sat(plan.budget)).await;
    let at_tick = |tick| {
        if let (2, Some(strike)) = (tick, &strike) {
            strike.add_permits(1);
        }
    };
    let played = match (again, end) {
        (Payer, Early) => taken_up::play(&mut payer, &mut payee, &plan, Dies::Payer, at_tick).await,
        (Payee, Early) => taken_up::play(&mut payer, &mut payee, &plan, Dies::Payee, at_tick).await,
        _ => play(&payer, &payee, &plan, at_tick).await,
    };
    assert!(!played.stuck, "{row:?}: {:?}", played.troubles());
    assert!(
        played.acknowledged >= sat(2 * TICK),
        "{row:?}: {:?}",
        played.troubles()
    );
    if end == Vanished {
        // Its process is gone.
        payee.restart().await;
    }
    match again {
        Nobody => {}
        Payer => payer.restart().await,
        Payee => payee.restart().await,
    }
    brought_home(row, &payer, &payee, &played).await;
    let fees = missing(&payer, &payee).await;
    is_no_more_than_fees(row, &costs[0], &played, fees);
    is_in_the_books(row, &payer, &payee, fees).await;
    if what == Calm && end != Vanished {
        is_as_quoted(row, &costs[0], &played, fees);
    }
    let earned = payee.held().await.0;
    assert!(
        earned.plus(fees).unwrap() >= played.acknowledged,
        "{row:?}: {earned} + {fees}"
    );
    if again != Nobody && end != Vanished {
        let plan = Plan {
            leave_at: 4,
            budget: 30,
            ..plan
        };
        let second = play(&payer, &payee, &plan, |_| {}).await;
        assert_eq!(
            second.settled,
            (true, true),
            "{row:?}: {:?}",
            second.troubles()
        );
        brought_home(row, &payer, &payee, &second).await;
        assert!(
            payee.held().await.0 > earned,
            "{row:?}: {} paid in the second session: {:?}",
            second.acknowledged,
            second.troubles()
        );
        let fees = missing(&payer, &payee).await;
        assert!(ppk > 0 || fees.is_zero(), "{row:?}: {fees} is lost");
        is_in_the_books(row, &payer, &payee, fees).await;
    }
    held(&payer, &payee).await
}

async fn against_cdk(row: Row) {
    let stage = Stage::new(row.1, row.2).await;
    let url = stage.url.clone();
    let payer = Party::with(&url, FUNDS).await;
    let held = runs(row, (&url, LOCK), payer, Some(stage.now.clone())).await;
    let mint = stage.mint.await.unwrap();
    let ledger = mint.ledger().await.unwrap();
    assert_eq!(held, ledger.outstanding(), "{row:?}: lost or made");
    assert_eq!(
        ledger.outstanding().plus(ledger.fees),
        Ok(sat(FUNDS)),
        "{row:?}"
    );
    mint.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_every_kind_at_once_conserve_money_and_cost_what_was_quoted() {
    let mut all = JoinSet::new();
    for row in ROWS {
        all.spawn(against_cdk(row));
    }
    all.join_all().await;
}

/// Mints in Python want the machine to themselves: locks run by the real clock.
static AT_NUTSHELL: Mutex<()> = Mutex::const_new(());

/// Sessions at a nutshell, and a word from each once it has paid two ticks.
struct AtNutshell {
    sessions: JoinSet<Msat>,
    paid: Arc<Semaphore>,
}

impl AtNutshell {
    fn new() -> Self {
        Self {
            sessions: JoinSet::new(),
            paid: Arc::new(Semaphore::new(0)),
        }
    }

    fn begin(&mut self, row: Row, url: &str, payer: Party) {
        let (url, paid) = (url.to_owned(), Some(self.paid.clone()));
        let session = async move { runs(row, (&url, LOCK_AT_NUTSHELL), payer, paid).await };
        self.sessions.spawn(session);
    }

    /// Once each that has begun has paid two ticks.
    async fn all_pay(&self) {
        let count = u32::try_from(self.sessions.len()).unwrap();
        let all = tokio::time::timeout(PATIENCE, self.paid.acquire_many(count)).await;
        drop(all.expect("each pays two ticks").unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_every_kind_at_once_do_so_at_mints_that_are_not_ours() {
    let _alone = AT_NUTSHELL.lock().await;
    let mints = foreign_mints("sessions of every kind at once");
    // Without a fee, and with one of 100 ppk.
    let (mut begun, mut others) = (AtNutshell::new(), Vec::new());
    for (url, ppk) in mints.into_iter().zip(FEES) {
        let mut rest = Vec::new();
        for row in calm_rows(ppk) {
            // One deposit after the other: it takes its time to sign.
            let payer = Party::with(&url, FUNDS).await;
            match has_a_lock_to_wait_for(row) {
                true => begun.begin(row, &url, payer),
                false => rest.push((row, payer)),
            }
        }
        others.push((url, rest));
    }
    // Their locks run, while the others play, at one mint after the other.
    begun.all_pay().await;
    for (url, rest) in others {
        let mut all = AtNutshell::new();
        for (row, payer) in rest {
            all.begin(row, &url, payer);
        }
        all.sessions.join_all().await;
    }
    begun.sessions.join_all().await;
}

/// The sessions of a mint with this fee, when it befalls the mint. They begin when all `mints` can be asked:
/// Python starts slowly, and locks run by the real clock.
async fn at_nutshell(
    (what, ppk): (Mint, u64),
    programs: std::path::PathBuf,
    rows: Vec<Row>,
    mints: Arc<Barrier>,
) {
    let mut mint = Nutshell::start(programs, ppk).await;
    let front = Front::of(&mint).await;
    let url = match what {
        Limits => front.url(),
        _ => mint.url(),
    };
    // All have their money first, so that they begin together.
    let mut payers = Vec::new();
    for row in rows {
        payers.push((row, Party::with(&url, FUNDS).await));
    }
    assert!(!payers.is_empty(), "{what:?} at {ppk} ppk befalls nobody");
    mints.wait().await;
    if what == Limits {
        front.is_asked_too_often().await;
    }
    let mut all = AtNutshell::new();
    for (row, payer) in payers {
        all.begin(row, &url, payer);
    }
    let count = u32::try_from(all.sessions.len()).unwrap();
    all.all_pay().await;
    match what {
        Calm => {}
        Restarts => mint.restart().await,
        ChangesKeys => mint.change_keys(Some(YEAR_2100)).await,
        // Each in a row doubles how long its side leaves the mint alone.
        Limits => front.limits(count + 1),
    }
    all.sessions.join_all().await;
    assert_eq!(front.left(), 0, "{what:?} befell nobody");
    if what == ChangesKeys {
        knows_a_keyset_of_another_id(&mint).await;
    }
}

/// A mint whose active keyset has an id that is not that of its keys is used for nothing.
async fn knows_a_keyset_of_another_id(mint: &Nutshell) {
    let (party, url) = (Party::new().await, mint.url());
    let faults = || party.home().wallet.faults_of(&url, MintPolicy::CHAIN);
    assert_eq!(faults().await.unwrap(), []);
    mint.change_keys(None).await;
    assert_eq!(faults().await.unwrap(), [MintFault::KeysetId]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mints_that_are_not_ours_restart_change_keys_and_limit_in_the_middle_of_sessions() {
    let Some(programs) = nutshell::programs() else {
        let _ = foreign_mints("restarts, other keys and limits in the middle of sessions");
        return;
    };
    let _alone = AT_NUTSHELL.lock().await;
    let mut all = JoinSet::new();
    let mints = Arc::new(Barrier::new(struck_at_nutshell().count()));
    for (what, ppk) in struck_at_nutshell() {
        let rows = struck_rows(what, ppk).collect();
        let programs = programs.clone();
        all.spawn(at_nutshell((what, ppk), programs, rows, mints.clone()));
    }
    all.join_all().await;
}

/// So many sessions of the whole matrix run at once.
const AT_ONCE: usize = 12;
/// At a mint in Python: its twenty-seven in three parts, as few as that takes. Locks run by the real clock.
const AT_ONCE_IN_PYTHON: usize = 9;

/// The rows that are asked for, with their numbers: all but by `STREAMPAY_ROWS`.
fn wanted(rows: impl Iterator<Item = Row>) -> Vec<(usize, Row)> {
    let asked = std::env::var("STREAMPAY_ROWS").unwrap_or_else(|_| "..".to_owned());
    let asked = range(&asked).expect("STREAMPAY_ROWS is FROM..TO, or FROM..");
    let rows: Vec<_> = rows
        .enumerate()
        .filter(|row| asked.contains(&row.0))
        .collect();
    assert_ne!(rows, [], "no rows have these numbers");
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half an hour; see the head of this file"]
async fn whole_matrix_conserves_money_and_costs_what_was_quoted() {
    let rows = wanted(all_rows());
    for some in rows.chunks(AT_ONCE) {
        let mut all = JoinSet::new();
        for (_, row) in some {
            all.spawn(against_cdk(*row));
        }
        all.join_all().await;
        for (number, row) in some {
            println!("ok      cdk {number} {row:?}");
        }
    }
    println!("{} passed", rows.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes an hour; see the head of this file"]
async fn whole_matrix_does_so_at_mints_that_are_not_ours() {
    let Some(programs) = nutshell::programs() else {
        let _ = foreign_mints("the whole matrix");
        return;
    };
    let _alone = AT_NUTSHELL.lock().await;
    let at_one = |(what, ppk)| all_rows().filter(move |row| (row.1, row.2) == (ppk, what));
    let rows = wanted(all_at_nutshell().flat_map(at_one));
    // Those of one mint are together, and begin together.
    let of_one =
        |one: &(usize, Row), next: &(usize, Row)| (one.1.1, one.1.2) == (next.1.1, next.1.2);
    for some in rows
        .chunk_by(of_one)
        .flat_map(|of| of.chunks(AT_ONCE_IN_PYTHON))
    {
        let (_, ppk, what, ..) = some[0].1;
        let sessions = some.iter().map(|(_, row)| *row).collect();
        let alone = Arc::new(Barrier::new(1));
        at_nutshell((what, ppk), programs.clone(), sessions, alone).await;
        for (number, row) in some {
            println!("ok      nutshell {number} {row:?}");
        }
    }
    println!("{} passed", rows.len());
}
