use proptest::prelude::*;
use streampay_core::units::{PurseId, PurseKey, SessionId, XOnlyKey};

use super::*;

const KEY: PurseKey = PurseKey {
    session: SessionId([7; 32]),
    purse: PurseId(3),
};

fn keys() -> PurseKeys {
    PurseKeys {
        payer: XOnlyKey([1; 32]),
        payee: XOnlyKey([2; 32]),
        purse: KEY,
    }
}

fn root() -> ReceiverKey {
    ReceiverKey::from_bytes(&[9; 32]).unwrap()
}

fn chain(steps: u64) -> Chain {
    Chain::new(Preimage::new([5; 32]), steps).unwrap()
}

pub(crate) fn funding(steps: u64, amounts: &[u64]) -> Funding {
    let refund = cdk::nuts::SecretKey::from_slice(&[8; 32]).unwrap();
    let mut keyset = [1; 33];
    keyset[1] = 2;
    let mut funding = Funding::new(
        KEY,
        ("https://mint.example", "sat"),
        &keyset,
        steps,
        amounts.to_vec(),
        (1_800_014_400, refund.public_key()),
        [6; 32],
        &chain(steps).locks(),
    );
    let count = usize::try_from(steps).unwrap() * amounts.len();
    let mut piece = [1; PIECE];
    piece[..33].copy_from_slice(&refund.public_key().to_bytes());
    funding.pieces = piece.repeat(count).into();
    funding
}

fn funded(steps: u64, amounts: &[u64]) -> Funded {
    let receiver = keys().receiver(root().public()).unwrap();
    funding(steps, amounts).with_receiver(receiver).unwrap()
}

proptest! {
    #[test]
    fn newest_preimage_gives_every_older_one(top: [u8; 32], steps in 1_u64..200, at in 0_u64..200) {
        let chain = Chain::new(Preimage::new(top), steps).unwrap();
        let step = at % steps + 1;
        let newest = chain.preimage(step).unwrap();
        prop_assert_eq!(&chain.locks()[usize::try_from(step).unwrap() - 1], &newest.lock());
        for back in 0..step {
            let older = walk_back(&newest, back);
            prop_assert_eq!(older, chain.preimage(step - back));
        }
        prop_assert_eq!(chain.preimage(0), None);
        prop_assert_eq!(chain.preimage(steps + 1), None);
    }

    #[test]
    fn no_public_lock_opens_another(top: [u8; 32], steps in 2_u64..60) {
        let chain = Chain::new(Preimage::new(top), steps).unwrap();
        let locks = chain.locks();
        for lock in &locks {
            let shown = Preimage::new(*lock);
            prop_assert!(!locks.contains(&shown.lock()));
            prop_assert!(!locks.contains(&shown.older().lock()));
        }
    }

    #[test]
    fn mangled_fundings_are_read_as_they_are_or_not_at_all(
        steps in 1_u64..5, at: prop::sample::Index, flip in 1_u8..=255, cut: prop::sample::Index,
    ) {
        let good = funding(steps, &[8, 2]).encode();
        let mut bad = good.clone();
        let at = at.index(bad.len());
        bad[at] ^= flip;
        prop_assert_eq!(Funding::decode(KEY, &good).map(|read| read.encode()), Ok(good.clone()));
        if let Ok(read) = Funding::decode(KEY, &bad) {
            prop_assert_eq!(read.encode(), bad);
        }
        prop_assert!(Funding::decode(KEY, &good[..cut.index(good.len())]).is_err());
    }

    #[test]
    fn steps_and_proofs_count_alike(step in 1_u64..2000, per_step in 1_usize..24, within in 0_u64..24) {
        let per = u64::try_from(per_step).unwrap();
        let number = first_proof(step, per_step) + within % per;
        prop_assert_eq!(step_of(number, per_step), step);
    }
}

#[test]
fn chains_are_bounded() {
    let top = Preimage::new([1; 32]);
    assert!(Chain::new(top.clone(), 0).is_none());
    assert!(Chain::new(top.clone(), STEPS_MAX).is_some());
    assert!(Chain::new(top.clone(), STEPS_MAX + 1).is_none());
    assert!(walk_back(&top, STEPS_MAX + 1).is_none());
}

#[test]
fn every_purse_has_its_own_key() {
    let secret = root().of_purse(&keys()).unwrap();
    assert_eq!(keys().receiver(root().public()), Some(secret.public_key()));
    let other = |change: fn(&mut PurseKeys)| {
        let mut keys = keys();
        change(&mut keys);
        keys.receiver(root().public()).unwrap()
    };
    let others = [
        other(|keys| keys.payer.0[0] = 0),
        other(|keys| keys.payee.0[0] = 0),
        other(|keys| keys.purse.session.0[0] = 0),
        other(|keys| keys.purse.purse.0 = 4),
        root().public(),
    ];
    assert!(!others.contains(&secret.public_key()));
}

