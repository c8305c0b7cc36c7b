//! What a session tells its user. Spec: conformance 3.

use serde_json::Value;
use streampay_core::backend::BackendError;
use streampay_core::session::Event;

use super::room::{ask_to_json, news_to_json};
use crate::fields::{error_to_json, evidence_to_json, reading_to_json, terms_to_json};
use crate::json::{Object, hex};

/// An event's name and what it says.
pub(super) fn event_to_json(event: &Event) -> Value {
    let (name, fields) = match event {
        Event::Grant(grant) => ("grant", Value::String(hex(&grant.0))),
        Event::Receipt(evidence) => ("receipt", evidence_to_json(evidence)),
        Event::News(news) => ("news", news_to_json(news)),
        Event::Room(ask) => ("room", ask_to_json(ask)),
        other => {
            let (name, fields) = named(other);
            (name, fields.done())
        }
    };
    Object::new().with(name, fields).done()
}

fn named(event: &Event) -> (&'static str, Object) {
    let new = Object::new();
    match event {
        Event::Paused { by_peer, reason } => (
            "paused",
            new.with("by_peer", *by_peer).int("reason", reason.code()),
        ),
        Event::Resumed => ("resumed", new),
        Event::Stalled { ms } => ("stalled", new.int("ms", *ms)),
        Event::LinkDown => ("link_down", new),
        Event::BackendTrouble { error } => (
            "backend_trouble",
            new.with("error", trouble_to_json(*error)),
        ),
        Event::Dropped { error } => ("dropped", new.with("error", error_to_json(*error))),
        // How it did is for people.
        Event::Misbehaved { .. } => ("misbehaved", new),
        Event::Closed { code, by_peer } => (
            "closed",
            new.int("code", code.code()).with("by_peer", *by_peer),
        ),
        Event::Settled { total, returned } => (
            "settled",
            new.int("total", total.msat())
                .int("returned", returned.msat()),
        ),
        Event::Unredeemed { purse, error } => (
            "unredeemed",
            new.int("purse", purse.0)
                .with("error", trouble_to_json(*error)),
        ),
        Event::Unsettled { purse, error } => (
            "unsettled",
            new.int("purse", purse.0)
                .with("error", trouble_to_json(*error)),
        ),
        other => agreed(other),
    }
}

/// What was agreed to.
fn agreed(event: &Event) -> (&'static str, Object) {
    let new = Object::new();
    match event {
        Event::Bound {
            session,
            terms,
            resumed,
            ..
        } => (
            "bound",
            new.hex("session", &session.0)
                .with("terms", terms_to_json(terms))
                .with("resumed", *resumed),
        ),
        Event::TermsOffered { terms, from } => (
            "terms_offered",
            new.with("terms", terms_to_json(terms))
                .int("from", from.msat()),
        ),
        Event::TermsAgreed { terms, from } => (
            "terms_agreed",
            new.with("terms", terms_to_json(terms))
                .int("from", from.msat()),
        ),
        Event::TermsDeclined { from } => ("terms_declined", new.int("from", from.msat())),
        Event::TermsBegan { terms } => ("terms_began", new.with("terms", terms_to_json(terms))),
        other => paid(other),
    }
}

/// What was paid.
fn paid(event: &Event) -> (&'static str, Object) {
    let new = Object::new();
    match event {
        Event::PurseOpen { purse, capacity } => (
            "purse_open",
            new.int("purse", purse.0).int("capacity", capacity.msat()),
        ),
        Event::PurseRefused { purse, code } => (
            "purse_refused",
            new.int("purse", purse.0).int("code", code.code()),
        ),
        Event::TickPaid {
            seq,
            total,
            reading,
        } => (
            "tick_paid",
            new.int("seq", seq.0)
                .int("total", total.msat())
                .with("reading", reading_to_json(*reading)),
        ),
        Event::TickReceived { seq, total } => (
            "tick_received",
            new.int("seq", seq.0).int("total", total.msat()),
        ),
        Event::TickRefused { seq, code } => (
            "tick_refused",
            new.int("seq", seq.0).int("code", code.code()),
        ),
        Event::TickReclaimed { seq } => ("tick_reclaimed", new.int("seq", seq.0)),
        Event::TickLost { seq, amount } => (
            "tick_lost",
            new.int("seq", seq.0).int("amount", amount.msat()),
        ),
        Event::TipPaid { tips } => ("tip_paid", new.int("tips", tips.msat())),
        Event::TipRefused {
            amount,
            least,
            most,
        } => (
            "tip_refused",
            new.int("amount", amount.msat())
                .int("least", least.msat())
                .int("most", most.msat()),
        ),
        Event::TipReceived { amount, tips } => (
            "tip_received",
            new.int("amount", amount.msat()).int("tips", tips.msat()),
        ),
        // Of a later version.
        _ => ("other", new),
    }
}

/// As a step's `failed` says it.
pub(super) fn trouble_to_json(error: BackendError) -> Value {
    let new = Object::new();
    match error {
        BackendError::Transient => new.with("transient", Object::new()),
        BackendError::Unknown => new.with("unknown", Object::new()),
        BackendError::Rejected(code, consumed) => {
            let rejected = Object::new().int("code", code.code());
            new.with("rejected", rejected.int("consumed", consumed.code()))
        }
        BackendError::Fatal(code) => new.with("fatal", Object::new().int("code", code.code())),
        // Of a later version.
        _ => new.with("other", Object::new()),
    }
    .done()
}
