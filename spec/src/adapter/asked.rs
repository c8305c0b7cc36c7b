//! A backend's requests, read, and its outcomes, written: what the adapter of a session writes and
//! reads, the other way round.

use serde_json::Value;
use streampay_core::backend::{Outcome, PurseOffer, Request};
use streampay_core::units::{Msat, Seq, XOnlyKey};

use super::event::trouble_to_json;
use super::input::msat;
use crate::json::{BadJson, Fields, Object};

type Read<T> = Result<T, BadJson>;

fn offer(fields: Fields<'_>) -> Read<PurseOffer> {
    Ok(PurseOffer {
        params: fields.bytes("params")?.into(),
        tick: msat(fields, "tick")?,
        payer_key: XOnlyKey(fields.array("payer_key")?),
        payee_key: XOnlyKey(fields.array("payee_key")?),
    })
}

fn seq(fields: Fields<'_>) -> Read<Seq> {
    fields.int("seq").map(Seq)
}

/// A request, by the name under which it stands.
pub(super) fn request_from_json(fields: Fields<'_>) -> Read<Request> {
    let at = |name: &str| fields.opt(name).map(Fields::new);
    if let Some(open) = at("open") {
        return Ok(Request::Open {
            offer: offer(open)?,
            capacity: msat(open, "capacity")?,
            budget: msat(open, "budget")?,
        });
    }
    if let Some(pay) = at("pay") {
        return Ok(Request::Pay {
            seq: seq(pay)?,
            amount: msat(pay, "amount")?,
            cumulative: msat(pay, "cumulative")?,
        });
    }
    if let Some(receive) = at("receive") {
        return Ok(Request::Receive {
            seq: seq(receive)?,
            amount: msat(receive, "amount")?,
            cumulative: msat(receive, "cumulative")?,
            payload: receive.bytes("payload")?.into(),
        });
    }
    if let Some(accept) = at("accept") {
        return Ok(Request::Accept {
            offer: offer(accept)?,
            opening: accept.bytes("opening")?.into(),
        });
    }
    if let Some(acked) = at("acked") {
        return Ok(Request::Acked {
            seq: seq(acked)?,
            cumulative: msat(acked, "cumulative")?,
        });
    }
    if let Some(reclaim) = at("reclaim") {
        return Ok(Request::Reclaim { seq: seq(reclaim)? });
    }
    if let Some(note) = at("note") {
        let bytes = note.bytes("bytes")?.into();
        return Ok(Request::Note { bytes });
    }
    match (at("release"), at("settle")) {
        (Some(_), _) => Ok(Request::Release),
        (_, Some(settle)) => {
            // Of a method where nothing depends on it, it may be left out.
            let cumulative = match settle.opt("cumulative") {
                Some(_) => msat(settle, "cumulative")?,
                None => Msat::ZERO,
            };
            Ok(Request::Settle { cumulative })
        }
        _ => Err(BadJson("request".into())),
    }
}

/// An outcome, as the adapter of a session takes it.
pub(super) fn outcome_to_json(outcome: &Outcome) -> Value {
    let new = Object::new();
    let (name, fields) = match outcome {
        Outcome::Opened(opened) => {
            let fields = new
                .hex("opening", &opened.opening)
                .int("capacity", opened.capacity.msat())
                .int("cost", opened.cost.msat())
                .int("quantum", opened.quantum.msat())
                .maybe(
                    "usable_until",
                    opened.usable_until.map(|at| at.0.to_string()),
                );
            ("opened", fields.done())
        }
        Outcome::Paid { payload } => ("paid", new.hex("payload", payload).done()),
        Outcome::Reclaimed => ("reclaimed", new.done()),
        Outcome::Outstanding => ("outstanding", new.done()),
        Outcome::Spent => ("spent", new.done()),
        Outcome::Released { refunded } => ("released", new.int("refunded", refunded.msat()).done()),
        Outcome::Accepted { capacity, quantum } => {
            let fields = new.int("capacity", capacity.msat());
            ("accepted", fields.int("quantum", quantum.msat()).done())
        }
        Outcome::Credited => ("credited", new.done()),
        Outcome::Settled { settled } => ("settled", new.int("settled", settled.msat()).done()),
        Outcome::Failed(error) => ("failed", trouble_to_json(*error)),
        // Of a later version.
        _ => ("other", new.done()),
    };
    Object::new().with(name, fields).done()
}
