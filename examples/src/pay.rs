//! The ways a stream is paid, and what the signed terms say of each.

use streampay_btc::machine::ChannelMachine;
use streampay_cashu::chain::ReceiverKey;
use streampay_cashu::{
    AcceptedMint, LockedMachine, LockedParams, MintPolicy, SwapMachine, SwapParams,
};
use streampay_core::session::Entropy;
use streampay_core::units::Msat;
use streampay_core::wire::{Method, Terms};

use crate::error::AppError;
use crate::home::Home;
use crate::report::plain;
use crate::wallet::{LimitsAt, MintLimits};

/// How a stream is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pay {
    /// A hash a payment, no call to the mint: locked beforehand, redeemed in batches (NUT-14).
    Chain,
    /// A locked token a payment, no call to the mint, for mints without NUT-14 (NUT-11).
    P2pk,
    /// A plain token a payment, swapped at the mint before it is acknowledged (NUT-03).
    Swap,
    /// A signature a payment over a bitcoin channel of one's own: no mint, nobody in between.
    Btc,
}

impl Pay {
    /// All of them in ecash, best first.
    pub const ALL: &[Self] = &[Self::Chain, Self::P2pk, Self::Swap];

    /// Its name for people, as `--pay` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::P2pk => "p2pk",
            Self::Swap => "swap",
            Self::Btc => "btc",
        }
    }

    /// The method's name in terms.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Chain => LockedMachine::CHAIN,
            Self::P2pk => LockedMachine::P2PK,
            Self::Swap => SwapMachine::METHOD,
            Self::Btc => ChannelMachine::METHOD,
        }
    }

    /// True where a mint stands behind it.
    #[must_use]
    pub const fn is_ecash(self) -> bool {
        !matches!(self, Self::Btc)
    }
}

/// The method names of `pay`, in its order.
#[must_use]
pub fn names(pay: &[Pay]) -> Vec<String> {
    pay.iter().map(|pay| pay.method().to_owned()).collect()
}

/// What the terms say of `pay`: ecash of these mints, and the home's channels.
///
/// # Errors
/// [`AppError`] where a way has no mint or no chain behind it, or a mint is named twice.
pub fn methods(home: &Home, pay: &[Pay], mints: &[AcceptedMint]) -> Result<Vec<Method>, AppError> {
    let mints = || {
        if mints.is_empty() {
            return Err(AppError::Usage(
                "say with --mint whose ecash you take, or take bitcoin alone: --pay btc",
            ));
        }
        Ok(mints.to_vec())
    };
    let method = |pay: &Pay| {
        let params = match pay {
            Pay::Chain | Pay::P2pk => {
                let mints = mints()?;
                let limits = home.wallet.limits();
                // One number for all; a mint whose own is lower is held to that when it is looked at.
                let each = mints.iter().map(|mint| limits.max_fee_ppk_at(mint.url()));
                let most = each.max().unwrap_or(limits.max_fee_ppk);
                let params = LockedParams::new(mints, home.receiver.public())?;
                params.with_max_fee_ppk(most).encode()
            }
            Pay::Swap => SwapParams::new(mints()?)?.encode(),
            Pay::Btc => {
                return home.channels.as_ref().map_or(
                    Err(AppError::Usage(
                        "say with --btc where blocks come from, and with --payout where your \
                         bitcoin goes",
                    )),
                    |channels| channels.terms(),
                );
            }
        };
        Ok(Method {
            name: pay.method().to_owned(),
            params: params.to_vec(),
        })
    };
    pay.iter().map(method).collect()
}

