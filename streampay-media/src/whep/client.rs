use std::{net::IpAddr, time::Duration};

use crate::{peer::SDP_MAX, signal::SDP_TYPE};

/// Asks a streamer's WHEP endpoint. Every call ends within [`Client::TIMEOUT`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Client;

/// The streamer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its session description.
    pub answer: String,
    /// What to delete to end the connection. Secret.
    pub session_url: String,
}

/// Why signalling failed, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is not `http://` or `https://` with a host.
    #[error("{0} is not an http or https address; use the link as the streamer printed it")]
    BadUrl(String),
    /// No answer came.
    #[error("cannot reach {host}: {cause}; check the link and that the streamer is running")]
    Unreachable {
        /// The server.
        host: String,
        /// What the HTTP client said.
        cause: bitreq::Error,
    },
    /// No answer came in time.
    #[error("{host} did not answer within {:?}; try again", Client::TIMEOUT)]
    Overdue {
        /// The server.
        host: String,
    },
    /// There is no such stream.
    #[error("{host} has no stream at this address (404); check the link")]
    NoStream {
        /// The server.
        host: String,
    },
    /// The streamer has all the viewers that it takes for now.
    #[error("the streamer is full ({status}); try again in a moment")]
    Busy {
        /// 429 or 503.
        status: u16,
    },
    /// The streamer refused the offer.
    #[error("the streamer refused ({status}); are both sides of the same version?")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The answer is not one of WHEP, or too long.
    #[error("{host} did not answer as a streamer does; check the link")]
    NotWhep {
        /// The server.
        host: String,
    },
}

impl Client {
    /// How long one call may take.
    pub const TIMEOUT: Duration = Duration::from_secs(15);

    /// Posts an offer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post(&self, url: &str, offer: &str) -> Result<Accepted, ClientError> {
        let request = Self::request(bitreq::Method::Post, url)?
            .with_header("Content-Type", SDP_TYPE)
            .with_header("Accept", SDP_TYPE)
            .with_body(offer);
        let response = Self::send(request, url).await?;
        let not_whep = || ClientError::NotWhep { host: host(url) };
        match response.status_code {
            201 => {}
            404 => return Err(ClientError::NoStream { host: host(url) }),
            status @ (429 | 503) => {
                return Err(ClientError::Busy {
                    status: status.try_into().unwrap_or(503),
                });
            }
            status => {
                return Err(ClientError::Refused {
                    status: status.try_into().unwrap_or(0),
                });
            }
        }
        let header = |name: &str| response.headers.get(name).map(String::as_str);
        let is_sdp = header("content-type").is_some_and(|kind| kind.starts_with(SDP_TYPE));
        let location = header("location").filter(|_| is_sdp).ok_or_else(not_whep)?;
        let session_url = resolve(url, location).ok_or_else(not_whep)?;
        let answer = response.as_str().map_err(|_| not_whep())?.to_owned();
        Ok(Accepted {
            answer,
            session_url,
        })
    }

    /// Gets what the streamer shows at `url` as media type `kind`, at most [`SDP_MAX`] bytes.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::NotWhep`] where the answer is of another type.
    pub async fn get(&self, url: &str, kind: &str) -> Result<Vec<u8>, ClientError> {
        let request = Self::request(bitreq::Method::Get, url)?.with_header("Accept", kind);
        let response = Self::send(request, url).await?;
        match response.status_code {
            200 => {}
            404 => return Err(ClientError::NoStream { host: host(url) }),
            status => {
                return Err(ClientError::Refused {
                    status: status.try_into().unwrap_or(0),
                });
            }
        }
        let found = response.headers.get("content-type");
        if found.is_none_or(|found| found != kind) {
            return Err(ClientError::NotWhep { host: host(url) });
        }
        Ok(response.into_bytes())
    }

    /// Ends the connection that `session_url` stands for.
    ///
    /// # Errors
    /// [`ClientError`]; one that has ended before is none.
    pub async fn delete(&self, session_url: &str) -> Result<(), ClientError> {
        let request = Self::request(bitreq::Method::Delete, session_url)?;
        let response = Self::send(request, session_url).await?;
        match response.status_code {
            200..=299 | 404 | 410 => Ok(()),
            status => Err(ClientError::Refused {
                status: status.try_into().unwrap_or(0),
            }),
        }
    }

    fn request(method: bitreq::Method, url: &str) -> Result<bitreq::Request, ClientError> {
        let url = url.split('#').next().unwrap_or(url);
        if origin(url).is_none() || url.bytes().any(|byte| byte <= b' ') {
            return Err(ClientError::BadUrl(url.to_owned()));
        }
        Ok(bitreq::Request::new(method, url)
            .with_timeout(Self::TIMEOUT.as_secs())
            // An offer is for who was asked, not for another server.
            .with_max_redirects(0)
            .with_max_headers_size(16 * 1024)
            .with_max_status_line_length(1024)
            .with_max_body_size(SDP_MAX))
    }

    async fn send(request: bitreq::Request, url: &str) -> Result<bitreq::Response, ClientError> {
        let sent = tokio::time::timeout(Self::TIMEOUT, request.send_async()).await;
        match sent {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(cause)) => Err(ClientError::Unreachable {
                host: host(url),
                cause,
            }),
            Err(_) => Err(ClientError::Overdue { host: host(url) }),
        }
    }
}

