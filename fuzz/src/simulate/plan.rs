//! Which invariant must find which planted bug.

use streampay_core::planted::Planted;

use super::run::{Options, run_worlds};
use super::world::Switches;

/// The most seeds that a bug may need.
pub const SEEDS: u64 = 1_000;
/// How long a world is rough when a bug is looked for, in milliseconds.
const ROUGH_MS: u64 = 900_000;

/// Bugs, the invariant that must find each, and whether only crashes and repeats together show it.
pub const PLAN: [(Planted, &str, bool); 38] = [
    (Planted::AckBeforePersist, "Acknowledged", false),
    (Planted::PaymentBeforePersist, "OneTick", false),
    (Planted::EffectBeforePersist, "Home", false),
    (Planted::CreditOnSend, "Acknowledged", false),
    (Planted::CreditBeforeMint, "CreditIsMoney", false),
    (Planted::CreditOnUnknown, "CreditIsMoney", false),
    (Planted::ReplayNacked, "OneAnswer", false),
    (Planted::SeqReuse, "OneTick", false),
    (Planted::ResumeByHint, "PayerBound", false),
    (Planted::RoundingPerTick, "Price", false),
    (Planted::NackBelieved, "PayerBound", false),
    (Planted::TwoPursesAhead, "PayerBound", false),
    (Planted::LeaseNotDurable, "PayeeBound", false),
    (Planted::LeadUnbounded, "PayerBound", false),
    (Planted::DriftUnbounded, "PayerBound", false),
    (Planted::ReceiptNotMonotone, "Accused", false),
    (Planted::CloseForgetsChecking, "CreditIsMoney", false),
    (Planted::ReleaseNotAwaited, "Home", false),
    (Planted::BudgetIgnoresFees, "Budget", false),
    (Planted::OtherRoot, "Root", false),
    (Planted::PendingChanged, "OneTick", false),
    (Planted::WriteOffTwice, "WrittenOff", false),
    (Planted::PriceFromPaid, "Consent", false),
    (Planted::UnknownIsFailed, "Home", false),
    (Planted::StoreFailureIgnored, "Acknowledged", false),
    (Planted::GateBeforeCredit, "GateOpen", false),
    (Planted::PreviewAgain, "GateOpen", false),
    (Planted::TipBuysMedia, "GateOpen", false),
    (Planted::OfferReplacesAgreed, "Undone", false),
    (Planted::OutstandingPaidAgain, "PayerBound", false),
    (Planted::MeterRunsWhilePaused, "PayerBound", false),
    (Planted::PauseAnew, "Unasked", false),
    (Planted::AckedNotTold, "Told", false),
    (Planted::OldTickIsGap, "Accused", true),
    (Planted::OldReceiptTaken, "Accused", true),
    (Planted::OldNackTaken, "Lost", true),
    (Planted::PurseTakenAnew, "Acknowledged", true),
    (Planted::AnswerRepeated, "CreditIsMoney", true),
];

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Found {
    /// The first seed at which the named invariant found it.
    pub seed: Option<u64>,
    /// Worlds that were run for it.
    pub worlds: u64,
    /// The invariant's own words.
    pub words: String,
    /// What other invariants found, and how often.
    pub others: Vec<(&'static str, u64)>,
}

/// How a planted bug is looked for.
#[must_use]
pub fn options(planted: Option<Planted>, switches: Switches) -> Options {
    Options {
        planted,
        switches,
        rough_ms: ROUGH_MS,
        ..Options::default()
    }
}

/// Looks for a bug with the invariant that must find it.
#[must_use]
pub fn search(
    planted: Planted,
    invariant: &str,
    switches: Switches,
    seeds: u64,
    threads: usize,
) -> Found {
    let options = options(Some(planted), switches);
    let report = run_worlds(1, seeds, threads, &options, |report| {
        let mut found = report.violations.iter();
        found.any(|(_, violation)| violation.invariant() == invariant)
    });
    let mut violations = report.violations.iter();
    let first = violations.find(|(_, violation)| violation.invariant() == invariant);
    let mut others: Vec<(&'static str, u64)> = Vec::new();
    for (_, violation) in &report.violations {
        let name = violation.invariant();
        match others.iter_mut().find(|(of, _)| *of == name) {
            Some((_, count)) => *count += 1,
            None => others.push((name, 1)),
        }
    }
    others.retain(|(name, _)| *name != invariant);
    Found {
        seed: first.map(|(seed, _)| *seed),
        worlds: report.worlds,
        words: first
            .map(|(_, violation)| format!("{violation:?}"))
            .unwrap_or_default(),
        others,
    }
}
