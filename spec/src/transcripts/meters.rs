//! Tariffs of bytes alone, and of both meters.

use streampay_core::meter::{Reading, Tariff};
use streampay_core::wire::{Agree, Agreed, Message};

use super::payee::{connect, credit, dearer, offered, opened_by};
use super::payer::{first_tick_of, offer, rebind, ticked, watch};
use super::{Scene, scene};
use crate::fields::terms_to_json;
use crate::json::Object;
use crate::peer::{Cast, Payee, Played, Stage};
use crate::people::{msat, rate};

pub(super) const SCENES: &[Scene] = &[
    scene(
        "payer",
        "bytes-alone",
        "Only bytes have a price: the lead is a fifth of a tick, time costs nothing.",
        |stage| payer(stage, BYTES),
    ),
    scene(
        "payer",
        "both-meters",
        "Time and bytes have a price: both are used up together, rounded once.",
        |stage| payer(stage, BOTH),
    ),
    scene(
        "payer",
        "both-meters-hint",
        "The payee's reading is ahead in bytes: paid as far as is tolerated.",
        hint,
    ),
    scene(
        "payer",
        "both-meters-price-change",
        "A dearer tariff of both meters: it begins on the straight line between two readings.",
        payer_change,
    ),
    scene(
        "payer",
        "pause-under-greedy-terms",
        "Its user pauses, and media comes on, under terms with a great window and tolerance: what is \
         bought and one payment more counts, and the rest never does.",
        pause_under_greedy_terms,
    ),
    scene(
        "payer",
        "pause-over-connections",
        "Its user pauses, the line drops, and media comes on connections that are bound or not: what is bought and \
         one payment more counts, once over all of them.",
        pause_over_connections,
    ),
    scene(
        "payer",
        "bytes-are-kept",
        "A quarter of a tick comes in less than a second of media: it is durable, and counts after a restart.",
        bytes_are_kept,
    ),
    scene(
        "payer",
        "line-lost-in-a-pause",
        "Its user pauses, media comes on, the connection is lost, and media comes before the next one is \
         bound: what is tolerated counts once.",
        line_lost_in_a_pause,
    ),
    scene(
        "payer",
        "late-media-of-a-long-tick",
        "A tick buys a minute, and a link holds media back for 25 s: it counts when it comes.",
        late_media_of_a_long_tick,
    ),
    scene(
        "payer",
        "late-media-counts-by-the-clock",
        "Media comes faster than time passes, and then none: it counts as the clock runs, and stalls meanwhile.",
        late_media_counts_by_the_clock,
    ),
    scene(
        "payee",
        "bytes-alone",
        "Only bytes have a price: lease and gate follow them.",
        |stage| payee(stage, BYTES),
    ),
    scene(
        "payee",
        "both-meters",
        "Time and bytes have a price: lease and gate follow both.",
        |stage| payee(stage, BOTH),
    ),
    scene(
        "payee",
        "both-meters-restart",
        "A restart with two meters: the lease of both counts as delivered.",
        restart,
    ),
    scene(
        "payee",
        "both-meters-price-change",
        "Offers another tariff of both meters, and goes over to it between two readings.",
        payee_change,
    ),
];

/// Which meters cost something.
type Meters = fn() -> Tariff;

const BYTES: Meters = || Tariff {
    time: None,
    bytes: rate(2_000, 250_000),
};

const BOTH: Meters = || Tariff {
    time: rate(1_000, 10_000),
    bytes: rate(1_000, 250_000),
};

fn cast(meters: Meters) -> Played<Cast> {
    let mut cast = Cast::usual()?;
    cast.terms.tariff = meters();
    cast.max_tariff.bytes = rate(5_000, 250_000);
    Ok(cast)
}

/// 25 bytes a millisecond, in steps of a second at most.
fn flows(stage: &mut Stage<'_>, from_ms: u64, to_ms: u64) -> Played {
    let mut at = from_ms;
    while at < to_ms {
        let step = (to_ms - at).min(1_000);
        at += step;
        stage.pass_ms(step);
        stage.usage_of(at, at * 25)?;
    }
    Ok(())
}

fn first(stage: &mut Stage<'_>, meters: Meters) -> Played<Payee> {
    let payee = first_tick_of(stage, &cast(meters)?, 20_000)?;
    stage.pass_ms(40);
    stage.receive(&payee.ack(1, 0))?;
    Ok(payee)
}

