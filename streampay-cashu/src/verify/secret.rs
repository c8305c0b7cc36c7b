//! The strict reading of a NUT-10 secret.

use core::fmt;

use cdk::nuts::PublicKey;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::VerifyError;
use crate::chain::{LockKind, LockTerms};
use crate::coin::to_hex;

/// Longer than any secret that could be accepted.
const SECRET_MAX: usize = 1024;
const NONCE_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    nonce: String,
    data: String,
    tags: Vec<Vec<String>>,
}

/// A body with names: serde reads one without them too, a list, which to a mint may be no condition at all.
struct Named(Body);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Named;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nonce, data and tags by their names")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Named, A::Error> {
                Body::deserialize(MapAccessDeserializer::new(map)).map(Named)
            }
        }

        deserializer.deserialize_map(Names)
    }
}

/// A condition, each tag at most once and of a known form.
pub(super) struct Spending {
    kind: String,
    data: String,
    pubkeys: Option<Vec<String>>,
    refund: Option<Vec<String>>,
    locktime: Option<String>,
    n_sigs: Option<String>,
    n_sigs_refund: Option<String>,
    sigflag: Option<String>,
}

impl Spending {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, VerifyError> {
        if bytes.len() > SECRET_MAX {
            return Err(VerifyError::Secret);
        }
        // serde refuses a repeated or unknown key, and anything after the end.
        let (kind, Named(body)): (String, Named) =
            serde_json::from_slice(bytes).map_err(|_| VerifyError::Secret)?;
        if body.nonce.is_empty() || body.nonce.len() > NONCE_MAX {
            return Err(VerifyError::Secret);
        }
        let mut read = Self {
            kind,
            data: body.data,
            pubkeys: None,
            refund: None,
            locktime: None,
            n_sigs: None,
            n_sigs_refund: None,
            sigflag: None,
        };
        for tag in body.tags {
            read.take(tag)?;
        }
        Ok(read)
    }

    fn take(&mut self, tag: Vec<String>) -> Result<(), VerifyError> {
        let mut parts = tag.into_iter();
        let name = parts.next().ok_or(VerifyError::UnknownTag)?;
        let values: Vec<String> = parts.collect();
        let before = match name.as_str() {
            "pubkeys" => self.pubkeys.replace(values).is_some(),
            "refund" => self.refund.replace(values).is_some(),
            "locktime" => self.locktime.replace(single(values)?).is_some(),
            "n_sigs" => self.n_sigs.replace(single(values)?).is_some(),
            "n_sigs_refund" => self.n_sigs_refund.replace(single(values)?).is_some(),
            "sigflag" => self.sigflag.replace(single(values)?).is_some(),
            _ => return Err(VerifyError::UnknownTag),
        };
        if before {
            Err(VerifyError::DuplicateTag)
        } else {
            Ok(())
        }
    }

    /// That this is the lock of `terms` and `kind`, and nothing more.
    pub(super) fn check(&self, kind: LockKind, terms: &LockTerms) -> Result<(), VerifyError> {
        let receiver = terms.receiver.to_hex();
        let no_keys = self.pubkeys.is_none();
        let (name, data, keys_fit) = match kind {
            LockKind::Htlc(lock) => (
                "HTLC",
                to_hex(&lock),
                is_only(&self.pubkeys, terms.receiver),
            ),
            LockKind::P2pk => ("P2PK", receiver, no_keys),
        };
        if self.kind != name {
            return Err(VerifyError::Kind);
        }
        if self.data != data {
            return Err(VerifyError::Data);
        }
        if !keys_fit {
            return Err(VerifyError::Keys);
        }
        // One each is asked for where nothing says how many.
        if self.n_sigs.is_some() || self.n_sigs_refund.is_some() {
            return Err(VerifyError::Signatures);
        }
        if self.sigflag.as_deref() != Some("SIG_INPUTS") {
            return Err(VerifyError::Flag);
        }
        if self.locktime != Some(terms.locktime.to_string()) {
            return Err(VerifyError::Locktime);
        }
        if !is_only(&self.refund, terms.refund) {
            return Err(VerifyError::Refund);
        }
        Ok(())
    }
}

fn is_only(keys: &Option<Vec<String>>, wanted: PublicKey) -> bool {
    let wanted = wanted.to_hex();
    keys.as_ref().is_some_and(|keys| *keys == [wanted])
}

fn single(values: Vec<String>) -> Result<String, VerifyError> {
    let [value]: [String; 1] = values.try_into().map_err(|_| VerifyError::UnknownTag)?;
    Ok(value)
}
