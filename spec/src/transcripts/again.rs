//! What is said again: consent of which nobody hears, and the next offer.

use streampay_core::session::Hash;
use streampay_core::wire::{Agree, Agreed, Message, Terms};

use super::payee::{credit, dearer, offered, opened_by, to_the_amount};
use super::payer::{first_tick, offer, rebind, watch};
use super::{Scene, scene};
use crate::fields::terms_to_json;
use crate::json::Object;
use crate::peer::{Cast, Played, Stage};
use crate::people::msat;

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "price-change-unheard",
        "Consents, and does not hear that it is confirmed: consents again, also after a restart, and \
         pays nothing beyond before it hears.",
        unheard,
    ),
    scene(
        "payee",
        "price-change-next-waits",
        "A new price began by the preview, and nothing is paid at it: the next offer is not made \
         before something is.",
        next_waits,
    ),
];

/// True where it says that it agrees to this.
fn agrees(stage: &Stage<'_>, hash: Hash) -> bool {
    let agrees = |sent: &Message| matches!(sent, Message::Agree(agree) if agree.offer == hash);
    stage.sent().iter().any(agrees)
}

fn unheard(stage: &mut Stage<'_>) -> Played {
    let mut payee = first_tick(stage)?;
    let session = payee.hello.session;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 9_950)?;
    stage.make_payment(session)?;
    stage.receive(&payee.ack(2, 9_950))?;
    let offer = offer(&payee);
    let (hash, terms) = (offer.hash(session), offer.terms.clone());
    stage.receive(&Message::OfferTerms(offer))?;
    stage.command("agree", Object::new())?;
    stage.must(agrees(stage, hash), "say so")?;
    watch(stage, 9_950, 11_950)?;
    stage.must(agrees(stage, hash), "say it again")?;
    watch(stage, 11_950, 14_950)?;
    stage.restart()?;
    rebind(stage, &mut payee, Some(2))?;
    stage.must(agrees(stage, hash), "say it on the next connection too")?;
    watch(stage, 14_950, 19_950)?;
    stage.must(stage.asked("pay").is_none(), "not pay beyond it")?;
    stage.judge.next = Some(terms.tariff);
    stage.receive(&Message::Agreed(Agreed { offer: hash }))?;
    stage.must(stage.told("terms_agreed"), "tell the user")?;
    stage.must(stage.asked("pay").is_some(), "go on")?;
    stage.make_payment(session)
}

fn next_waits(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    cast.terms.preview = msat(1_000);
    let payer = opened_by(stage, &cast)?;
    credit(stage, payer.tick(0, 1))?;
    let command = |terms: &Terms| {
        Object::new()
            .with("terms", terms_to_json(terms))
            .int("in_ticks", 2_u64)
    };
    stage.command("offer_terms", command(&dearer(&cast.terms)))?;
    let hash = offered(stage)?.hash(payer.session);
    stage.receive(&Message::Agree(Agree { offer: hash }))?;
    to_the_amount(stage, &payer)?;
    stage.pass_ms(1_000);
    stage.usage(31_000)?;
    stage.must(stage.told("terms_began"), "go over to them")?;
    let early = stage.command("offer_terms", command(&cast.terms));
    let refused = early.is_err_and(|error| error.contains("OfferPending"));
    stage.must(refused && stage.sent().is_empty(), "not offer yet")?;
    credit(stage, payer.tick(0, 4))?;
    stage.command("offer_terms", command(&cast.terms))?;
    offered(stage).map(drop)
}
