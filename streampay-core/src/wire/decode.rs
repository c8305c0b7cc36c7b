use bytes::Bytes;
use minicbor::Decoder;

use super::map::MapReader;
use super::message as number;
use super::message::{
    Ack, Bind, Close, Closed, Evidence, Hello, Message, Nack, Pause, Purse, PurseOk, PurseRefused,
    Ready, Resume, Tick, Welcome,
};
use super::{
    Agree, Agreed, CHAT_MAX, Chat, Decline, GRANT_MAX, INVITATION_MAX, Join, Joined, MESSAGE_MAX,
    NAME_MAX, OfferTerms, PARTS_MAX, PAYLOAD_MAX, Presence, RoomCode, RoomRefused, Terms, Tip,
    VERSIONS_MAX, WireError,
};
use crate::backend::{Consumed, RefusalCode};
use crate::meter::{PauseReason, Reading};
use crate::session::{CloseCode, Hash, Receipt, Signature};
use crate::units::{Msat, PurseId, Seq, SessionId, XOnlyKey};

type Map<'d, 'b> = MapReader<'d, 'b>;

/// Reads one message. `None` is a message of an odd type that this version does not know, to be
/// ignored.
///
/// # Errors
/// [`WireError`] for anything that is not the one encoding of a message.
pub fn decode(bytes: &[u8]) -> Result<Option<Message>, WireError> {
    super::scan(bytes)?;
    let mut decoder = Decoder::new(bytes);
    let mut map = Map::open(&mut decoder, u64::MAX)?;
    let kind = map.opt_u64(0).ok().flatten().ok_or(WireError::NoType)?;
    map.name(kind);
    let message = match kind {
        number::HELLO => Message::Hello(hello(&mut map)?),
        number::WELCOME => Message::Welcome(welcome(&mut map)?),
        number::BIND => Message::Bind(Bind {
            binding: Signature(map.array(2)?),
        }),
        number::READY => Message::Ready(Ready {
            evidence: evidence(&mut map, 2)?,
        }),
        number::PURSE => Message::Purse(purse(&mut map)?),
        number::PURSE_OK => Message::PurseOk(PurseOk {
            purse: PurseId(map.small(2)?),
        }),
        number::PURSE_REFUSED => Message::PurseRefused(PurseRefused {
            purse: PurseId(map.small(2)?),
            code: RefusalCode::from_code(map.small(4)?),
        }),
        number::TICK => Message::Tick(tick(&mut map)?),
        number::ACK => Message::Ack(ack(&mut map)?),
        number::NACK => Message::Nack(nack(&mut map)?),
        number::PAUSE => Message::Pause(pause(&mut map)?),
        number::RESUME => Message::Resume(Resume { epoch: map.u64(2)? }),
        number::CLOSE => Message::Close(Close {
            code: CloseCode::from_code(map.small(2)?),
        }),
        number::CLOSED => Message::Closed(Closed {
            code: CloseCode::from_code(map.small(2)?),
            evidence: evidence(&mut map, 4)?,
            proof: map.opt_array(5)?.map(Signature),
        }),
        number::READING => Message::Reading(Reading {
            media_ms: map.u64(2)?,
            bytes: map.u64(4)?,
        }),
        number::OFFER_TERMS => Message::OfferTerms(offer_terms(&mut map)?),
        number::AGREE => Message::Agree(Agree {
            offer: Hash(map.array(2)?),
        }),
        number::DECLINE => Message::Decline(Decline {
            offer: Hash(map.array(2)?),
        }),
        number::AGREED => Message::Agreed(Agreed {
            offer: Hash(map.array(2)?),
        }),
        number::RECEIPT_REQUEST => Message::ReceiptRequest,
        number::JOIN => Message::Join(Join {
            name: map.line(2, NAME_MAX)?,
            invitation: (map.opt_bytes(4, INVITATION_MAX)?).map(Bytes::copy_from_slice),
        }),
        number::JOINED => Message::Joined(Joined {
            name: map.line(2, NAME_MAX)?,
        }),
        number::ROOM_REFUSED => Message::RoomRefused(RoomRefused {
            code: RoomCode::from_code(map.small(2)?),
        }),
        number::PRESENCE => Message::Presence(Presence {
            epoch: map.u64(2)?,
            viewers: map.small(4)?,
        }),
        number::CHAT => Message::Chat(Chat {
            id: map.u64(2)?,
            sender: map.opt_line(4, NAME_MAX)?,
            text: map.line(6, CHAT_MAX)?,
        }),
        number::TIP => Message::Tip(tip(&mut map)?),
        number::LEAVE => Message::Leave,
        odd if !odd.is_multiple_of(2) => return Ok(None),
        even => return Err(WireError::UnknownType(even)),
    };
    map.finish()?;
    Ok(Some(message))
}

/// The session that a first message names, for an acceptor that must find its record before it
/// has a machine.
///
/// # Errors
/// [`WireError`] where it is not a hello.
pub fn peek_session(bytes: &[u8]) -> Result<SessionId, WireError> {
    match decode(bytes)? {
        Some(Message::Hello(hello)) => Ok(hello.session),
        Some(other) => Err(WireError::UnknownType(other.number())),
        None => Err(WireError::NoType),
    }
}

