use std::time::Duration;

use bytes::Bytes;
use streampay_core::{
    driver::LinkEnd,
    meter::{Grant, PauseReason, Reading},
};
use streampay_media::packet::{Kind, PacketCount};
use tokio::sync::watch;

use crate::rig::{Rig, open, settled, until};

const QUIET: Duration = Duration::from_millis(400);

#[tokio::test]
async fn an_unpaid_viewer_talks_and_receives_no_media() {
    let mut rig = Rig::new(4).await;
    let mut pair = rig.connect().await;
    assert_eq!(pair.viewer.link.identity, pair.link.identity);
    assert_ne!(pair.link.identity.payer, pair.link.identity.payee);
    // Once without a gate, once with one that is shut.
    let (_grants, receiver) = watch::channel(Grant::default());
    for round in 0..2_u8 {
        let longest = Bytes::from(vec![round; LinkEnd::MESSAGE_MAX]);
        pair.viewer
            .link
            .end
            .outgoing
            .send(longest.clone())
            .await
            .unwrap();
        assert_eq!(pair.link.end.incoming.recv().await, Some(longest.clone()));
        pair.link.end.outgoing.send(longest.clone()).await.unwrap();
        assert_eq!(pair.viewer.link.end.incoming.recv().await, Some(longest));
        // Over a second of the stream passes by.
        let from = rig.source.position_ms();
        settled(&mut pair.viewer.receiving, QUIET).await;
        assert!(rig.source.position_ms() > from + 1000);
        assert_eq!(
            pair.viewer.receiving.borrow().packets,
            PacketCount::default()
        );
        assert_eq!(*pair.viewer.reading.borrow(), Reading::default());
        if round == 0 {
            pair.streamer
                .start(receiver.clone(), Reading::default())
                .unwrap();
            assert!(
                pair.streamer
                    .start(receiver.clone(), Reading::default())
                    .is_err()
            );
        }
    }
    assert_eq!(*pair.streamer.sent().borrow(), PacketCount::default());
}

#[tokio::test]
async fn media_flows_up_to_the_limit_and_both_meters_agree() {
    let mut rig = Rig::new(4).await;
    let mut pair = rig.connect().await;
    pair.place.bound();
    let (grants, receiver) = watch::channel(open(2000));
    let mut reading = pair.streamer.start(receiver, Reading::default()).unwrap();
    for limit in [2000, 3000] {
        grants.send_replace(open(limit));
        until(&mut reading, |reading| reading.media_ms > limit - 60).await;
        let received = settled(&mut pair.viewer.receiving, QUIET).await;
        let (sent, got) = (*reading.borrow(), *pair.viewer.reading.borrow());
        assert!(sent.media_ms <= limit, "{sent:?}");
        assert!(
            sent.media_ms.abs_diff(got.media_ms) <= 60,
            "{sent:?} {got:?}"
        );
        assert_eq!(sent.bytes, got.bytes);
        assert_eq!(received.packets, *pair.streamer.sent().borrow());
        assert_eq!(received.gaps, PacketCount::default());
        assert_eq!(received.dropped, 0);
        assert!(received.packets.video > 0 && received.packets.audio > 0);
    }
}

#[tokio::test]
async fn pause_and_resume_leave_no_gap_and_begin_with_a_key_frame() {
    let mut rig = Rig::new(4).await;
    let mut pair = rig.connect().await;
    let (grants, receiver) = watch::channel(open(100_000));
    let mut reading = pair.streamer.start(receiver, Reading::default()).unwrap();
    let mut read = 0;
    for round in 0..3 {
        grants.send_replace(open(100_000));
        until(&mut reading, |reading| reading.media_ms > read + 800).await;
        grants.send_replace(Grant::Paused(PauseReason::ByPayer));
        settled(&mut pair.viewer.receiving, QUIET).await;
        read = reading.borrow().media_ms;
        let mut video = Vec::new();
        while let Ok(packet) = pair.viewer.packets.try_recv() {
            if packet.codec.kind() == Kind::Video {
                video.push(packet);
            }
        }
        // VP8: the start of a partition, of a key frame.
        let first = &video.first().unwrap().payload;
        assert!(
            first[0] & 0x10 != 0 && first[1] & 1 == 0,
            "round {round}: {:x?}",
            &first[..4]
        );
        // Longer than the ring holds.
        let from = rig.source.position_ms();
        while rig.source.position_ms() < from + 3000 {
            settled(&mut pair.viewer.receiving, QUIET).await;
        }
        assert_eq!(reading.borrow().media_ms, read);
    }
    let receiving = *pair.viewer.receiving.borrow();
    assert_eq!(receiving.gaps, PacketCount::default());
    assert_eq!(receiving.packets, *pair.streamer.sent().borrow());
    let got = pair.viewer.reading.borrow().media_ms;
    assert!(got.abs_diff(read) <= 3 * 60, "{got} {read}");
}