fn payer(stage: &mut Stage<'_>, meters: Meters) -> Played {
    let payee = first(stage, meters)?;
    flows(stage, 0, 7_990)?;
    stage.must(stage.asked("pay").is_none(), "not pay yet")?;
    flows(stage, 7_990, 8_000)?;
    stage.make_payment(payee.hello.session)?;
    let tick = ticked(stage)?;
    stage.must(tick.cumulative == msat(4_000), "say the sum")?;
    stage.receive(&payee.ack(2, 8_000))?;
    // Time passes without bytes: it costs what time costs.
    stage.pass_ms(1_000);
    stage.usage_of(9_000, 200_000)?;
    stage.pass_ms(1_000);
    stage.usage_of(10_000, 450_001)?;
    let costly = meters().price(Reading {
        media_ms: 10_000,
        bytes: 450_001,
    });
    let due = costly >= msat(3_600);
    stage.must(
        stage.asked("pay").is_some() == due,
        "pay for what both come to",
    )
}

fn pause_under_greedy_terms(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    cast.terms.window = msat(1_000_000_000);
    cast.terms.tolerance_ms = 3_600_000;
    let payee = first_tick_of(stage, &cast, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    flows(stage, 0, 5_000)?;
    stage.command("pause", Object::new())?;
    // Two ticks buy 20 s.
    for at in [10_000, 19_990, 20_000, 20_001, 100_000] {
        stage.pass_ms(30_000);
        stage.usage(at)?;
        stage.must(stage.asked("pay").is_none(), "pay nothing")?;
    }
    stage.command("resume", Object::new())?;
    stage.make_payment(payee.hello.session)?;
    stage.receive(&payee.ack(2, 20_000))?;
    stage.make_payment(payee.hello.session)?;
    stage.receive(&payee.ack(3, 20_000))?;
    stage.must(stage.asked("pay").is_none(), "pay no fourth tick")?;
    // It goes on from what counts.
    stage.pass_ms(1_000);
    stage.usage(101_000)?;
    stage.must(stage.asked("pay").is_none(), "not count the rest")
}

fn pause_over_connections(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    cast.terms.window = msat(1_000_000_000);
    let mut payee = first_tick_of(stage, &cast, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    flows(stage, 0, 5_000)?;
    stage.command("pause", Object::new())?;
    // All that may: the 10 s that are bought, and a tick.
    stage.pass_ms(30_000);
    stage.usage(20_000)?;
    for at in [40_000, 60_000] {
        stage.link_down()?;
        stage.usage(at - 10_000)?;
        rebind(stage, &mut payee, Some(1))?;
        stage.pass_ms(30_000);
        stage.usage(at)?;
        stage.must(stage.asked("pay").is_none(), "pay nothing")?;
    }
    let counts = stage.state.pointer("/reading/media_ms").cloned();
    stage.must(
        counts == Some("15000".into()),
        "count no more with each connection",
    )?;
    stage.command("resume", Object::new())?;
    stage.make_payment(payee.hello.session)?;
    stage.receive(&payee.ack(2, 10_000))?;
    stage.must(stage.asked("pay").is_none(), "pay no third tick")
}

fn bytes_are_kept(stage: &mut Stage<'_>) -> Played {
    first(stage, BYTES)?;
    let is_durable = |stage: &Stage<'_>| {
        let mut outputs = stage.outputs.iter();
        outputs.any(|output| output.get("persist").is_some())
    };
    stage.pass_ms(300);
    stage.usage_of(300, 62_500)?;
    stage.must(is_durable(stage), "make it durable")?;
    stage.pass_ms(10);
    stage.usage_of(310, 63_000)?;
    stage.must(!is_durable(stage), "not write each packet")?;
    stage.restart()?;
    let bytes = stage.state.pointer("/reading/bytes").cloned();
    stage.must(bytes == Some("62500".into()), "go on from what was durable")
}

fn line_lost_in_a_pause(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    cast.terms.tolerance_ms = 9_000;
    let mut payee = first_tick_of(stage, &cast, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 2_000)?;
    stage.command("pause", Object::new())?;
    watch(stage, 2_000, 12_000)?;
    stage.link_down()?;
    watch(stage, 12_000, 16_000)?;
    rebind(stage, &mut payee, Some(1))?;
    stage.command("resume", Object::new())?;
    stage.make_payment(payee.hello.session)?;
    stage.receive(&payee.ack(2, 12_000))?;
    // Of 9 s that are tolerated 2 came before the line was lost: none of these 4 counts in its time.
    watch(stage, 16_000, 23_800)?;
    stage.must(stage.asked("pay").is_none(), "not pay for them")
}

fn late_media_of_a_long_tick(stage: &mut Stage<'_>) -> Played {
    let mut cast = Cast::usual()?;
    cast.terms.tariff.time = rate(2_000, 60_000);
    let payee = first_tick_of(stage, &cast, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 5_000)?;
    for _ in 0..5 {
        stage.wait_ms(5_000)?;
    }
    stage.usage(30_000)?;
    watch(stage, 30_000, 59_900)?;
    stage.must(stage.asked("pay").is_some(), "pay for what came late")
}

fn late_media_counts_by_the_clock(stage: &mut Stage<'_>) -> Played {
    let payee = first_tick_of(stage, &Cast::usual()?, 90_000)?;
    stage.receive(&payee.ack(1, 0))?;
    watch(stage, 0, 3_000)?;
    // 5 s are counted; 7 s wait.
    stage.usage(12_000)?;
    let mut stalls = false;
    for _ in 0..9 {
        stage.wait_ms(500)?;
        stalls |= stage.told("stalled");
        stage.must(stage.asked("pay").is_none(), "not pay yet")?;
    }
    stage.must(stalls, "say that nothing comes")?;
    stage.wait_ms(500)?;
    stage.must(stage.asked("pay").is_some(), "pay for what came")
}

fn hint(stage: &mut Stage<'_>) -> Played {
    let payee = first(stage, BOTH)?;
    flows(stage, 0, 7_000)?;
    let reading = |bytes| {
        Message::Reading(Reading {
            media_ms: 7_000,
            bytes,
        })
    };
    // 1400 are used by the own meter, and 45 000 bytes more are 180.
    stage.receive(&reading(220_000))?;
    stage.must(
        ticked(stage).is_err() && stage.asked("pay").is_none(),
        "not pay yet",
    )?;
    // 65 536 bytes more are tolerated, and no more, which leaves 338.
    stage.receive(&reading(400_000))?;
    stage.must(stage.asked("pay").is_some(), "pay as far as is tolerated")?;
    stage.make_payment(payee.hello.session)
}

fn payer_change(stage: &mut Stage<'_>) -> Played {
    let payee = first(stage, BOTH)?;
    let session = payee.hello.session;
    let offer = offer(&payee);
    stage.receive(&Message::OfferTerms(offer.clone()))?;
    stage.must(stage.told("terms_offered"), "ask the user")?;
    stage.command("agree", Object::new())?;
    let hash = offer.hash(session);
    stage.receive(&Message::Agreed(Agreed { offer: hash }))?;
    stage.must(stage.told("terms_agreed"), "tell the user")?;
    stage.judge.next = Some(offer.terms.tariff);
    flows(stage, 0, 8_000)?;
    stage.make_payment(session)?;
    stage.receive(&payee.ack(2, 8_000))?;
    flows(stage, 8_000, 18_000)?;
    stage.make_payment(session)?;
    stage.receive(&payee.ack(3, 18_000))?;
    flows(stage, 18_000, 19_900)?;
    // From 3980 used to beyond 4000, more in bytes than in time.
    stage.pass_ms(300);
    stage.usage_of(20_200, 520_000)?;
    stage.must(stage.told("terms_began"), "go over to them")?;
    stage.pass_ms(4_000);
    stage.usage_of(24_200, 645_000)?;
    let due = stage.asked("pay").is_some();
    stage.must(due, "pay by the dearer tariff")
}

fn payee(stage: &mut Stage<'_>, meters: Meters) -> Played {
    let payer = opened_by(stage, &cast(meters)?)?;
    credit(stage, payer.tick(0, 1))?;
    flows(stage, 0, 9_000)?;
    credit(stage, payer.tick(0, 2))?;
    // Bytes without time, and time without bytes.
    stage.pass_ms(500);
    stage.usage_of(9_000, 300_000)?;
    stage.pass_ms(500);
    stage.usage_of(10_000, 300_000)
}

fn restart(stage: &mut Stage<'_>) -> Played {
    let mut payer = opened_by(stage, &cast(BOTH)?)?;
    credit(stage, payer.tick(0, 1))?;
    flows(stage, 0, 3_000)?;
    stage.restart()?;
    connect(stage, &mut payer)?;
    let reading = stage.state.get("reading").cloned().unwrap_or_default();
    let reading = crate::fields::reading_from_json(crate::json::Fields::new(&reading));
    let reading = reading.map_err(|bad| bad.to_string())?;
    let more = reading.media_ms > 3_000 && reading.bytes > 75_000;
    stage.must(more, "count the lease of both")
}

fn payee_change(stage: &mut Stage<'_>) -> Played {
    let cast = cast(BOTH)?;
    let payer = opened_by(stage, &cast)?;
    credit(stage, payer.tick(0, 1))?;
    let command = Object::new()
        .with("terms", terms_to_json(&dearer(&cast.terms)))
        .int("in_ticks", 2_u64);
    stage.command("offer_terms", command)?;
    let hash = offered(stage)?.hash(payer.session);
    stage.receive(&Message::Agree(Agree { offer: hash }))?;
    stage.must(stage.told("terms_agreed"), "tell the user")?;
    credit(stage, payer.tick(0, 2))?;
    credit(stage, payer.tick(0, 3))?;
    flows(stage, 0, 29_000)?;
    credit(stage, payer.tick(0, 4))?;
    stage.pass_ms(900);
    stage.usage_of(29_900, 747_500)?;
    stage.pass_ms(300);
    stage.usage_of(30_200, 770_000)?;
    stage.must(stage.told("terms_began"), "go over to them")
}
