//! What flows and what stops it; backups, stores that fail.

use super::*;
use crate::meter::{Grant, PauseReason};
use crate::session::{CloseCode, Command, Event, Input};
use crate::store::{ChangeSet, MemoryStore, Store};
use crate::units::{Msat, PurseId};
use crate::wire::{Message, decode};

const PAYER: Direction = Direction::ToPayer;
const PAYEE: Direction = Direction::ToPayee;

fn any(pair: &Pair, of: Direction, wanted: impl Fn(&Event) -> bool) -> bool {
    pair.events(of).iter().any(wanted)
}

#[test]
fn viewer_that_never_pays_gets_only_the_preview() {
    for preview in [0, 3] {
        let mut pair = Pair::new(PairConfig {
            preview: Msat::from_sat(preview).unwrap(),
            ..PairConfig::default()
        });
        pair.tamper(|_, bytes| match decode(bytes) {
            Ok(Some(Message::Tick(_))) => vec![],
            _ => vec![bytes.clone()],
        });
        pair.run(20_000, &[]).unwrap();
        let most = preview * 500;
        assert!(pair.delivered().media_ms <= most);
        assert!(pair.delivered().media_ms + 40 > most);
        assert_eq!(pair.credited(), Msat::ZERO);
        pair.tamper = None;
        pair.settle().unwrap();
    }
}

#[test]
fn pause_by_payer_stops_ticks_and_media_until_resumed() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    pair.command(PAYER, Command::Pause);
    pair.run(200, &[]).unwrap();
    let (delivered, credited) = (pair.delivered(), pair.credited());
    pair.run(10_000, &[]).unwrap();
    assert_eq!((pair.delivered(), pair.credited()), (delivered, credited));
    pair.command(PAYER, Command::Resume);
    pair.run(5_000, &[]).unwrap();
    assert!(pair.delivered().media_ms > delivered.media_ms + 4_500);
    pair.settle().unwrap();
}

/// The payee has paused nothing and sends on: what comes then is not what the payer asked for.
#[test]
fn media_that_comes_while_the_payer_paused_is_not_counted_beyond_what_is_bought() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    pair.command(PAYER, Command::Pause);
    pair.run(200, &[]).unwrap();
    let paid = pair.payer().unwrap().paid();
    let mut raw = pair.payer.reading;
    for _ in 0..600 {
        pair.run(1_000, &[]).unwrap();
        raw.media_ms += 1_000;
        pair.input(PAYER, Input::Usage(raw));
    }
    let payer = pair.payer().unwrap();
    let counted = payer.reading();
    // A satoshi a second, and a second between two meters.
    let most = paid.plus(Msat::from_sat(1).unwrap()).unwrap();
    assert!(payer.schedule().used(counted) <= most, "{counted:?}");
    assert!(payer.paid() == paid, "it pays nothing");
    // Nor later, when the meter goes on from there, or the clock has made room for it.
    pair.payer.reading = raw;
    pair.received = counted;
    pair.delivered.media_ms = pair.delivered.media_ms.max(counted.media_ms);
    pair.command(PAYER, Command::Resume);
    for _ in 0..4 {
        raw.media_ms += 60_000;
        pair.input(PAYER, Input::Usage(raw));
    }
    let after = pair.payer().unwrap();
    let grown = after.reading().media_ms - counted.media_ms;
    assert!(grown <= 2_200, "{grown} ms at once");
    assert!(after.paid() <= paid.plus(Msat::from_sat(2).unwrap()).unwrap());
}

/// Preview, window and tolerance are the payee's words: whatever they say, ten minutes of media that
/// nobody asked for are worth a payment at most.
#[test]
fn terms_that_leave_much_open_sell_no_more_than_a_payment_in_a_pause() {
    let sat = |sat| Msat::from_sat(sat).unwrap();
    let greedy = [(1_000_000, 0, 200), (0, 100_000, 200), (0, 0, 3_600_000)];
    for (window, preview, tolerance_ms) in greedy {
        let mut pair = Pair::new(PairConfig {
            window: sat(window),
            preview: sat(preview),
            tolerance_ms,
            ..PairConfig::default()
        });
        pair.run(5_000, &[]).unwrap();
        pair.command(PAYER, Command::Pause);
        pair.run(200, &[]).unwrap();
        let payer = pair.payer().unwrap();
        let used = payer.schedule().used(payer.reading());
        let most = payer.paid().max(used).saturating_plus(pair.config.max_tick);
        let mut raw = pair.payer.reading;
        for _ in 0..600 {
            pair.run(1_000, &[]).unwrap();
            raw.media_ms += 1_000;
            pair.input(PAYER, Input::Usage(raw));
        }
        let payer = pair.payer().unwrap();
        let used = payer.schedule().used(payer.reading());
        assert!(used <= most, "{used} of {most}");
    }
}

