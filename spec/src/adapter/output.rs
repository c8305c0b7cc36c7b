//! What a step gives.

use serde_json::Value;
use streampay_core::backend::{PurseOffer, Request};
use streampay_core::meter::Grant;
use streampay_core::session::Output;

use super::event::event_to_json;
use crate::fields::schedule_to_json;
use crate::json::Object;

pub(super) fn output_to_json(output: &Output) -> Value {
    let new = Object::new();
    match output {
        // What a side writes down is its own affair; when it does is not.
        Output::Persist(_) => new.with("persist", Object::new()),
        Output::Send(bytes) => new.hex("send", bytes),
        Output::Backend {
            method,
            purse,
            id,
            request,
        } => {
            let backend = Object::new()
                .with("method", method.as_str())
                .int("purse", purse.purse.0)
                .int("request", id.0);
            new.with("backend", request_to_json(backend, request))
        }
        Output::Effect { method, effect } => {
            let effect = Object::new()
                .with("method", method.as_str())
                .int("purse", effect.purse.purse.0)
                .int("id", effect.id.0)
                .hex("body", &effect.body);
            new.with("effect", effect)
        }
        Output::Gate(grant) => new.with("gate", grant_to_json(grant)),
        Output::Event(event) => new.with("event", event_to_json(event)),
    }
    .done()
}

fn request_to_json(object: Object, request: &Request) -> Object {
    let new = Object::new();
    let (name, fields) = match request {
        Request::Open {
            offer,
            capacity,
            budget,
        } => {
            let open = offer_to_json(new, offer).int("capacity", capacity.msat());
            ("open", open.int("budget", budget.msat()))
        }
        Request::Pay {
            seq,
            amount,
            cumulative,
        } => {
            let pay = new.int("seq", seq.0).int("amount", amount.msat());
            ("pay", pay.int("cumulative", cumulative.msat()))
        }
        Request::Acked { seq, cumulative } => {
            let acked = new.int("seq", seq.0);
            ("acked", acked.int("cumulative", cumulative.msat()))
        }
        Request::Reclaim { seq } => ("reclaim", new.int("seq", seq.0)),
        Request::Release => ("release", new),
        Request::Accept { offer, opening } => {
            ("accept", offer_to_json(new, offer).hex("opening", opening))
        }
        Request::Receive {
            seq,
            amount,
            cumulative,
            payload,
        } => {
            let receive = new.int("seq", seq.0).int("amount", amount.msat());
            let receive = receive.int("cumulative", cumulative.msat());
            ("receive", receive.hex("payload", payload))
        }
        Request::Settle { cumulative } => ("settle", new.int("cumulative", cumulative.msat())),
        Request::Note { bytes } => ("note", new.hex("bytes", bytes)),
        // Of a later version.
        _ => ("other", new),
    };
    object.with(name, fields)
}

fn offer_to_json(object: Object, offer: &PurseOffer) -> Object {
    object
        .hex("params", &offer.params)
        .int("tick", offer.tick.msat())
        .hex("payer_key", &offer.payer_key.0)
        .hex("payee_key", &offer.payee_key.0)
}

fn grant_to_json(grant: &Grant) -> Object {
    let new = Object::new();
    match grant {
        Grant::Open { limit, schedule } => new
            .int("limit", limit.msat())
            .with("schedule", schedule_to_json(schedule)),
        Grant::Paused(reason) => new.int("paused", reason.code()),
        Grant::Closed => new.with("closed", true),
    }
}