fn hello(map: &mut Map<'_, '_>) -> Result<Hello, WireError> {
    let hello = Hello {
        session: SessionId(map.array(2)?),
        versions: map.list(4, VERSIONS_MAX, |decoder, field| {
            decoder.u16().map_err(|_| WireError::WrongKind(field))
        })?,
        features: map.u64(6)?,
        nonce: map.array(8)?,
        identity: XOnlyKey(map.array(10)?),
        session_key: XOnlyKey(map.array(12)?),
        root: map.opt_array(14)?,
        evidence: evidence(map, 16)?,
    };
    if hello.versions.is_empty() {
        return Err(WireError::OutOfRange(map.field(4)));
    }
    Ok(hello)
}

fn welcome(map: &mut Map<'_, '_>) -> Result<Welcome, WireError> {
    let missing = WireError::Missing(map.field(12));
    Ok(Welcome {
        session: SessionId(map.array(2)?),
        version: map.small(4)?,
        features: map.u64(6)?,
        nonce: map.array(8)?,
        session_key: XOnlyKey(map.array(10)?),
        terms: map.opt_map(12, Terms::read)?.ok_or(missing)?,
        terms_signature: Signature(map.array(14)?),
        binding: Signature(map.array(16)?),
    })
}

fn offer_terms(map: &mut Map<'_, '_>) -> Result<OfferTerms, WireError> {
    let missing = WireError::Missing(map.field(2));
    Ok(OfferTerms {
        terms: map.opt_map(2, Terms::read)?.ok_or(missing)?,
        from: map.msat(4)?,
        signature: Signature(map.array(6)?),
    })
}

fn purse(map: &mut Map<'_, '_>) -> Result<Purse, WireError> {
    let purse = Purse {
        purse: PurseId(map.small(2)?),
        part: map.small(4)?,
        of: map.small(6)?,
        method: map.small(8)?,
        bytes: Bytes::copy_from_slice(map.bytes(10, MESSAGE_MAX)?),
    };
    if purse.of == 0 || purse.of > PARTS_MAX {
        return Err(WireError::OutOfRange(map.field(6)));
    }
    if purse.part >= purse.of {
        return Err(WireError::OutOfRange(map.field(4)));
    }
    Ok(purse)
}

fn tick(map: &mut Map<'_, '_>) -> Result<Tick, WireError> {
    let tick = Tick {
        purse: PurseId(map.small(2)?),
        seq: Seq(map.u64(4)?),
        cumulative: map.msat(6)?,
        payload: Bytes::copy_from_slice(map.bytes(8, PAYLOAD_MAX)?),
        tips: map.opt_amount(10)?,
    };
    if tick.seq.0 == 0 {
        return Err(WireError::OutOfRange(map.field(4)));
    }
    Ok(tick)
}

fn tip(map: &mut Map<'_, '_>) -> Result<Tip, WireError> {
    let missing = WireError::Missing(map.field(6));
    Ok(Tip {
        id: map.u64(2)?,
        sender: map.line(4, NAME_MAX)?,
        amount: map.opt_amount(6)?.ok_or(missing)?,
    })
}

fn ack(map: &mut Map<'_, '_>) -> Result<Ack, WireError> {
    let missing = WireError::Missing(map.field(2));
    Ok(Ack {
        evidence: evidence(map, 2)?.ok_or(missing)?,
        grant: map.opt_bytes(4, GRANT_MAX)?.map(Bytes::copy_from_slice),
    })
}

fn nack(map: &mut Map<'_, '_>) -> Result<Nack, WireError> {
    let (purse, seq) = (PurseId(map.small(2)?), Seq(map.u64(4)?));
    let code = RefusalCode::from_code(map.small(6)?);
    let consumed = Consumed::from_code(map.small(8)?);
    let consumed = consumed.ok_or_else(|| WireError::OutOfRange(map.field(8)))?;
    Ok(Nack {
        purse,
        seq,
        code,
        consumed,
    })
}

fn pause(map: &mut Map<'_, '_>) -> Result<Pause, WireError> {
    let (epoch, reason) = (map.u64(2)?, PauseReason::from_code(map.small(4)?));
    Ok(Pause {
        epoch,
        reason: reason.ok_or_else(|| WireError::OutOfRange(map.field(4)))?,
    })
}

fn evidence(map: &mut Map<'_, '_>, key: u64) -> Result<Option<Evidence>, WireError> {
    map.opt_map(key, |map| {
        let mut receipt = Receipt {
            purse: PurseId(map.small(0)?),
            seq: Seq(map.u64(2)?),
            cumulative: map.msat(4)?,
            total: map.msat(6)?,
            reading: Reading {
                media_ms: map.u64(8)?,
                bytes: map.u64(10)?,
            },
            tips: Msat::ZERO,
        };
        let signature = Signature(map.array(12)?);
        receipt.tips = map.opt_amount(14)?.unwrap_or_default();
        Ok(Evidence { receipt, signature })
    })
}
