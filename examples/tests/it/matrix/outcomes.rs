//! Each outcome is an event that says what happens next, and that is what happens.

use streampay_core::backend::BackendError;
use streampay_core::meter::Reading;
use streampay_core::session::{CloseCode, Event};
use streampay_core::units::Seq;
use streampay_examples::report::Next;

use crate::cashu_node::sat;
use crate::live::{Mode, Plan, Played};

const fn is_progress(event: &Event) -> bool {
    matches!(
        event,
        Event::TickPaid { .. }
            | Event::TickReceived { .. }
            | Event::PurseOpen { .. }
            | Event::Resumed
            | Event::Bound { .. }
    )
}

const fn is_end(event: &Event) -> bool {
    matches!(event, Event::Settled { .. } | Event::Unsettled { .. })
}

/// Whether the session ends by `code` where what `next` says comes to nothing. As asked is no such end.
const fn gives_up(next: Next, code: CloseCode) -> bool {
    match next {
        Next::OtherPurse => matches!(
            code,
            CloseCode::NoCommonMethod
                | CloseCode::BackendFailed
                | CloseCode::InsufficientFunds
                | CloseCode::BudgetSpent
        ),
        Next::TakesBack => matches!(code, CloseCode::PaymentLost),
        Next::Decide => matches!(code, CloseCode::PaymentLost | CloseCode::Drift),
        _ => !matches!(code, CloseCode::Done),
    }
}

/// Whether the session is to end anyway after what was said: it ended, or the viewer has all it stayed for.
fn is_over(plan: &Plan, said: &[Event]) -> bool {
    said.iter().any(|event| match event {
        Event::Closed { .. } => true,
        Event::TickPaid { total, .. } | Event::TickReceived { total, .. } => {
            *total >= sat(plan.leave_at)
        }
        _ => false,
    })
}

/// Whether what `next` says is what came of it: where the session was to go on, it did, or it was given up for
/// that. That it ended as asked, and said so, is no answer: every session does.
fn came(next: Next, over: bool, after: &[Event]) -> bool {
    let any = |is: fn(&Event) -> bool| after.iter().any(is);
    let closed = any(|event| matches!(event, Event::Closed { .. }));
    let ended = over && any(is_end);
    let given_up = after
        .iter()
        .any(|event| matches!(event, Event::Closed { code, .. } if gives_up(next, *code)));
    match next {
        Next::TriesAgain | Next::Waits | Next::PaysAnew | Next::Decide => {
            ended || given_up || any(is_progress)
        }
        Next::OtherPurse => {
            ended || given_up || any(|event| matches!(event, Event::PurseOpen { .. }))
        }
        Next::TakesBack => {
            let back = |event: &Event| {
                let taken = matches!(
                    event,
                    Event::TickReclaimed { .. } | Event::TickLost { .. } | Event::Resumed
                );
                taken || is_progress(event)
            };
            ended || given_up || any(back)
        }
        Next::Settles => any(is_end),
        // Nothing more is to come of the session itself.
        Next::Retries | Next::Recover | Next::Restore | Next::StartAgain => !closed,
        // Whatever it was, the rest goes on.
        Next::Gone => ended || given_up || any(is_progress),
    }
}

/// What one side said.
fn of_side(side: &str, plan: &Plan, settled: bool, events: &[Event]) -> Result<(), String> {
    for (place, event) in events.iter().enumerate() {
        let over = is_over(plan, events.get(..place).unwrap_or_default());
        let after = events.get(place + 1..).unwrap_or_default();
        if let Some(next) = Next::after(event)
            && !came(next, over, after)
        {
            return Err(format!("{side}: {event:?} says {next:?}, then {after:?}"));
        }
    }
    let closed = events
        .iter()
        .filter(|event| matches!(event, Event::Closed { .. }));
    if closed.count() != 1 {
        return Err(format!("{side}: is not told once that it ended"));
    }
    // What could not be settled is said, and only that.
    match events.iter().rfind(|event| is_end(event)) {
        Some(Event::Settled { .. }) if settled => Ok(()),
        Some(Event::Unsettled { .. }) if !settled => Ok(()),
        other => Err(format!("{side}: settled: {settled}, and is told {other:?}")),
    }
}

/// What both sides were told, of whatever became of the session.
pub(super) fn say_what_happens_next(plan: &Plan, played: &Played) -> Result<(), String> {
    of_side("viewer", plan, played.settled.0, &played.payer)?;
    of_side("streamer", plan, played.settled.1, &played.payee)?;
    // Other than it was meant to be: something says why before the end.
    let wanted = played.acknowledged >= sat(plan.leave_at);
    let why = |event: &Event| match event {
        Event::Closed { code, .. } => *code != CloseCode::Done,
        event => Next::after(event).is_some(),
    };
    if !wanted && !played.said(why) {
        return Err(format!(
            "only {} was paid, and nothing says why",
            played.acknowledged
        ));
    }
    Ok(())
}

fn paid(total: u64) -> Event {
    Event::TickPaid {
        seq: Seq(1),
        total: sat(total),
        reading: Reading::default(),
    }
}

const fn closed(code: CloseCode) -> Event {
    Event::Closed {
        code,
        by_peer: false,
    }
}

#[test]
fn trouble_before_the_end_is_got_over_or_ends_the_session() {
    let plan = Plan::new(Mode::Chain, "");
    let trouble = || Event::BackendTrouble {
        error: BackendError::Transient,
    };
    let settled = || Event::Settled {
        total: sat(2),
        returned: sat(2),
    };
    let check = |events: Vec<Event>| of_side("viewer", &plan, true, &events).is_ok();
    let done = || closed(CloseCode::Done);
    // It says that it tries again, and never does.
    assert!(!check(vec![paid(2), trouble(), done(), settled()]));
    assert!(check(vec![paid(2), trouble(), paid(4), done(), settled()]));
    let failed = closed(CloseCode::BackendFailed);
    assert!(check(vec![paid(2), trouble(), failed, settled()]));
    // The viewer had left.
    assert!(check(vec![paid(10), trouble(), done(), settled()]));
    assert!(check(vec![paid(2), done(), trouble(), settled()]));
}
