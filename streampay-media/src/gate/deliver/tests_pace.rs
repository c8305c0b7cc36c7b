//! When packets come and what is stamped on them, in virtual time, with a source that plays live.

use std::sync::Mutex;

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use streampay_core::meter::{Grant, PauseReason};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    tests::{Granted, grant, packet},
    *,
};
use crate::{
    gate::track::Out,
    meter::ReceiveMeter,
    packet::Kind::{Audio, Video},
};

const FRAME_MS: u64 = 40;
/// Frames from one key frame to the next.
const GROUP: u64 = 25;
/// The first byte of an Opus packet of 20 ms.
const OPUS_20_MS: u8 = 0xf8;

/// What a viewer received.
#[derive(Clone, Copy, Debug)]
struct Came {
    kind: Kind,
    /// Where its frame begins in the source, in milliseconds.
    source_ms: u64,
    /// Its time stamp, in milliseconds.
    stamp_ms: u64,
    at: Instant,
    key: bool,
}

impl Came {
    /// How late it is by its own stamp, less what all packets are: compare it with others.
    fn late_ms(&self, began: Instant) -> i64 {
        let at = (self.at - began).as_millis();
        i64::try_from(at).unwrap() - i64::try_from(self.stamp_ms).unwrap()
    }
}

struct Rig {
    began: Instant,
    came: Arc<Mutex<Vec<Came>>>,
    meter: Arc<Mutex<ReceiveMeter>>,
    grants: watch::Sender<Grant>,
    reading: watch::Receiver<Reading>,
    tasks: [JoinHandle<()>; 2],
}

impl Rig {
    /// A source that has played for a while, and a viewer that takes these kinds and has not paid.
    async fn new(kinds: &[Kind], key_frames: bool) -> Self {
        Self::joins(20_500, kinds, key_frames).await
    }

    /// A viewer that comes so long after the source began.
    async fn joins(at_ms: u64, kinds: &[Kind], key_frames: bool) -> Self {
        let ring = Arc::new(Ring::new());
        let began = Instant::now();
        let source = tokio::spawn(live(ring.clone(), began, key_frames));
        sleep_until(began + Duration::from_millis(at_ms)).await;
        let came = Arc::new(Mutex::new(Vec::new()));
        let meter = Arc::new(Mutex::new(ReceiveMeter::new(Reading::default())));
        let track = |kind: Kind| {
            let (came, meter) = (came.clone(), meter.clone());
            let taken = move |packet: rtc::rtp::Packet| {
                let header = &packet.header;
                let mut meter = meter.lock().unwrap();
                meter.receive(
                    kind,
                    header.sequence_number,
                    header.timestamp,
                    &packet.payload,
                );
                came.lock().unwrap().push(Came {
                    kind,
                    source_ms: u64::from_be_bytes(packet.payload[2..10].try_into().unwrap()),
                    stamp_ms: u64::from(header.timestamp) / kind.ticks_per_ms(),
                    at: Instant::now(),
                    key: packet.payload[1] == 1,
                });
            };
            kinds
                .contains(&kind)
                .then(|| MeteredTrack::to(Out::Test(Arc::new(taken)), 1, 96))
        };
        let tracks = Tracks {
            video: track(Video),
            audio: track(Audio),
        };
        let (grants, receiver) = watch::channel(Grant::default());
        let shown = Shown {
            reading: watch::Sender::default(),
            sent: watch::Sender::default(),
        };
        let reading = shown.reading.subscribe();
        let gate = Gate::new(receiver, Reading::default());
        let delivery = tokio::spawn(deliver(ring, gate, tracks, shown));
        Self {
            began,
            came,
            meter,
            grants,
            reading,
            tasks: [source, delivery],
        }
    }

    fn pay(&self, limit: u64) {
        let granted = Granted {
            limit,
            open: true,
            ..Granted::default()
        };
        self.grants.send_replace(grant(granted));
    }

