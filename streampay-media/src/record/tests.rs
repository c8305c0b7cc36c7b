use std::io::{Seek, Write};

use bytes::Bytes;

use super::*;
use crate::{codec::Packetizer, peer::ReceivedPacket};

/// A VP8 frame of 64 x 64.
fn vp8(key: bool, length: usize) -> Bytes {
    let mut frame = if key {
        vec![0x10, 0, 0, 0x9d, 1, 0x2a, 64, 0, 64, 0]
    } else {
        vec![0x11, 0, 0]
    };
    frame.resize(length.max(frame.len()), 0);
    frame.into()
}

struct Feed<'a> {
    recorder: Recorder<&'a mut Vec<u8>>,
    packets: Vec<ReceivedPacket>,
    seq: u16,
}

impl<'a> Feed<'a> {
    fn new(file: &'a mut Vec<u8>) -> Self {
        Self::of(file, &[Codec::Vp8, Codec::Opus])
    }

    fn of(file: &'a mut Vec<u8>, codecs: &[Codec]) -> Self {
        let recorder = Recorder::new(file, codecs).unwrap();
        Self {
            recorder,
            packets: Vec::new(),
            seq: 65_500,
        }
    }

    fn video(&mut self, ms: u32, frame: &Bytes) {
        let payloads = Packetizer::new(Codec::Vp8).payloads(frame, true);
        let last = payloads.len() - 1;
        for (at, payload) in payloads.into_iter().enumerate() {
            self.packets.push(ReceivedPacket {
                codec: Codec::Vp8,
                seq: self.seq,
                stamp: ms * 90,
                marker: at == last,
                payload,
            });
            self.seq = self.seq.wrapping_add(1);
        }
    }

    fn audio(&mut self, ms: u32) {
        self.packets.push(ReceivedPacket {
            codec: Codec::Opus,
            seq: u16::try_from(ms / 20 % 65_536).unwrap(),
            stamp: ms * 48,
            marker: false,
            payload: Bytes::from_static(&[0xfc, 0]),
        });
    }

    fn push(&mut self) {
        for packet in self.packets.drain(..) {
            self.recorder.push(&packet).unwrap();
        }
    }

    /// Another connection, with sequence numbers of its own.
    fn reconnected(&mut self) {
        self.push();
        self.recorder.reconnected().unwrap();
        self.seq = self.seq.wrapping_add(30_000);
    }

    fn finish(mut self) -> Recorded {
        self.push();
        self.recorder.finish().unwrap()
    }
}

#[test]
fn begins_with_a_key_frame_and_puts_packets_back_in_order() {
    let mut file = Vec::new();
    let mut feed = Feed::new(&mut file);
    for at in 0..60 {
        feed.video(at * 40, &vp8(at % 25 == 5, 3000));
    }
    for pair in feed.packets.chunks_mut(5) {
        pair.reverse();
    }
    // What the first five have lost by coming before the first one known is not whole.
    let recorded = feed.finish();
    assert_eq!(recorded.video_frames, 55);
    assert_eq!(recorded.duration_ms, 54 * 40);
    assert_eq!(recorded.bytes, u64::try_from(file.len()).unwrap());
}

#[test]
fn a_lost_packet_costs_its_frame_alone() {
    let mut file = Vec::new();
    let mut feed = Feed::new(&mut file);
    for at in 0..100 {
        feed.video(at * 40, &vp8(at == 0, 3000));
    }
    feed.packets.remove(100);
    assert_eq!(feed.finish().video_frames, 99);
}

#[test]
fn sound_before_the_first_picture_is_kept_where_it_belongs() {
    let mut file = Vec::new();
    let mut feed = Feed::new(&mut file);
    for at in 0..10_u16 {
        feed.packets.push(ReceivedPacket {
            codec: Codec::Opus,
            seq: at,
            stamp: u32::from(at) * 960,
            marker: false,
            payload: Bytes::from_static(&[0xfc, 0]),
        });
    }
    feed.video(100, &vp8(true, 10));
    let recorded = feed.finish();
    assert_eq!((recorded.video_frames, recorded.audio_frames), (1, 5));
}

