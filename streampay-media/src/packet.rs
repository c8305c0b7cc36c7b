//! What flows: kinds, codecs and packets, before any connection is known.

use core::fmt;

use bytes::Bytes;

/// Picture or sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Picture, on the 90 kHz clock.
    Video,
    /// Sound, on the 48 kHz clock.
    Audio,
}

impl Kind {
    /// The kind that this one is not.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Video => Self::Audio,
            Self::Audio => Self::Video,
        }
    }

    /// Ticks of the RTP clock in a second. Source: RFC 7741 5, RFC 7587 4.1.
    #[must_use]
    pub const fn clock_rate(self) -> u32 {
        match self {
            Self::Video => 90_000,
            Self::Audio => 48_000,
        }
    }

    /// Ticks of the RTP clock in a millisecond: whole for both kinds.
    #[must_use]
    pub const fn ticks_per_ms(self) -> u64 {
        match self {
            Self::Video => 90,
            Self::Audio => 48,
        }
    }

    /// Microseconds, rounded down, of `ticks` of this kind's clock.
    #[must_use]
    pub const fn us(self, ticks: u64) -> u64 {
        // 10^6 / 90 000 = 100 / 9 and 10^6 / 48 000 = 125 / 6.
        match self {
            Self::Video => ticks.saturating_mul(100) / 9,
            Self::Audio => ticks.saturating_mul(125) / 6,
        }
    }
}

/// As a word: `video`, `audio`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Video => "video",
            Self::Audio => "audio",
        })
    }
}

/// How frames are coded. What the sources read and the recorder writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Source: RFC 6386, RFC 7741.
    Vp8,
    /// Source: RFC 9628.
    Vp9,
    /// Source: RFC 6184, packetization mode 1.
    H264,
    /// Source: the AOM's RTP payload format for AV1; profile 0.
    Av1,
    /// Source: RFC 6716, RFC 7587.
    Opus,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Vp8, Self::Vp9, Self::H264, Self::Av1, Self::Opus];

    /// Whether it codes picture or sound.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => Kind::Video,
            Self::Opus => Kind::Audio,
        }
    }

    /// The media type as in SDP.
    #[must_use]
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Vp8 => "video/VP8",
            Self::Vp9 => "video/VP9",
            Self::H264 => "video/H264",
            Self::Av1 => "video/AV1",
            Self::Opus => "audio/opus",
        }
    }

    /// The codec of that media type, in any case; none for one that is not handled here.
    #[must_use]
    pub fn from_mime(mime: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.mime().eq_ignore_ascii_case(mime))
    }
}

/// As people write it: `VP8`, `H.264`.
impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::H264 => "H.264",
            Self::Av1 => "AV1",
            Self::Opus => "Opus",
        })
    }
}

/// One RTP payload of a [`Source`](crate::source::Source), made once and shared by all viewers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaPacket {
    /// Counted from 0 over both kinds, without gaps.
    pub index: u64,
    /// Picture or sound.
    pub kind: Kind,
    /// When its frame begins, in ticks of the kind's clock since the source began. Both kinds
    /// count from the same moment.
    pub ticks: u64,
    /// How long its frame lasts, in the same ticks.
    pub span: u32,
    /// True for the last packet of a frame.
    pub marker: bool,
    /// True for the first packet of a frame from which a decoder can begin.
    pub key_start: bool,
    /// The RTP payload, with the codec's payload descriptor.
    pub payload: Bytes,
}

impl MediaPacket {
    /// The part of the source's time line that its frame covers, in microseconds: from, to.
    #[must_use]
    pub const fn covers_us(&self) -> (u64, u64) {
        let end = self.ticks.saturating_add(widen(self.span));
        (self.kind.us(self.ticks), self.kind.us(end))
    }
}

/// `u32` to `u64` where `From` cannot be used: in a `const fn`.
#[allow(clippy::as_conversions)]
const fn widen(value: u32) -> u64 {
    value as u64
}

/// Packets of each kind, as counted on one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCount {
    /// RTP packets of picture.
    pub video: u64,
    /// RTP packets of sound.
    pub audio: u64,
}

impl PacketCount {
    /// One more of `kind`.
    pub const fn add(&mut self, kind: Kind) {
        match kind {
            Kind::Video => self.video = self.video.saturating_add(1),
            Kind::Audio => self.audio = self.audio.saturating_add(1),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self {
            video: self.video.saturating_add(more.video),
            audio: self.audio.saturating_add(more.audio),
        }
    }
}
