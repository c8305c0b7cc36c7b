//! One HTTP call, bounded in time and size.

use std::time::Duration;

use super::ChainError;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer: a block in hexadecimal.
pub(super) const BODY_MAX: usize = 10 * 1024 * 1024;

/// Status and body of an answer of up to so many bytes.
pub(super) async fn call_up_to(
    most: usize,
    request: bitreq::Request,
) -> Result<(i32, Vec<u8>), ChainError> {
    let request = request
        .with_timeout(TIMEOUT.as_secs())
        .with_max_redirects(0)
        .with_max_body_size(Some(most));
    let away = |why: String| ChainError::Away(why);
    // The client's own limit does not hold for looking up a name.
    let answer = tokio::time::timeout(TIMEOUT, request.send_async()).await;
    let answer = answer
        .map_err(|_| away("no answer in time".to_owned()))?
        .map_err(|error| away(error.to_string()))?;
    Ok((answer.status_code, answer.into_bytes()))
}

/// What a server said, short enough to show.
pub(super) fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(200).collect()
}