#[test]
fn without_a_key_frame_nothing_is_written() {
    let mut file = Vec::new();
    let mut feed = Feed::new(&mut file);
    feed.video(0, &vp8(false, 100));
    assert_eq!(feed.finish(), Recorded::default());
    assert!(file.is_empty());
    assert!(matches!(
        Recorder::new(Vec::new(), &[]),
        Err(RecordError::NothingToRecord)
    ));
}

#[test]
fn any_packets_are_survived() {
    let mut state = 3_u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    let kinds = [Container::Matroska, Container::Mp4];
    let kinds = kinds
        .into_iter()
        .flat_map(|kind| Codec::ALL.map(|codec| (kind, codec)));
    for (container, codec) in kinds {
        let codecs = [codec, Codec::Opus];
        let mut recorder = Recorder::with(Vec::new(), &codecs, container).unwrap();
        for _ in 0..5000 {
            let length = usize::from(byte() % 16);
            let payload: Bytes = (0..length).map(|_| byte()).collect();
            let packet = ReceivedPacket {
                codec: if byte() & 1 == 0 { codec } else { Codec::Opus },
                seq: u16::from_be_bytes([byte(), byte()]),
                stamp: u32::from_be_bytes([byte(), byte(), byte(), byte()]),
                marker: byte() & 1 == 0,
                payload,
            };
            recorder.push(&packet).unwrap();
        }
        recorder.finish().unwrap();
    }
}

/// A block in a file: its track, milliseconds, and whether it is a key frame.
type Found = (u8, u64, bool);

/// All elements that are no master, with their bodies, flat.
fn elements(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (mut found, mut at) = (Vec::new(), 0);
    while at < file.len() {
        let id_length = usize::try_from(file[at].leading_zeros()).unwrap() + 1;
        let id = number(&file[at..at + id_length]);
        at += id_length;
        // Lengths have eight bytes here.
        let length = number(&file[at..at + 8]) & !(1 << 56);
        at += 8;
        if !matches!(id, 0x1853_8067 | 0x1f43_b675 | 0x1549_a966) {
            let end = at + usize::try_from(length).unwrap();
            found.push((id, file[at..end].to_vec()));
            at = end;
        }
    }
    found
}

fn blocks(file: &[u8]) -> Vec<Found> {
    let mut cluster = 0;
    let mut found = Vec::new();
    for (id, body) in elements(file) {
        if id == 0xe7 {
            cluster = body.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        } else if id == 0xa3 {
            let relative = i16::from_be_bytes([body[1], body[2]]);
            let at = cluster.checked_add_signed(relative.into()).unwrap();
            found.push((body[0] & 0x0f, at, body[3] & 0x80 != 0));
        }
    }
    found
}

fn assert_ascending(blocks: &[Found], track: u8) {
    let times: Vec<u64> = blocks
        .iter()
        .filter(|block| block.0 == track)
        .map(|block| block.1)
        .collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{track}: {times:?}");
}

#[test]
fn two_connections_make_one_file_that_goes_on_with_a_key_frame() {
    let mut file = Vec::new();
    let mut feed = Feed::new(&mut file);
    for at in 0..50 {
        feed.video(at * 40, &vp8(at % 25 == 0, 3000));
        feed.audio(at * 40);
        feed.audio(at * 40 + 20);
    }
    // The last picture comes in half: it does not spoil what follows.
    feed.video(2000, &vp8(false, 3000));
    feed.packets.pop();
    feed.reconnected();
    // Another time line, and no key frame at first.
    for at in 0..50 {
        feed.video(900_000 + at * 40, &vp8(at % 25 == 10, 3000));
        feed.audio(900_000 + at * 40);
        feed.audio(900_000 + at * 40 + 20);
    }
    let recorded = feed.finish();
    assert_eq!((recorded.video_frames, recorded.audio_frames), (90, 180));
    let blocks = blocks(&file);
    assert_eq!(blocks.len(), 270);
    assert_ascending(&blocks, 1);
    assert_ascending(&blocks, 2);
    // The last sound of the first is at 1980; a frame later the second begins.
    let (first, second): (Vec<Found>, Vec<Found>) =
        blocks.iter().partition(|block| block.1 <= 1980);
    assert_eq!((first.len(), second.len()), (150, 120));
    assert_eq!(second.iter().min_by_key(|block| block.1).unwrap().1, 2020);
    assert!(second.contains(&(1, 2020, true)) && second.contains(&(2, 2020, true)));
    assert_eq!(recorded.duration_ms, 2020 + 39 * 40 + 20);
}

