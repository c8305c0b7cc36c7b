//! One call of the node's JSON-RPC.

use std::path::PathBuf;

use bitcoin::{Amount, Denomination, FeeRate};
use serde_json::{Value, json};

use super::BitcoinCore;
use crate::chain::ChainError;
use crate::chain::http::{BODY_MAX, call_up_to, shown};

/// How a node lets its users in.
#[derive(Clone)]
pub enum RpcAuth {
    /// Name and password.
    UserPass(String, String),
    /// The node's cookie file, read at every call: it changes when the node starts.
    Cookie(PathBuf),
}

impl core::fmt::Debug for RpcAuth {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::UserPass(..) => f.write_str("UserPass(<redacted>)"),
            Self::Cookie(path) => f.debug_tuple("Cookie").field(path).finish(),
        }
    }
}

impl BitcoinCore {
    /// Calls the node. For tests and for what this source does not do.
    ///
    /// # Errors
    /// [`ChainError::Away`] where it does not answer or is still starting,
    /// [`ChainError::Refused`] with the node's own words where it says no.
    pub async fn rpc(&self, method: &str, params: Value) -> Result<Value, ChainError> {
        self.rpc_up_to(BODY_MAX, method, params).await
    }

    /// The same for an answer of up to so many bytes.
    pub(super) async fn rpc_up_to(
        &self,
        most: usize,
        method: &str,
        params: Value,
    ) -> Result<Value, ChainError> {
        let body = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params});
        let request = bitreq::Request::new(bitreq::Method::Post, self.url.as_str())
            .with_header("Content-Type", "application/json")
            .with_header("Authorization", self.authorization()?)
            .with_body(body.to_string());
        let (status, body) = call_up_to(most, request).await?;
        if status == 401 || status == 403 {
            return Err(ChainError::Away("wrong user, password or cookie".into()));
        }
        let answer: Value =
            serde_json::from_slice(&body).map_err(|_| ChainError::Nonsense(shown(&body)))?;
        let error = answer.get("error").filter(|error| !error.is_null());
        match error {
            None => Ok(answer.get("result").cloned().unwrap_or(Value::Null)),
            // Still starting. Source: Bitcoin Core, `RPC_IN_WARMUP`.
            Some(error) if code(error) == -28 => Err(ChainError::Away("starting".into())),
            Some(error) => Err(ChainError::Refused(words(error))),
        }
    }

    fn authorization(&self) -> Result<String, ChainError> {
        let plain = match &self.auth {
            RpcAuth::UserPass(user, password) => format!("{user}:{password}"),
            RpcAuth::Cookie(path) => std::fs::read_to_string(path)
                .map_err(|error| ChainError::Away(format!("cookie: {error}")))?,
        };
        Ok(format!("Basic {}", base64(plain.trim().as_bytes())))
    }
}

fn code(error: &Value) -> i64 {
    error
        .get("code")
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

fn words(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str);
    shown(message.unwrap_or("no reason given").as_bytes())
}

/// An amount in bitcoin, as the node writes it.
pub(super) fn btc(value: &Value) -> Option<Amount> {
    let text = format!("{:.8}", value.as_f64()?);
    Amount::from_str_in(&text, Denomination::Bitcoin).ok()
}

/// A feerate in bitcoin for 1000 virtual bytes.
pub(super) fn btc_per_kvb(value: &Value) -> Option<FeeRate> {
    let sat_per_kvb = btc(value)?.to_sat();
    Some(FeeRate::from_sat_per_kwu(sat_per_kvb.div_ceil(4)))
}

/// Source: RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4_usize {
            let shift = 18_usize.saturating_sub(at.saturating_mul(6));
            let index = usize::try_from(bits >> shift & 63).unwrap_or_default();
            let symbol = ALPHABET.get(index).copied().unwrap_or(b'=');
            text.push(char::from(if at > chunk.len() { b'=' } else { symbol }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: RFC 4648, section 10.
    #[test]
    fn base64_vectors() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn amounts_are_read_to_the_satoshi() {
        for (text, sat) in [
            ("0.00000001", 1),
            ("1e-8", 1),
            ("20999999.9769", 2_099_999_997_690_000),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(btc(&value), Some(Amount::from_sat(sat)), "{text}");
        }
        assert_eq!(btc(&json!(-1)), None);
        let rate: Value = json!(0.00001);
        assert_eq!(btc_per_kvb(&rate), Some(FeeRate::BROADCAST_MIN));
    }
}
