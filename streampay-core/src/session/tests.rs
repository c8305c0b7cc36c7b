//! The small parts that both machines are made of, each by itself.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::flow::Flow;
use super::lease::lease;
use super::offer::may_follow;
use super::pace::{Backoff, Pace};
use super::parts::{Parts, frames};
use super::{Entropy, Invitation, Line, MediaGrant, Name, SecretKey, Signature, TaggedHash};
use crate::meter::{PauseReason, Rate, Reading, Tariff};
use crate::units::{Mono, Msat, PurseId, Unix, XOnlyKey};
use crate::wire::{Message, Method, OPENING_MAX, Pause, Purse, Resume, Terms};

pub(super) fn terms() -> Terms {
    Terms {
        title: "title".to_string(),
        tariff: per_10_s(2_000),
        tick: Msat::new(2_000).unwrap(),
        preview: Msat::ZERO,
        window: Msat::ZERO,
        tolerance_permille: 20,
        tolerance_ms: 1_000,
        live_ms: 2_000,
        methods: vec![Method {
            name: "method".to_string(),
            params: Vec::new(),
        }],
        resumable_s: 60,
        expires: Unix(1_000),
        payee: XOnlyKey([7; 32]),
        join_fee: Msat::ZERO,
    }
}

fn per_10_s(msat: u64) -> Tariff {
    Tariff {
        time: Rate::new(Msat::new(msat).unwrap(), 10_000).ok(),
        bytes: None,
    }
}

#[test]
fn new_connection_keeps_own_causes_but_an_overdue_ack() {
    use PauseReason::{AckOverdue, ByPayee, ByPayer};
    let reason = ByPayer;
    let paused = Some(Message::Pause(Pause { epoch: 1, reason }));
    for (causes, said) in [
        (vec![], None),
        (vec![AckOverdue], None),
        (vec![ByPayer], paused.clone()),
        (vec![AckOverdue, ByPayer], paused.clone()),
        (vec![ByPayer, AckOverdue], paused),
    ] {
        let mut flow = Flow::default();
        assert!(causes.iter().all(|cause| flow.add(*cause)));
        flow.hear(Mono(0), 9, Some(ByPayee));
        flow.reconnect();
        assert_eq!(flow.message(), said, "{causes:?}");
        assert_eq!(flow.flows(), said.is_none(), "{causes:?}");
        // What the peer says is counted from 1 again.
        assert!(flow.hear(Mono(0), 1, Some(ByPayee)), "{causes:?}");
    }
}

#[test]
fn flow_says_the_oldest_cause_and_hears_the_newest_word() {
    use PauseReason::{BackendAway, ByPayee, ByPayer};
    let mut flow = Flow::default();
    assert_eq!((flow.message(), flow.pause()), (None, None));
    assert!(flow.add(ByPayer) && !flow.add(ByPayer) && flow.add(BackendAway));
    let said = |epoch, reason| Some(Message::Pause(Pause { epoch, reason }));
    assert_eq!(flow.message(), said(1, ByPayer));
    assert!(!flow.remove(ByPayee) && flow.remove(ByPayer));
    assert_eq!(flow.message(), said(2, BackendAway));
    assert!(flow.remove(BackendAway));
    assert_eq!(flow.message(), Some(Message::Resume(Resume { epoch: 3 })));
    for (epoch, word, changes) in [
        (0, Some(ByPayee), false),
        (2, Some(ByPayee), true),
        (2, None, false),
        (1, None, false),
        (3, Some(ByPayee), false),
        (4, None, true),
    ] {
        assert_eq!(flow.hear(Mono(0), epoch, word), changes, "{epoch}");
    }
    assert!(flow.flows());
}

#[test]
fn flow_stands_still_from_when_it_was_first_seen_still() {
    let terms = terms();
    let ms = u64::from(terms.resumable_s) * 1_000;
    let mut flow = Flow::default();
    let still = |flow: &mut Flow, at| flow.is_still_too_long(Mono(at), &terms);
    assert!(!still(&mut flow, 5 * ms));
    flow.add(PauseReason::ByPayer);
    assert!(!still(&mut flow, 6 * ms) && !still(&mut flow, 7 * ms - 1));
    assert!(still(&mut flow, 7 * ms));
    flow.remove(PauseReason::ByPayer);
    assert!(!still(&mut flow, 8 * ms) && !still(&mut flow, 8 * ms + 2_000));
    flow.add(PauseReason::ByPayer);
    assert!(!still(&mut flow, 9 * ms));
}

