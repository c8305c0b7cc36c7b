//! What a disk may hold.

use streampay_core::session::{
    ChannelIdentity, CloseCode, Command, Entropy, Input, LinkEvent, PayeeSession, PayerSession,
    Policy, SecretKey,
};
use streampay_core::store::{Key, StoreError, fixed_key, session_key};
use streampay_core::units::{Mono, Now, SessionId, Unix};

/// The two records of a session in `bytes`: two bytes say how long the first is, big endian.
#[must_use]
pub fn split_records(session: SessionId, bytes: &[u8]) -> [(Key, Vec<u8>); 2] {
    let (length, both) = bytes.split_first_chunk().unwrap_or((&[0; 2], bytes));
    let length = usize::from(u16::from_be_bytes(*length)).min(both.len());
    let (fixed, rest) = both.split_at(length);
    [
        (fixed_key(session), fixed.to_vec()),
        (session_key(session), rest.to_vec()),
    ]
}

/// A session's records, as found on disk by either role: unreadable, or a session that takes a
/// connection, its end, and a close.
///
/// # Panics
/// Where a record that was read makes a machine that cannot be driven.
pub fn records(bytes: &[u8]) {
    // The session of the seeds: a record of another one is corrupt at once.
    let session = SessionId(Entropy([2; 32]).derive("session-id"));
    let records = split_records(session, bytes);
    let now = Now {
        mono: Mono(0),
        unix: Unix(1_800_000_000),
    };
    let Ok(identity) = SecretKey::from_bytes([3; 32]) else {
        return;
    };
    let payer = PayerSession::restore(identity.clone(), Policy::nothing(), now, session, &records);
    let payee = PayeeSession::restore(identity, 1_000, now, session, &records);
    assert!(payer.is_err() || payee.is_err(), "a record of both roles");
    match payer {
        Ok(mut payer) => drive(|now, input| payer.handle(now, input).is_ok()),
        Err(error) => assert!(matches!(error, StoreError::Corrupt | StoreError::OtherRole)),
    }
    match payee {
        Ok(mut payee) => drive(|now, input| payee.handle(now, input).is_ok()),
        Err(error) => assert!(matches!(error, StoreError::Corrupt | StoreError::OtherRole)),
    }
}

fn drive(mut handle: impl FnMut(Now, Input) -> bool) {
    let identity = ChannelIdentity {
        payer: [4; 32],
        payee: [5; 32],
    };
    let entropy = Entropy([6; 32]);
    let inputs = [
        Input::Timeout,
        Input::Link(LinkEvent::Up { identity, entropy }),
        Input::Timeout,
        Input::Link(LinkEvent::Down),
        Input::Command(Command::Close(CloseCode::Done)),
        Input::Timeout,
    ];
    let mut now = Now::default();
    for input in inputs.into_iter().cycle().take(24) {
        now.mono = now.mono.after_ms(5_000);
        // Misuse is answered, not a failure: a session that has ended takes nothing.
        let _ = handle(now, input);
    }
}
