//! Keysets: that they are what their ids say, and what was agreed.

use bitcoin_hashes::{Hash, sha256};

use super::*;

#[test]
fn keysets_are_checked_against_their_own_keys() {
    let mut forged = keyset(CurrencyUnit::Sat, 100, None);
    forged.input_fee_ppk = 0;
    assert_eq!(
        TrustedKeyset::new(forged).err(),
        Some(VerifyError::KeysetId)
    );
    let mut v1 = keyset(CurrencyUnit::Sat, 100, None);
    v1.id = Id::v1_from_keys(&v1.keys);
    assert!(TrustedKeyset::new(v1).is_ok(), "ids of version 1 too");
    let mut none = keyset(CurrencyUnit::Sat, 100, None);
    none.final_expiry = Some(0);
    let trusted = TrustedKeyset::new(none.clone()).unwrap();
    let checked = wanted(&trusted).check_keyset();
    assert_eq!(checked, Ok(()), "an end of 0 is none");
    none.id = Id::from_bytes(&hashed_with_its_end(&none)).unwrap();
    assert_eq!(
        TrustedKeyset::new(none).err(),
        Some(VerifyError::KeysetId),
        "and is no part of the id"
    );
    let ends = LOCKTIME + 3_600;
    let cases = [
        (keyset(CurrencyUnit::Sat, 100, Some(ends)), Ok(())),
        (
            keyset(CurrencyUnit::Sat, 100, Some(ends - 1)),
            Err(VerifyError::FinalExpiry),
        ),
        (
            keyset(CurrencyUnit::Sat, 100, Some(1)),
            Err(VerifyError::FinalExpiry),
        ),
        (
            keyset(CurrencyUnit::Msat, 100, None),
            Err(VerifyError::Unit),
        ),
        (
            keyset(CurrencyUnit::Sat, 1_001, None),
            Err(VerifyError::Fee),
        ),
    ];
    for (set, expect) in cases {
        let expiry = set.final_expiry;
        let trusted = TrustedKeyset::new(set).unwrap();
        assert_eq!(wanted(&trusted).check_keyset(), expect, "{expiry:?}");
    }
}

/// The id that nutshell 0.21 gives a keyset where it is told no end by hand.
fn hashed_with_its_end(set: &KeySet) -> Vec<u8> {
    let keys: Vec<String> = set
        .keys
        .iter()
        .map(|(amount, key)| format!("{amount}:{key}"))
        .collect();
    let (keys, ppk) = (keys.join(","), set.input_fee_ppk);
    let text = format!("{keys}|unit:sat|input_fee_ppk:{ppk}|final_expiry:0");
    let without = text.trim_end_matches("|final_expiry:0");
    let id = |text: &str| {
        [
            &[1],
            sha256::Hash::hash(text.as_bytes())
                .as_byte_array()
                .as_slice(),
        ]
        .concat()
    };
    assert_eq!(id(without), set.id.to_bytes(), "hashed as NUT-02 says");
    id(&text)
}