#[test]
fn word_between_two_pauses_does_not_make_two_of_them() {
    let terms = terms();
    let ms = u64::from(terms.resumable_s) * 1_000;
    let mut flow = Flow::default();
    let still = |flow: &mut Flow, at| flow.is_still_too_long(Mono(at), &terms);
    let (pause, resume) = (Some(PauseReason::ByPayee), None);
    let mut at = 1_000;
    for epoch in 1.. {
        let word = if epoch % 2 == 1 { pause } else { resume };
        flow.hear(Mono(at), epoch, word);
        if still(&mut flow, at) {
            break;
        }
        at += if word.is_some() { ms / 4 } else { 1_999 };
        assert!(at < 2 * ms, "{at}");
    }
    assert!(at >= ms + 1_000, "{at}");
}

#[test]
fn repetitions_come_after_2_4_8_and_ever_8_seconds() {
    let mut retry = Backoff::start(Mono(1_000));
    for (at, overdue) in [
        (3_000, false),
        (7_000, false),
        (15_000, true),
        (23_000, true),
    ] {
        assert_eq!(retry.at(), Mono(at));
        assert!(!retry.due(Mono(at - 1)) && retry.due(Mono(at)), "{at}");
        assert_eq!(retry.is_overdue(), overdue, "{at}");
    }
}

#[test]
fn pace_lets_a_burst_through_and_then_one_at_a_time() {
    let (every, burst) = (1_000, 3);
    let mut pace = Pace::default();
    assert!(pace.is_free(Mono(0)));
    for (at, taken) in [
        (0, true),
        (0, true),
        (0, true),
        (0, false),
        (999, false),
        (1_000, true),
        (1_000, false),
    ] {
        assert_eq!(pace.take(Mono(at), every, burst), taken, "{at}");
    }
    assert!(!pace.is_free(Mono(3_999)) && pace.is_free(Mono(4_000)));
    assert!(pace.is_free(Mono(4_001)));
}

fn part(purse: u32, part: u16, of: u16, method: u8, bytes: &'static [u8]) -> Purse {
    Purse {
        purse: PurseId(purse),
        part,
        of,
        method,
        bytes: Bytes::from_static(bytes),
    }
}

#[test]
fn parts_of_one_purse_alone_fit_together() {
    for (other, fits) in [
        (part(3, 1, 2, 1, b"b"), true),
        // The same again, and not the same.
        (part(3, 0, 2, 1, b"a"), true),
        (part(3, 0, 2, 1, b"b"), false),
        (part(3, 0, 2, 0, b"a"), false),
        (part(4, 1, 2, 1, b"b"), false),
        (part(3, 1, 3, 1, b"b"), false),
        (part(3, 1, 2, 0, b"b"), false),
        (part(3, 2, 2, 1, b"b"), false),
    ] {
        let first = part(3, 0, 2, 1, b"a");
        let mut parts = Parts::new(&first);
        assert_eq!(parts.purse(), PurseId(3));
        assert!(parts.add(first));
        let whole = fits && other.part == 1;
        assert_eq!(parts.add(other.clone()), fits, "{other:?}");
        assert_eq!(parts.joined().is_some(), whole, "{other:?}");
    }
}

#[test]
fn parts_carry_as_much_as_an_opening_may_have_and_no_more() {
    for (len, fits) in [(0, true), (OPENING_MAX, true), (OPENING_MAX + 1, false)] {
        let bytes = Bytes::from(vec![5; len]);
        let sent = frames(PurseId(1), 0, &bytes);
        let full = sent[0].bytes.len();
        assert_eq!(full, len.min(15 * 1024), "a message less its frame");
        let mut parts = Parts::new(&sent[0]);
        let all = sent.into_iter().all(|frame| parts.add(frame));
        assert_eq!(all, fits, "{len}");
        assert_eq!(parts.joined() == Some(bytes), fits, "{len}");
    }
}

#[test]
fn title_tariff_and_expiry_alone_may_change_within_a_session() {
    type Change = fn(&mut Terms);
    let changes: [(Change, bool); 13] = [
        (|terms| terms.title = "other".to_string(), true),
        (|terms| terms.tariff = per_10_s(1), true),
        (|terms| terms.expires = Unix(2_000), true),
        (|terms| terms.tick = Msat::MAX, false),
        (|terms| terms.preview = Msat::MAX, false),
        (|terms| terms.window = Msat::MAX, false),
        (|terms| terms.tolerance_permille = 1, false),
        (|terms| terms.tolerance_ms = 1, false),
        (|terms| terms.live_ms = 1, false),
        (|terms| terms.methods.clear(), false),
        (|terms| terms.resumable_s = 1, false),
        (|terms| terms.payee.0[0] = 1, false),
        (|terms| terms.join_fee = Msat::MAX, false),
    ];
    for (at, (change, may)) in changes.into_iter().enumerate() {
        let mut new = terms();
        change(&mut new);
        assert_eq!(may_follow(&terms(), &new), may, "change {at}");
    }
}