/// The mints whose ecash is taken, each once.
#[must_use]
pub fn mints(terms: &Terms) -> Vec<AcceptedMint> {
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
pub fn mints_of(method: &Method) -> Vec<AcceptedMint> {
    match method.name.as_str() {
        LockedMachine::CHAIN | LockedMachine::P2PK => LockedParams::decode(&method.params)
            .map(|params| params.mints().to_vec())
            .unwrap_or_default(),
        SwapMachine::METHOD => SwapParams::decode(&method.params)
            .map(|params| params.mints().to_vec())
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// A mint as the user names it: `URL`, `URL@104.5%`, `URL@100%,5000sat`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn accepted_mint(text: &str) -> Result<AcceptedMint, String> {
    let (url, rest) = text
        .split_once('@')
        .map_or((text, None), |(url, rest)| (url, Some(rest)));
    let mint = AcceptedMint::sat(url).map_err(|error| error.to_string())?;
    let Some(rest) = rest else { return Ok(mint) };
    let (percent, most) = rest
        .split_once(',')
        .map_or((rest, None), |(a, b)| (a, Some(b)));
    let price = permille(percent).ok_or("write the price like @104.5%, with one digit at most")?;
    let mint = mint
        .with_price_permille(price)
        .map_err(|error| error.to_string())?;
    let Some(most) = most else { return Ok(mint) };
    let most = crate::price::amount(most).map_err(|error| error.to_string())?;
    mint.with_purse_max(most.sat_floor())
        .map_err(|error| error.to_string())
}

/// A limit as the user says it: for all mints, or `URL=LIMIT` for one.
pub type Limit<T> = (Option<String>, T);

/// `200`, or `URL=200`: thousandths of a satoshi.
///
/// # Errors
/// What is wrong with it, in words.
pub fn limit_ppk(text: &str) -> Result<Limit<u64>, String> {
    limit(text, |value| {
        let number = value.parse::<u64>();
        number.map_err(|_| "write thousandths of a satoshi, such as 200 or URL=200".to_owned())
    })
}

/// `5000sat`, or `URL=5000sat`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn limit_amount(text: &str) -> Result<Limit<Msat>, String> {
    limit(text, |value| {
        crate::price::amount(value).map_err(|error| error.to_string())
    })
}

/// `17,20`, or `URL=17,20`: numbers of NUTs that a mint can say it has.
///
/// # Errors
/// What is wrong with it, in words.
pub fn limit_nuts(text: &str) -> Result<Limit<Vec<u8>>, String> {
    let one = |number: &str| {
        let number = number.parse::<u8>().ok();
        number.filter(|nut| MintPolicy::ANNOUNCED.contains(nut))
    };
    limit(text, |value| {
        let all: Option<Vec<u8>> = value.split(',').map(one).collect();
        all.ok_or_else(|| {
            let known: Vec<_> = MintPolicy::ANNOUNCED.iter().map(u8::to_string).collect();
            format!(
                "write numbers of NUTs, such as 17,20 or URL=17,20; mints say whether they have {}",
                known.join(", ")
            )
        })
    })
}

fn limit<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Limit<T>, String> {
    let Some((url, value)) = text.rsplit_once('=') else {
        return Ok((None, read(text)?));
    };
    let mint = AcceptedMint::sat(url).map_err(|error| error.to_string())?;
    Ok((Some(mint.url().to_owned()), read(value)?))
}

/// Each limit of one mint alone is of one whose ecash is taken: else it would hold nobody to anything.
///
/// # Errors
/// [`AppError::Setting`] with the first that is not.
pub fn check_limits(
    mints: &[AcceptedMint],
    fees: &[Limit<u64>],
    exposures: &[Limit<Msat>],
) -> Result<(), AppError> {
    let fees = fees.iter().map(|of| ("--max-fee-ppk", &of.0));
    let all = fees.chain(exposures.iter().map(|of| ("--max-exposure", &of.0)));
    for (option, mint) in all {
        let Some(mint) = mint else { continue };
        if !mints.iter().any(|taken| taken.url() == mint) {
            return Err(AppError::Setting {
                origin: option.to_owned(),
                why: format!(
                    "{} is none of the mints that --mint names: correct the address, take its ecash too, or leave \
                     the limit out",
                    plain(mint)
                ),
            });
        }
    }
    Ok(())
}

/// The limits that a command line says, the last one of each. They live as long as the process.
#[must_use]
pub fn limits(
    fees: &[Limit<u64>],
    exposures: &[Limit<Msat>],
    nuts: &[Limit<Vec<u8>>],
) -> MintLimits {
    let mut limits = MintLimits::default();
    let mut each = Vec::new();
    let at = |mint: &String| LimitsAt {
        mint: mint.clone(),
        ..LimitsAt::default()
    };
    for (mint, ppk) in fees {
        match mint {
            None => limits.max_fee_ppk = *ppk,
            Some(mint) => each.push(LimitsAt {
                max_fee_ppk: Some(*ppk),
                ..at(mint)
            }),
        }
    }
    for (mint, most) in exposures {
        match mint {
            None => limits.exposure = *most,
            Some(mint) => each.push(LimitsAt {
                exposure: Some(*most),
                ..at(mint)
            }),
        }
    }
    for (mint, nuts) in nuts {
        match mint {
            None => limits.nuts = Vec::leak(nuts.clone()),
            Some(mint) => each.push(LimitsAt {
                nuts: Some(nuts.clone()),
                ..at(mint)
            }),
        }
    }
    limits.each = Vec::leak(each);
    limits
}

/// `104.5%` in thousandths.
pub(crate) fn permille(percent: &str) -> Option<u64> {
    let number = percent.strip_suffix('%')?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(tenths) || tenths.len() > 1 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(10)?.checked_add(tenths.parse().ok()?)
}

/// The mints and their prices for people.
#[must_use]
pub fn words(mints: &[AcceptedMint]) -> String {
    let word = |mint: &AcceptedMint| match mint.price_permille() {
        1_000 => mint.url().to_owned(),
        price => format!("{} (at {}.{} %)", mint.url(), price / 10, price % 10),
    };
    mints.iter().map(word).collect::<Vec<_>>().join(" or ")
}

/// The payee's key for locked ecash, from its identity's seed: a backup of the seed is one of it.
///
/// # Errors
/// With a probability of 2^-128.
pub fn receiver(seed: &Entropy) -> Result<ReceiverKey, AppError> {
    ReceiverKey::from_bytes(&seed.derive("cashu-receiver"))
        .ok_or(AppError::Failed("the identity file is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_for_all_mints_or_for_one() {
        let mint = || "https://mint.example/a".to_owned();
        for (text, expect) in [
            ("200", Some((None, 200))),
            ("https://mint.example/a=7", Some((Some(mint()), 7))),
            ("https://mint.example/a/=7", Some((Some(mint()), 7))),
            ("https://mint.example/a=", None),
            ("https://mint.example/a", None),
            ("http://mint.example=7", None),
            ("=7", None),
            ("", None),
            ("-1", None),
        ] {
            assert_eq!(limit_ppk(text).ok(), expect, "{text}");
        }
        let amount = limit_amount("https://mint.example/a=50sat").unwrap();
        let sat = |sat| Msat::from_sat(sat).unwrap();
        assert_eq!(amount, (Some(mint()), sat(50)));
        let limits = limits(
            &[(None, 9), (Some(mint()), 7), (Some(mint()), 8)],
            &[amount],
            &[
                limit_nuts("20").unwrap(),
                limit_nuts("https://mint.example/a=7,17").unwrap(),
            ],
        );
        assert_eq!(limits.max_fee_ppk_at(&mint()), 8);
        assert_eq!(limits.max_fee_ppk_at("https://other.example"), 9);
        assert_eq!(limits.nuts_at(&mint()), [7, 17]);
        assert_eq!(limits.nuts_at("https://other.example"), [20]);
        assert!(MintLimits::default().nuts_at(&mint()).is_empty());
        for wrong in ["", "13", "256", "17,", "https://mint.example/a=", "x=17"] {
            assert!(limit_nuts(wrong).is_err(), "{wrong}");
        }
        assert_eq!(limits.exposure, MintLimits::default().exposure);
        let own = limits.each.iter().filter_map(|own| own.exposure);
        assert_eq!(own.collect::<Vec<_>>(), [sat(50)]);
    }

    #[test]
    fn limit_of_a_mint_that_nobody_named_is_refused() {
        let taken = [accepted_mint("https://mint.example/a@104.5%").unwrap()];
        let ppk = |text| vec![limit_ppk(text).unwrap()];
        let amount = |text| vec![limit_amount(text).unwrap()];
        for (fees, exposures, refused) in [
            (ppk("7"), amount("9sat"), None),
            (ppk("https://mint.example/a/=7"), vec![], None),
            (vec![], amount("https://mint.example/a=9sat"), None),
            (
                ppk("https://mint.example/b=7"),
                vec![],
                Some("--max-fee-ppk: https://mint.example/b is"),
            ),
            (
                vec![],
                amount("https://mint.example=9sat"),
                Some("--max-exposure: https://mint.example is"),
            ),
        ] {
            let checked = check_limits(&taken, &fees, &exposures);
            let said = checked.map_err(|error| (error.to_string(), error.exit_code()));
            match (said, refused) {
                (Ok(()), None) => {}
                (Err((said, 2)), Some(part)) => assert!(said.starts_with(part), "{said}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn mints_are_named_with_price_and_limit() {
        let url = "https://mint.example/a";
        let cases = [
            ("https://mint.example/a", Some((1_000, None))),
            ("https://mint.example/a@104.5%", Some((1_045, None))),
            ("https://mint.example/a@98%", Some((980, None))),
            (
                "https://mint.example/a@100%,5000sat",
                Some((1_000, Some(5_000))),
            ),
            ("https://mint.example/a@104.55%", None),
            ("https://mint.example/a@104", None),
            ("https://mint.example/a@-1%", None),
            ("https://mint.example/a@%", None),
            ("https://mint.example/a@2000%", None),
            ("https://mint.example/a@100%,0sat", None),
            ("https://mint.example/a@100%,", None),
            ("http://mint.example@100%", None),
        ];
        for (text, expect) in cases {
            let mint = accepted_mint(text);
            let got = mint.as_ref().ok();
            assert!(got.is_none_or(|mint| mint.url() == url), "{text}");
            let got = got.map(|mint| (mint.price_permille(), mint.purse_max()));
            assert_eq!(got, expect, "{text}: {mint:?}");
        }
    }
}
