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
    let line = |passed| waits(what, passed, whole.as_secs());
    show(report, Instant::now(), line).await
}

/// Does `work`, and shows how long `what` may take yet, of `whole`, where it takes more than a moment.
pub(crate) async fn within<T>(
    report: Report,
    what: &str,
    whole: Duration,
    work: impl Future<Output = T>,
) -> T {
    let line = |passed| waits(what, passed, whole.as_secs());
    shown(report, line, work).await
}

/// Does `work`, and shows how long `what` has taken, where it takes more than a moment.
pub(crate) async fn during<T>(report: Report, what: &str, work: impl Future<Output = T>) -> T {
    let line = |passed| takes(what, passed);
    shown(report, line, work).await
}

async fn shown<T>(
    report: Report,
    line: impl Fn(u64) -> String,
    work: impl Future<Output = T>,
) -> T {
    let start = Instant::now();
    let showing = async {
        tokio::time::sleep(STEP).await;
        show(report, start, line).await
    };
    let done = tokio::select! {
        biased;
        done = work => done,
        never = showing => match never {},
    };
    report.wipe();
    done
}

async fn show(report: Report, start: Instant, line: impl Fn(u64) -> String) -> Infallible {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    loop {
        report.live(&line(start.elapsed().as_secs()));
        tokio::time::sleep(STEP).await;
    }
}

fn takes(what: &str, passed: u64) -> String {
    format!("{what}, {} so far", minutes(passed))
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
        assert_eq!(takes("asking", 65), "asking, 1:05 so far");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_shown_keeps_nothing_waiting_and_gives_its_result() {
        let report = Report { json: false };
        let work = async {
            tokio::time::sleep(STEP * 5).await;
            7
        };
        let start = Instant::now();
        assert_eq!(within(report, "working", STEP * 2, work).await, 7);
        assert_eq!(start.elapsed(), STEP * 5);
        assert_eq!(during(report, "working", async { 8 }).await, 8);
        assert_eq!(start.elapsed(), STEP * 5);
    }
}