#[test]
fn lease_is_a_quarter_of_a_tick_within_its_bounds() {
    let rate = |msat, per| Rate::new(Msat::new(msat).unwrap(), per).ok();
    let at = |media_ms, bytes| Reading { media_ms, bytes };
    for (time, bytes, leased) in [
        // A meter that costs nothing has the longest lease.
        (None, None, at(1_000, 262_144)),
        (rate(0, 1), rate(0, 1), at(1_000, 262_144)),
        (rate(2_000, 2_000), rate(2_000, 400_000), at(500, 100_000)),
        (rate(2_000, 100), rate(2_000, 100), at(100, 16_384)),
        (
            rate(2_000, 4_004),
            rate(2_000, 1_100_000),
            at(1_000, 262_144),
        ),
    ] {
        let tariff = Tariff { time, bytes };
        let terms = Terms { tariff, ..terms() };
        assert_eq!(lease(&terms), leased, "{tariff:?}");
    }
}

#[test]
fn what_is_secret_or_long_shows_what_it_is_and_nothing_of_it() {
    let entropy = Entropy([0x42; 32]);
    let key = SecretKey::derive(&entropy, "identity").unwrap();
    let bytes = || Bytes::from_static(b"secret");
    for (shown, wanted) in [
        (format!("{entropy:?}"), "Entropy(<redacted>)"),
        (format!("{key:?}"), "SecretKey(<redacted>)"),
        (
            format!("{:?}", TaggedHash::new("tag").blob(b"secret")),
            "TaggedHash",
        ),
        (format!("{:?}", Signature([0xab; 64])), "Signature(abab..)"),
        (format!("{:?}", MediaGrant(bytes())), "MediaGrant(6 bytes)"),
        (
            format!("{:?}", Line::new("secret").unwrap()),
            "Line(6 bytes)",
        ),
        (
            format!("{:?}", Invitation::new(bytes()).unwrap()),
            "Invitation(<redacted>)",
        ),
    ] {
        assert_eq!(shown, wanted);
    }
    // A name is for everybody to see.
    assert!(format!("{:?}", Name::new("ann").unwrap()).contains("ann"));
}

/// What serde writes is taken back as it was, secrets included; what is shown has none of them.
#[test]
fn what_goes_in_and_comes_out_is_written_whole_and_shown_without_payloads() {
    use super::{BackendEvent, ChannelIdentity, Command, Input, LinkEvent, Output};
    use crate::backend::{Answer, Effect, Outcome};
    use crate::store::ChangeSet;
    use crate::units::{EffectId, PurseKey, SessionId};

    const SECRET: &[u8] = b"secret";
    let bytes = || Bytes::from_static(SECRET);
    let purse = PurseKey {
        session: SessionId([7; 32]),
        purse: PurseId(1),
    };
    let mut records = ChangeSet::new();
    records.put(*b"key", SECRET);
    let effect = || Effect {
        purse,
        id: EffectId(3),
        body: bytes(),
    };
    let answer = Answer {
        outcome: Some(Outcome::Paid { payload: bytes() }),
        delta: records.clone(),
        node_delta: records.clone(),
        effects: vec![effect()],
        note: Some(bytes()),
        trouble: None,
    };
    let mut entropy = [0; 32];
    entropy[..SECRET.len()].copy_from_slice(SECRET);
    let identity = ChannelIdentity {
        payer: [1; 32],
        payee: [2; 32],
    };
    let entropy = Entropy(entropy);
    let inputs = [
        Input::Received(bytes()),
        Input::Command(Command::Grant(MediaGrant(bytes()))),
        Input::Backend(BackendEvent { purse, answer }),
        Input::Link(LinkEvent::Up { identity, entropy }),
    ];
    let effect = Output::Effect {
        method: "coin".to_string(),
        effect: effect(),
    };
    let outputs = [Output::Persist(records), Output::Send(bytes()), effect];
    let numbers = format!("{SECRET:?}");
    let numbers = numbers.trim_matches(['[', ']']);
    let is_shown = |shown: &str| shown.contains("secret") || shown.contains(numbers);
    for input in inputs {
        let written = serde_json::to_string(&input).unwrap();
        assert!(written.contains(&numbers.replace(' ', "")), "{written}");
        assert_eq!(serde_json::from_str::<Input>(&written).unwrap(), input);
        assert!(!is_shown(&format!("{input:?}")), "{input:?}");
    }
    for output in outputs {
        let written = serde_json::to_string(&output).unwrap();
        assert!(written.contains(&numbers.replace(' ', "")), "{written}");
        assert_eq!(serde_json::from_str::<Output>(&written).unwrap(), output);
        assert!(!is_shown(&format!("{output:?}")), "{output:?}");
    }
}
