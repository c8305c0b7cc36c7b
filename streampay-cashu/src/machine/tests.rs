use bytes::Bytes;
use cdk::nuts::{Id, Proof, SecretKey};
use cdk::secret::Secret;
use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Consumed, EffectResult, Outcome, PurseOffer, RefusalCode,
    Request,
};
use streampay_core::store::{ChangeSet, Key};
use streampay_core::units::{
    EffectId, Msat, Now, PurseId, PurseKey, RequestId, Seq, SessionId, XOnlyKey,
};

use super::{SwapMachine, SwapPolicy};
use crate::codec;
use crate::coin::{Coin, Seed};
use crate::job::{Done, Job, Plan};
use crate::keysets::Keysets;
use crate::wire::{Expected, Opening, Payload};
use crate::{AcceptedMint, SwapParams};

const MINT: &str = "https://mint.example";
const KEY: PurseKey = PurseKey {
    session: SessionId([7; 32]),
    purse: PurseId(3),
};

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

fn offer() -> PurseOffer {
    PurseOffer {
        params: SwapParams::new(vec![AcceptedMint::sat(MINT).unwrap()])
            .unwrap()
            .encode(),
        tick: sat(2),
        payer_key: XOnlyKey([1; 32]),
        payee_key: XOnlyKey([2; 32]),
    }
}

fn keyset(byte: u8) -> Id {
    let mut bytes = [byte; 33];
    bytes[0] = 1;
    Id::from_bytes(&bytes).unwrap()
}

fn keysets(ppk: u64) -> Keysets {
    keysets_with(9, ppk)
}

/// Those of a mint that signs with this one now.
fn keysets_with(active: u8, ppk: u64) -> Keysets {
    let set = |byte: u8| cdk::nuts::KeySet {
        id: keyset(byte),
        unit: cdk::nuts::CurrencyUnit::Sat,
        active: Some(byte == active),
        keys: cdk::nuts::Keys::new(Default::default()),
        input_fee_ppk: ppk,
        final_expiry: None,
    };
    let mut sets = vec![set(9)];
    sets.extend((active != 9).then(|| set(active)));
    Keysets::new(sets).unwrap()
}

fn coin(amount: u64, id: Id, secret: u8) -> Coin {
    let secret = Secret::new(format!("{secret:02x}").repeat(32));
    let c = SecretKey::from_slice(&[5; 32]).unwrap().public_key();
    Coin::from_proof(&Proof::new(amount.into(), id, secret, c)).unwrap()
}

fn expected(seq: u64) -> Expected<'static> {
    Expected {
        key: KEY,
        seq: Seq(seq),
        mint: MINT,
        unit: "sat",
    }
}

fn payload(seq: u64, coins: Vec<Coin>) -> Bytes {
    codec::encode(&Payload::new(expected(seq), coins)).into()
}

fn ask(machine: &mut SwapMachine, request: Request) -> Answer {
    machine.request(Now::default(), KEY, RequestId(1), request)
}

fn done(machine: &mut SwapMachine, id: EffectId, done: &Done) -> Answer {
    machine.effect_done(
        Now::default(),
        EffectResult {
            purse: KEY,
            id,
            result: Ok(codec::encode(done).into()),
        },
    )
}

fn receive(seq: u64, payload: Bytes) -> Request {
    Request::Receive {
        seq: Seq(seq),
        amount: sat(2),
        cumulative: sat(2 * seq),
        payload,
    }
}

/// A payee that has accepted a purse of 5 ticks, at 100 ppk; and what it made durable.
fn payee() -> (SwapMachine, ChangeSet) {
    let mut machine = SwapMachine::new(SwapPolicy::default());
    let opening = Opening::new(KEY, MINT.to_owned(), "sat".to_owned(), 5);
    let request = Request::Accept {
        offer: offer(),
        opening: codec::encode(&opening).into(),
    };
    let answer = ask(&mut machine, request);
    let mut records = answer.delta;
    let id = answer.effects[0].id;
    let keysets = Done::Keysets(keysets(100), Seed::new([4; 64]));
    let answer = done(&mut machine, id, &keysets);
    let capacity = sat(10);
    assert_eq!(
        answer.outcome,
        Some(Outcome::Accepted {
            capacity,
            quantum: sat(1)
        })
    );
    records.merge(answer.delta);
    (machine, records)
}

