//! Where blocks come from, as a user names it.

use std::sync::Arc;

use async_trait::async_trait;
use streampay_btc::bitcoin::{Amount, FeeRate, Network, OutPoint, Script, Transaction};
use streampay_btc::chain::{
    BitcoinCore, ChainError, ChainSource, ChainView, Esplora, RpcAuth, Watch,
};
use streampay_btc::machine::WalletCoin;
use url::Url;
use zeroize::Zeroizing;

use crate::error::AppError;
use crate::secret::whole_address;

/// The feerate where a source has no estimate, in sat/vB; on a chain for tests nothing competes.
const FALLBACK: u32 = 5;
const FALLBACK_REGTEST: u32 = 2;

const BAD: AppError = AppError::Usage(
    "a chain source is a node, http://127.0.0.1:8332/?cookie=FILE, or env:NAME or file:PATH where \
     http://user:password@127.0.0.1:8332 is, or the address of an Esplora, https://example.com/api",
);

/// The source at `text`, or at what is where `text` says (`env:NAME`, `file:PATH`): a node of Bitcoin Core where it names a user or a cookie file, else an
/// Esplora.
///
/// # Errors
/// [`AppError::Usage`] where it is neither, [`AppError::Setting`] where there is none.
pub fn chain_source(text: &str, network: Network) -> Result<Arc<dyn ChainSource>, AppError> {
    let whole = whole_address(text)?;
    if let Some(node) = node(&whole, network)? {
        return Ok(Arc::new(node));
    }
    let url = whole.trim_end_matches('/');
    let (fallback, floor) = (fallback(network), FeeRate::BROADCAST_MIN);
    Ok(Arc::new(Esplora::new(url, network, fallback, floor)))
}

/// The node at `text`; none where it names no user and no cookie.
///
/// # Errors
/// [`AppError::Usage`] where it is no address.
pub fn node(text: &str, network: Network) -> Result<Option<BitcoinCore>, AppError> {
    let mut url: Url = text.parse().map_err(|_| BAD)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(BAD);
    }
    let mut query = url.query_pairs();
    let cookie = query.find(|(name, _)| name == "cookie");
    let auth = match (cookie, url.username(), url.password()) {
        (Some((_, path)), ..) => RpcAuth::Cookie(path.into_owned().into()),
        (None, "", _) => return Ok(None),
        (None, user, password) => {
            let password = password.unwrap_or_default();
            RpcAuth::UserPass(unescaped(user), unescaped(password))
        }
    };
    url.set_query(None);
    url.set_username("").map_err(|()| BAD)?;
    url.set_password(None).map_err(|()| BAD)?;
    let fallback = fallback(network);
    // What was cut out of it is still in its buffer.
    let url = Zeroizing::new(String::from(url));
    Ok(Some(BitcoinCore::new(&url, auth, network, fallback)))
}

/// No chain at all.
pub(super) struct Unseen;

#[async_trait]
impl ChainSource for Unseen {
    async fn view(&self, _: &[Watch]) -> Result<ChainView, ChainError> {
        Err(unseen())
    }

    async fn find(&self, _: &Script, _: Amount, _: u32) -> Result<Vec<OutPoint>, ChainError> {
        Err(unseen())
    }

    async fn coins(&self, _: &Script, _: u32) -> Result<Vec<WalletCoin>, ChainError> {
        Err(unseen())
    }

    async fn broadcast(&self, _: &Transaction) -> Result<(), ChainError> {
        Err(unseen())
    }
}

fn unseen() -> ChainError {
    ChainError::Away("only the records are read".to_owned())
}

const fn fallback(network: Network) -> FeeRate {
    FeeRate::from_sat_per_vb_u32(match network {
        Network::Regtest => FALLBACK_REGTEST,
        _ => FALLBACK,
    })
}

/// `%40` as `@`, for names and passwords.
fn unescaped(text: &str) -> String {
    let escaped = Zeroizing::new(text.replace('+', "%2B"));
    let pair = Zeroizing::new(["x=", escaped.as_str()].concat());
    let mut pairs = url::form_urlencoded::parse(pair.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_user_or_a_cookie_and_all_else_is_an_esplora() {
        for (text, is_node) in [
            ("http://ann:secret@127.0.0.1:8332", true),
            ("http://127.0.0.1:18443/?cookie=/a/.cookie", true),
            ("https://example.com/api", false),
            ("http://127.0.0.1:3000", false),
        ] {
            let node = node(text, Network::Regtest).unwrap();
            assert_eq!(node.is_some(), is_node, "{text}");
            let shown = format!("{node:?}");
            assert!(!shown.contains("secret"), "{shown}");
        }
        for bad in ["", "127.0.0.1:8332", "ftp://a@b", "http://"] {
            assert!(chain_source(bad, Network::Regtest).is_err(), "{bad}");
        }
        assert_eq!(unescaped("a%40b+c"), "a@b+c");
    }
}
