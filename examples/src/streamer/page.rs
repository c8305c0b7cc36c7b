//! What the link shows: a page to a browser, the signed terms to a viewer's program.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use streampay_cashu::AcceptedMint;

use super::offered::{Offered, Sale};
use crate::pay;
use crate::quote::QUOTE_TYPE;

/// What the page says.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) price: String,
    /// None where the stream is paid in bitcoin alone.
    pub(crate) mints: Vec<AcceptedMint>,
}

/// `GET` of the stream's address and of the root, and what the page loads.
pub(super) fn router(offered: Arc<Offered>) -> Router {
    let show = get(move |headers: HeaderMap| {
        let offered = offered.clone();
        async move { show(&headers, &*offered.now().await) }
    });
    let file = |kind, text: &'static str| get(move || async move { answer(kind, text) });
    Router::new()
        .route("/", show.clone())
        .route("/whep", show)
        .route("/page.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/page.css", file("text/css; charset=utf-8", STYLE))
}

impl Page {
    pub(super) fn html(&self) -> String {
        let (title, price) = (escape(&self.title), escape(&self.price));
        let (money, first, how) = match self.mints.first() {
            Some(mint) => (
                format!("ecash of {}", escape(&pay::words(&self.mints))),
                format!(
                    "Put a little ecash into your wallet:<br>\
                     <code>viewer deposit 100sat --mint {}</code>",
                    escape(mint.url())
                ),
                "--budget 100sat",
            ),
            None => (
                "bitcoin, over a channel of your own".to_owned(),
                "Have a bitcoin wallet, and a node or an Esplora to see the chain by.".to_owned(),
                "--budget 50000sat --pay btc --btc URL --refund-to ADDRESS",
            ),
        };
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>\
             <meta name=viewport content=\"width=device-width\">\
             <link rel=stylesheet href=page.css>\
             <h1>{title}</h1>\
             <p>A live stream, paid while it flows: <strong>{price}</strong>, in {money}. \
             You pay only for what reaches you, and never more than one payment ahead.</p>\
             <h2>Watch</h2>\
             <p>1. {first}</p>\
             <p>2. Watch, with a budget that is never exceeded:</p>\
             <p id=whole hidden><code>viewer watch '<span id=link></span>' {how}</code></p>\
             <p id=broken>This link is not whole, so there is no command to show: behind its \
             <code>#key=</code> belong 64 hexadecimal digits, which say whom you pay. Get it again \
             from the streamer.<noscript> Or it is, and this page needs JavaScript to see \
             it.</noscript></p>\
             <p>Press Ctrl-C to stop: what was not used comes back to you.</p>\
             <script src=page.js></script></html>"
        )
    }
}

const SCRIPT: &str = include_str!("page/page.js");
const STYLE: &str = include_str!("page/page.css");

/// Nothing runs or loads but the two files beside the page, and no page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

fn show(headers: &HeaderMap, sale: &Sale) -> Response {
    let wants_quote = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept == QUOTE_TYPE);
    let shown = match &sale.quote {
        Some(quote) if wants_quote => answer(QUOTE_TYPE, quote.clone()),
        // No mint is fit.
        None if wants_quote => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => answer("text/html; charset=utf-8", sale.html.clone()),
    };
    ([(header::VARY, "Accept")], shown).into_response()
}

fn answer(kind: &'static str, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, body).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(title: &str) -> Page {
        Page {
            title: title.to_owned(),
            price: "1 sat a second".to_owned(),
            mints: vec![AcceptedMint::sat("http://127.0.0.1:3338").unwrap()],
        }
    }

    #[test]
    fn every_answer_forbids_what_the_page_does_not_need() {
        let mut wants_quote = HeaderMap::new();
        wants_quote.insert(header::ACCEPT, QUOTE_TYPE.parse().unwrap());
        let sale = Sale {
            terms: None,
            html: "page".into(),
            spans: None,
            quote: Some("quote".into()),
        };
        for (answer, kind) in [
            (show(&HeaderMap::new(), &sale), "text/html; charset=utf-8"),
            (show(&wants_quote, &sale), QUOTE_TYPE),
            (answer("text/css", STYLE), "text/css"),
        ] {
            let headers = answer.headers();
            assert_eq!(headers.get(header::CONTENT_TYPE).unwrap(), kind);
            assert_eq!(headers.get_all(header::CONTENT_TYPE).iter().count(), 1);
            let policy = headers.get(header::CONTENT_SECURITY_POLICY).unwrap();
            assert!(policy.to_str().unwrap().starts_with("default-src 'none';"));
            assert_eq!(
                headers.get(header::X_CONTENT_TYPE_OPTIONS).unwrap(),
                "nosniff"
            );
            assert_eq!(headers.get(header::REFERRER_POLICY).unwrap(), "no-referrer");
        }
    }

    #[test]
    fn nothing_is_inline_and_a_title_is_text() {
        let html = page("<script>x</script>'\"").html();
        assert_eq!(html.matches("<script").count(), 1);
        assert!(html.contains("<script src=page.js></script>"));
        assert!(!html.contains("<style") && !html.contains("style="));
        assert!(html.contains("<h1>&lt;script&gt;x&lt;/script&gt;&#39;&quot;</h1>"));
    }

    #[test]
    fn the_command_is_hidden_until_the_link_is_seen_to_be_whole() {
        let html = page("x").html();
        assert!(html.contains("<p id=whole hidden>"));
        assert!(html.contains("<span id=link></span>"));
        assert!(SCRIPT.contains("/^#key=[0-9a-f]{64}$/"));
        assert!(!SCRIPT.contains("location.href") && !SCRIPT.contains("innerHTML"));
    }
}