/// What two meters may differ by is not theirs again with each connection.
#[test]
fn connections_that_are_lost_while_the_payer_paused_make_no_room_for_more() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    pair.command(PAYER, Command::Pause);
    pair.run(200, &[]).unwrap();
    let paid = pair.payer().unwrap().paid();
    let mut raw = pair.payer.reading;
    for _ in 0..60 {
        pair.run(10_000, &[(0, Fault::LinkDown(300))]).unwrap();
        for _ in 0..500 {
            raw.media_ms += 20;
            pair.input(PAYER, Input::Usage(raw));
        }
    }
    let payer = pair.payer().unwrap();
    let most = paid.plus(Msat::from_sat(1).unwrap()).unwrap();
    let counted = payer.reading();
    assert!(payer.schedule().used(counted) <= most, "{counted:?}");
    assert_eq!(payer.paid(), paid);
}

/// Eight seconds at once, of which the clock lets less than one count, within a tick.
#[test]
fn media_that_came_ahead_of_the_clock_while_the_payer_paused_does_not_count_later() {
    let mut pair = Pair::new(PairConfig {
        window: Msat::from_sat(5).unwrap(),
        ..PairConfig::default()
    });
    pair.run(2_100, &[]).unwrap();
    // Most of the two seconds that the clock lets a stream begin with.
    pair.payer.reading.media_ms += 1_400;
    let early = pair.payer.reading;
    pair.received = early;
    pair.input(PAYER, Input::Usage(early));
    pair.command(PAYER, Command::Pause);
    pair.run(200, &[]).unwrap();
    let before = pair.payer().unwrap().reading().media_ms;
    pair.payer.reading.media_ms += 8_000;
    let raw = pair.payer.reading;
    pair.input(PAYER, Input::Usage(raw));
    let counted = pair.payer().unwrap().reading().media_ms;
    assert!(counted > before + 500, "{before}, then {counted}");
    assert!(counted < raw.media_ms - 4_000, "{counted} of {raw:?}");
    pair.received.media_ms = counted;
    pair.command(PAYER, Command::Resume);
    let delivered = pair.delivered().media_ms;
    // A connection that is lost for some seconds makes room for as much of a cache.
    pair.run(8_000, &[(0, Fault::LinkDown(3_000))]).unwrap();
    let grown = pair.payer().unwrap().reading().media_ms - counted;
    let sent = pair.delivered().media_ms - delivered;
    assert!(sent > 0, "it flows again");
    assert!(grown <= sent, "{grown} ms, of {sent} sent");
}

/// What came while it flowed, and the clock did not let count yet, is not lost by a pause.
#[test]
fn media_that_waited_for_the_clock_when_the_payer_paused_counts_when_its_time_has_come() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(1_000, &[]).unwrap();
    pair.payer.reading.media_ms += 4_000;
    pair.received.media_ms += 4_000;
    let raw = pair.payer.reading;
    pair.input(PAYER, Input::Usage(raw));
    let counted = pair.payer().unwrap().reading().media_ms;
    assert!(counted < raw.media_ms, "{counted} of {raw:?}");
    pair.command(PAYER, Command::Pause);
    pair.input(PAYER, Input::Usage(raw));
    pair.command(PAYER, Command::Resume);
    pair.run(200, &[(0, Fault::LinkDown(100))]).unwrap();
    for _ in 0..40 {
        pair.run(100, &[]).unwrap();
        let raw = pair.payer.reading;
        pair.input(PAYER, Input::Usage(raw));
    }
    let reading = pair.payer().unwrap().reading().media_ms;
    assert!(reading >= raw.media_ms, "{reading} of {raw:?}");
}

