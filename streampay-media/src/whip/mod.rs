//! Publishing: WHIP, media in over HTTP and WebRTC. Source: RFC 9725.
//!
//! Browsers, OBS, ffmpeg and GStreamer publish so. A [`Server`] answers one publisher at a time,
//! who has the [`StreamKey`], and feeds a [`Source`](crate::source::Source) with what comes:
//! VP8, VP9, H.264 or AV1, and Opus. A second publisher with the key takes the first one's place, so
//! that one whose network broke need not wait. The source goes on over that; its codecs stay, and
//! viewers stay.
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use streampay_media::{source::Source, whep, whip};
//!
//! # async fn streamer() -> Result<(), Box<dyn std::error::Error>> {
//! let (writer, source) = Source::awaited();
//! let key = whip::StreamKey::new("at least 16 characters")?;
//! let publishing = whip::Server::new(writer, key, whip::ServerConfig::default());
//! let (watching, mut arrivals) = whep::Server::new(source, whep::ServerConfig::default());
//! let service = publishing.router().merge(watching.router());
//! let service = service.into_make_service_with_connect_info::<SocketAddr>();
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! tokio::spawn(async move { axum::serve(listener, service).await });
//! // ffmpeg -re -i clip.mp4 -c:v libx264 -bf 0 -c:a libopus -f whip \
//! //     -authorization 'at least 16 characters' http://127.0.0.1:8080/whip
//! while let Some(viewer) = arrivals.recv().await {
//!     // As without WHIP.
//!     # drop(viewer);
//! }
//! # Ok(())
//! # }
//! ```

mod key;
mod server;

pub use key::{BadStreamKey, StreamKey};
pub use server::{Server, ServerConfig};
