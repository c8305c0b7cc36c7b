//! What a stream costs, before anything connects: the signed terms, at the stream's own address.

use streampay_cashu::redeeming_fee;
use streampay_core::meter::{Reading, Tariff};
use streampay_core::session::{SecretKey, Signature};
use streampay_core::units::Msat;
use streampay_core::wire::Terms;
use streampay_media::whep::Client;

use crate::error::AppError;
use crate::home::Home;
use crate::link::StreamLink;
use crate::pay::mints;

/// The media type of a quote: the identity's signature over [`Terms::hash`], 64 bytes, then the
/// terms.
pub const QUOTE_TYPE: &str = "application/vnd.streampay.terms";

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

/// What a payment costs beyond itself, at the first of the stream's mints where this wallet has
/// money, or else the first; none where it does not answer.
pub async fn fees(home: &Home, terms: &Terms) -> Option<Msat> {
    let (mints, tick) = (mints(terms), payment(terms));
    let held = home.wallet.balance().await.ok()?;
    let holds = |mint: &&String| {
        let mut at = held.iter().filter(|at| at.mint.to_string() == **mint);
        at.any(|at| !at.spendable.is_zero())
    };
    let mint = mints.iter().find(holds).or_else(|| mints.first())?;
    let wallet = home.wallet.wallet_at(mint).await.ok()?;
    redeeming_fee(&wallet, tick).await.ok()
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

/// The offer in a sentence: title, price, mints, fees.
#[must_use]
pub fn sentence(terms: &Terms, fee: Option<Msat>) -> String {
    let per_mb = match terms.tariff.bytes {
        Some(_) => format!(" and {} a megabyte", per_megabyte(terms.tariff)),
        None => String::new(),
    };
    let fee = match fee {
        Some(fee) if fee.is_zero() => ", without a fee".to_owned(),
        Some(fee) => format!(", plus the mint's fee of {fee} each"),
        None => ", plus the mint's fees".to_owned(),
    };
    let title: String = terms.title.escape_debug().collect();
    let join = if terms.join_fee.is_zero() {
        String::new()
    } else {
        format!(", and {} once to join the room", terms.join_fee)
    };
    format!(
        "\"{title}\" costs {} a minute{per_mb}, in payments of {}{fee}{join}, in ecash of {}",
        a_minute(terms.tariff),
        payment(terms),
        mints(terms).join(" or "),
    )
}

/// Refuses a budget that no payment fits into.
///
/// # Errors
/// [`AppError::SmallBudget`].
pub fn within(terms: &Terms, fee: Option<Msat>, budget: Msat) -> Result<(), AppError> {
    // A fee for the payment, and one for making its token.
    let fees = fee.map_or(Msat::ZERO, |fee| fee.saturating_plus(fee));
    let needs = payment(terms).saturating_plus(fees);
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
