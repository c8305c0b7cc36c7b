//! The method's part of the signed terms: which mints the payee takes.

use core::str::FromStr;

use bytes::Bytes;
use cdk::mint_url::MintUrl;
use cdk::nuts::CurrencyUnit;
use minicbor::{Decode, Encode};

use crate::codec;

/// Why a list of mints, or one of them, cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// Not the encoding of a list of mints.
    #[error("the list of mints does not decode")]
    Malformed,
    /// No mint at all, or more than [`SwapParams::MINTS_MAX`].
    #[error("name 1 to 8 mints")]
    MintCount,
    /// Not a URL in its shortest form, longer than [`SwapParams::URL_MAX`], or with user name,
    /// query or fragment.
    #[error(
        "not a mint's URL: write it like https://mint.example/path, without a slash at the end"
    )]
    Url,
    /// Plain http to another machine: who sits between could take the money.
    #[error("a mint on another machine must have an https URL")]
    NotHttps,
    /// The list is longer than terms can carry.
    #[error("the mints' URLs are too long together: name fewer")]
    TooLong,
    /// Locked for no time, for too long, or with a margin that leaves none of it.
    #[error("the lock must last longer than its margin, at least 2 s and at most 30 days")]
    Lock,
    /// Only `sat` for now.
    #[error("the only unit is sat")]
    Unit,
    /// A price of nothing or of more than ten times the tariff; or a purse of nothing.
    #[error("a mint's price is 0.1 % to 1000 % of the tariff, its purses hold at least 1 sat")]
    Price,
    /// The same mint and unit twice: which price would hold?
    #[error("a mint is listed twice")]
    Twice,
}

/// A mint and the unit in which the payee takes its ecash, for what price, up to what amount.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AcceptedMint {
    #[n(0)]
    url: String,
    #[n(1)]
    unit: String,
    /// In thousandths of the tariff; none for 1000.
    #[n(2)]
    price: Option<u64>,
    /// The most of a purse, in the unit.
    #[n(3)]
    most: Option<u64>,
}

/// What the tariff itself is, in thousandths.
const PAR: u64 = 1_000;
/// The highest price of a mint's ecash: ten times the tariff. Chosen arbitrarily.
const PRICE_MAX: u64 = 10_000;
/// The highest price that a payer goes along with by itself: a tenth above the tariff that its user
/// agreed to.
pub(crate) const PRICE_MAX_DEFAULT: u64 = 1_100;

impl AcceptedMint {
    /// The mint at `url`, for ecash in satoshi.
    ///
    /// # Errors
    /// [`ParamsError::Url`] or [`ParamsError::NotHttps`].
    pub fn sat(url: &str) -> Result<Self, ParamsError> {
        let url = check_mint_url(url)?.to_string();
        Ok(Self {
            url,
            unit: CurrencyUnit::Sat.to_string(),
            price: None,
            most: None,
        })
    }

    /// The same for another price, in thousandths of the tariff: what the payee's own fees at this
    /// mint, or its trust in it, are worth. What is credited is the tariff's; what is paid is this.
    ///
    /// # Errors
    /// [`ParamsError::Price`] outside 1 to 10 000.
    pub fn with_price_permille(mut self, price: u64) -> Result<Self, ParamsError> {
        self.price = (price != PAR).then_some(price);
        self.check()?;
        Ok(self)
    }

    /// The same with a limit for what one purse holds, in the unit.
    ///
    /// # Errors
    /// [`ParamsError::Price`] for 0.
    pub fn with_purse_max(mut self, most: u64) -> Result<Self, ParamsError> {
        self.most = Some(most);
        self.check()?;
        Ok(self)
    }

    /// What is paid here for a thousand of the tariff.
    #[must_use]
    pub fn price_permille(&self) -> u64 {
        self.price.unwrap_or(PAR)
    }

    /// The most that one purse may hold, in the unit; none where the payee sets no limit.
    #[must_use]
    pub const fn purse_max(&self) -> Option<u64> {
        self.most
    }

    /// What a tick of `tick` is in this mint's ecash, rounded up, in the unit.
    #[must_use]
    pub fn price_of(&self, tick: u64) -> u64 {
        let exact = u128::from(tick).saturating_mul(u128::from(self.price_permille()));
        u64::try_from(exact.div_ceil(u128::from(PAR))).unwrap_or(u64::MAX)
    }

