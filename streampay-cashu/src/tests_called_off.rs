//! A purse that is released while it is planned: nothing is split or locked for it any more, and
//! what the plan reserves goes back once the plan is there.

use cdk::nuts::SecretKey;
use streampay_core::backend::{
    Answer, BackendError, BackendMachine, EffectResult, Outcome, PurseOffer, RefusalCode, Request,
};
use streampay_core::units::{Msat, Now, PurseId, PurseKey, RequestId, Seq, SessionId, XOnlyKey};

use crate::codec;
use crate::coin::Seed;
use crate::job::{Done, Job, Listed, Plan};
use crate::locked::job::{LockedDone, LockedJob};
use crate::{AcceptedMint, LockedMachine, LockedParams, LockedPolicy, SwapMachine, SwapParams};

const KEY: PurseKey = PurseKey {
    session: SessionId([7; 32]),
    purse: PurseId(3),
};

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

fn ask(machine: &mut dyn BackendMachine, id: u64, request: Request) -> Answer {
    machine.request(Now::default(), KEY, RequestId(id), request)
}

fn job(answer: &Answer) -> Option<Job> {
    let effect = answer.effects.first()?;
    codec::decode(&effect.body, usize::MAX).ok()
}

/// What the wallet says to the plan: reserved, or not.
fn planned(mints: &[Listed]) -> Plan {
    Plan {
        place: mints[0].place.clone(),
        keyset: vec![1; 33].into(),
        seed: Seed::new([1; 64]),
        inputs: Vec::new(),
        token: vec![2],
        count: 4,
        change: Vec::new(),
        fee: 0,
    }
}

fn check(mut machine: Box<dyn BackendMachine>, params: bytes::Bytes) {
    let kind = machine.method();
    for case in 0..3 {
        let offer = PurseOffer {
            params: params.clone(),
            tick: sat(2),
            payer_key: XOnlyKey([1; 32]),
            payee_key: payee_key(),
        };
        let open = Request::Open {
            offer,
            capacity: sat(10),
            budget: sat(10),
        };
        // A session may tell what was acknowledged before the purse is known.
        let acked = Request::Acked {
            seq: Seq(0),
            cumulative: Msat::ZERO,
        };
        assert_eq!(ask(machine.as_mut(), 0, acked).outcome, None, "{kind}");
        let answer = ask(machine.as_mut(), 1, open);
        let plan = job(&answer).unwrap();
        let ok = match plan {
            Job::Plan { mints, .. } => Done::Planned(planned(&mints)),
            Job::Locked(job) => match *job {
                LockedJob::Plan { mints, .. } => Done::Locked(LockedDone::Planned {
                    plan: planned(&mints),
                    time_s: 1_800_000_000,
                    ppk: 0,
                }),
                _ => panic!("{kind}: no plan"),
            },
            _ => panic!("{kind}: no plan"),
        };
        let released = ask(machine.as_mut(), 2, Request::Release);
        assert_eq!(released.outcome, None, "{kind}");
        assert!(job(&released).is_none(), "{kind}: the plan is under way");
        let result = match case {
            0 => Ok(codec::encode(&ok).into()),
            1 => Err(BackendError::Transient),
            _ => Err(BackendError::Fatal(RefusalCode::InsufficientFunds)),
        };
        let id = answer.effects[0].id;
        let purse = KEY;
        let given_back = machine.effect_done(Now::default(), EffectResult { purse, id, result });
        assert_eq!(given_back.outcome, None, "{kind} {case}");
        assert!(
            matches!(job(&given_back), Some(Job::Abandon { .. })),
            "{kind} {case}"
        );
        let done = EffectResult {
            purse,
            id: given_back.effects[0].id,
            result: Ok(codec::encode(&Done::Sum(0)).into()),
        };
        let answer = machine.effect_done(Now::default(), done);
        let refunded = Msat::ZERO;
        assert_eq!(
            answer.outcome,
            Some(Outcome::Released { refunded }),
            "{kind} {case}"
        );
        machine.forget(KEY);
    }
}

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

fn payee_key() -> XOnlyKey {
    XOnlyKey(key(2).public_key().x_only_public_key().serialize())
}

#[test]
fn purse_called_off_while_it_is_planned_gives_back_what_it_reserved() {
    let mints = || vec![AcceptedMint::sat("https://mint.example").unwrap()];
    let swap = SwapParams::new(mints()).unwrap().encode();
    check(Box::new(SwapMachine::default()), swap);
    let locked = LockedParams::new(mints(), key(3).public_key())
        .unwrap()
        .encode();
    for machine in [LockedMachine::chain, LockedMachine::p2pk] {
        check(
            Box::new(machine(LockedPolicy::default(), None)),
            locked.clone(),
        );
    }
}