fn refused(code: RefusalCode) -> Option<Outcome> {
    let error = BackendError::Rejected(code, Consumed::No);
    Some(Outcome::Failed(error))
}

#[test]
fn bad_openings_are_refused_offline() {
    let opening =
        |mint: &str, unit: &str, count| Opening::new(KEY, mint.to_owned(), unit.to_owned(), count);
    let mut other_purse = KEY;
    other_purse.purse = PurseId(4);
    let elsewhere = Opening::new(other_purse, MINT.to_owned(), "sat".to_owned(), 5);
    let cases = [
        (opening(MINT, "usd", 5), RefusalCode::WrongUnit),
        (opening(MINT, "msat", 5), RefusalCode::WrongUnit),
        (opening(MINT, "", 5), RefusalCode::WrongUnit),
        (
            opening("https://other.example", "sat", 5),
            RefusalCode::WrongMint,
        ),
        (elsewhere, RefusalCode::WrongSession),
        (opening(MINT, "sat", 0), RefusalCode::Malformed),
        (opening(MINT, "sat", 65), RefusalCode::Malformed),
    ];
    for (opening, code) in cases {
        let mut machine = SwapMachine::new(SwapPolicy::default());
        let request = Request::Accept {
            offer: offer(),
            opening: codec::encode(&opening).into(),
        };
        let answer = ask(&mut machine, request);
        assert_eq!(answer.outcome, refused(code), "{code}");
        assert!(answer.effects.is_empty() && answer.delta.is_empty());
    }
}

#[test]
fn bad_payments_are_refused_offline() {
    let good = || vec![coin(2, keyset(9), 1), coin(1, keyset(9), 2)];
    let many = |count: u8| (0..count).map(|n| coin(1, keyset(9), n)).collect();
    let of = |expected| codec::encode(&Payload::new(expected, good())).into();
    let mut other_mint = expected(1);
    other_mint.mint = "https://other.example";
    let mut other_unit = expected(1);
    other_unit.unit = "usd";
    let mut other_purse = expected(1);
    other_purse.key.purse = PurseId(4);
    let mut locked = payload(1, good()).to_vec();
    locked.extend_from_slice(b"[\"P2PK\",{}]");
    let mut trailing = payload(1, good()).to_vec();
    trailing.push(0);
    let cases: Vec<(Bytes, RefusalCode)> = vec![
        (Bytes::new(), RefusalCode::Malformed),
        (vec![0x81; 9000].into(), RefusalCode::Malformed),
        (trailing.into(), RefusalCode::Malformed),
        (locked.into(), RefusalCode::WrongLock),
        (payload(1, vec![]), RefusalCode::Malformed),
        (payload(1, many(33)), RefusalCode::Malformed),
        (
            payload(1, vec![coin(2, keyset(9), 1), coin(1, keyset(9), 1)]),
            RefusalCode::Malformed,
        ),
        (of(expected(2)), RefusalCode::WrongSession),
        (of(other_purse), RefusalCode::WrongSession),
        (of(other_mint), RefusalCode::WrongMint),
        (of(other_unit), RefusalCode::WrongUnit),
        (
            payload(1, vec![coin(2, keyset(9), 1)]),
            RefusalCode::WrongAmount,
        ),
        (payload(1, many(4)), RefusalCode::WrongAmount),
        (
            payload(1, vec![coin(u64::MAX, keyset(9), 1), coin(4, keyset(9), 2)]),
            RefusalCode::WrongAmount,
        ),
    ];
    let (mut machine, _) = payee();
    for (bytes, code) in cases {
        let answer = ask(&mut machine, receive(1, bytes));
        assert_eq!(answer.outcome, refused(code), "{code}");
        assert!(answer.effects.is_empty() && answer.delta.is_empty());
    }
    let answer = ask(&mut machine, receive(1, payload(1, good())));
    assert_eq!((answer.outcome, answer.effects.len()), (None, 1));
}

