//! BIP 340 signatures, good and bad: those of the protocol, and the inputs that BIP 340 itself
//! signs.

use serde_json::Value;
use streampay_core::session::{Hash, Role, SecretKey, Signature};
use streampay_core::units::XOnlyKey;

use super::hashes::bad_key;
use super::samples;
use crate::json::{Object, unhex};
use crate::people::{evidence, key, receipt, session, terms};

/// Secret key, auxiliary randomness and message of the first four cases of BIP 340.
const BIP_340: [[&str; 3]; 4] = [
    [
        "0000000000000000000000000000000000000000000000000000000000000003",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
    ],
    [
        "b7e151628aed2a6abf7158809cf4f3c762e7160f38b4da56a784d9045190cfef",
        "0000000000000000000000000000000000000000000000000000000000000001",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
    ],
    [
        "c90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b14e5c9",
        "c87aa53824b4d7ae2eb035a2b5bbbccc080e76cdc6d1692c4b0b62d798e6d906",
        "7e2d58d8b3bcdf1abadec7829054f90dda9805aab56c77333024b9d0a508b75c",
    ],
    [
        "0b432b2677937381aef05bb02a66ecd012773062cf3fa2549e44f58ed2401710",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ],
];

/// The curve's field size and its order.
const FIELD: &str = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f";
const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
/// 32 bytes that are no x coordinate of the curve.
const OFF_CURVE: &str = "eefdea4cdb677750a420fee807eacf21eb9898ae79b9768766e4faa04a2d4a34";

/// All cases.
///
/// # Errors
/// A text where a key or a signature is not what it should be.
pub(super) fn cases() -> Result<Vec<Value>, String> {
    let mut cases = Vec::new();
    for (at, [secret, aux, hash]) in BIP_340.into_iter().enumerate() {
        let key = SecretKey::from_bytes(array(secret)?).map_err(bad_key)?;
        cases.push(signed(
            &format!("BIP 340 case {at}"),
            &key,
            array(hash)?,
            array(aux)?,
        ));
    }
    cases.extend(own()?);
    cases.extend(bad()?);
    Ok(cases)
}

fn array(text: &str) -> Result<[u8; 32], String> {
    let bytes = unhex(text).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "32 bytes are none".into())
}

/// What is signed in a session, and by whom.
fn own() -> Result<Vec<Value>, String> {
    let bound = samples::binding([0; 32]).map_err(bad_key)?;
    let terms = terms().map_err(bad_key)?;
    let payer_role = Role::Payer.hash(bound.hash());
    let payee_role = Role::Payee.hash(bound.hash());
    let receipt = receipt().hash(session());
    [
        (
            "terms, by the payee's identity",
            "payee",
            terms.hash(),
            [0; 32],
        ),
        (
            "binding, by the payer's identity",
            "payer",
            payer_role,
            [0x41; 32],
        ),
        (
            "binding, by the payee's identity",
            "payee",
            payee_role,
            [0x42; 32],
        ),
        (
            "receipt, by the payee's session key",
            "payee-session",
            receipt,
            [0; 32],
        ),
    ]
    .into_iter()
    .map(|(name, who, hash, aux)| Ok(signed(name, &key(who).map_err(bad_key)?, hash.0, aux)))
    .collect()
}

fn signed(name: &str, key: &SecretKey, hash: [u8; 32], aux: [u8; 32]) -> Value {
    let signature = key.sign(Hash(hash), &aux);
    let case = case(name, key.public(), hash, signature, true);
    case.hex("secret_key", key.dangerous_bytes())
        .hex("aux", &aux)
        .done()
}

fn case(name: &str, key: XOnlyKey, hash: [u8; 32], signature: Signature, valid: bool) -> Object {
    Object::new()
        .with("name", name)
        .hex("key", &key.0)
        .hex("hash", &hash)
        .hex("signature", &signature.0)
        .with("valid", valid)
}

/// One good signature, broken in every way that BIP 340 names.
fn bad() -> Result<Vec<Value>, String> {
    let good = evidence().map_err(bad_key)?;
    let signer = key("payee-session").map_err(bad_key)?;
    let (key, hash) = (signer.public(), good.receipt.hash(session()).0);
    let with = |r: Option<[u8; 32]>, s: Option<[u8; 32]>| {
        let mut bytes = good.signature.0;
        let (first, second) = bytes.split_at_mut(32);
        if let Some(r) = r {
            first.copy_from_slice(&r);
        }
        if let Some(s) = s {
            second.copy_from_slice(&s);
        }
        Signature(bytes)
    };
    let flip = |at: usize| {
        let mut bytes = good.signature.0;
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1;
        }
        Signature(bytes)
    };
    let (zero, field, order) = ([0; 32], array(FIELD)?, array(ORDER)?);
    let off_curve = array(OFF_CURVE)?;
    let other = crate::people::key("payer-session")
        .map_err(bad_key)?
        .public();
    let session_of_another = good.receipt.hash(samples::OTHER_SESSION).0;
    let cases = [
        ("first bit of r", key, hash, flip(0)),
        ("last bit of s", key, hash, flip(63)),
        ("r is zero", key, hash, with(Some(zero), None)),
        ("r is the field size", key, hash, with(Some(field), None)),
        (
            "r is not on the curve",
            key,
            hash,
            with(Some(off_curve), None),
        ),
        ("s is zero", key, hash, with(None, Some(zero))),
        ("s is the order", key, hash, with(None, Some(order))),
        (
            "s is negated",
            key,
            hash,
            with(None, Some(negated(&good.signature))),
        ),
        ("another hash", key, session_of_another, good.signature),
        ("another key", other, hash, good.signature),
        (
            "key is not on the curve",
            XOnlyKey(off_curve),
            hash,
            good.signature,
        ),
        (
            "key is the field size",
            XOnlyKey(field),
            hash,
            good.signature,
        ),
        ("key is zero", XOnlyKey(zero), hash, good.signature),
        ("all is zero", XOnlyKey(zero), zero, Signature([0; 64])),
    ];
    cases
        .into_iter()
        .map(|(name, key, hash, signature)| {
            if key.verifies(Hash(hash), &signature) {
                return Err(format!("signature `{name}` verifies"));
            }
            Ok(case(name, key, hash, signature, false).done())
        })
        .collect()
}

/// The order less `s`.
fn negated(signature: &Signature) -> [u8; 32] {
    let order = array(ORDER).unwrap_or_default();
    let (_, s) = signature.0.split_at(32);
    let mut borrow = 0_u16;
    let mut result = [0; 32];
    let digits = result.iter_mut().zip(order.iter().zip(s)).rev();
    for (out, (high, low)) in digits {
        let sum = 256 + u16::from(*high) - u16::from(*low) - borrow;
        *out = u8::try_from(sum % 256).unwrap_or_default();
        borrow = u16::from(sum < 256);
    }
    result
}
