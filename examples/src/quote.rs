//! What a stream costs, before anything connects: the signed terms, at the stream's own address.

mod costs;

use streampay_core::meter::{Reading, Tariff};
use streampay_core::session::{SecretKey, Signature};
use streampay_core::units::Msat;
use streampay_core::wire::Terms;
use streampay_media::whep::Client;

pub use self::costs::{Costs, costs};
use crate::error::AppError;
use crate::link::StreamLink;
use crate::pay::{Pay, mints, words};

/// The media type of a quote: the identity's signature over [`Terms::hash`], 64 bytes, then the
/// terms.
pub const QUOTE_TYPE: &str = "application/vnd.streampay.terms";
/// The most that the mint may take on top of a payment, in percent of it: with more, somebody
/// would watch the mint being paid.
pub const FEE_SHARE: u64 = 50;

/// The terms with their signature.
#[must_use]
pub fn seal(terms: &Terms, identity: &SecretKey) -> Vec<u8> {
    let signature = identity.sign(terms.hash(), &[0; 32]);
    let mut bytes = signature.0.to_vec();
    bytes.extend(terms.to_bytes());
    bytes
}

/// Asks the streamer what it offers. What comes is signed by the link's key.
///
/// # Errors
/// [`AppError::Signalling`] where nothing is there; [`AppError::WrongSigner`] where it is not
/// the link's owner who offers.
pub async fn ask(link: &StreamLink) -> Result<Terms, AppError> {
    let bytes = Client.get(&link.url, QUOTE_TYPE).await?;
    open(&bytes, link).ok_or(AppError::WrongSigner)
}

fn open(bytes: &[u8], link: &StreamLink) -> Option<Terms> {
    let (signature, terms) = bytes.split_first_chunk::<64>()?;
    let terms = Terms::from_bytes(terms).ok()?;
    let signed = link.key.verifies(terms.hash(), &Signature(*signature));
    (signed && terms.payee == link.key).then_some(terms)
}

/// One payment: the tick, rounded up to whole satoshi.
#[must_use]
pub fn payment(terms: &Terms) -> Msat {
    Msat::from_sat(terms.tick.sat_ceil()).unwrap_or(Msat::MAX)
}

/// The price of a minute.
#[must_use]
pub fn a_minute(tariff: Tariff) -> Msat {
    tariff.price(Reading {
        media_ms: 60_000,
        bytes: 0,
    })
}

/// The offer in words: title, price, mints; then what it costs beyond that in the way in which it
/// would be paid, the first of `costs`.
#[must_use]
pub fn sentence(terms: &Terms, costs: &[Costs]) -> String {
    let per_mb = match terms.tariff.bytes {
        Some(_) => format!(" and {} a megabyte", per_megabyte(terms.tariff)),
        None => String::new(),
    };
    let title: String = terms.title.escape_debug().collect();
    let join = if terms.join_fee.is_zero() {
        String::new()
    } else {
        format!(", and {} once to join the room", terms.join_fee)
    };
    let mints = mints(terms);
    let beyond = match costs.first() {
        Some(costs) => format!(", in ecash of {}; {costs}", words(&mints)),
        None if mints.is_empty() => String::new(),
        None => format!(
            ", in ecash of {}; what the mint charges comes on top: it does not answer now",
            words(&mints)
        ),
    };
    format!(
        "\"{title}\" costs {} a minute{per_mb}, in payments of {}{join}{beyond}",
        a_minute(terms.tariff),
        payment(terms),
    )
}

/// The ways to pay that are left of `wanted`, where none may cost more than `share` percent of a
/// payment at each payment. Where the mint did not say what it charges, plain swaps are not for it.
///
/// # Errors
/// [`AppError::DearPayments`] where that leaves none.
pub fn affordable(
    wanted: &[Pay],
    terms: &Terms,
    costs: &[Costs],
    share: u64,
) -> Result<Vec<Pay>, AppError> {
    let of = |pay: Pay| costs.iter().find(|costs| costs.pay == pay);
    let fits = |pay: &Pay| match (of(*pay), pay) {
        (Some(costs), _) => costs.is_within(share),
        // A payment calls no mint: there is nothing to charge for.
        (None, Pay::Chain | Pay::P2pk | Pay::Btc) => true,
        (None, Pay::Swap) => false,
    };
    let left: Vec<Pay> = wanted.iter().copied().filter(fits).collect();
    let offered = |pay: &Pay| {
        terms
            .methods
            .iter()
            .any(|method| method.name == pay.method())
    };
    if left.iter().any(offered) || !wanted.iter().any(offered) {
        return Ok(left);
    }
    Err(AppError::DearPayments {
        fee: costs.first().map(|costs| costs.fee),
        payment: payment(terms),
        share,
    })
}

/// Refuses a budget that no payment fits into.
///
/// # Errors
/// [`AppError::SmallBudget`].
pub fn within(terms: &Terms, costs: &[Costs], budget: Msat) -> Result<(), AppError> {
    let beyond = costs
        .first()
        .map_or(Msat::ZERO, |costs| costs.fee.saturating_plus(costs.opening));
    let needs = payment(terms).saturating_plus(beyond);
    if budget < needs {
        return Err(AppError::SmallBudget { budget, needs });
    }
    Ok(())
}

/// Refuses payments that buy more than a minute: that much is at stake at any moment.
///
/// # Errors
/// [`AppError::LongTick`].
pub fn check_tick(terms: &Terms) -> Result<(), AppError> {
    let minute = a_minute(terms.tariff);
    let most = Msat::from_sat(minute.sat_ceil()).unwrap_or(Msat::MAX);
    if terms.tariff.time.is_some() && payment(terms) > most {
        return Err(AppError::LongTick {
            tick: payment(terms),
            minute,
        });
    }
    Ok(())
}

fn per_megabyte(tariff: Tariff) -> Msat {
    tariff.price(Reading {
        media_ms: 0,
        bytes: 1_000_000,
    })
}