#[tokio::test]
async fn after_a_stall_the_time_stamps_have_gone_on_with_the_clock_and_both_meters_agree() {
    let mut rig = Rig::new(1).await;
    let mut pair = rig.connect().await;
    let (grants, receiver) = watch::channel(open(500));
    let mut reading = pair.streamer.start(receiver, Reading::default()).unwrap();
    until(&mut reading, |reading| reading.media_ms > 440).await;
    settled(&mut pair.viewer.receiving, QUIET * 2).await;
    grants.send_replace(open(1500));
    until(&mut reading, |reading| reading.media_ms > 1440).await;
    settled(&mut pair.viewer.receiving, QUIET).await;
    let (mut last, mut jumps) = (None, 0);
    while let Ok(packet) = pair.viewer.packets.try_recv() {
        if packet.codec.kind() == Kind::Video {
            let step = last.map_or(0, |last| packet.stamp - last);
            // A frame, or more than a meter takes for one.
            assert!(step <= 3600 || step > 45_000, "{step}");
            jumps += u32::from(step > 45_000);
            last = Some(packet.stamp);
        }
    }
    assert_eq!(jumps, 1);
    assert_eq!(
        pair.viewer.receiving.borrow().gaps,
        PacketCount::default(),
        "the numbers have not jumped"
    );
    let (sent, got) = (*reading.borrow(), *pair.viewer.reading.borrow());
    assert_eq!(sent.bytes, got.bytes);
    assert!(
        sent.media_ms.abs_diff(got.media_ms) <= 60,
        "{sent:?} {got:?}"
    );
}

#[tokio::test]
async fn a_session_that_is_gone_shuts_the_gate() {
    let mut rig = Rig::new(4).await;
    let mut pair = rig.connect().await;
    let (grants, receiver) = watch::channel(open(1_000_000));
    let mut reading = pair.streamer.start(receiver, Reading::default()).unwrap();
    until(&mut reading, |reading| reading.media_ms > 200).await;
    drop(grants);
    let stopped = settled(&mut pair.viewer.receiving, QUIET).await;
    let from = rig.source.position_ms();
    while rig.source.position_ms() < from + 2000 {
        settled(&mut pair.viewer.receiving, QUIET).await;
    }
    assert_eq!(*pair.viewer.receiving.borrow(), stopped);
}

#[tokio::test]
async fn what_a_session_said_last_arrives_before_the_link_goes_down() {
    let mut rig = Rig::new(1).await;
    let mut pair = rig.connect().await;
    let last: Vec<_> = (0..32_u8).map(|at| Bytes::from(vec![at; 10_000])).collect();
    for message in &last {
        pair.link.end.outgoing.send(message.clone()).await.unwrap();
    }
    drop(pair.link);
    for message in last {
        assert_eq!(pair.viewer.link.end.incoming.recv().await, Some(message));
    }
    assert_eq!(pair.viewer.link.end.incoming.recv().await, None);
}

#[tokio::test]
async fn a_viewer_that_leaves_takes_the_link_down_at_once() {
    let mut rig = Rig::new(1).await;
    let mut pair = rig.connect().await;
    drop(pair.viewer.connection);
    let gone = tokio::time::timeout(Duration::from_secs(2), pair.link.end.incoming.recv()).await;
    assert_eq!(gone.unwrap(), None);
}

#[tokio::test]
async fn one_viewer_does_not_disturb_another() {
    let mut rig = Rig::new(4).await;
    let mut paying = rig.connect().await;
    let mut idle = rig.connect().await;
    let (_grants, receiver) = watch::channel(open(1_000_000));
    let mut reading = paying.streamer.start(receiver, Reading::default()).unwrap();
    drop(idle.streamer);
    assert_eq!(idle.viewer.link.end.incoming.recv().await, None);
    until(&mut reading, |reading| reading.media_ms > 1000).await;
    until(&mut paying.viewer.reading, |reading| reading.media_ms > 900).await;
    assert_eq!(
        idle.viewer.receiving.borrow().packets,
        PacketCount::default()
    );
}
