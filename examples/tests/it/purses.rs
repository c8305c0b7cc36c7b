//! Purses on disk, worked on without a session.

use std::collections::BTreeSet;

use streampay_core::backend::{
    Answer, BackendError, BackendMachine, Effect, Outcome, RefusalCode, Request, RestoredPurse,
};
use streampay_core::driver::EffectRunner;
use streampay_core::store::{Store, StoreError, purse_prefix, session_of};
use streampay_core::units::{Now, PurseId, PurseKey, RequestId};

/// All purses that `store` holds records of, in order.
///
/// # Errors
/// [`StoreError`] where it cannot be read.
pub(crate) fn purses_in(store: &dyn Store) -> Result<BTreeSet<PurseKey>, StoreError> {
    let mut purses = BTreeSet::new();
    for (key, _) in store.scan(b"s")? {
        let Some(session) = session_of(&key) else {
            continue;
        };
        let mut purse = PurseKey {
            session,
            purse: PurseId(0),
        };
        let prefix = purse_prefix(purse);
        let head = prefix.len().saturating_sub(4);
        let number = key.get(head..prefix.len()).map(TryInto::try_into);
        if let (true, Some(Ok(number))) = (key.get(..head) == prefix.get(..head), number) {
            purse.purse = PurseId(u32::from_be_bytes(number));
            purses.insert(purse);
        }
    }
    Ok(purses)
}

/// The records of one purse, by sub-key.
///
/// # Errors
/// [`StoreError`] where they cannot be read.
pub(crate) fn records_of(store: &dyn Store, purse: PurseKey) -> Result<RestoredPurse, StoreError> {
    let prefix = purse_prefix(purse);
    let found = store.scan(&prefix)?.into_iter();
    Ok(found
        .filter_map(|(key, value)| Some((key.get(prefix.len()..)?.to_vec(), value)))
        .collect())
}

/// Makes a request and runs its effects to the outcome, everything durable before it is acted on.
/// None for a request without an outcome.
///
/// # Errors
/// [`StoreError`] where the store fails; nothing was acted on then.
pub(crate) async fn run_to_outcome(
    machine: &mut dyn BackendMachine,
    runner: &dyn EffectRunner,
    store: &mut dyn Store,
    purse: PurseKey,
    request: Request,
) -> Result<Option<Outcome>, StoreError> {
    let answer = machine.request(Now::default(), purse, RequestId(0), request);
    finish(machine, runner, store, purse, answer).await
}

/// Runs an answer's effects, and theirs, to the outcome.
///
/// # Errors
/// [`StoreError`] where the store fails.
pub(crate) async fn finish(
    machine: &mut dyn BackendMachine,
    runner: &dyn EffectRunner,
    store: &mut dyn Store,
    purse: PurseKey,
    answer: Answer,
) -> Result<Option<Outcome>, StoreError> {
    let method = machine.method();
    let mut outcome = None;
    let mut next = answer;
    let mut waiting: Vec<Effect> = Vec::new();
    loop {
        let Answer {
            outcome: reached,
            delta,
            node_delta,
            effects,
            ..
        } = next;
        store.append(&[delta.within_purse(purse), node_delta.within_node(method)])?;
        outcome = reached.or(outcome);
        waiting.extend(effects);
        let Some(effect) = waiting.pop() else {
            return Ok(outcome);
        };
        let result = runner.run(effect).await;
        next = machine.effect_done(Now::default(), result);
    }
}

/// Restores every purse in `store` into `machine`, finishes what was under way and releases what
/// a payer's purses still hold: each purse with its outcome. Sessions must not run meanwhile.
///
/// # Errors
/// [`StoreError`] where the store fails.
pub(crate) async fn recover_purses(
    machine: &mut dyn BackendMachine,
    runner: &dyn EffectRunner,
    store: &mut dyn Store,
) -> Result<Vec<(PurseKey, Outcome)>, StoreError> {
    let mut outcomes = Vec::new();
    for purse in purses_in(store)? {
        let records = records_of(store, purse)?;
        let restored = machine.restore(Now::default(), purse, records);
        finish(machine, runner, store, purse, restored).await?;
        let released = run_to_outcome(machine, runner, store, purse, Request::Release).await?;
        let outcome = match released {
            // A payee's purse: nothing to release, something to settle.
            Some(Outcome::Failed(BackendError::Fatal(RefusalCode::OutOfOrder))) => {
                run_to_outcome(
                    machine,
                    runner,
                    store,
                    purse,
                    Request::Settle {
                        cumulative: streampay_core::units::Msat::ZERO,
                    },
                )
                .await?
            }
            other => other,
        };
        outcomes.extend(outcome.map(|outcome| (purse, outcome)));
    }
    Ok(outcomes)
}