/// Scheme and host with port: `https://example.com:8080`.
fn origin(url: &str) -> Option<&str> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))?;
    let host = rest
        .split(['/', '?', '#'])
        .next()
        .filter(|host| !host.is_empty())?;
    let length = url.len() - rest.len() + host.len();
    url.get(..length)
}

/// Whether the server is on this machine, by its own name for itself.
pub(crate) fn is_local(url: &str) -> bool {
    let Some((_, host)) = origin(url).and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    if host.contains('@') {
        return false;
    }
    let host = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or(host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

fn host(url: &str) -> String {
    origin(url).unwrap_or(url).to_owned()
}

/// Where a `Location` leads: absolute or a path, at the same server in any case.
fn resolve(url: &str, location: &str) -> Option<String> {
    let own = origin(url)?;
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{own}{location}"));
    }
    // Behind a proxy the streamer may know itself by another name: its path is what counts.
    let theirs = origin(location)?;
    let path = location
        .get(theirs.len()..)
        .filter(|path| path.starts_with('/'))?;
    Some(if theirs == own {
        location.to_owned()
    } else {
        format!("{own}{path}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_stay_at_the_server_that_was_asked() {
        let url = "https://a.example:1/x/whep#key=00";
        for (location, expect) in [
            ("/whep/1", Some("https://a.example:1/whep/1")),
            (
                "https://a.example:1/whep/1",
                Some("https://a.example:1/whep/1"),
            ),
            (
                "http://evil.example/whep/1",
                Some("https://a.example:1/whep/1"),
            ),
            ("//evil.example/1", None),
            ("whep", None),
            ("", None),
        ] {
            assert_eq!(resolve(url, location).as_deref(), expect, "{location}");
        }
    }

    #[test]
    fn a_server_on_this_machine_is_known_by_its_host_alone() {
        for (url, local) in [
            ("http://127.0.0.1:8080/whep", true),
            ("http://localhost/whep#key=00", true),
            ("http://[::1]:80/", true),
            ("http://192.168.1.2:8080/whep", false),
            ("http://example.com/127.0.0.1", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://localhost@example.com/", false),
            ("http://localhost:80@example.com/", false),
            ("http://[2001:db8::1]/", false),
            ("", false),
        ] {
            assert_eq!(is_local(url), local, "{url}");
        }
    }

    #[test]
    fn urls_that_are_none_are_refused_before_anything_is_sent() {
        for url in [
            "",
            "x",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://a/ b",
            "http://a/\r\nX: y",
        ] {
            let request = Client::request(bitreq::Method::Post, url);
            assert!(matches!(request, Err(ClientError::BadUrl(_))), "{url:?}");
        }
    }
}
