//! The ways a stream is paid, and what the signed terms say of each.

use streampay_cashu::chain::ReceiverKey;
use streampay_cashu::{AcceptedMint, LockedMachine, LockedParams, SwapMachine, SwapParams};
use streampay_core::session::Entropy;
use streampay_core::wire::{Method, Terms};

use crate::error::AppError;

/// How a stream is paid in ecash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pay {
    /// A hash a payment, no call to the mint: locked beforehand, redeemed in batches (NUT-14).
    Chain,
    /// A locked token a payment, no call to the mint, for mints without NUT-14 (NUT-11).
    P2pk,
    /// A plain token a payment, swapped at the mint before it is acknowledged (NUT-03).
    Swap,
}

impl Pay {
    /// All of them, best first.
    pub const ALL: &[Self] = &[Self::Chain, Self::P2pk, Self::Swap];

    /// Its name for people, as `--pay` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::P2pk => "p2pk",
            Self::Swap => "swap",
        }
    }

    /// The method's name in terms.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Chain => LockedMachine::CHAIN,
            Self::P2pk => LockedMachine::P2PK,
            Self::Swap => SwapMachine::METHOD,
        }
    }
}

/// The method names of `pay`, in its order.
#[must_use]
pub fn names(pay: &[Pay]) -> Vec<String> {
    pay.iter().map(|pay| pay.method().to_owned()).collect()
}

/// What the terms say of `pay`, at one mint.
///
/// # Errors
/// [`AppError`] where the mint's address is none.
pub fn methods(pay: &[Pay], mint: &str, receiver: &ReceiverKey) -> Result<Vec<Method>, AppError> {
    let mints = vec![AcceptedMint::sat(mint)?];
    let locked = LockedParams::new(mints.clone(), receiver.public())?.encode();
    let plain = SwapParams::new(mints)?.encode();
    let method = |pay: &Pay| Method {
        name: pay.method().to_owned(),
        params: match pay {
            Pay::Chain | Pay::P2pk => locked.to_vec(),
            Pay::Swap => plain.to_vec(),
        },
    };
    Ok(pay.iter().map(method).collect())
}

/// The mints whose ecash is taken, each once.
#[must_use]
pub fn mints(terms: &Terms) -> Vec<String> {
    let mut all = Vec::new();
    for mint in terms.methods.iter().flat_map(mints_of) {
        if !all.contains(&mint) {
            all.push(mint);
        }
    }
    all
}

/// The mints of one method; none of a method that is not known here.
#[must_use]
pub fn mints_of(method: &Method) -> Vec<String> {
    let url = |mint: &AcceptedMint| mint.url().to_owned();
    match method.name.as_str() {
        LockedMachine::CHAIN | LockedMachine::P2PK => LockedParams::decode(&method.params)
            .map(|params| params.mints().iter().map(url).collect())
            .unwrap_or_default(),
        SwapMachine::METHOD => SwapParams::decode(&method.params)
            .map(|params| params.mints().iter().map(url).collect())
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The payee's key for locked ecash, from its identity's seed: a backup of the seed is one of it.
///
/// # Errors
/// With a probability of 2^-128.
pub fn receiver(seed: &Entropy) -> Result<ReceiverKey, AppError> {
    ReceiverKey::from_bytes(&seed.derive("cashu-receiver"))
        .ok_or(AppError::Failed("the identity file is damaged"))
}
