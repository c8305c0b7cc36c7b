//! What one purse's seed gives: the chain's end, what both sides derive from, the way back, and
//! the outputs that bring the rest home.

use cdk::nuts::SecretKey;
use streampay_core::session::TaggedHash;

use crate::chain::Preimage;
use crate::coin::Seed;

pub(crate) struct Secrets<'a>(pub(crate) &'a Seed);

impl Secrets<'_> {
    fn derive(&self, tag: &str) -> [u8; 32] {
        TaggedHash::new(tag).blob(self.0.bytes()).finish().0
    }

    pub(super) fn top(&self) -> Preimage {
        Preimage::new(self.derive("streampay/cashu-chain/top/v1"))
    }

    /// Sent to the payee.
    pub(super) fn salt(&self) -> [u8; 32] {
        self.derive("streampay/cashu/salt/v1")
    }

    pub(crate) fn refund(&self) -> Option<SecretKey> {
        SecretKey::from_slice(&self.derive("streampay/cashu/refund/v1")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_seed_are_the_hashes_that_the_vectors_show() {
        let seed = Seed::new([0x63; 64]);
        let secrets = Secrets(&seed);
        let text = include_str!("../../../../spec/vectors/hashes.json");
        let file: serde_json::Value = serde_json::from_str(text).unwrap();
        let shown = |tag: &str| {
            let mut cases = file["cases"].as_array().unwrap().iter();
            let case = cases.find(|case| case["tag"] == tag).unwrap();
            case["hash"].as_str().unwrap().to_owned()
        };
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let refund = secrets.refund().unwrap();
        for (tag, found) in [
            (
                "streampay/cashu-chain/top/v1",
                hex(secrets.top().dangerous_bytes()),
            ),
            ("streampay/cashu/salt/v1", hex(&secrets.salt())),
            ("streampay/cashu/refund/v1", hex(refund.as_secret_bytes())),
        ] {
            assert_eq!(found, shown(tag), "{tag}");
        }
    }
}