    /// Flows for so long, then is paused for so long.
    async fn flow(&self, flow_ms: u64, pause_ms: u64) {
        self.pay(1_000_000);
        sleep(Duration::from_millis(flow_ms)).await;
        self.grants
            .send_replace(Grant::Paused(PauseReason::ByPayer));
        sleep(Duration::from_millis(pause_ms)).await;
    }

    fn take(&self) -> Vec<Came> {
        std::mem::take(&mut self.came.lock().unwrap())
    }

    /// By the streamer's meter and by the viewer's.
    fn readings(&self) -> (u64, u64) {
        let received = self.meter.lock().unwrap().reading();
        (self.reading.borrow().media_ms, received.media_ms)
    }

    /// How far apart the least and the most late of these are.
    fn spread_ms(&self, came: &[Came]) -> i64 {
        let late = || came.iter().map(|it| it.late_ms(self.began));
        late().max().unwrap() - late().min().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Pictures of two packets and sound, each when it is due.
async fn live(ring: Arc<Ring>, began: Instant, key_frames: bool) {
    for at_ms in (0..).step_by(20) {
        sleep_until(began + Duration::from_millis(at_ms)).await;
        let payload = |first: u8, key: bool| {
            let mut payload = BytesMut::from(&[first, u8::from(key)][..]);
            payload.put_u64(at_ms);
            payload
        };
        let number = at_ms / FRAME_MS;
        if at_ms.is_multiple_of(FRAME_MS) {
            let key = number == 0 || (key_frames && number.is_multiple_of(GROUP));
            let span = (at_ms, at_ms + FRAME_MS);
            ring.push([
                packet(Video, span, false, key, payload(1, key)),
                packet(Video, span, true, false, payload(1, false)),
            ]);
        }
        let sound = payload(OPUS_20_MS, false);
        ring.push([packet(Audio, (at_ms, at_ms + 20), true, true, sound)]);
    }
}

fn first(came: &[Came], kind: Kind) -> Came {
    *came.iter().find(|it| it.kind == kind).unwrap()
}

fn last(came: &[Came], kind: Kind) -> Came {
    *came.iter().rfind(|it| it.kind == kind).unwrap()
}

/// Each moment of each kind comes once and none is left out, up to the last.
fn assert_whole(came: &[Came], kind: Kind, step_ms: u64) {
    let mut times: Vec<u64> = came
        .iter()
        .filter(|it| it.kind == kind)
        .map(|it| it.source_ms)
        .collect();
    times.dedup();
    let steps = times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(steps.into_iter().all(|step| step == step_ms), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_replayed_comes_as_evenly_as_it_came_with_its_sound() {
    let rig = Rig::new(&[Video, Audio], true).await;
    rig.pay(1_000_000);
    sleep(Duration::from_millis(3_000)).await;
    let came = rig.take();
    let picture = first(&came, Video);
    assert!(picture.key);
    // The last key frame, at once, and the sound of its time.
    assert_eq!(picture.source_ms, 20_000);
    assert!(picture.at - rig.began <= Duration::from_millis(20_502));
    assert_eq!(first(&came, Audio).source_ms, 20_000);
    assert!(rig.spread_ms(&came) <= 2, "{}", rig.spread_ms(&came));
    assert_whole(&came, Video, 40);
    assert_whole(&came, Audio, 20);
    let (sent, received) = rig.readings();
    assert!(sent.abs_diff(3_000) <= 40, "{sent}");
    assert!(sent.abs_diff(received) <= 40, "{sent} {received}");
}

/// Each by a timer of its own they would keep the streamer's threads awake.
#[tokio::test(start_paused = true)]
async fn viewers_that_join_at_any_moment_are_sent_to_when_the_source_brings_something() {
    for joins_ms in [20_501, 20_507, 20_511, 20_533] {
        let rig = Rig::joins(joins_ms, &[Video, Audio], true).await;
        let joined = Instant::now();
        rig.pay(1_000_000);
        sleep(Duration::from_millis(1_990)).await;
        let came = rig.take();
        // The last key frame, at once: late by less than a step of the source.
        let late = first(&came, Video).at - joined;
        assert!(late <= Duration::from_millis(1), "{late:?}");
        let (begun, then): (Vec<Came>, Vec<Came>) =
            came.iter().partition(|it| it.source_ms == 20_000);
        assert_eq!(begun.len(), 3, "two of the picture and one of sound");
        assert!(rig.spread_ms(&came) <= 20, "{}", rig.spread_ms(&came));
        // All that follows, with the source and as evenly as it.
        assert!(rig.spread_ms(&then) <= 2, "{}", rig.spread_ms(&then));
        let alone = |it: &&Came| !(it.at - rig.began).as_millis().is_multiple_of(20);
        assert_eq!(then.iter().filter(alone).count(), 0, "{joins_ms}");
        assert_whole(&came, Video, 40);
        assert_whole(&came, Audio, 20);
    }
}

/// By their stamps, which go with what is held, packets are as evenly apart as when they are sent.
#[tokio::test(start_paused = true)]
async fn after_holds_of_any_length_the_stamps_go_with_the_time_of_sending() {
    for pause_ms in (225..700).step_by(31) {
        let rig = Rig::joins(20_507, &[Video, Audio], true).await;
        let (before, after) = goes_on_at(&rig, 803, pause_ms).await;
        let steady = |came: &[Came]| came[came.len() / 3..].to_vec();
        let all = [steady(&before), steady(&after)].concat();
        assert!(
            rig.spread_ms(&all) <= 2,
            "{pause_ms}: {}",
            rig.spread_ms(&all)
        );
        assert!(rig.spread_ms(&after) <= 22, "{}", rig.spread_ms(&after));
        let jump = first(&after, Video).stamp_ms - last(&before, Video).stamp_ms;
        assert!(jump > ReceiveMeter::FRAME_MAX_MS, "{pause_ms}: {jump}");
        let (sent, received) = rig.readings();
        assert!(sent.abs_diff(received) <= 60, "{sent} {received}");
    }
}

/// Nobody wakes it then but its own timer.
#[tokio::test(start_paused = true)]
async fn a_source_that_stops_is_sent_to_its_end_at_its_pace() {
    let rig = Rig::joins(20_507, &[Video, Audio], true).await;
    rig.pay(1_000_000);
    sleep(Duration::from_millis(100)).await;
    rig.tasks[0].abort();
    rig.take();
    sleep(Duration::from_millis(1_000)).await;
    let rest = rig.take();
    assert_eq!(rest.last().unwrap().source_ms, 20_600);
    assert!(rig.spread_ms(&rest) <= 3, "{}", rig.spread_ms(&rest));
    assert_whole(&rest, Video, 40);
    assert_whole(&rest, Audio, 20);
}

/// After a hold: from where in the source it goes on, in milliseconds.
async fn goes_on_at(rig: &Rig, flow_ms: u64, pause_ms: u64) -> (Vec<Came>, Vec<Came>) {
    rig.flow(flow_ms, pause_ms).await;
    let before = rig.take();
    rig.pay(1_000_000);
    sleep(Duration::from_millis(1_500)).await;
    (before, rig.take())
}

#[tokio::test(start_paused = true)]
async fn after_a_long_hold_it_goes_on_at_a_newer_key_frame_and_nothing_comes_late() {
    let rig = Rig::new(&[Video, Audio], true).await;
    // 20 500 to 21 300 of the clock, behind by 500; it is paid for again at 22 600.
    let (before, after) = goes_on_at(&rig, 800, 1_300).await;
    assert!(before.last().unwrap().source_ms.abs_diff(20_800) <= 20);
    for kind in [Video, Audio] {
        assert_eq!(first(&after, kind).source_ms, 22_000);
    }
    assert!(first(&after, Video).key);
    let all = [before, after].concat();
    assert!(rig.spread_ms(&all) <= 2, "{}", rig.spread_ms(&all));
    // What was left out is not counted, by neither.
    let (sent, received) = rig.readings();
    assert!(sent.abs_diff(2_300) <= 60, "{sent}");
    assert!(sent.abs_diff(received) <= 60, "{sent} {received}");
}

#[tokio::test(start_paused = true)]
async fn after_a_hold_within_a_group_of_pictures_it_goes_on_where_it_stopped() {
    let rig = Rig::new(&[Video, Audio], true).await;
    // It begins at 40 040 of the clock with the key frame of 40 000, and is paid for again before
    // that of 41 000.
    rig.flow(580, 18_960).await;
    rig.take();
    let (before, after) = goes_on_at(&rig, 120, 600).await;
    let all = [before, after].concat();
    assert_eq!(first(&all, Video).source_ms, 40_000);
    assert_whole(&all, Video, 40);
    assert_whole(&all, Audio, 20);
    assert!(rig.spread_ms(&all) <= 2, "{}", rig.spread_ms(&all));
    let (sent, received) = rig.readings();
    assert!(sent.abs_diff(received) <= 60, "{sent} {received}");
}

#[tokio::test(start_paused = true)]
async fn a_hold_of_a_fifth_of_a_second_is_made_up_for_and_leaves_no_jump() {
    let rig = Rig::new(&[Video, Audio], true).await;
    let (before, after) = goes_on_at(&rig, 800, 190).await;
    // What came meanwhile comes at once; then it is as late as before.
    assert!(after.first().unwrap().at - rig.began <= Duration::from_millis(21_492));
    assert!(rig.spread_ms(&after) <= 200, "{}", rig.spread_ms(&after));
    let steady: Vec<Came> = after[after.len() / 2..].to_vec();
    let all = [before.clone(), steady].concat();
    assert!(rig.spread_ms(&all) <= 2, "{}", rig.spread_ms(&all));
    let all = [before, after].concat();
    for (kind, step) in [(Video, 40), (Audio, 20)] {
        assert_whole(&all, kind, step);
        let stamps = all.iter().filter(|it| it.kind == kind);
        let stamps: Vec<u64> = stamps.map(|it| it.stamp_ms).collect();
        assert!(stamps.windows(2).all(|pair| pair[1] - pair[0] <= step));
    }
    let (sent, received) = rig.readings();
    assert!(sent.abs_diff(received) <= 40, "{sent} {received}");
}

/// A decoder that is taught to wait shows each later picture half a second late.
#[tokio::test(start_paused = true)]
async fn a_hold_of_a_third_of_a_second_becomes_half_a_second_and_nothing_comes_late() {
    for pause_ms in [220, 300, 400, 480] {
        let rig = Rig::new(&[Video, Audio], true).await;
        let (before, after) = goes_on_at(&rig, 800, pause_ms).await;
        // With the next key frame; what it was held at was due at 21 300.
        assert!(first(&after, Video).key);
        assert_eq!(first(&after, Video).source_ms, 21_000);
        let goes_on = after.first().unwrap().at - rig.began;
        assert!(goes_on > Duration::from_millis(21_800), "{goes_on:?}");
        assert!(goes_on <= Duration::from_millis(21_825), "{goes_on:?}");
        let all = [before, after].concat();
        assert!(rig.spread_ms(&all) <= 2, "{}", rig.spread_ms(&all));
        let (sent, received) = rig.readings();
        assert!(sent.abs_diff(received) <= 40, "{sent} {received}");
    }
}

/// Then it waits no more, and what there is comes all the same.
#[tokio::test(start_paused = true)]
async fn a_source_that_stops_while_a_viewer_is_held_is_sent_to_its_end() {
    let rig = Rig::new(&[Video, Audio], true).await;
    rig.flow(800, 300).await;
    rig.tasks[0].abort();
    rig.take();
    rig.pay(1_000_000);
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(rig.take().last().unwrap().source_ms, 21_580);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_of_sound_alone_goes_on_with_the_newest() {
    let rig = Rig::new(&[Audio], true).await;
    let (before, after) = goes_on_at(&rig, 810, 600).await;
    assert_eq!(first(&before, Audio).source_ms, 20_520);
    assert_eq!(first(&after, Audio).source_ms, 21_920);
    let all = [before, after].concat();
    assert!(rig.spread_ms(&all) <= 2, "{}", rig.spread_ms(&all));
}

#[tokio::test(start_paused = true)]
async fn where_no_key_frame_comes_a_viewer_goes_on_for_two_seconds_and_then_has_sound() {
    let rig = Rig::new(&[Video, Audio], false).await;
    rig.pay(1_000_000);
    sleep(Duration::from_millis(500)).await;
    // The picture waits, the sound does not.
    let came = rig.take();
    assert!(came.iter().all(|it| it.kind == Audio));
    assert_eq!(first(&came, Audio).source_ms, 20_520);
}

#[tokio::test(start_paused = true)]
async fn all_packets_of_a_frame_have_one_time_stamp_whatever_lies_between() {
    let mut track = MeteredTrack::to(Out::Test(Arc::new(|_| ())), 1, 96);
    track.set_origin(Video, 1_000);
    assert_eq!(track.stamp(2_000 * 90), 1_000 * 90);
    track.set_origin(Video, 400);
    assert_eq!(track.stamp(2_000 * 90), 1_000 * 90);
    assert_eq!(track.stamp(2_040 * 90), 1_640 * 90);
}

/// Its time line begins before the source did, and its stamps go with what is held all the same.
#[tokio::test(start_paused = true)]
async fn a_hold_in_the_first_seconds_of_a_source_shows_in_the_stamps() {
    let rig = Rig::joins(5_000, &[Video], true).await;
    let (before, after) = goes_on_at(&rig, 3_700, 600).await;
    let jump = first(&after, Video).stamp_ms - before.last().unwrap().stamp_ms;
    assert!(jump > ReceiveMeter::FRAME_MAX_MS, "{jump}");
    let (sent, received) = rig.readings();
    assert!(sent.abs_diff(received) <= 60, "{sent} {received}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// However often it is paused: packets come in time by their stamps, or by at most a fifth of a
    /// second late where the pause was not longer; stamps never go back; both meters agree.
    #[test]
    fn in_any_pauses_media_comes_in_time_and_both_meters_agree(
        pauses in proptest::collection::vec((1_u64..3_000, 1_u64..4_000), 1..12),
        sound in any::<bool>(),
        joins_ms in 0_u64..21_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let kinds = if sound { &[Video, Audio][..] } else { &[Video] };
            let rig = Rig::joins(joins_ms, kinds, true).await;
            for (flow_ms, pause_ms) in &pauses {
                rig.flow(*flow_ms, *pause_ms).await;
            }
            let came = rig.take();
            if came.is_empty() {
                return Ok(());
            }
            // What was held goes out over some milliseconds.
            let most = 200 + 20;
            prop_assert!(rig.spread_ms(&came) <= most, "{}", rig.spread_ms(&came));
            for kind in [Video, Audio] {
                let of = || came.iter().filter(|it| it.kind == kind);
                let back = |pair: (&Came, &Came)| {
                    pair.1.stamp_ms < pair.0.stamp_ms || pair.1.source_ms < pair.0.source_ms
                };
                prop_assert!(!of().zip(of().skip(1)).any(back));
            }
            let (sent, received) = rig.readings();
            let stops = u64::try_from(pauses.len()).unwrap();
            prop_assert!(sent.abs_diff(received) <= 40 + 40 * stops, "{sent} {received}");
            Ok(())
        })?;
    }
}
