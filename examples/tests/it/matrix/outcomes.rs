//! Each outcome is an event that says what happens next, and that is what happens.

use streampay_core::session::{CloseCode, Event};
use streampay_examples::report::Next;

use crate::cashu_node::sat;
use crate::live::{Plan, Played};

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

/// Whether what `next` says is what came of it. An end of the session is always one.
fn came(next: Next, after: &[Event]) -> bool {
    let any = |is: fn(&Event) -> bool| after.iter().any(is);
    let closed = any(|event| matches!(event, Event::Closed { .. }));
    match next {
        Next::TriesAgain | Next::Waits | Next::PaysAnew | Next::Decide => {
            closed || any(is_progress) || any(is_end)
        }
        Next::OtherPurse => closed || any(|event| matches!(event, Event::PurseOpen { .. })),
        Next::TakesBack => {
            let back = |event: &Event| {
                let taken = matches!(
                    event,
                    Event::TickReclaimed { .. } | Event::TickLost { .. } | Event::Resumed
                );
                taken || is_progress(event)
            };
            closed || any(back)
        }
        Next::Settles => any(is_end),
        // Nothing more is to come of the session itself.
        Next::Retries | Next::Recover | Next::Restore | Next::StartAgain => !closed,
        // Whatever it was, the rest goes on.
        Next::Gone => closed || any(is_progress) || any(is_end),
    }
}

/// What one side said.
fn of_side(side: &str, settled: bool, events: &[Event]) -> Result<(), String> {
    for (place, event) in events.iter().enumerate() {
        let after = events.get(place + 1..).unwrap_or_default();
        if let Some(next) = Next::after(event)
            && !came(next, after)
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
    of_side("viewer", played.settled.0, &played.payer)?;
    of_side("streamer", played.settled.1, &played.payee)?;
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