#[test]
fn two_connections_of_sound_alone_make_one_file() {
    let mut file = Vec::new();
    let mut feed = Feed::of(&mut file, &[Codec::Opus]);
    for begin in [7_000, 100] {
        for at in 0..100 {
            feed.audio(begin + at * 20);
        }
        feed.reconnected();
    }
    // A third that brings nothing changes nothing.
    let recorded = feed.finish();
    assert_eq!(recorded.audio_frames, 200);
    let blocks = blocks(&file);
    assert_ascending(&blocks, 2);
    assert_eq!(blocks[99], (2, 1980, true));
    assert_eq!(blocks[100], (2, 2020, true));
    assert_eq!(recorded.duration_ms, 4000);
    assert_eq!(recorded.bytes, u64::try_from(file.len()).unwrap());
}

#[test]
fn a_connection_without_a_key_frame_leaves_the_head_to_the_next() {
    let mut file = Vec::new();
    let mut feed = Feed::new(&mut file);
    feed.video(0, &vp8(false, 100));
    feed.audio(0);
    feed.reconnected();
    feed.video(500, &vp8(true, 100));
    assert_eq!(feed.finish().video_frames, 1);
    assert_eq!(blocks(&file), [(1, 0, true)]);
}

/// Two seconds of sound into `out`, which may hold something already.
fn sound<W: Write>(out: W) -> Recorder<W> {
    let mut recorder = Recorder::new(out, &[Codec::Opus]).unwrap();
    let mut file = Vec::new();
    let mut feed = Feed::of(&mut file, &[Codec::Opus]);
    for at in 0..=100 {
        feed.audio(at * 20);
    }
    for packet in &feed.packets {
        recorder.push(packet).unwrap();
    }
    recorder
}

#[test]
fn the_duration_is_filled_in_where_the_output_seeks() {
    let mut plain = Vec::new();
    sound(&mut plain).finish().unwrap();
    let duration = |file: &[u8]| {
        let found = elements(file).into_iter().find(|(id, _)| *id == 0x4489);
        found.map(|(_, body)| f64::from_be_bytes(body.try_into().unwrap()))
    };
    assert_eq!(duration(&plain), None);
    // Also where the recording does not begin at the output's first byte.
    for before in [0, 100] {
        let mut out = io::Cursor::new(vec![7; before]);
        out.seek(io::SeekFrom::End(0)).unwrap();
        let recorded = sound(&mut out).finish_seekable().unwrap();
        assert_eq!(out.position(), u64::try_from(before + plain.len()).unwrap());
        let file = out.into_inner().split_off(before);
        assert_eq!(duration(&file), Some(2000.0));
        assert_eq!(recorded.duration_ms, 2000);
        assert_eq!(file.len(), plain.len());
        assert_eq!(blocks(&file), blocks(&plain));
        let changed = file.iter().zip(&plain).filter(|(a, b)| a != b).count();
        assert!(changed <= 18, "{changed}");
    }
}

#[test]
fn an_output_that_only_claims_to_seek_is_a_pipe() {
    struct Pipe(Vec<u8>);
    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Seek for Pipe {
        fn seek(&mut self, _: io::SeekFrom) -> io::Result<u64> {
            Err(io::ErrorKind::NotSeekable.into())
        }
    }
    let recorded = sound(Pipe(Vec::new())).finish_seekable().unwrap();
    assert_eq!(recorded.audio_frames, 101);
}

