//! Lines on a terminal that show how far something is.

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::report::Report;

/// How wide a bar is, in characters.
const BAR: u64 = 24;
const STEP: Duration = Duration::from_secs(1);

/// `[######------------------]`: so much of `whole`.
pub(crate) fn bar(part: u64, whole: u64) -> String {
    let full = u128::from(part).saturating_mul(BAR.into()) / u128::from(whole.max(1));
    let full = u64::try_from(full).unwrap_or(BAR).min(BAR);
    let of = |count: u64, with: &str| with.repeat(usize::try_from(count).unwrap_or_default());
    let rest = BAR.saturating_sub(full);
    format!("[{}{}]", of(full, "#"), of(rest, "-"))
}

/// `1:02:03`, or `2:03` below an hour.
pub(crate) fn minutes(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

/// Shows how long `what` is waited for yet, of `whole`, until it is dropped. Nothing where nobody looks.
pub(crate) async fn count_down(report: Report, what: &str, whole: Duration) -> Infallible {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let start = Instant::now();
    loop {
        let passed = start.elapsed().as_secs();
        report.live(&waits(what, passed, whole.as_secs()));
        tokio::time::sleep(STEP).await;
    }
}

fn waits(what: &str, passed: u64, whole: u64) -> String {
    let left = minutes(whole.saturating_sub(passed));
    format!("{} {what}, {left} left", bar(passed, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_from_nothing_to_all_and_no_further() {
        for (part, whole, full) in [
            (0, 100, 0),
            (50, 100, 12),
            (99, 100, 23),
            (100, 100, 24),
            (101, 100, 24),
            (0, 0, 0),
            (u64::MAX, u64::MAX, 24),
        ] {
            let bar = bar(part, whole);
            assert_eq!(bar.matches('#').count(), full, "{part} of {whole}");
            assert_eq!(bar.len(), 26);
        }
    }

    #[test]
    fn who_waits_sees_for_how_long() {
        let line = waits("waiting for the payment", 900, 3_600);
        assert_eq!(
            line,
            "[######------------------] waiting for the payment, 45:00 left"
        );
        assert!(waits("waiting", 4_000, 3_600).ends_with("0:00 left"));
    }
}
