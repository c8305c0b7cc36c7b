//! The codecs that connections are negotiated with.

use rtc::{
    peer_connection::configuration::media_engine::{MIME_TYPE_RTX, MediaEngine},
    rtp_transceiver::{
        PayloadType,
        rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind},
    },
};

use crate::packet::{Codec, Kind};

/// Payload type and format parameters of each variant. The numbers are those of browsers.
const fn variants(codec: Codec) -> &'static [(PayloadType, &'static str)] {
    match codec {
        Codec::Vp8 => &[(96, "")],
        Codec::Vp9 => &[(98, "profile-id=0")],
        Codec::Av1 => &[(45, "profile=0")],
        Codec::H264 => &[
            (
                102,
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
            ),
            (
                125,
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            ),
            (
                112,
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f",
            ),
        ],
        Codec::Opus => &[(111, "minptime=10;useinbandfec=1")],
    }
}

pub(super) const fn stack_kind(kind: Kind) -> RtpCodecKind {
    match kind {
        Kind::Video => RtpCodecKind::Video,
        Kind::Audio => RtpCodecKind::Audio,
    }
}

/// A codec as the stack names it. Requests for key frames are offered because browsers and encoders
/// expect them; what becomes of one is said in [`crate::source`].
pub(super) fn stack_codec(codec: Codec, parameters: &str) -> RTCRtpCodec {
    let feedback = [("ccm", "fir"), ("nack", ""), ("nack", "pli")];
    RTCRtpCodec {
        mime_type: codec.mime().to_owned(),
        clock_rate: codec.kind().clock_rate(),
        channels: if codec.kind() == Kind::Audio { 2 } else { 0 },
        sdp_fmtp_line: parameters.to_owned(),
        rtcp_feedback: if codec.kind() == Kind::Video {
            feedback
                .map(|(typ, parameter)| RTCPFeedback {
                    typ: typ.to_owned(),
                    parameter: parameter.to_owned(),
                })
                .to_vec()
        } else {
            Vec::new()
        },
    }
}

/// The first variant of a codec.
pub(super) fn first_variant(codec: Codec) -> RTCRtpCodec {
    stack_codec(
        codec,
        variants(codec)
            .first()
            .map_or("", |(_, parameters)| parameters),
    )
}

/// An engine that knows these codecs alone, with retransmission for pictures.
pub(super) fn engine(
    codecs: impl IntoIterator<Item = Codec>,
) -> Result<MediaEngine, webrtc::error::Error> {
    let mut engine = MediaEngine::default();
    for codec in codecs {
        let kind = stack_kind(codec.kind());
        for (payload_type, parameters) in variants(codec) {
            let rtp_codec = stack_codec(codec, parameters);
            let payload_type = *payload_type;
            engine.register_codec(
                RTCRtpCodecParameters {
                    rtp_codec,
                    payload_type,
                },
                kind,
            )?;
            if codec.kind() == Kind::Video {
                let rtp_codec = RTCRtpCodec {
                    mime_type: MIME_TYPE_RTX.to_owned(),
                    clock_rate: codec.kind().clock_rate(),
                    sdp_fmtp_line: format!("apt={payload_type}"),
                    ..Default::default()
                };
                let payload_type = payload_type + 1;
                engine.register_codec(
                    RTCRtpCodecParameters {
                        rtp_codec,
                        payload_type,
                    },
                    kind,
                )?;
            }
        }
    }
    Ok(engine)
}