#[test]
fn fundings_of_another_shape_are_refused() {
    assert!(Funding::decode(KEY, &funding(4, &[8, 2]).encode()).is_ok());
    let mut other = KEY;
    other.purse.0 = 4;
    assert_eq!(
        Funding::decode(other, &funding(4, &[8, 2]).encode()),
        Err(FundingError::WrongPurse)
    );
    type Change = fn(&mut Funding);
    let cases: [(&str, Change); 9] = [
        ("no step", |funding| funding.steps = 0),
        ("a lock too few", |funding| {
            funding.locks = funding.locks[32..].to_vec().into();
        }),
        ("a proof too few", |funding| {
            funding.pieces = funding.pieces[PIECE..].to_vec().into();
        }),
        ("no proofs at all", |funding| {
            funding.pieces = Vec::new().into()
        }),
        ("an amount of nothing", |funding| {
            funding.amounts = vec![8, 0]
        }),
        ("smallest first", |funding| funding.amounts = vec![2, 8]),
        ("amounts that overflow", |funding| {
            funding.amounts = vec![u64::MAX, 2]
        }),
        ("no amount", |funding| funding.amounts = Vec::new()),
        ("a long name", |funding| funding.mint = "x".repeat(257)),
    ];
    for (name, change) in cases {
        let mut funding = funding(4, &[8, 2]);
        change(&mut funding);
        let got = Funding::decode(KEY, &funding.encode());
        assert_eq!(got, Err(FundingError::Shape), "{name}");
    }
    let mut many = funding(1, &[1]);
    many.steps = 768 + 1;
    many.locks = vec![0; 32 * 769].into();
    many.pieces = vec![0; PIECE * 769].into();
    assert_eq!(
        Funding::decode(KEY, &many.encode()),
        Err(FundingError::Shape)
    );
    assert_eq!(Funding::decode(KEY, &[]), Err(FundingError::Malformed));
    let mut trailing = funding(1, &[1]).encode();
    trailing.push(0);
    assert_eq!(
        Funding::decode(KEY, &trailing),
        Err(FundingError::Malformed)
    );
}

#[test]
fn funding_is_compact() {
    let small = funding(1, &[8, 2]).encode().len();
    let large = funding(101, &[8, 2]).encode().len();
    assert!((large - small) / 100 <= 32 + 2 * PIECE + 1);
    let most = funding(384, &[8, 2]).encode().len();
    assert!(most <= streampay_core::wire::OPENING_MAX, "{most}");
}

#[test]
fn secrets_are_spelled_as_the_mints_read_them() {
    let funded = funded(2, &[8, 2]);
    let secret = funded.secret(3).unwrap();
    let read = cdk::nuts::nut10::Secret::try_from(&secret).unwrap();
    let conditions = cdk::nuts::SpendingConditions::try_from(read).unwrap();
    assert_eq!(conditions.kind(), cdk::nuts::Kind::HTLC);
    assert_eq!(conditions.pubkeys(), Some(vec![funded.terms.receiver]));
    assert_eq!(conditions.refund_keys(), Some(vec![funded.terms.refund]));
    assert_eq!(conditions.locktime(), Some(1_800_014_400));
    let single = funded.terms.secret(LockKind::P2pk, &[3; 32]);
    let read = cdk::nuts::nut10::Secret::try_from(&single).unwrap();
    let conditions = cdk::nuts::SpendingConditions::try_from(read).unwrap();
    assert_eq!(conditions.kind(), cdk::nuts::Kind::P2PK);
    assert_eq!(conditions.pubkeys(), Some(vec![funded.terms.receiver]));
}

#[test]
fn releases_cover_what_was_never_shown_and_verify() {
    let funded = funded(10, &[8, 2]);
    let key = root().of_purse(&keys()).unwrap();
    let release = Release::sign(KEY, &funded, 5, &key).unwrap();
    let bytes = release.encode();
    let read = |revealed, bytes: &[u8]| Release::decode(KEY, &funded, revealed, bytes);
    assert_eq!(read(4, &bytes).unwrap().verify(&funded), Ok(()));
    assert!(
        read(9, &bytes).is_ok(),
        "the payee gives back what was shown"
    );
    assert_eq!(
        read(3, &bytes),
        Err(ReleaseError::Shape),
        "not all that was never shown"
    );
    let late = Release::sign(KEY, &funded, 11, &key).unwrap().encode();
    assert_eq!(read(4, &late), Err(ReleaseError::Shape));
    assert_eq!(read(4, &bytes[..9]), Err(ReleaseError::Malformed));
    let mut other = KEY;
    other.purse.0 += 1;
    assert_eq!(
        Release::decode(other, &funded, 4, &bytes),
        Err(ReleaseError::WrongPurse)
    );
    let thief = cdk::nuts::SecretKey::from_slice(&[3; 32]).unwrap();
    let forged = Release::sign(KEY, &funded, 5, &thief).unwrap();
    assert_eq!(forged.verify(&funded), Err(ReleaseError::Signature));
    assert_eq!(
        release.signature(&funded, 7),
        None,
        "of step 4, which is paid"
    );
}