#[test]
fn amounts_follow_the_tick() {
    let (mut machine, _) = payee();
    let cases = [(1, 1, 2), (1, 2, 4), (1, 2, 0), (6, 2, 12), (0, 2, 0)];
    for (seq, amount, cumulative) in cases {
        let request = Request::Receive {
            seq: Seq(seq),
            amount: sat(amount),
            cumulative: sat(cumulative),
            payload: Bytes::new(),
        };
        let answer = ask(&mut machine, request);
        let expect = match seq {
            1 => RefusalCode::WrongAmount,
            _ => RefusalCode::PurseEmpty,
        };
        assert_eq!(answer.outcome, refused(expect), "{seq} {amount}");
    }
}

#[test]
fn an_unknown_keyset_is_asked_for_once_and_then_refused() {
    let (mut machine, _) = payee();
    let strange = payload(1, vec![coin(3, keyset(8), 1)]);
    let answer = ask(&mut machine, receive(1, strange));
    let job: Job = codec::decode(&answer.effects[0].body, usize::MAX).unwrap();
    assert!(matches!(job, Job::Keysets { refresh: true, .. }));
    let known = Done::Keysets(keysets(100), Seed::new([5; 64]));
    let answer = done(&mut machine, answer.effects[0].id, &known);
    assert_eq!(answer.outcome, refused(RefusalCode::UnknownKeyset));
    assert!(answer.effects.is_empty());
}

#[test]
fn a_swap_runs_once_at_a_time_and_again_after_a_failure() {
    let (mut machine, _) = payee();
    let tick = receive(1, payload(1, vec![coin(3, keyset(9), 1)]));
    let first = ask(&mut machine, tick.clone());
    assert_eq!(first.effects.len(), 1);
    assert!(ask(&mut machine, tick.clone()).effects.is_empty());
    let failed = EffectResult {
        purse: KEY,
        id: first.effects[0].id,
        result: Err(BackendError::Unknown),
    };
    let answer = machine.effect_done(Now::default(), failed);
    assert_eq!(answer.outcome, Some(Outcome::Failed(BackendError::Unknown)));
    let again = ask(&mut machine, tick.clone());
    let job: Job = codec::decode(&again.effects[0].body, usize::MAX).unwrap();
    assert!(matches!(job, Job::SwapIn { swap } if swap.again));
    // Told twice, it is said once.
    for expect in [Some(Outcome::Credited), None] {
        let answer = done(&mut machine, again.effects[0].id, &Done::Swapped);
        assert_eq!(answer.outcome, expect);
    }
    let answer = ask(&mut machine, tick);
    assert_eq!(answer.outcome, Some(Outcome::Credited));
}

#[test]
fn what_was_under_way_is_named_again_after_a_restart() {
    let (mut machine, mut records) = payee();
    let answer = ask(
        &mut machine,
        receive(1, payload(1, vec![coin(3, keyset(9), 1)])),
    );
    records.merge(answer.delta);
    let mut restored = SwapMachine::default();
    let records: Vec<(Key, Vec<u8>)> = records
        .changes()
        .iter()
        .map(|change| (change.key.clone(), change.value.clone().unwrap()))
        .collect();
    let named = restored.restore(Now::default(), KEY, records);
    assert_eq!(named.effects.len(), 1);
    assert_eq!(named.effects[0].id, answer.effects[0].id);
    let answer = done(&mut restored, named.effects[0].id, &Done::Swapped);
    assert_eq!(answer.outcome, Some(Outcome::Credited));
}

#[test]
fn records_of_another_version_are_not_guessed_at() {
    let mut machine = SwapMachine::default();
    for record in [vec![], vec![2, 0x80], vec![1], vec![1, 0xff]] {
        let answer = machine.restore(Now::default(), KEY, vec![(b"m".to_vec(), record)]);
        let error = BackendError::Fatal(RefusalCode::Malformed);
        assert_eq!(answer.outcome, Some(Outcome::Failed(error)));
    }
}

#[test]
fn openings_that_cannot_be_are_refused() {
    let cases = [
        (sat(2), sat(1), RefusalCode::PurseEmpty),
        // Rounded up to 2 sat.
        (Msat::new(1500).unwrap(), sat(1), RefusalCode::PurseEmpty),
        (Msat::ZERO, sat(10), RefusalCode::WrongAmount),
    ];
    for (tick, capacity, code) in cases {
        let offer = PurseOffer { tick, ..offer() };
        let mut machine = SwapMachine::default();
        let answer = ask(
            &mut machine,
            Request::Open {
                offer,
                capacity,
                budget: capacity,
            },
        );
        let error = BackendError::Fatal(code);
        assert_eq!(answer.outcome, Some(Outcome::Failed(error)));
        assert!(answer.delta.is_empty());
    }
}