    /// How many ticks of `tick` a purse may hold.
    #[must_use]
    pub fn ticks_max(&self, tick: u64) -> u64 {
        let most = self.most.unwrap_or(u64::MAX);
        most.checked_div(self.price_of(tick)).unwrap_or_default()
    }

    /// The mint's URL, in the form in which it is compared.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The unit's name as in NUT-00.
    #[must_use]
    pub fn unit(&self) -> &str {
        &self.unit
    }

    fn check(&self) -> Result<(), ParamsError> {
        let url = check_mint_url(&self.url)?;
        if url.to_string() != self.url {
            return Err(ParamsError::Url);
        }
        if self.unit != "sat" {
            return Err(ParamsError::Unit);
        }
        let fits = (1..=PRICE_MAX).contains(&self.price_permille())
            && self.price != Some(PAR)
            && self.most != Some(0);
        fits.then_some(()).ok_or(ParamsError::Price)
    }
}

/// What the payee signs for the method `cashu-swap`.
///
/// ```
/// use streampay_cashu::{AcceptedMint, SwapParams};
///
/// let params = SwapParams::new(vec![AcceptedMint::sat("https://mint.example")?])?;
/// assert_eq!(SwapParams::decode(&params.encode())?, params);
/// # Ok::<(), streampay_cashu::ParamsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SwapParams {
    #[n(0)]
    mints: Vec<AcceptedMint>,
}

impl SwapParams {
    /// The most mints in one list. Chosen for terms that fit one message.
    pub const MINTS_MAX: usize = 8;
    /// The longest URL, in bytes.
    pub const URL_MAX: usize = 256;
    const ENCODED_MAX: usize = streampay_core::wire::PARAMS_MAX;

    /// The mints the payee takes, best first.
    ///
    /// # Errors
    /// [`ParamsError`] for the first thing wrong with the list.
    pub fn new(mints: Vec<AcceptedMint>) -> Result<Self, ParamsError> {
        let params = Self { mints };
        params.check()?;
        Ok(params)
    }

    /// The mints, as listed.
    #[must_use]
    pub fn mints(&self) -> &[AcceptedMint] {
        &self.mints
    }

    /// The bytes for [`PurseOffer::params`](streampay_core::backend::PurseOffer::params).
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self).into()
    }

    /// From the bytes in the terms, strictly.
    ///
    /// # Errors
    /// [`ParamsError`] for the first thing wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParamsError> {
        let params: Self =
            codec::decode(bytes, Self::ENCODED_MAX).map_err(|_| ParamsError::Malformed)?;
        params.check()?;
        Ok(params)
    }

    fn check(&self) -> Result<(), ParamsError> {
        if self.mints.is_empty() || self.mints.len() > Self::MINTS_MAX {
            return Err(ParamsError::MintCount);
        }
        self.mints.iter().try_for_each(AcceptedMint::check)?;
        if self.encode().len() > Self::ENCODED_MAX {
            return Err(ParamsError::TooLong);
        }
        let mut listed = std::collections::BTreeSet::new();
        let mut mints = self.mints.iter();
        let twice = !mints.all(|mint| listed.insert((&mint.url, &mint.unit)));
        if twice {
            return Err(ParamsError::Twice);
        }
        Ok(())
    }
}