/// What a reader that is not ours finds in an MP4: milliseconds, bytes and whether it is a key
/// frame, of each sample of both tracks.
fn mp4_samples(file: &[u8]) -> [Vec<(u64, usize, bool)>; 2] {
    use shiguredo_mp4::{TrackKind, demux::Fmp4SegmentDemuxer};
    let length = |at: usize| {
        let bytes = file[at..at + 4].try_into().unwrap();
        usize::try_from(u32::from_be_bytes(bytes)).unwrap()
    };
    let head = length(0) + length(length(0));
    let mut demuxer = Fmp4SegmentDemuxer::new();
    demuxer.handle_init_segment(&file[..head]).unwrap();
    let mut found = [Vec::new(), Vec::new()];
    let mut at = head;
    while at < file.len() {
        assert_eq!(&file[at + 4..at + 8], b"moof");
        let end = at + length(at) + length(at + length(at));
        for sample in demuxer.handle_media_segment(&file[at..end]).unwrap() {
            let kind = sample.track.kind;
            let rate = u64::from(sample.track.timescale.get());
            let data = &file[at..end][usize::try_from(sample.data_offset).unwrap()..];
            let data = &data[..sample.data_size];
            let first = if kind == TrackKind::Audio { 0xfc } else { 0x10 };
            assert_eq!(data[0] & 0xfe, first);
            let samples = &mut found[usize::from(kind == TrackKind::Audio)];
            let ms = sample.timestamp * 1000 / rate;
            samples.push((ms, sample.data_size, sample.keyframe));
        }
        at = end;
    }
    found
}

/// Four seconds, with a pause of ten after the first two, and sound only in the last.
fn with_a_pause<W: Write>(out: W) -> Recorder<W> {
    let codecs = [Codec::Vp8, Codec::Opus];
    let mut recorder = Recorder::with(out, &codecs, Container::Mp4).unwrap();
    let mut ignored = Vec::new();
    let mut feed = Feed::new(&mut ignored);
    for at in (0..50).chain(300..350) {
        feed.video(at * 40, &vp8(at % 50 == 0, 3000));
        if at >= 325 {
            feed.audio(at * 40);
            feed.audio(at * 40 + 20);
        }
    }
    for packet in &feed.packets {
        recorder.push(packet).unwrap();
    }
    recorder
}

#[test]
fn mp4_has_every_frame_when_it_was_shown() {
    let mut file = io::Cursor::new(Vec::new());
    let recorded = with_a_pause(&mut file).finish_seekable().unwrap();
    let file = file.into_inner();
    assert_eq!(recorded.bytes, u64::try_from(file.len()).unwrap());
    assert_eq!((recorded.video_frames, recorded.audio_frames), (100, 50));
    assert_eq!(recorded.duration_ms, 349 * 40 + 20);
    let [video, audio] = mp4_samples(&file);
    let shown: Vec<u64> = (0..50).chain(300..350).map(|at| at * 40).collect();
    assert_eq!(video.iter().map(|it| it.0).collect::<Vec<_>>(), shown);
    assert!(
        video
            .iter()
            .all(|it| it.1 == 3000 && it.2 == (it.0 % 2000 == 0))
    );
    let heard: Vec<u64> = (0..50).map(|at| 13_000 + at * 20).collect();
    assert_eq!(audio.iter().map(|it| it.0).collect::<Vec<_>>(), heard);
    // Also in the head.
    let at = file.windows(4).position(|it| it == b"mehd").unwrap() + 8;
    let duration = u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!(u64::from(duration), recorded.duration_ms);
}

#[test]
fn mp4_that_is_cut_off_lacks_a_second_at_most() {
    let mut file = Vec::new();
    drop(with_a_pause(&mut file));
    // The last second, in which there is sound.
    let [video, audio] = mp4_samples(&file);
    assert_eq!((video.len(), audio.len()), (75, 0));
    // Without a frame to begin with there is nothing.
    let mut none = Vec::new();
    let codecs = [Codec::Vp8];
    let recorder = Recorder::with(&mut none, &codecs, Container::Mp4).unwrap();
    assert_eq!(recorder.finish().unwrap(), Recorded::default());
    assert!(none.is_empty());
}
