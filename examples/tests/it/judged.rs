//! The judge of the torture sees each tick that is lost or paid twice, in every way to pay: books of sessions
//! that were in order, by `--books` of the torture, and the same with one tick wrong.

use judge::{Books, Money, Row, Tick};

#[path = "../torture/judge.rs"]
mod judge;

const SAMPLES: [(&str, &str); 4] = [
    ("chain", include_str!("../torture/samples/chain.json")),
    ("p2pk", include_str!("../torture/samples/p2pk.json")),
    ("swap", include_str!("../torture/samples/swap.json")),
    ("btc", include_str!("../torture/samples/btc.json")),
];

/// As the torture sells.
fn tick(way: &str) -> Tick {
    let msat = if way == "btc" { 20_000_000 } else { 256_000 };
    Tick {
        msat,
        media_ms: 1_000,
    }
}

/// Something that goes wrong with one tick of so many millisatoshi.
type Wrong = (&'static str, fn(&mut Books, u64));

/// What each of both did with the tick's money, in the wallets and at the addresses.
fn moves(money: &mut Money, viewer: i64, streamer: i64) {
    match money {
        Money::Mint {
            viewer: from,
            streamer: to,
            ..
        } => {
            from.held_msat -= viewer;
            from.given_msat += viewer;
            to.held_msat += streamer;
            to.earned_msat += streamer;
        }
        Money::Chain {
            viewer_sat,
            streamer_sat,
            fees_sat,
            ..
        } => {
            let add = |sat: &mut u64, msat: i64| *sat = sat.saturating_add_signed(msat / 1_000);
            add(viewer_sat, -viewer);
            add(streamer_sat, streamer);
            // What neither has went to miners.
            add(fees_sat, viewer - streamer);
        }
    }
}

/// The viewer's row has one tick more that left it for good.
fn left(books: &mut Books, tick: u64) {
    let row = &mut books.viewer[0];
    row.paid_msat += tick;
    row.fees_msat += tick;
    if let Money::Chain {
        funded_sat,
        viewer_sat,
        ..
    } = &mut books.money
    {
        *funded_sat += tick / 1_000;
        *viewer_sat += tick / 1_000;
    }
}

/// The streamer's row has one tick more that came.
fn came(row: &mut Row, tick: u64) {
    row.returned_msat += tick;
    row.reserve_msat += tick;
}

fn signed(tick: u64) -> i64 {
    i64::try_from(tick).unwrap()
}

const WRONGS: [Wrong; 12] = [
    (
        "lost: it left the viewer, and came nowhere",
        |books, tick| {
            left(books, tick);
            moves(&mut books.money, signed(tick), 0);
        },
    ),
    (
        "lost: the streamer has it, and neither counts it",
        |books, tick| {
            left(books, tick);
            came(&mut books.streamer[0], tick);
            moves(&mut books.money, signed(tick), signed(tick));
        },
    ),
    (
        "lost: out of the viewer's wallet, beside every book",
        |books, tick| {
            moves(&mut books.money, signed(tick), 0);
        },
    ),
    (
        "lost: out of the streamer's wallet, beside every book",
        |books, tick| {
            moves(&mut books.money, 0, -signed(tick));
        },
    ),
    (
        "lost: both have forgotten what the viewer was told",
        |books, tick| {
            books.viewer[0].acknowledged_msat -= tick;
            books.viewer[0].fees_msat += tick;
            books.streamer[0].acknowledged_msat -= tick;
            books.streamer[0].reserve_msat += tick;
        },
    ),
    (
        "lost: the streamer alone has forgotten it",
        |books, tick| {
            books.streamer[0].acknowledged_msat -= tick;
            books.streamer[0].reserve_msat += tick;
        },
    ),
    (
        "lost: the streamer has acknowledged it, and never got it",
        |books, tick| {
            let row = &mut books.streamer[0];
            row.returned_msat -= tick;
            row.fees_msat += tick;
            moves(&mut books.money, signed(tick), 0);
        },
    ),
    ("lost: the streamer has no such session", |books, _| {
        books.streamer.clear()
    }),
    (
        "twice: it left twice, and is counted once",
        |books, tick| {
            left(books, tick);
            came(&mut books.streamer[0], tick);
            moves(&mut books.money, signed(tick), signed(tick));
            books.streamer[0].reserve_msat = 0;
            books.streamer[0].fees_msat += tick;
        },
    ),
    ("twice: the streamer counts it twice", |books, tick| {
        let row = &mut books.streamer[0];
        row.acknowledged_msat += tick;
        row.fees_msat += tick;
    }),
    (
        "twice: both count it twice, for the same media",
        |books, tick| {
            // From the third on, each total has one more.
            for told in books.told.values_mut() {
                told[2..]
                    .iter_mut()
                    .for_each(|paid| paid.total_msat += tick);
            }
            books.viewer[0].paid_msat += tick;
            books.viewer[0].acknowledged_msat += tick;
            books.streamer[0].acknowledged_msat += tick;
            books.streamer[0].returned_msat += tick;
            if let Money::Chain {
                funded_sat,
                viewer_sat,
                ..
            } = &mut books.money
            {
                *funded_sat += tick / 1_000;
                *viewer_sat += tick / 1_000;
            }
            moves(&mut books.money, signed(tick), signed(tick));
        },
    ),
    (
        "twice: paid in a session that the viewer knows nothing of",
        |books, tick| {
            let mut other = books.streamer[0].clone();
            "another".clone_into(&mut other.session);
            (other.acknowledged_msat, other.returned_msat) = (tick, tick);
            (other.fees_msat, other.reserve_msat) = (0, 0);
            books.streamer.push(other);
            moves(&mut books.money, signed(tick), signed(tick));
        },
    ),
];

#[test]
fn each_tick_that_is_lost_or_paid_twice_is_seen() {
    for (way, sample) in SAMPLES {
        let books: Books = serde_json::from_str(sample).unwrap();
        let tick = tick(way);
        assert_eq!(books.check(tick), Ok(()), "{way}");
        assert_eq!(books.ticks(tick), 5, "{way}");
        for (what, wrong) in WRONGS {
            let mut books = books.clone();
            wrong(&mut books, tick.msat);
            let seen = books.check(tick).unwrap_err();
            println!("{way}: {what}\n    {}", seen.lines().next().unwrap());
        }
    }
}
