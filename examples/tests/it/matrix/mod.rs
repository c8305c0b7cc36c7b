//! A faulty mint in front of the real one: every endpoint, every fault; sessions of every mode, and
//! the wallet's commands. A part of it runs with all tests, all of it by
//!
//! ```sh
//! cargo test -p streampay-examples --test it matrix:: -- --ignored --nocapture
//! ```

mod commands;
mod outcomes;
mod sessions;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use streampay_examples::mint::faults_for_testing::Fault;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::live::Mode;

/// Everything that a wallet asks a mint. Source: NUT-01 to 07, 09.
const ENDPOINTS: [&str; 12] = [
    "/v1/info",
    "/v1/keys",
    "/v1/keysets",
    "POST /v1/mint/quote",
    "GET /v1/mint/quote",
    "/v1/mint/bolt11",
    "POST /v1/melt/quote",
    "GET /v1/melt/quote",
    "/v1/melt/bolt11",
    "/v1/swap",
    "/v1/checkstate",
    "/v1/restore",
];

/// Everything that can happen on the way.
const FAULTS: [Fault; 8] = [
    Fault::Hang,
    Fault::Fail,
    Fault::TooMany(1),
    Fault::WrongSignature,
    Fault::Partial,
    Fault::Short(0),
    Fault::Short(50),
    Fault::LoseAnswer,
];

/// What meets the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Session(Mode),
    Commands,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    subject: Subject,
    endpoint: &'static str,
    fault: Fault,
}

impl Cell {
    /// Whether there is anything to see: a session neither deposits nor withdraws, and only some
    /// answers hold signatures, keys or lists of what is signed or spent.
    fn is_real(&self) -> bool {
        let signs = [
            "/v1/keys",
            "/v1/mint/bolt11",
            "/v1/melt/bolt11",
            "/v1/swap",
            "/v1/restore",
        ];
        let lists = [
            "/v1/mint/bolt11",
            "/v1/swap",
            "/v1/checkstate",
            "/v1/restore",
        ];
        let is_short = matches!(self.fault, Fault::Short(_));
        let lightning = self.endpoint.contains("/mint/") || self.endpoint.contains("/melt/");
        (self.fault != Fault::WrongSignature || signs.contains(&self.endpoint))
            && (!is_short || lists.contains(&self.endpoint))
            && (self.subject == Subject::Commands || !lightning)
    }

    /// Those that every `cargo test` looks at: every endpoint and fault for the usual way to pay, for
    /// the others where money moves.
    fn is_quick(&self) -> bool {
        let moves = match self.subject {
            Subject::Session(Mode::Chain) => return true,
            Subject::Session(_) => ["/v1/swap", "/v1/checkstate"],
            Subject::Commands => ["/v1/mint/bolt11", "/v1/melt/bolt11"],
        };
        // What they are told of a quote decides whether they pay, or mint, once more.
        if self.subject == Subject::Commands && self.endpoint.starts_with("GET ") {
            return true;
        }
        moves.contains(&self.endpoint) && self.fault != Fault::Fail
    }

    async fn run(self) -> Result<String, String> {
        match self.subject {
            Subject::Session(mode) => sessions::run(mode, self.endpoint, self.fault).await,
            Subject::Commands => commands::run(self.endpoint, self.fault).await,
        }
    }
}

impl core::fmt::Display for Cell {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let subject = match self.subject {
            Subject::Session(mode) => format!("session ({mode:?})"),
            Subject::Commands => "commands".to_owned(),
        };
        write!(f, "{subject:<16} {:<19} {:?}", self.endpoint, self.fault)
    }
}

fn cells() -> Vec<Cell> {
    let sessions = Mode::ALL.iter().map(|mode| Subject::Session(*mode));
    let subjects = sessions.chain([Subject::Commands]);
    let all = subjects.flat_map(|subject| {
        ENDPOINTS.iter().flat_map(move |endpoint| {
            FAULTS.iter().map(move |fault| Cell {
                subject,
                endpoint,
                fault: *fault,
            })
        })
    });
    all.filter(Cell::is_real).collect()
}

/// So many at once: they wait most of the time.
const AT_ONCE: usize = 8;

/// Runs them all, and says how many passed. One that panics failed.
async fn run_all<T, F>(cells: Vec<T>, run: impl Fn(T) -> F) -> (usize, Vec<String>)
where
    T: core::fmt::Display,
    F: Future<Output = Result<String, String>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let (mut running, mut names) = (JoinSet::new(), BTreeMap::new());
    for cell in cells {
        let (name, places) = (cell.to_string(), places.clone());
        let run = run(cell);
        let task = running.spawn(async move {
            let _place = places.acquire().await;
            run.await
        });
        names.insert(task.id(), name);
    }
    let (mut passed, mut failed) = (0, Vec::new());
    while let Some(done) = running.join_next_with_id().await {
        let (id, outcome) = match done {
            Ok((id, outcome)) => (id, outcome),
            Err(panicked) => (panicked.id(), Err("panicked".to_owned())),
        };
        let name = &names[&id];
        match outcome {
            Ok(how) => {
                passed += 1;
                println!("ok      {name}: {how}");
            }
            Err(why) => {
                println!("FAILED  {name}: {why}");
                failed.push(format!("{name}: {why}"));
            }
        }
    }
    println!("{passed} passed, {} failed", failed.len());
    (passed, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_mint_loses_nothing_and_stops_nobody_where_money_moves() {
    let quick: Vec<Cell> = cells().into_iter().filter(Cell::is_quick).collect();
    let count = quick.len();
    let (passed, failed) = run_all(quick, |cell| cell.run()).await;
    assert_eq!((passed, failed), (count, Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute or two; see the head of this file"]
async fn the_whole_matrix_of_faults_loses_nothing_and_stops_nobody() {
    let all = cells();
    let count = all.len();
    assert!(count >= 80, "only {count} cells");
    let (passed, failed) = run_all(all, |cell| cell.run()).await;
    assert_eq!((passed, failed), (count, Vec::new()));
}