/// A connection that nobody has bound yet, and a payer that pauses meanwhile.
#[test]
fn media_that_comes_before_the_connection_is_bound_while_the_payer_paused_is_set_aside() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    pair.tamper(|_, _| vec![]);
    pair.run(3_000, &[(0, Fault::LinkDown(300))]).unwrap();
    let (before, delivered) = (pair.payer().unwrap().reading(), pair.delivered());
    pair.command(PAYER, Command::Pause);
    let mut raw = pair.payer.reading;
    for _ in 0..250 {
        raw.media_ms += 20;
        pair.input(PAYER, Input::Usage(raw));
    }
    pair.payer.reading = raw;
    pair.command(PAYER, Command::Resume);
    pair.tamper = None;
    pair.run(4_000, &[]).unwrap();
    let after = pair.payer().unwrap().reading();
    let grown = after.media_ms - before.media_ms;
    let sent = pair.delivered().media_ms - delivered.media_ms;
    assert!(sent > 0, "it flows again");
    assert!(grown <= sent + 300, "{grown} ms, of {sent} sent");
}

/// The same in a new session, of which no terms are known yet.
#[test]
fn media_that_comes_before_any_terms_while_the_payer_paused_is_set_aside() {
    let mut pair = Pair::new(PairConfig::default());
    pair.tamper(|_, _| vec![]);
    pair.run(500, &[]).unwrap();
    pair.command(PAYER, Command::Pause);
    let media_ms = 1_500;
    pair.payer.reading.media_ms = media_ms;
    pair.input(PAYER, Input::Usage(pair.payer.reading));
    pair.command(PAYER, Command::Resume);
    pair.tamper = None;
    pair.run(8_000, &[]).unwrap();
    let sent = pair.payer.reading.media_ms - media_ms;
    let counted = pair.payer().unwrap().reading().media_ms;
    assert!(sent > 0, "it flows");
    assert!(counted <= sent, "{counted} ms, of {sent} sent");
}

/// The same, by terms that tolerate an hour: the meter does not sell it later either.
#[test]
fn tolerance_in_the_terms_makes_no_room_for_what_is_set_aside() {
    let mut pair = Pair::new(PairConfig {
        tolerance_ms: 3_600_000,
        ..PairConfig::default()
    });
    pair.run(5_000, &[]).unwrap();
    pair.tamper(|_, _| vec![]);
    pair.run(3_000, &[(0, Fault::LinkDown(300))]).unwrap();
    let before = pair.payer().unwrap().reading();
    pair.command(PAYER, Command::Pause);
    let mut raw = pair.payer.reading;
    raw.media_ms += 3_000_000;
    pair.input(PAYER, Input::Usage(raw));
    pair.payer.reading = raw;
    pair.command(PAYER, Command::Resume);
    pair.tamper = None;
    pair.run(20_000, &[]).unwrap();
    let payer = pair.payer().unwrap();
    let sent = pair.payer.reading.media_ms - raw.media_ms;
    let grown = payer.reading().media_ms - before.media_ms;
    assert!(grown <= sent + 300, "{grown} ms, of {sent} sent");
}

#[test]
fn media_that_was_on_its_way_when_the_payer_paused_counts() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    pair.command(PAYER, Command::Pause);
    let before = pair.payer().unwrap().reading();
    let mut raw = pair.payer.reading;
    raw.media_ms += 100;
    pair.input(PAYER, Input::Usage(raw));
    assert_eq!(
        pair.payer().unwrap().reading().media_ms,
        before.media_ms + 100
    );
}

#[test]
fn lost_resume_is_said_again() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(5_000, &[]).unwrap();
    pair.command(PAYER, Command::Pause);
    pair.run(200, &[]).unwrap();
    let delivered = pair.delivered().media_ms;
    let mut lose = 2;
    pair.tamper(move |_, bytes| match decode(bytes) {
        Ok(Some(Message::Resume(_))) if lose > 0 => {
            lose -= 1;
            vec![]
        }
        _ => vec![bytes.clone()],
    });
    pair.command(PAYER, Command::Resume);
    pair.run(10_000, &[]).unwrap();
    assert!(pair.delivered().media_ms > delivered + 5_000);
    pair.settle().unwrap();
}

#[test]
fn payee_that_reads_too_much_pauses_the_payer_within_one_tick() {
    let mut pair = Pair::new(PairConfig {
        consents: false,
        ..PairConfig::default()
    });
    // Its meter reads twice what it delivers.
    pair.overcount_ms = 40;
    pair.run(30_000, &[]).unwrap();
    let reason = PauseReason::Drift;
    assert!(any(&pair, PAYER, |event| *event
        == Event::Paused {
            by_peer: false,
            reason
        }));
    // The judge has checked the bound at each step; and it stays there.
    let credited = pair.credited();
    assert!(credited.msat() <= 8_000, "{credited}");
    pair.run(10_000, &[]).unwrap();
    assert_eq!(pair.credited(), credited);
    pair.settle().unwrap();
}

