#![doc = include_str!("../README.md")]
//!
//! # How it hangs together
//!
//! A session of `streampay-core` runs over the
//! [`Link`](streampay_core::driver::Link) that a connection yields, publishes a
//! [`Grant`](streampay_core::meter::Grant), and is told a
//! [`Reading`](streampay_core::meter::Reading); everything between those is here.
//!
//! ```text
//!              streamer                                        viewer
//!  file ─► Source ─ ring ─┬─► Gate ─► MeteredTrack ══ RTP ══► ReceiveMeter ─► Recorder
//!                         │    ▲  └─► Reading                      └─► Reading
//!                         ┆    └── Grant ◄─ session ◄═ Link ═► session
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`source`] | media files and live input, packetized once for all viewers |
//! | [`gate`] | what lets paid packets through, and the only writer of a viewer's tracks |
//! | [`meter`] | what counts as delivered, alike on both sides |
//! | [`peer`] | WebRTC connections, their data channel and identity |
//! | [`embed`] | the gate on an application's own tracks and connections |
//! | [`whep`] | signalling over HTTP, both sides |
//! | [`whip`] | publishers over HTTP: browsers, OBS, ffmpeg, GStreamer |
//! | [`record`] | one playable file of what was received |
//! | `seal` | feature `e2ee`: frames that a carrier cannot play |
//! | [`packet`] | kinds, codecs, packets |
//!
//! # A streamer
//! ```no_run
//! use std::{net::SocketAddr, path::Path};
//! use streampay_core::meter::{Grant, Reading};
//! use streampay_media::{source::{FileOptions, Source}, whep::{Server, ServerConfig}};
//! use tokio::sync::watch;
//!
//! # async fn streamer() -> Result<(), Box<dyn std::error::Error>> {
//! let source = Source::open(Path::new("clip.ivf"), FileOptions::default()).await?;
//! let (server, mut arrivals) = Server::new(source, ServerConfig::default());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let service = server.router().into_make_service_with_connect_info::<SocketAddr>();
//! tokio::spawn(async move { axum::serve(listener, service).await });
//! while let Some(mut viewer) = arrivals.recv().await {
//!     tokio::spawn(async move {
//!         // The session: runs over the link, then publishes grants and is told readings.
//!         let mut link = viewer.link;
//!         let hello = link.end.incoming.recv().await;
//!         viewer.place.bound();
//!         let (grants, receiver) = watch::channel(Grant::default());
//!         let reading = viewer.connection.start(receiver, Reading::default());
//!         // After its first payment.
//!         viewer.place.paid();
//!         # let _ = (hello, reading, grants);
//!     });
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A viewer
//! ```no_run
//! use streampay_core::meter::Reading;
//! use streampay_media::{peer::{PeerConfig, ViewerPeer}, record::Recorder, whep::Client};
//!
//! # async fn viewer() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "http://127.0.0.1:8080/whep";
//! let mut stream =
//!     ViewerPeer::connect(&Client, url, &PeerConfig::for_viewer(), Reading::default()).await?;
//! let file = std::fs::File::create("out.webm")?;
//! let mut recorder = Recorder::new(file, &stream.codecs)?;
//! // `stream.link` goes to the session, which is told `stream.reading`.
//! while let Some(packet) = stream.packets.recv().await {
//!     recorder.push(&packet)?;
//! }
//! println!("{:?}", recorder.finish()?);
//! # Ok(())
//! # }
//! ```

mod codec;
pub mod embed;
pub mod gate;
pub mod meter;
pub mod packet;
pub mod peer;
pub mod record;
mod reorder;
#[cfg(feature = "e2ee")]
pub mod seal;
mod signal;
pub mod source;
mod trickle;
pub mod whep;
pub mod whip;
