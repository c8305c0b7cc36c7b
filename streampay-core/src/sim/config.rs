//! What can go wrong in a run, and what the two sides agreed on before it.

use alloc::vec;
use alloc::vec::Vec;

use super::fake::FakeBackend;
use super::link::Weather;
use crate::meter::{Rate, Tariff};
use crate::session::{Policy, SecretKey};
use crate::units::{Msat, Unix};
use crate::wire::{Method, Terms};

/// The dearest tariff that the payer's policy allows, in percent of the first one.
pub(super) const PERCENT_MAX: u16 = 300;
/// Bytes by which the two byte meters may always differ.
pub(super) const TOLERANCE_BYTES: u64 = 64 * 1024;
/// The least tolerance of the two meters in the terms, in milliseconds.
pub(super) const TOLERANCE_MS: u32 = 200;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The link does this to the next messages.
    Weather(Weather),
    /// The connection is gone for so many milliseconds.
    LinkDown(u64),
    /// The payer's process dies so many outputs from here, and is back after a while.
    CrashPayer {
        /// Outputs still taken.
        outputs: u16,
        /// Milliseconds until it is back.
        away_ms: u64,
    },
    /// The payee's process dies so many outputs from here, and is back after a while.
    CrashPayee {
        /// Outputs still taken.
        outputs: u16,
        /// Milliseconds until it is back.
        away_ms: u64,
    },
    /// The mint does not answer for so many milliseconds.
    MintAway(u64),
    /// The mint acts on so many calls and its answer is lost.
    LoseAnswers(u8),
    /// The payer pauses for so many milliseconds.
    PausePayer(u64),
    /// The mint of the method `fake` does not answer for so many milliseconds; the other's does.
    FirstMethodAway(u64),
    /// So many openings of the method `fake` are refused by its mint.
    RefuseOpenings(u8),
    /// The payer's user allows so many satoshi more.
    TopUp(u16),
    /// The payer's user gives a tip of so many satoshi.
    Tip(u16),
    /// The payee offers a tariff of so many percent of the first one, in two ticks.
    OfferTariff(u16),
}

/// What the payer's user says to a dearer tariff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Agrees.
    Agree,
    /// Declines.
    Decline,
    /// Nothing.
    Silence,
}

/// What two sides agreed on before the run.
#[derive(Clone, Debug)]
pub struct PairConfig {
    /// For all randomness of the run.
    pub seed: u64,
    /// One tick, in millisatoshi; a second costs as much.
    pub tick: Msat,
    /// The price of 100 000 bytes besides, in millisatoshi; a packet has up to 20 000.
    pub bytes_msat: u64,
    /// The payer's budget.
    pub budget: Msat,
    /// The most that one purse may cost.
    pub max_purse: Msat,
    /// The largest payment that the payer's policy allows.
    pub max_tick: Msat,
    /// The payer's methods, the favourite first.
    pub methods: Vec<&'static str>,
    /// What the payer's wallet holds.
    pub wallet: Msat,
    /// The credit window.
    pub window: Msat,
    /// By how much the payee's reading may be ahead and is still paid, in milliseconds.
    pub tolerance_ms: u32,
    /// The preview.
    pub preview: Msat,
    /// What the payee's budgets leave of the preview.
    pub preview_left: Msat,
    /// How long the session can be resumed, in seconds.
    pub resumable_s: u32,
    /// Somebody in the middle ends both connections: each side sees another channel.
    pub mitm: bool,
    /// The user consents to drift half a second after it paused the session.
    pub consents: bool,
    /// What the user says to a dearer tariff.
    pub reply: Reply,
    /// What joining the room costs.
    pub join_fee: Msat,
}

impl Default for PairConfig {
    fn default() -> Self {
        let sat = |sat| Msat::from_sat(sat).unwrap_or_default();
        Self {
            seed: 1,
            tick: sat(2),
            bytes_msat: 0,
            budget: sat(200),
            max_purse: sat(40),
            max_tick: FakeBackend::steps().step(sat(2)),
            methods: vec![FakeBackend::METHOD, FakeBackend::STEPS],
            wallet: sat(1_000),
            window: Msat::ZERO,
            tolerance_ms: TOLERANCE_MS,
            preview: Msat::ZERO,
            preview_left: Msat::MAX,
            resumable_s: 86_400,
            mitm: false,
            consents: true,
            reply: Reply::Agree,
            join_fee: Msat::ZERO,
        }
    }
}

pub(super) fn tariff(config: &PairConfig) -> Tariff {
    tariff_of(config, 100)
}

/// So many percent of the first tariff.
pub(super) fn tariff_of(config: &PairConfig, percent: u16) -> Tariff {
    let msat = config.tick.times(percent.into()).unwrap_or_default();
    let bytes = config.bytes_msat.saturating_mul(percent.into());
    let bytes = Msat::new(bytes).ok().filter(|msat| !msat.is_zero());
    Tariff {
        time: Rate::new(msat, 100_000).ok(),
        bytes: bytes.and_then(|msat| Rate::new(msat, 10_000_000).ok()),
    }
}

pub(super) fn terms(config: &PairConfig, payee: &SecretKey) -> Terms {
    Terms {
        title: "simulated".into(),
        tariff: tariff(config),
        tick: config.tick,
        preview: config.preview,
        window: config.window,
        tolerance_permille: 20,
        tolerance_ms: config.tolerance_ms,
        live_ms: 2_000,
        methods: [FakeBackend::STEPS, FakeBackend::METHOD]
            .map(|name| Method {
                name: name.into(),
                params: Vec::new(),
            })
            .into(),
        join_fee: config.join_fee,
        resumable_s: config.resumable_s,
        expires: Unix(u64::MAX),
        payee: payee.public(),
    }
}

pub(super) fn policy(config: &PairConfig) -> Policy {
    Policy {
        budget: config.budget,
        max_purse: config.max_purse,
        max_tariff: tariff_of(config, PERCENT_MAX),
        max_tick: config.max_tick,
        methods: config.methods.iter().map(|name| (*name).into()).collect(),
        stall_close_ms: 600_000,
    }
}
