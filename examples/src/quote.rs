//! What a stream costs, before anything connects: the signed terms, at the stream's own address.

use streampay_cashu::SwapParams;
use streampay_core::meter::{Reading, Tariff};
use streampay_core::session::{SecretKey, Signature};
use streampay_core::units::Msat;
use streampay_core::wire::Terms;
use streampay_media::whep::Client;

use crate::error::AppError;
use crate::link::StreamLink;

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
/// [`AppError::Signalling`] where nothing is there; [`AppError::Usage`] where it is not the
/// link's owner who offers.
pub async fn ask(link: &StreamLink) -> Result<Terms, AppError> {
    let bytes = Client.get(&link.url, QUOTE_TYPE).await?;
    open(&bytes, link).ok_or(AppError::Usage(
        "what the streamer offers is not signed with the key of the link; get the link again \
         from the streamer, and pay nothing at this one",
    ))
}

fn open(bytes: &[u8], link: &StreamLink) -> Option<Terms> {
    let (signature, terms) = bytes.split_first_chunk::<64>()?;
    let terms = Terms::from_bytes(terms).ok()?;
    let signed = link.key.verifies(terms.hash(), &Signature(*signature));
    (signed && terms.payee == link.key).then_some(terms)
}

/// The offer in a sentence: title, price, mints.
#[must_use]
pub fn sentence(terms: &Terms) -> String {
    let minute = Reading {
        media_ms: 60_000,
        bytes: 0,
    };
    let a_minute = terms.tariff.price(minute);
    let per_mb = match terms.tariff.bytes {
        Some(_) => format!(" and {} a megabyte", per_megabyte(terms.tariff)),
        None => String::new(),
    };
    let mints = mints(terms).join(" or ");
    format!(
        "{:?} costs {a_minute} a minute{per_mb}, in payments of {}, in ecash of {mints}",
        terms.title, terms.tick
    )
}

fn per_megabyte(tariff: Tariff) -> Msat {
    tariff.price(Reading {
        media_ms: 0,
        bytes: 1_000_000,
    })
}

/// The mints whose ecash is taken.
#[must_use]
pub fn mints(terms: &Terms) -> Vec<String> {
    let params = terms.methods.iter().map(|method| &method.params);
    params
        .filter_map(|params| SwapParams::decode(params).ok())
        .flat_map(|params| {
            let urls = params.mints().iter().map(|mint| mint.url().to_owned());
            urls.collect::<Vec<_>>()
        })
        .collect()
}
