//! Until when money is locked that the streamer has not signed over.

use streampay_cashu::LockedParams;
use streampay_core::session::PayerSession;
use streampay_core::units::Unix;

/// When the last lock of a session's purses gives way, by this machine's clock; none where nothing
/// of it is locked any more.
#[must_use]
pub fn locked_until(session: &PayerSession) -> Option<Unix> {
    let terms = session.terms()?;
    let methods = session.purses();
    let ends = session.purses_out().into_iter().filter_map(|(id, until)| {
        let (_, name) = methods.iter().find(|(of, _)| *of == id)?;
        let mut methods = terms.methods.iter();
        let method = methods.find(|method| method.name == *name)?;
        let margin_s = LockedParams::decode(&method.params).ok()?.margin_s();
        Some(Unix(until?.0.saturating_add(margin_s)))
    });
    ends.max()
}

/// What to tell of it.
#[must_use]
pub fn words(until: Unix, now: Unix) -> String {
    match until.0.saturating_sub(now.0).div_ceil(60) {
        0 => "the lock of the rest is over: `viewer recover` brings it home".to_owned(),
        minutes => format!(
            "the rest is locked for another {} h {} min; then `viewer recover` brings it home, \
             whatever the streamer does",
            minutes / 60,
            minutes % 60
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_long_and_what_to_do() {
        let cases = [
            (100, 100, "is over"),
            (99, 100, "is over"),
            (101, 100, "0 h 1 min"),
            (14_500, 100, "4 h 0 min"),
            (14_501, 100, "4 h 1 min"),
        ];
        for (until, now, expect) in cases {
            let words = words(Unix(until), Unix(now));
            assert!(words.contains(expect), "{words}");
        }
    }
}