#[test]
fn failed_store_lets_nothing_leave_and_shuts_the_gate() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let good = pair.payee.store.clone();
    pair.payee.store.fail_from_now_on();
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let acks = sent.clone();
    pair.tamper(move |_, bytes| {
        if matches!(decode(bytes), Ok(Some(Message::Ack(_)))) {
            acks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        vec![bytes.clone()]
    });
    let credited = pair.credited();
    pair.run(1_500, &[]).unwrap();
    let code = CloseCode::StoreFailed;
    assert!(any(&pair, PAYEE, |event| *event
        == Event::Closed {
            code,
            by_peer: false
        }));
    assert_eq!(
        sent.load(std::sync::atomic::Ordering::Relaxed),
        0,
        "no ack without a record"
    );
    assert_eq!(pair.credited(), credited);
    assert_eq!(pair.payee.grant, Grant::Closed);
    pair.payee.store = good;
    pair.tamper = None;
    pair.run(10_000, &[]).unwrap();
    assert!(
        pair.credited() > credited,
        "a disk that is back goes on from its records"
    );
    pair.settle().unwrap();
}

fn backup(store: &MemoryStore) -> MemoryStore {
    let (mut copy, mut all) = (MemoryStore::new(), ChangeSet::new());
    for (key, value) in store.scan(&[]).unwrap() {
        all.put(key, value);
    }
    copy.append(&[all]).unwrap();
    copy
}

#[test]
fn payer_restored_from_a_backup_is_brought_forward() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let old = backup(&pair.payer.store);
    pair.run(3_000, &[]).unwrap();
    let credited = pair.credited();
    pair.payer.store = old;
    pair.payer.die();
    pair.payer_back = Some(pair.now.mono.after_ms(300));
    pair.take_link_down(500);
    pair.acked = Msat::ZERO;
    pair.run(2_000, &[]).unwrap();
    assert!(pair.payer().unwrap().acknowledged() >= credited);
    pair.run(8_000, &[]).unwrap();
    assert!(pair.credited().msat() >= credited.msat() + 10_000);
    pair.settle().unwrap();
}

#[test]
fn payee_restored_from_a_backup_is_brought_forward() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(3_500, &[]).unwrap();
    let old = backup(&pair.payee.store);
    pair.run(3_000, &[]).unwrap();
    let credited = pair.credited();
    pair.payee.store = old;
    pair.payee.die();
    pair.payee_back = Some(pair.now.mono.after_ms(300));
    pair.take_link_down(500);
    pair.run(1_500, &[]).unwrap();
    assert!(pair.payee.money().0 >= credited);
    // What it delivered since the last receipt is the price of an old backup: less than a tick.
    // From here on the judge looks at it again.
    let known = pair.payee.reading.media_ms;
    assert!(known + 1_000 >= pair.delivered.media_ms, "{known} {pair:?}");
    pair.delivered.media_ms = pair.delivered.media_ms.min(known);
    pair.payee_stands_in = false;
    pair.run(8_000, &[]).unwrap();
    assert!(pair.credited().msat() >= credited.msat() + 10_000);
    pair.settle().unwrap();
}

#[test]
fn purse_that_the_payee_forgot_is_left_for_another() {
    let mut pair = Pair::new(PairConfig::default());
    pair.run(75, &[]).unwrap();
    // Bound, and no purse yet.
    let old = backup(&pair.payee.store);
    pair.run(90, &[]).unwrap();
    pair.payee.store = old;
    pair.payee.die();
    pair.payee_back = Some(pair.now.mono.after_ms(300));
    pair.take_link_down(500);
    pair.run(10_000, &[]).unwrap();
    let open = |event: &Event| {
        matches!(
            event,
            Event::PurseOpen {
                purse: PurseId(1),
                ..
            }
        )
    };
    assert!(any(&pair, PAYER, |event| matches!(
        event,
        Event::TickReclaimed { .. }
    )));
    assert!(any(&pair, PAYER, open));
    assert!(pair.credited().msat() >= 14_000, "{pair:?}");
    pair.settle().unwrap();
}
