use bytes::Bytes;

use super::map::{MapWriter, item_u64};
use super::message::{Evidence, Hello, Message, Purse, Welcome};

/// The one encoding of `message`.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    let map = MapWriter::message(message.number());
    let map = match message {
        Message::Hello(hello) => encode_hello(map, hello),
        Message::Welcome(welcome) => encode_welcome(map, welcome),
        Message::Bind(bind) => map.bytes(2, &bind.binding.0),
        Message::Ready(ready) => map.opt_map(2, ready.evidence.as_ref(), evidence),
        Message::Purse(purse) => encode_purse(map, purse),
        Message::PurseOk(ok) => map.u64(2, u64::from(ok.purse.0)),
        Message::PurseRefused(refused) => map
            .u64(2, u64::from(refused.purse.0))
            .u64(4, u64::from(refused.code.code())),
        Message::Tick(tick) => map
            .u64(2, u64::from(tick.purse.0))
            .u64(4, tick.seq.0)
            .u64(6, tick.cumulative.msat())
            .bytes(8, &tick.payload)
            .opt_amount(10, tick.tips.unwrap_or_default()),
        Message::Ack(ack) => map
            .map(2, |map| evidence(map, &ack.evidence))
            .opt_bytes(4, ack.grant.as_deref()),
        Message::Nack(nack) => map
            .u64(2, u64::from(nack.purse.0))
            .u64(4, nack.seq.0)
            .u64(6, u64::from(nack.code.code()))
            .u64(8, u64::from(nack.consumed.code())),
        Message::Pause(pause) => map
            .u64(2, pause.epoch)
            .u64(4, u64::from(pause.reason.code())),
        Message::Resume(resume) => map.u64(2, resume.epoch),
        Message::Close(close) => map.u64(2, u64::from(close.code.code())),
        Message::Closed(closed) => map
            .u64(2, u64::from(closed.code.code()))
            .opt_map(4, closed.evidence.as_ref(), evidence)
            .opt_bytes(5, closed.proof.as_ref().map(|proof| &proof.0[..])),
        Message::Reading(reading) => map.u64(2, reading.media_ms).u64(4, reading.bytes),
        Message::OfferTerms(offer) => map
            .map(2, |map| offer.terms.write(map))
            .u64(4, offer.from.msat())
            .bytes(6, &offer.signature.0),
        Message::Agree(agree) => map.bytes(2, &agree.offer.0),
        Message::Decline(decline) => map.bytes(2, &decline.offer.0),
        Message::Agreed(agreed) => map.bytes(2, &agreed.offer.0),
        Message::ReceiptRequest => map,
        Message::Join(join) => map
            .text(2, &join.name)
            .opt_bytes(4, join.invitation.as_deref()),
        Message::Joined(joined) => map.text(2, &joined.name),
        Message::RoomRefused(refused) => map.u64(2, u64::from(refused.code.code())),
        Message::Presence(presence) => map
            .u64(2, presence.epoch)
            .u64(4, u64::from(presence.viewers)),
        Message::Chat(chat) => map
            .u64(2, chat.id)
            .opt_text(4, chat.sender.as_deref())
            .text(6, &chat.text),
        Message::Tip(tip) => map
            .u64(2, tip.id)
            .text(4, &tip.sender)
            .u64(6, tip.amount.msat()),
        Message::Leave => map,
    };
    map.finish().into()
}

fn encode_hello(map: MapWriter, hello: &Hello) -> MapWriter {
    let versions = hello
        .versions
        .iter()
        .map(|version| item_u64(u64::from(*version)));
    map.bytes(2, &hello.session.0)
        .list(4, versions)
        .u64(6, hello.features)
        .bytes(8, &hello.nonce)
        .bytes(10, &hello.identity.0)
        .bytes(12, &hello.session_key.0)
        .opt_bytes(14, hello.root.as_ref().map(<[u8; 32]>::as_slice))
        .opt_map(16, hello.evidence.as_ref(), evidence)
}

fn encode_welcome(map: MapWriter, welcome: &Welcome) -> MapWriter {
    map.bytes(2, &welcome.session.0)
        .u64(4, u64::from(welcome.version))
        .u64(6, welcome.features)
        .bytes(8, &welcome.nonce)
        .bytes(10, &welcome.session_key.0)
        .map(12, |map| welcome.terms.write(map))
        .bytes(14, &welcome.terms_signature.0)
        .bytes(16, &welcome.binding.0)
}

fn encode_purse(map: MapWriter, purse: &Purse) -> MapWriter {
    map.u64(2, u64::from(purse.purse.0))
        .u64(4, u64::from(purse.part))
        .u64(6, u64::from(purse.of))
        .u64(8, u64::from(purse.method))
        .bytes(10, &purse.bytes)
}

fn evidence(map: MapWriter, evidence: &Evidence) -> MapWriter {
    let receipt = &evidence.receipt;
    map.u64(0, u64::from(receipt.purse.0))
        .u64(2, receipt.seq.0)
        .u64(4, receipt.cumulative.msat())
        .u64(6, receipt.total.msat())
        .u64(8, receipt.reading.media_ms)
        .u64(10, receipt.reading.bytes)
        .bytes(12, &evidence.signature.0)
        .opt_amount(14, receipt.tips)
}