/// A mint's URL in the form in which mints are compared: https, or http to this very machine.
///
/// # Errors
/// [`ParamsError::Url`] or [`ParamsError::NotHttps`].
pub fn check_mint_url(url: &str) -> Result<MintUrl, ParamsError> {
    // It is shown to people: nothing that a terminal would act on.
    if url.len() > SwapParams::URL_MAX || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ParamsError::Url);
    }
    let mint = MintUrl::from_str(url).map_err(|_| ParamsError::Url)?;
    let parsed = mint.join("v1").map_err(|_| ParamsError::Url)?;
    let plain = parsed.username().is_empty()
        && parsed.password().is_none()
        && parsed.query().is_none()
        && parsed.fragment().is_none();
    let host = parsed.host_str().ok_or(ParamsError::Url)?;
    if !plain || url.contains(['?', '#', '@']) {
        return Err(ParamsError::Url);
    }
    match parsed.scheme() {
        "https" => Ok(mint),
        "http" if is_loopback(host) => Ok(mint),
        "http" => Err(ParamsError::NotHttps),
        _ => Err(ParamsError::Url),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<core::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mint_urls_are_https_or_loopback() {
        let cases = [
            ("https://mint.example", Ok("https://mint.example")),
            ("https://Mint.example/a/", Ok("https://mint.example/a")),
            ("http://127.0.0.1:3338", Ok("http://127.0.0.1:3338")),
            ("http://[::1]:3338", Ok("http://[::1]:3338")),
            ("http://localhost", Ok("http://localhost")),
            ("http://mint.example", Err(ParamsError::NotHttps)),
            ("http://127.0.0.1.example", Err(ParamsError::NotHttps)),
            ("ftp://mint.example", Err(ParamsError::Url)),
            ("https://a:b@mint.example", Err(ParamsError::Url)),
            ("https://mint.example/?x", Err(ParamsError::Url)),
            ("mint.example", Err(ParamsError::Url)),
            ("https://mint.example/\u{1b}[2K", Err(ParamsError::Url)),
            ("https://mint.example/\u{202e}x", Err(ParamsError::Url)),
            ("", Err(ParamsError::Url)),
        ];
        for (url, expect) in cases {
            let got = check_mint_url(url).map(|url| url.to_string());
            assert_eq!(got, expect.map(str::to_owned), "{url}");
        }
    }

    #[test]
    fn price_of_a_mint_is_rounded_up_and_bounded() {
        let mint = AcceptedMint::sat("https://mint.example").unwrap();
        for (price, tick, paid) in [
            (1_000, 7, 7),
            (1_050, 10, 11),
            (1_050, 100, 105),
            (990, 100, 99),
            (990, 1, 1),
            (10_000, u64::MAX, u64::MAX),
        ] {
            let priced = mint.clone().with_price_permille(price).unwrap();
            assert_eq!(priced.price_of(tick), paid, "{price} {tick}");
            let params = SwapParams::new(vec![priced]).unwrap();
            assert_eq!(SwapParams::decode(&params.encode()), Ok(params));
        }
        let small = mint.clone().with_price_permille(1_050).unwrap();
        let small = small.with_purse_max(110).unwrap();
        assert_eq!(
            (small.ticks_max(10), mint.ticks_max(10)),
            (10, u64::MAX / 10)
        );
        for wrong in [0, 10_001, u64::MAX] {
            let got = mint.clone().with_price_permille(wrong);
            assert_eq!(got, Err(ParamsError::Price), "{wrong}");
        }
        assert_eq!(mint.clone().with_purse_max(0), Err(ParamsError::Price));
        // One encoding: par is left out.
        let mut par = mint;
        par.price = Some(1_000);
        let bytes = codec::encode(&SwapParams { mints: vec![par] });
        assert_eq!(SwapParams::decode(&bytes), Err(ParamsError::Price));
    }

    #[test]
    fn lists_are_bounded_and_strict() {
        let mint = AcceptedMint::sat("https://mint.example").unwrap();
        assert_eq!(SwapParams::new(vec![]), Err(ParamsError::MintCount));
        assert_eq!(
            SwapParams::new(vec![mint.clone(); 9]),
            Err(ParamsError::MintCount)
        );
        let long = AcceptedMint::sat(&format!("https://mint.example/{}", "x".repeat(230)));
        assert_eq!(
            SwapParams::new(vec![long.unwrap(); 5]),
            Err(ParamsError::TooLong)
        );
        let twice = vec![mint.clone(), mint.clone().with_price_permille(900).unwrap()];
        assert_eq!(SwapParams::new(twice), Err(ParamsError::Twice));
        let good = SwapParams::new(vec![mint.clone()]).unwrap().encode();
        assert!(SwapParams::decode(&good).is_ok());
        let mut trailing = good.to_vec();
        trailing.push(0);
        let mut other_unit = mint;
        other_unit.unit = "usd".to_owned();
        let cases: [(&[u8], ParamsError); 4] = [
            (&trailing, ParamsError::Malformed),
            (&[], ParamsError::Malformed),
            (&[0xa1, 0x18, 0x00, 0x80], ParamsError::Malformed),
            (
                &codec::encode(&SwapParams {
                    mints: vec![other_unit],
                }),
                ParamsError::Unit,
            ),
        ];
        for (bytes, expect) in cases {
            assert_eq!(SwapParams::decode(bytes), Err(expect));
        }
    }
}
