//! What a wallet's usual check of locked ecash takes, and the strict verifier refuses: each shown to
//! both, signed by a real mint.

use std::collections::BTreeSet;

use cdk::Amount;
use cdk::nuts::{CurrencyUnit, PreMintSecrets, Proof, SecretKey, SpendingConditions, Token};
use cdk::secret::Secret;
use streampay_cashu::chain::{LockKind, LockTerms};
use streampay_cashu::verify::{Dleq, TrustedKeyset, VerifyError, Wanted, verify_proof};

use crate::mint::{Purseless, TestMint};

const AMOUNT: u64 = 8;
const NONCE: [u8; 32] = [7; 32];

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

fn agreed() -> LockTerms {
    LockTerms {
        receiver: key(1).public_key(),
        refund: key(2).public_key(),
        locktime: cdk::util::unix_time() + 4 * 3_600,
    }
}

struct Till {
    mint: std::sync::Arc<TestMint>,
    purses: Purseless,
    terms: LockTerms,
    keyset: TrustedKeyset,
}

impl Till {
    async fn new() -> Self {
        let mint = TestMint::new(0).await;
        let purses = Purseless::new(&mint, 1, 0).await;
        let set = purses.wallet.active_keyset().await.unwrap();
        Self {
            mint,
            purses,
            terms: agreed(),
            keyset: TrustedKeyset::new(set).unwrap(),
        }
    }

    /// A proof of this secret that the mint signed.
    async fn signed(&self, secret: String) -> Proof {
        let set = self.purses.wallet.active_keyset().await.unwrap();
        let (amounts, secrets) = (vec![Amount::from(AMOUNT)], vec![Secret::new(secret)]);
        let outputs = PreMintSecrets::from_secrets(set.id, amounts, secrets).unwrap();
        let signed = self.mint.mint.blind_sign(outputs.blinded_messages()).await;
        let proofs = cdk::dhke::construct_proofs(
            signed.unwrap(),
            outputs.rs(),
            outputs.secrets(),
            &set.keys,
        );
        proofs.unwrap().remove(0)
    }

    /// Whether the usual check takes it for locked to the receiver.
    async fn usual(&self, proof: &Proof, wanted: SpendingConditions) -> bool {
        let wallet = &self.purses.wallet;
        let url = wallet.mint_url.clone();
        let token = Token::new(url, vec![proof.clone()], None, CurrencyUnit::Sat);
        wallet.verify_token_p2pk(&token, wanted).await.is_ok()
    }

    fn strict(&self, proof: &Proof) -> Result<(), VerifyError> {
        let wanted = Wanted {
            keyset: &self.keyset,
            unit: &CurrencyUnit::Sat,
            terms: self.terms,
            refund_window_s: 3_600,
            max_fee_ppk: 0,
        };
        let seen = BTreeSet::new();
        verify_proof(proof, AMOUNT, LockKind::P2pk, &wanted, &seen, &Dleq).map(|_| ())
    }
}

fn to_receiver(terms: &LockTerms) -> SpendingConditions {
    SpendingConditions::new_p2pk(terms.receiver, None)
}

/// Locked to the receiver with these tags alone.
fn p2pk(terms: &LockTerms, tags: &str) -> String {
    let (nonce, data) = ("07".repeat(32), terms.receiver.to_hex());
    format!("[\"P2PK\",{{\"nonce\":\"{nonce}\",\"data\":\"{data}\",\"tags\":[{tags}]}}]")
}

/// Until then, with the flag that is agreed: there is nothing else to refuse it for.
fn until(ends: u64) -> String {
    format!("[\"locktime\",\"{ends}\"],[\"sigflag\",\"SIG_INPUTS\"]")
}

#[tokio::test]
async fn lock_that_ends_in_seconds_and_then_belongs_to_anybody_is_refused() {
    let till = Till::new().await;
    let now = cdk::util::unix_time();
    for ends in [now + 3, now - 1] {
        let proof = till.signed(p2pk(&till.terms, &until(ends))).await;
        assert!(till.usual(&proof, to_receiver(&till.terms)).await);
        assert_eq!(till.strict(&proof), Err(VerifyError::Locktime));
        if ends < now {
            // Anybody's: it is taken back unsigned.
            let set = till.purses.wallet.active_keyset().await.unwrap();
            let (amounts, secrets) = (vec![Amount::from(AMOUNT)], vec![Secret::generate()]);
            let outputs = PreMintSecrets::from_secrets(set.id, amounts, secrets).unwrap();
            let outputs = outputs.blinded_messages();
            let swap = cdk::nuts::SwapRequest::new(vec![proof], outputs);
            till.mint.mint.process_swap_request(swap).await.unwrap();
        }
    }
    let locktime = till.terms.locktime;
    let proof = till.signed(p2pk(&till.terms, &until(locktime))).await;
    assert!(till.usual(&proof, to_receiver(&till.terms)).await);
    assert_eq!(till.strict(&proof), Err(VerifyError::Refund));
}

#[tokio::test]
async fn hash_that_nobody_knows_the_preimage_of_is_refused() {
    let till = Till::new().await;
    let nobodys = till.terms.secret(LockKind::Htlc([0xab; 32]), &NONCE);
    let refund = format!(
        "[\"locktime\",\"{}\"],[\"refund\",\"{}\"],",
        till.terms.locktime,
        till.terms.refund.to_hex()
    );
    let nobodys = nobodys.to_string().replace(&refund, "");
    let proof = till.signed(nobodys).await;
    assert!(till.usual(&proof, to_receiver(&till.terms)).await);
    assert_eq!(till.strict(&proof), Err(VerifyError::Kind));
}

#[tokio::test]
async fn signature_over_more_than_the_input_is_refused() {
    let till = Till::new().await;
    let proof = till
        .signed(p2pk(&till.terms, "[\"sigflag\",\"SIG_ALL\"]"))
        .await;
    assert!(till.usual(&proof, to_receiver(&till.terms)).await);
    assert_eq!(till.strict(&proof), Err(VerifyError::Flag));
}

#[tokio::test]
async fn ecash_that_the_mint_never_signed_is_refused() {
    let till = Till::new().await;
    let good = till.terms.secret(LockKind::P2pk, &NONCE).to_string();
    let good = till.signed(good).await;
    assert_eq!(till.strict(&good), Ok(()));
    // The usual check is told what was agreed.
    let conditions = cdk::nuts::nut10::Secret::try_from(&good.secret).unwrap();
    let conditions = SpendingConditions::try_from(conditions).unwrap();
    let mut unproven = good.clone();
    unproven.dleq = None;
    let mut forged = good.clone();
    forged.c = key(3).public_key();
    for (proof, error) in [(unproven, VerifyError::NoDleq), (forged, VerifyError::Dleq)] {
        assert!(till.usual(&proof, conditions.clone()).await, "{error}");
        assert_eq!(till.strict(&proof), Err(error));
    }
}
