//! Whose request it is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header, request};

/// Whether a reverse proxy stands before the server, and how it names its callers.
///
/// Only the last hop counts: it is what the proxy itself saw, all before it is what the caller
/// claims. For the same reason only the one header is read that the proxy is known to write; the
/// other passes through as the caller sent it. With a proxy configured nobody else may reach the
/// server's port, or they would choose their own address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustedProxy {
    /// None: the connection's own address counts. Behind a proxy all viewers are one household
    /// then, and count as being on this machine where the proxy is.
    #[default]
    None,
    /// The last address in `X-Forwarded-For`.
    XForwardedFor,
    /// The last `for=` in `Forwarded` (RFC 7239).
    Forwarded,
}

impl TrustedProxy {
    /// The caller's address. Where the proxy does not say it, the connection's; where that is
    /// not known either, one that all such callers share.
    pub(crate) fn caller(self, parts: &request::Parts) -> IpAddr {
        let named = match self {
            Self::None => None,
            Self::XForwardedFor => last(&parts.headers, &FORWARDED_FOR).and_then(node),
            Self::Forwarded => last(&parts.headers, &header::FORWARDED)
                .and_then(forwarded_for)
                .and_then(node),
        };
        let connected = parts
            .extensions
            .get::<axum::extract::ConnectInfo<SocketAddr>>();
        named
            .or_else(|| connected.map(|info| info.0.ip()))
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ip| ip.to_canonical())
    }
}

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The last element of a header that is a list, over all its lines. RFC 9110 5.3.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    Some(line.rsplit(',').next().unwrap_or(line).trim())
}

/// The value of `for` in one element of `Forwarded`. RFC 7239 4.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("for")
            .then(|| value.trim().trim_matches('"'))
    })
}

/// An address, perhaps with a port, IPv6 perhaps in brackets. RFC 7239 6.
fn node(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']')?.0.parse().ok();
    }
    text.parse()
        .ok()
        .or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{extract::ConnectInfo, http::Request};

    fn caller(proxy: TrustedProxy, headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let proxy_at: SocketAddr = "127.0.0.1:5000".parse().unwrap();
        parts.extensions.insert(ConnectInfo(proxy_at));
        proxy.caller(&parts).to_string()
    }

    #[test]
    fn without_a_trusted_proxy_no_header_names_the_caller() {
        let claims = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")];
        assert_eq!(caller(TrustedProxy::None, &claims), "127.0.0.1");
    }

    #[test]
    fn only_what_the_proxy_wrote_last_names_the_caller() {
        use TrustedProxy::{Forwarded, XForwardedFor};
        let xff = "x-forwarded-for";
        for (proxy, headers, expect) in [
            (XForwardedFor, &[(xff, "1.2.3.4")][..], "1.2.3.4"),
            (XForwardedFor, &[(xff, "9.9.9.9, 1.2.3.4")], "1.2.3.4"),
            (
                XForwardedFor,
                &[(xff, "9.9.9.9"), (xff, "1.2.3.4")],
                "1.2.3.4",
            ),
            (XForwardedFor, &[(xff, "2001:db8::1")], "2001:db8::1"),
            (XForwardedFor, &[(xff, "::ffff:1.2.3.4")], "1.2.3.4"),
            (XForwardedFor, &[(xff, "1.2.3.4:99")], "1.2.3.4"),
            (XForwardedFor, &[(xff, "9.9.9.9, unknown")], "127.0.0.1"),
            (XForwardedFor, &[("forwarded", "for=9.9.9.9")], "127.0.0.1"),
            (Forwarded, &[(xff, "9.9.9.9")], "127.0.0.1"),
            (
                Forwarded,
                &[("forwarded", "for=9.9.9.9, for=1.2.3.4;proto=https")],
                "1.2.3.4",
            ),
            (
                Forwarded,
                &[("forwarded", "proto=http; For=\"[2001:db8::1]:99\"")],
                "2001:db8::1",
            ),
            (Forwarded, &[("forwarded", "for=_hidden")], "127.0.0.1"),
        ] {
            assert_eq!(caller(proxy, headers), expect, "{proxy:?} {headers:?}");
        }
    }
}