#[test]
fn secrets_do_not_show() {
    let coin = coin(3, keyset(9), 0xab);
    let text = format!("{coin:?} {:?} {:?}", Seed::new([0xab; 64]), payee().0);
    assert!(!text.contains("abab") && !text.contains("171"), "{text}");
}

/// The ack comes while the release asks the mint for that token: the release goes on without it.
#[test]
fn release_goes_on_where_the_ack_comes_meanwhile() {
    let mut machine = SwapMachine::default();
    let open = Request::Open {
        offer: offer(),
        capacity: sat(2),
        budget: sat(2),
    };
    let answer = ask(&mut machine, open);
    let Job::Plan { mints, .. } = job(&answer) else {
        panic!("no plan");
    };
    let plan = Plan {
        place: mints[0].place.clone(),
        keyset: keyset(9).to_bytes().into(),
        seed: Seed::new([1; 64]),
        inputs: Vec::new(),
        token: vec![2],
        count: 1,
        change: Vec::new(),
        fee: 0,
    };
    let planned = Done::Planned(plan);
    let answer = done(&mut machine, answer.effects[0].id, &planned);
    let funded = Done::Funded(vec![coin(2, keyset(9), 1)], keysets(0));
    let answer = done(&mut machine, answer.effects[0].id, &funded);
    assert!(matches!(answer.outcome, Some(Outcome::Opened(_))));
    let (seq, amount, cumulative) = (Seq(1), sat(2), sat(2));
    ask(
        &mut machine,
        Request::Pay {
            seq,
            amount,
            cumulative,
        },
    );
    let released = ask(&mut machine, Request::Release);
    assert!(matches!(job(&released), Job::SwapIn { .. }));
    let acked = ask(&mut machine, Request::Acked { seq, cumulative });
    assert_eq!((acked.outcome, acked.effects.len()), (None, 0));
    let answer = done(&mut machine, released.effects[0].id, &Done::SpentElsewhere);
    assert!(matches!(job(&answer), Job::Finish { .. }));
    let answer = done(&mut machine, answer.effects[0].id, &Done::Sum(0));
    let refunded = Msat::ZERO;
    assert_eq!(answer.outcome, Some(Outcome::Released { refunded }));
}

/// Each refusal of a swap comes with another keyset that is the active one.
#[test]
fn payment_is_not_swapped_without_a_pace_at_a_mint_whose_keyset_moves() {
    let named = |byte: u8| Done::OtherKeysets(keysets_with(byte, 100));
    let transient = Some(Outcome::Failed(BackendError::Transient));
    for settles in [false, true] {
        let (mut machine, _) = payee();
        let coins = vec![coin(2, keyset(9), 1), coin(1, keyset(9), 2)];
        let receive = receive(1, payload(1, coins));
        let swap = ask(&mut machine, receive.clone()).effects;
        let id = swap[0].id;
        let answer = done(&mut machine, id, &named(10));
        assert_eq!((answer.outcome, answer.effects.len()), (None, 1));
        let answer = done(&mut machine, id, &named(11));
        assert_eq!(answer.outcome, transient);
        assert!(answer.effects.is_empty());
        let cumulative = sat(2);
        let again = match settles {
            true => Request::Settle { cumulative },
            false => receive,
        };
        let answer = ask(&mut machine, again.clone());
        assert_eq!(
            (answer.outcome, answer.effects.len()),
            (transient.clone(), 0)
        );
        let mut later = Now::default();
        later.unix.0 += 31;
        let answer = machine.request(later, KEY, RequestId(1), again);
        assert_eq!((&answer.outcome, answer.effects.len()), (&None, 1));
        let Job::SwapIn { swap } = job(&answer) else {
            panic!("no swap");
        };
        assert_eq!(swap.keyset, keyset(11).to_bytes().into(), "{settles}");
    }
}

fn job(answer: &Answer) -> Job {
    codec::decode(&answer.effects[0].body, usize::MAX).unwrap()
}
