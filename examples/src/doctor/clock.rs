//! The clock, against what servers say. Source: RFC 9110 (Date), RFC 9111 (Age).

use std::time::{Duration, SystemTime};

use super::Finding;

/// Off by so much is fine, in milliseconds: dates of HTTP are whole seconds.
const FINE_MS: i64 = 3_000;
/// Off by so much, locks seem to run out too late: `hours` of locktime hide less.
const BAD_MS: i64 = 60_000;
/// How long a server may take, in seconds.
const PATIENCE_S: u64 = 10;
const CLOCK: &str = "clock";

/// One line a server that says the time.
pub(super) async fn clock(servers: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in servers {
        let url = format!("{}/v1/info", server.trim_end_matches('/'));
        let before = SystemTime::now();
        let answer = bitreq::get(url).with_timeout(PATIENCE_S).send_async().await;
        let after = SystemTime::now();
        // That it does not answer is told of the mint.
        let Ok(answer) = answer else { continue };
        let header = |name: &str| answer.headers.get(name).map(String::as_str);
        if let Some(ahead) = ahead_ms(header("date"), header("age"), (before, after)) {
            findings.push(judged(ahead, server));
        }
    }
    if findings.is_empty() {
        let found = "no server to compare it with";
        findings.push(Finding::warn(CLOCK, found, "name a mint with --mint"));
    }
    findings
}

/// How far this clock is ahead of the server's, in milliseconds; none where it does not say. `Age`
/// is how long a cache has kept the answer, so the server's time is the date and the age.
pub(super) fn ahead_ms(
    date: Option<&str>,
    age: Option<&str>,
    (before, after): (SystemTime, SystemTime),
) -> Option<i64> {
    let date = httpdate::parse_http_date(date?).ok()?;
    let age = age.map_or(Some(0), |age| age.trim().parse::<u32>().ok())?;
    // Any instant of the second that it names.
    let theirs = date
        .checked_add(Duration::from_secs(age.into()))?
        .checked_add(Duration::from_millis(500))?;
    let took = after.duration_since(before).unwrap_or_default();
    let ours = before.checked_add(took.checked_div(2)?)?;
    let millis = |of: Duration| i64::try_from(of.as_millis()).unwrap_or(i64::MAX);
    Some(match ours.duration_since(theirs) {
        Ok(ahead) => millis(ahead),
        Err(behind) => millis(behind.duration()).saturating_neg(),
    })
}

pub(super) fn judged(ahead_ms: i64, server: &str) -> Finding {
    let off = ahead_ms.saturating_abs();
    let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let found = format!("{:.1} s {side} {server}", seconds(off));
    let advice = "set this computer's clock, by NTP: locks run out by the clock";
    if off <= FINE_MS {
        Finding::ok(CLOCK, format!("right by {server}, within a few seconds"))
    } else if off <= BAD_MS {
        Finding::warn(CLOCK, found, advice)
    } else {
        Finding::fail(CLOCK, found, advice)
    }
}

#[expect(
    clippy::as_conversions,
    reason = "a number to be read, not to be computed with"
)]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}
