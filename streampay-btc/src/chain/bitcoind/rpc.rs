//! One call of the node's JSON-RPC.

use std::path::PathBuf;

use bitcoin::{Amount, Denomination, FeeRate};
use serde_json::{Value, json};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use super::BitcoinCore;
use crate::chain::ChainError;
use crate::chain::http::{BODY_MAX, call_up_to, shown};

/// How a node lets its users in. The password is wiped when this is dropped, and so is what each call
/// makes of it here; the HTTP client has copies of its own while a call runs, and does not wipe them.
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

impl Drop for RpcAuth {
    fn drop(&mut self) {
        if let Self::UserPass(_, password) = self {
            password.zeroize();
        }
    }
}

impl ZeroizeOnDrop for RpcAuth {}

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
            .with_header("Authorization", self.auth.header()?.as_str())
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
}

impl RpcAuth {
    /// What stands in `Authorization`.
    fn header(&self) -> Result<Zeroizing<String>, ChainError> {
        let plain = Zeroizing::new(match self {
            Self::UserPass(user, password) => [user.as_str(), ":", password.as_str()].concat(),
            Self::Cookie(path) => std::fs::read_to_string(path)
                .map_err(|error| ChainError::Away(format!("cookie: {error}")))?,
        });
        Ok(base64_after("Basic ", plain.trim().as_bytes()))
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

/// `before`, and `bytes` in base64. Source: RFC 4648.
fn base64_after(before: &str, bytes: &[u8]) -> Zeroizing<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let coded = bytes.len().div_ceil(3).saturating_mul(4);
    // All of it at once: what grows leaves a copy behind.
    let length = before.len().saturating_add(coded);
    let mut text = Zeroizing::new(String::with_capacity(length));
    text.push_str(before);
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
            assert_eq!(*base64_after("", plain.as_bytes()), coded);
            assert_eq!(*base64_after("a ", plain.as_bytes()), format!("a {coded}"));
        }
    }

    fn user() -> RpcAuth {
        RpcAuth::UserPass("Aladdin".into(), "open sesame".into())
    }

    /// Source: RFC 7617, section 2.
    #[test]
    fn a_user_and_a_cookie_are_let_in_alike() {
        let expect = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(*user().header().unwrap(), expect);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".cookie");
        let cookie = RpcAuth::Cookie(path.clone());
        assert!(matches!(cookie.header(), Err(ChainError::Away(_))));
        std::fs::write(path, "Aladdin:open sesame\n").unwrap();
        assert_eq!(*cookie.header().unwrap(), expect);
    }

    /// Looked at where they were, for what has been let go of can be read no other way.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_password_and_what_is_made_of_it_are_wiped() {
        use std::os::unix::fs::FileExt as _;
        fn is_wiped(_: &impl ZeroizeOnDrop) {}
        const LOOKED_AT: usize = 32;
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        // An allocator writes into the beginning of what it was given back, and a buffer on the heap
        // might get that very place.
        let read = |begin: usize| {
            let mut bytes = [0; LOOKED_AT];
            let at = u64::try_from(begin + LOOKED_AT).unwrap();
            // What is no memory any more is gone.
            let read = memory.read_exact_at(&mut bytes, at);
            read.ok().map(|()| bytes)
        };
        let auth = RpcAuth::UserPass("ann".into(), "correct horse battery staple ".repeat(8));
        is_wiped(&auth);
        let header = auth.header().unwrap();
        let RpcAuth::UserPass(_, password) = &auth else {
            unreachable!()
        };
        let both = [password.as_str(), header.as_str()].map(|text| {
            let begin = text.as_ptr().addr();
            let there = text.as_bytes()[LOOKED_AT..][..LOOKED_AT]
                .try_into()
                .unwrap();
            assert_eq!(read(begin), Some(there));
            (begin, there)
        });
        drop(header);
        drop(auth);
        for (begin, was) in both {
            assert_ne!(read(begin), Some(was), "it is still there");
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
