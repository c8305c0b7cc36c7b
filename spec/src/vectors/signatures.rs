//! BIP 340 signatures, good and bad: those of BIP 340 itself, and those of the protocol.

use serde_json::Value;
use streampay_core::session::{Hash, Receipt, Role, SecretKey, Signature};
use streampay_core::units::XOnlyKey;

use super::hashes::bad_key;
use super::samples;
use crate::json::{Object, unhex};
use crate::people::{evidence, key, receipt, session, terms};

/// Secret key, auxiliary randomness and message of the first four cases of BIP 340's
/// `test-vectors.csv`.
const SIGNED: [[&str; 3]; 4] = [
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

/// What is wrong, key, message and signature of the cases 4 to 14 of the same file; all but the
/// first are not valid. Those after 14 have messages of other lengths than a hash.
const SHOWN: [(&str, &str, &str, &str); 11] = [
    (
        "valid, by a key that is not shown",
        "d69c3509bb99e412e68b0fe8544e72837dfa30746d8be2aa65975f29d22dc7b9",
        "4df3c3f68fcc83b27e9d42c90431a72499f17875c81a599b566c9889b9696703",
        "00000000000000000000003b78ce563f89a0ed9414f5aa28ad0d96d6795f9c6376afb1548af603b3eb45c9f8207dee1060cb71c04e80f593060b07d28308d7f4",
    ),
    (
        "the key is not on the curve",
        "eefdea4cdb677750a420fee807eacf21eb9898ae79b9768766e4faa04a2d4a34",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "6cff5c3ba86c69ea4b7376f31a9bcb4f74c1976089b2d9963da2e5543e17776969e89b4c5564d00349106b8497785dd7d1d713a8ae82b32fa79d5f7fc407d39b",
    ),
    (
        "R has an odd y",
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "fff97bd5755eeea420453a14355235d382f6472f8568a18b2f057a14602975563cc27944640ac607cd107ae10923d9ef7a73c643e166be5ebeafa34b1ac553e2",
    ),
    (
        "the message is negated",
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "1fa62e331edbc21c394792d2ab1100a7b432b013df3f6ff4f99fcb33e0e1515f28890b3edb6e7189b630448b515ce4f8622a954cfe545735aaea5134fccdb2bd",
    ),
    (
        "s is negated",
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "6cff5c3ba86c69ea4b7376f31a9bcb4f74c1976089b2d9963da2e5543e177769961764b3aa9b2ffcb6ef947b6887a226e8d7c93e00c5ed0c1834ff0d0c2e6da6",
    ),
    (
        "R is infinite, as with x 0",
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "0000000000000000000000000000000000000000000000000000000000000000123dda8328af9c23a94c1feecfd123ba4fb73476f0d594dcb65c6425bd186051",
    ),
    (
        "R is infinite, as with x 1",
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "00000000000000000000000000000000000000000000000000000000000000017615fbaf5ae28864013c099742deadb4dba87f11ac6754f93780d5a1837cf197",
    ),
    (
        "r is not on the curve",
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "4a298dacae57395a15d0795ddbfd1dcb564da82b0f269bc70a74f8220429ba1d69e89b4c5564d00349106b8497785dd7d1d713a8ae82b32fa79d5f7fc407d39b",
    ),
    (
        "r is the field size",
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f69e89b4c5564d00349106b8497785dd7d1d713a8ae82b32fa79d5f7fc407d39b",
    ),
    (
        "s is the order",
        "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "6cff5c3ba86c69ea4b7376f31a9bcb4f74c1976089b2d9963da2e5543e177769fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
    ),
    (
        "the key is above the field size",
        "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc30",
        "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
        "6cff5c3ba86c69ea4b7376f31a9bcb4f74c1976089b2d9963da2e5543e17776969e89b4c5564d00349106b8497785dd7d1d713a8ae82b32fa79d5f7fc407d39b",
    ),
];

/// All cases.
///
/// # Errors
/// A text where a key or a signature is not what it should be.
pub(super) fn cases() -> Result<Vec<Value>, String> {
    let mut cases = Vec::new();
    for (at, [secret, aux, hash]) in SIGNED.into_iter().enumerate() {
        let key = SecretKey::from_bytes(array(secret)?).map_err(bad_key)?;
        cases.push(signed(
            &format!("BIP 340 case {at}"),
            &key,
            array(hash)?,
            array(aux)?,
        ));
    }
    for (at, shown) in (SIGNED.len()..).zip(SHOWN) {
        cases.push(seen(at, shown)?);
    }
    cases.extend(own()?);
    cases.extend(bad()?);
    Ok(cases)
}

fn array<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let bytes = unhex(text).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| format!("{N} bytes are none"))
}

/// A case of BIP 340 whose secret key is not shown.
fn seen(
    at: usize,
    (what, key, hash, signature): (&str, &str, &str, &str),
) -> Result<Value, String> {
    let (key, hash) = (XOnlyKey(array(key)?), array(hash)?);
    let (signature, valid) = (Signature(array(signature)?), at == SIGNED.len());
    if key.verifies(Hash(hash), &signature) != valid {
        return Err(format!("BIP 340 case {at}: valid is not {valid}"));
    }
    let name = format!("BIP 340 case {at}: {what}");
    Ok(case(&name, key, hash, signature, valid).done())
}

/// What is signed in a session, and by whom.
fn own() -> Result<Vec<Value>, String> {
    let bound = samples::binding([0; 32]).map_err(bad_key)?;
    let terms = terms().map_err(bad_key)?;
    let payer_role = Role::Payer.hash(bound.hash());
    let payee_role = Role::Payee.hash(bound.hash());
    let receipt = receipt().hash(session());
    let nothing = Receipt::default().hash(session());
    let offer = super::hashes::an_offer(&terms)?.hash(session());
    let closed = samples::a_closed().map_err(bad_key)?;
    let closed = closed.hash(session(), &samples::HELLO_NONCE);
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
        (
            "the empty receipt, by the payee's session key",
            "payee-session",
            nothing,
            [0; 32],
        ),
        (
            "offer of other terms, by the payee's identity",
            "payee",
            offer,
            [0; 32],
        ),
        (
            "proof of a `closed`, by the payee's session key",
            "payee-session",
            closed,
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

/// A receipt's signature, broken, and shown where it does not belong.
fn bad() -> Result<Vec<Value>, String> {
    let good = evidence().map_err(bad_key)?;
    let signer = key("payee-session").map_err(bad_key)?;
    let (key, hash) = (signer.public(), good.receipt.hash(session()).0);
    let zeroed = |half: core::ops::Range<usize>| {
        let mut bytes = good.signature.0;
        bytes
            .get_mut(half)
            .into_iter()
            .for_each(|half| half.fill(0));
        Signature(bytes)
    };
    let flip = |at: usize| {
        let mut bytes = good.signature.0;
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1;
        }
        Signature(bytes)
    };
    let person = |name| crate::people::key(name).map_err(bad_key);
    let (other, identity) = (person("payer-session")?, person("payee")?);
    let session_of_another = good.receipt.hash(samples::OTHER_SESSION).0;
    let zero = [0; 32];
    let cases = [
        ("first bit of r", key, hash, flip(0)),
        ("last bit of s", key, hash, flip(63)),
        ("r is zero", key, hash, zeroed(0..32)),
        ("s is zero", key, hash, zeroed(32..64)),
        ("another session", key, session_of_another, good.signature),
        ("the payer's key", other.public(), hash, good.signature),
        (
            "the payee's identity",
            identity.public(),
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
