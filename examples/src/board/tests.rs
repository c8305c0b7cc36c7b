use streampay_core::backend::BackendError;
use streampay_core::meter::PauseReason;
use streampay_core::units::{PurseId, Seq, Unix, XOnlyKey};
use streampay_core::wire::Terms;

use super::*;
use crate::price::Price;

fn id(n: u8) -> SessionId {
    SessionId([n; 32])
}

fn sat(sat: u64) -> Msat {
    Msat::from_sat(sat).unwrap()
}

pub(crate) fn terms() -> Terms {
    Terms {
        title: "clip".into(),
        tariff: "2sat/10s".parse::<Price>().unwrap().tariff(),
        tick: sat(2),
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: Vec::new(),
        join_fee: Msat::ZERO,
        resumable_s: 86_400,
        expires: Unix(0),
        payee: XOnlyKey([7; 32]),
    }
}

pub(crate) fn bound(n: u8, resumed: bool) -> Event {
    Event::Bound {
        session: id(n),
        terms: terms(),
        resumed,
        features: 0,
    }
}

fn tick(total: u64) -> Event {
    Event::TickReceived {
        seq: Seq(1),
        total: sat(total),
    }
}

#[test]
fn money_is_counted_once_and_none_from_before_the_process() {
    let board = Board::new(false);
    for (n, event) in [
        (1, bound(1, false)),
        (1, tick(2)),
        (1, tick(4)),
        // Restored after a restart: it had paid 100 before, or a little less.
        (2, bound(2, true)),
        (2, tick(100)),
        (2, tick(102)),
        (1, Event::LinkDown),
        (1, bound(1, true)),
        (1, tick(6)),
        // A stranger that was never bound.
        (3, tick(50)),
        (
            3,
            Event::Closed {
                code: CloseCode::TimedOut,
                by_peer: false,
            },
        ),
        (
            1,
            Event::TipReceived {
                amount: sat(5),
                tips: sat(5),
            },
        ),
    ] {
        board.note(id(n), &event);
    }
    let shown = board.snapshot();
    assert_eq!(shown.totals.received, sat(8));
    assert_eq!(shown.totals.tips, sat(5));
    assert_eq!(
        (shown.totals.begun, shown.totals.resumed, shown.totals.lost),
        (1, 2, 1)
    );
    assert_eq!(
        shown.totals.closed,
        BTreeMap::from([("TimedOut".to_owned(), 1)])
    );
    let rows: Vec<_> = shown
        .rows
        .iter()
        .map(|(of, row)| (*of, row.paid, row.stands))
        .collect();
    let streaming = Stands::Streaming;
    assert_eq!(
        rows,
        [
            (id(1), Some(sat(6)), streaming),
            (id(2), Some(sat(102)), streaming)
        ]
    );
}

#[test]
fn a_session_stands_as_its_events_say_and_is_not_opened_by_a_late_one() {
    let paused = Event::Paused {
        by_peer: true,
        reason: PauseReason::ByPayer,
    };
    let closed = Event::Closed {
        code: CloseCode::Done,
        by_peer: true,
    };
    let unsettled = Event::Unsettled {
        purse: PurseId(1),
        error: BackendError::Transient,
    };
    let settled = Event::Settled {
        total: sat(2),
        returned: sat(2),
    };
    let board = Board::new(false);
    for (event, expect) in [
        (bound(1, false), Stands::Connected),
        (tick(2), Stands::Streaming),
        (paused.clone(), Stands::Paused),
        (tick(4), Stands::Paused),
        (Event::Resumed, Stands::Streaming),
        (Event::LinkDown, Stands::Away),
        (bound(1, true), Stands::Connected),
        (closed, Stands::Closing),
        (Event::LinkDown, Stands::Closing),
        (paused, Stands::Closing),
        (unsettled, Stands::Unsettled),
        (settled, Stands::Settled),
    ] {
        board.note(id(1), &event);
        assert_eq!(board.snapshot().rows[0].1.stands, expect, "{event:?}");
    }
}

#[test]
fn sessions_that_are_over_and_lines_are_bounded() {
    let board = Board::new(true);
    for n in 0..=u8::MAX {
        board.note(id(n), &bound(n, false));
        if n > 0 {
            let settled = Event::Settled {
                total: sat(0),
                returned: sat(0),
            };
            board.note(id(n), &settled);
        }
        assert!(board.line(&format!("line {n}")));
    }
    let shown = board.snapshot();
    assert_eq!(
        shown.rows.len(),
        OVER_MAX + 1,
        "the one that goes on is kept"
    );
    assert_eq!(shown.rows[0].0, id(0));
    assert_eq!(shown.lines.len(), LINES_MAX);
    assert_eq!(shown.lines.last().unwrap(), "line 255");
    assert!(!Board::new(false).line("to stderr"));
    assert!(
        board.typed().is_some() && board.typed().is_none(),
        "one listener"
    );
}
