//! What the link shows: a page to a browser, the signed terms to a viewer's program.

use axum::Router;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;

use crate::quote::QUOTE_TYPE;

/// What the page says.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) price: String,
    pub(crate) mint: String,
    /// See [`crate::quote::seal`].
    pub(crate) quote: Bytes,
}

impl Page {
    /// `GET` of the stream's address and of the root.
    pub(crate) fn router(self) -> Router {
        let (html, quote) = (Bytes::from(self.html()), self.quote);
        let show = get(move |headers: HeaderMap| {
            let shown = show(&headers, &html, &quote);
            async move { shown }
        });
        Router::new().route("/", show.clone()).route("/whep", show)
    }

    fn html(&self) -> String {
        let (title, price, mint) = (escape(&self.title), escape(&self.price), escape(&self.mint));
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>\
             <meta name=viewport content=\"width=device-width\">\
             <style>body{{font:18px/1.5 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem}}\
             code{{background:#eee;padding:.2rem .4rem;border-radius:.3rem;word-break:break-all}}</style>\
             <h1>{title}</h1>\
             <p>A live stream, paid while it flows: <strong>{price}</strong>, in ecash of {mint}. \
             You pay only for what reaches you, and never more than one payment ahead.</p>\
             <h2>Watch</h2>\
             <p>1. Put a little ecash into your wallet:<br><code>viewer deposit 100sat --mint {mint}</code></p>\
             <p>2. Watch, with a budget that is never exceeded:<br>\
             <code>viewer watch '<span id=link>LINK</span>' --budget 100sat</code></p>\
             <p>Press Ctrl-C to stop: what was not used comes back to you.</p>\
             <script>document.getElementById('link').textContent=location.href</script></html>"
        )
    }
}

fn show(headers: &HeaderMap, html: &Bytes, quote: &Bytes) -> Response {
    let wants_quote = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept == QUOTE_TYPE);
    let vary = [(header::VARY, "Accept")];
    if wants_quote {
        (vary, [(header::CONTENT_TYPE, QUOTE_TYPE)], quote.clone()).into_response()
    } else {
        (vary, Html(html.clone())).into_response()
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
