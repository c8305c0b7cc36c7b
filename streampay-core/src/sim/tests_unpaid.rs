//! How long a payee waits for a payer that may be gone.

use super::side::Session;
use super::*;
use crate::session::{CloseCode, Event, Input, Output};
use crate::units::Mono;

const PAYEE: Direction = Direction::ToPayee;

fn is_closed(event: &Event) -> bool {
    matches!(event, Event::Closed { .. })
}

/// Credit is left, so nothing is due of the payer; and the payee has nothing to send.
#[test]
fn payee_whose_source_is_dead_ends_once_the_time_to_resume_is_over() {
    for (resumable_s, limit_ms) in [(3_600, 3_600_000), (0, 600_000)] {
        let mut pair = Pair::new(PairConfig {
            resumable_s,
            ..PairConfig::default()
        });
        // Half of a tick is used.
        pair.run(5_500, &[]).unwrap();
        let mut now = pair.now;
        let since = now.mono;
        let Some(Session::Payee(payee)) = pair.payee.session.as_mut() else {
            panic!("the payee lives");
        };
        let ended = (0..1_000_000).find_map(|_| {
            let at = payee.poll_timeout().expect("a payee waits for ever");
            now.mono = now.mono.max(at);
            payee.handle(now, Input::Timeout).unwrap();
            let mut outputs = core::iter::from_fn(|| payee.poll_output());
            let code = outputs.find_map(|output| match output {
                Output::Event(Event::Closed { code, .. }) => Some(code),
                _ => None,
            });
            code.map(|code| (code, now.mono))
        });
        let (code, at): (CloseCode, Mono) = ended.expect("it never ends");
        assert_eq!(code, CloseCode::TimedOut);
        let waited = at.since_ms(since);
        assert!(waited <= limit_ms && waited + 2_000 > limit_ms, "{waited}");
    }
}

/// Wherever in a tick the payer pauses, and however long: its time to pay stands still.
#[test]
fn payer_that_paused_near_the_end_of_its_credit_is_not_sent_away_when_it_comes_back() {
    for at_ms in (10_000..11_000).step_by(50) {
        let mut pair = Pair::new(PairConfig::default());
        pair.run(at_ms, &[]).unwrap();
        // A payee waits 600 s for a payment.
        pair.run(810_000, &[(0, Fault::PausePayer(800_000))])
            .unwrap();
        assert!(!pair.events(PAYEE).iter().any(is_closed), "{at_ms}");
        pair.settle().unwrap();
    }
}
