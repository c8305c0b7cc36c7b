//! Every message, with and without what may be missing, and at its limits.

use bytes::Bytes;
use streampay_core::backend::{Consumed, RefusalCode};
use streampay_core::meter::{PauseReason, Rate, Reading, Tariff};
use streampay_core::session::{BadKey, Binding, Choice, CloseCode, Hash, Role, Signature};
use streampay_core::units::{Msat, PurseId, Seq, SessionId, Unix, XOnlyKey};
use streampay_core::wire::{
    Ack, Agree, Agreed, Bind, CHAT_MAX, Chat, Close, Closed, Decline, GRANT_MAX, Hello,
    INVITATION_MAX, Join, Joined, METHOD_NAME_MAX, METHODS_MAX, Message, Method, NAME_MAX, Nack,
    OfferTerms, PARAMS_MAX, PARTS_MAX, Pause, Presence, Purse, PurseOk, PurseRefused, Ready,
    Resume, RoomCode, RoomRefused, TITLE_MAX, Terms, Tick, Tip, VERSION, VERSIONS_MAX, Welcome,
};

use crate::people::{evidence, key, method, msat, rate, receipt, session, terms};

/// A message and what is special about it.
pub type Sample = (&'static str, Message);

/// All messages. The first of each kind is what its invalid cases are made from, so it has every
/// field.
///
/// # Errors
/// None for the keys used here.
pub fn messages() -> Result<Vec<Sample>, BadKey> {
    let all = [hellos()?, welcomes()?, handshake()?, purses(), ticks()?];
    let more = [flow(), closing()?, offers()?, rooms()];
    Ok(all.into_iter().chain(more).flatten().collect())
}

/// The hello that opens a session.
///
/// # Errors
/// None.
pub fn first_hello() -> Result<Hello, BadKey> {
    Ok(Hello {
        session: session(),
        versions: [VERSION].into(),
        features: 0,
        nonce: [0x31; 32],
        identity: key("payer")?.public(),
        session_key: key("payer-session")?.public(),
        root: None,
        evidence: None,
    })
}

/// The binding of [`first_hello`] and of the first welcome.
///
/// # Errors
/// None.
pub fn binding(root: [u8; 32]) -> Result<Binding, BadKey> {
    let hello = first_hello()?;
    Ok(Binding {
        choice: Choice {
            versions: hello.versions,
            offered: hello.features,
            version: VERSION,
            features: 0,
        },
        session: hello.session,
        payer_nonce: hello.nonce,
        payee_nonce: [0x32; 32],
        payer: hello.identity,
        payee: key("payee")?.public(),
        payer_session_key: hello.session_key,
        payee_session_key: key("payee-session")?.public(),
        channel: crate::peer::CHANNEL,
        terms: terms()?.hash(),
        root,
    })
}

fn hellos() -> Result<Vec<Sample>, BadKey> {
    let hello = first_hello()?;
    let resume = Hello {
        root: Some(binding([0; 32])?.hash().0),
        evidence: Some(evidence()?),
        ..hello.clone()
    };
    let many = Hello {
        versions: (1..).take(VERSIONS_MAX - 1).chain([u16::MAX]).collect(),
        features: u64::MAX,
        root: Some([0xff; 32]),
        ..hello.clone()
    };
    Ok(vec![
        ("resume", Message::Hello(resume)),
        ("open", Message::Hello(hello)),
        (
            "eight versions, every feature, no receipt",
            Message::Hello(many),
        ),
    ])
}

/// Terms that fill every limit.
///
/// # Errors
/// None.
pub fn largest_terms() -> Result<Terms, BadKey> {
    let most = Rate::new(Msat::MAX, Rate::MAX_PER).ok();
    Ok(Terms {
        title: "x".repeat(TITLE_MAX),
        tariff: Tariff {
            time: most,
            bytes: most,
        },
        tick: Msat::MAX,
        preview: Msat::MAX,
        window: Msat::MAX,
        tolerance_permille: 1_000,
        tolerance_ms: u32::MAX,
        live_ms: u32::MAX,
        methods: (0..METHODS_MAX).map(largest_method).collect(),
        resumable_s: u32::MAX,
        expires: Unix(u64::MAX),
        payee: XOnlyKey([0xff; 32]),
        join_fee: Msat::MAX,
    })
}

/// A method with the longest name and the longest params.
fn largest_method(number: usize) -> Method {
    Method {
        params: vec![0x5a; PARAMS_MAX],
        ..method(&format!("{number}{}", "m".repeat(METHOD_NAME_MAX - 1)))
    }
}

/// Terms at each end.
///
/// # Errors
/// None.
pub fn all_terms() -> Result<Vec<(&'static str, Terms)>, BadKey> {
    let usual = Terms {
        join_fee: msat(21_000),
        ..terms()?
    };
    let both = Terms {
        tariff: Tariff {
            bytes: rate(1, 4_096),
            ..usual.tariff
        },
        ..usual.clone()
    };
    let free = Terms {
        title: String::new(),
        tariff: Tariff::default(),
        tick: msat(1),
        tolerance_permille: 0,
        tolerance_ms: 0,
        live_ms: 0,
        resumable_s: 0,
        join_fee: Msat::ZERO,
        expires: Unix(0),
        methods: vec![Method {
            name: "a-0".into(),
            params: vec![],
        }],
        ..usual.clone()
    };
    Ok(vec![
        ("time and bytes", both),
        ("time alone", usual),
        ("nothing costs anything", free),
        ("every limit", largest_terms()?),
    ])
}

fn welcomes() -> Result<Vec<Sample>, BadKey> {
    let (identity, bound) = (key("payee")?, binding([0; 32])?);
    let aux = [0; 32];
    let welcome = Welcome {
        session: session(),
        version: VERSION,
        features: 0,
        nonce: bound.payee_nonce,
        session_key: bound.payee_session_key,
        terms: terms()?,
        terms_signature: identity.sign(bound.terms, &aux),
        binding: identity.sign(Role::Payee.hash(bound.hash()), &aux),
    };
    let (_, both) = all_terms()?.swap_remove(0);
    let other = Welcome {
        terms_signature: identity.sign(both.hash(), &aux),
        terms: both,
        version: u16::MAX,
        features: u64::MAX,
        ..welcome.clone()
    };
    Ok(vec![
        ("two meters", Message::Welcome(other)),
        ("open", Message::Welcome(welcome)),
    ])
}

fn handshake() -> Result<Vec<Sample>, BadKey> {
    let role = Role::Payer.hash(binding([0; 32])?.hash());
    let binding = key("payer")?.sign(role, &[0; 32]);
    Ok(vec![
        ("bind", Message::Bind(Bind { binding })),
        (
            "receipt",
            Message::Ready(Ready {
                evidence: Some(evidence()?),
            }),
        ),
        ("nothing paid yet", Message::Ready(Ready { evidence: None })),
    ])
}

fn purses() -> Vec<Sample> {
    let purse = |part, of, bytes: &'static [u8]| {
        Message::Purse(Purse {
            purse: PurseId(3),
            part,
            of,
            method: 1,
            bytes: Bytes::from_static(bytes),
        })
    };
    let id = PurseId(u32::MAX);
    let refused = |code| Message::PurseRefused(PurseRefused { purse: id, code });
    vec![
        ("last of 64 parts", purse(PARTS_MAX - 1, PARTS_MAX, b"end")),
        ("one part, empty", purse(0, 1, b"")),
        (
            "first purse",
            Message::PurseOk(PurseOk { purse: PurseId(0) }),
        ),
        ("last purse", Message::PurseOk(PurseOk { purse: id })),
        ("wrong mint", refused(RefusalCode::WrongMint)),
        ("no reason", refused(RefusalCode::Other)),
    ]
}

fn ticks() -> Result<Vec<Sample>, BadKey> {
    let tick = |purse, seq, amount, payload: &'static [u8]| {
        Message::Tick(Tick {
            purse: PurseId(purse),
            seq: Seq(seq),
            cumulative: msat(amount),
            payload: Bytes::from_static(payload),
            tips: None,
        })
    };
    let tip = Message::Tick(Tick {
        purse: PurseId(1),
        seq: Seq(7),
        cumulative: msat(14_000),
        payload: Bytes::from_static(b"tip"),
        tips: Some(msat(4_000)),
    });
    let mut untipped = receipt();
    untipped.tips = Msat::ZERO;
    let evidence_without_tips = untipped.sign(session(), &key("payee-session")?);
    let ack = |grant| -> Result<Message, BadKey> {
        let evidence = evidence()?;
        Ok(Message::Ack(Ack { evidence, grant }))
    };
    let nack = |seq, code, consumed| {
        Message::Nack(Nack {
            purse: PurseId(1),
            seq: Seq(seq),
            code,
            consumed,
        })
    };
    let grant = Bytes::from(vec![0x47; GRANT_MAX]);
    Ok(vec![
        ("tip", tip),
        ("tick 300", tick(1, 300, 600_000, b"payment")),
        ("first tick, empty payload", tick(0, 1, 0, b"")),
        ("largest", tick(u32::MAX, u64::MAX, u64::MAX, b"p")),
        ("with a grant", ack(Some(grant))?),
        ("empty grant", ack(Some(Bytes::new()))?),
        ("no grant", ack(None)?),
        (
            "no tips",
            Message::Ack(Ack {
                evidence: evidence_without_tips,
                grant: None,
            }),
        ),
        (
            "not consumed",
            nack(300, RefusalCode::WrongAmount, Consumed::No),
        ),
        (
            "consumed",
            nack(0, RefusalCode::AlreadySpent, Consumed::Yes),
        ),
        (
            "unknown",
            nack(u64::MAX, RefusalCode::Other, Consumed::Unknown),
        ),
    ])
}

fn flow() -> Vec<Sample> {
    let pause = |epoch, reason| Message::Pause(Pause { epoch, reason });
    let resume = |epoch| Message::Resume(Resume { epoch });
    let reading = |media_ms, bytes| Message::Reading(Reading { media_ms, bytes });
    let mut all = vec![
        ("by the payer", pause(1, PauseReason::ByPayer)),
        ("link down", pause(u64::MAX, PauseReason::LinkDown)),
    ];
    all.extend([
        ("epoch 2", resume(2)),
        ("epoch 0", resume(0)),
        ("last epoch", resume(u64::MAX)),
        ("usual", reading(10_000, 312_345)),
        ("zero", reading(0, 0)),
        ("largest", reading(u64::MAX, u64::MAX)),
    ]);
    all
}

/// The answer to a hello of a session that is over.
pub(super) fn a_closed() -> Result<Closed, BadKey> {
    let mut closed = Closed {
        code: CloseCode::Done,
        evidence: Some(evidence()?),
        proof: None,
    };
    let hash = closed.hash(session(), &HELLO_NONCE);
    closed.proof = Some(key("payee-session")?.sign(hash, &[0; 32]));
    Ok(closed)
}

/// The nonce of that hello.
pub(super) const HELLO_NONCE: [u8; 32] = [0x41; 32];

fn closing() -> Result<Vec<Sample>, BadKey> {
    let close = |code| Message::Close(Close { code });
    let closed = |code, evidence| {
        Message::Closed(Closed {
            code,
            evidence,
            proof: None,
        })
    };
    Ok(vec![
        ("done", close(CloseCode::Done)),
        ("no reason", close(CloseCode::Other)),
        ("banned", close(CloseCode::Banned)),
        ("to a hello", Message::Closed(a_closed()?)),
        (
            "with what is due",
            closed(CloseCode::Done, Some(evidence()?)),
        ),
        ("nothing paid", closed(CloseCode::TimedOut, None)),
    ])
}

fn offers() -> Result<Vec<Sample>, BadKey> {
    let mut offered = OfferTerms {
        terms: all_terms()?.swap_remove(0).1,
        from: msat(1_002_000),
        signature: Signature([0; 64]),
    };
    let hash: Hash = offered.hash(session());
    offered.signature = key("payee")?.sign(hash, &[0; 32]);
    let offer = hash;
    Ok(vec![
        ("two meters", Message::OfferTerms(offered)),
        ("agree", Message::Agree(Agree { offer })),
        ("decline", Message::Decline(Decline { offer })),
        ("agreed", Message::Agreed(Agreed { offer })),
        ("receipt request", Message::ReceiptRequest),
    ])
}

fn rooms() -> Vec<Sample> {
    let join = |name: &str, invitation: Option<usize>| {
        Message::Join(Join {
            name: name.into(),
            invitation: invitation.map(|len| vec![0x49; len].into()),
        })
    };
    let joined = |name: String| Message::Joined(Joined { name });
    let chat = |id, sender: Option<&str>, text: String| {
        Message::Chat(Chat {
            id,
            sender: sender.map(Into::into),
            text,
        })
    };
    let tip = |id, sender: &str, amount| {
        Message::Tip(Tip {
            id,
            sender: sender.into(),
            amount: msat(amount),
        })
    };
    let refused = |code| Message::RoomRefused(RoomRefused { code });
    let presence = |epoch, viewers| Message::Presence(Presence { epoch, viewers });
    vec![
        ("invited", join("älice", Some(INVITATION_MAX))),
        ("not invited", join("a", None)),
        ("another name", joined("alice 2".into())),
        ("longest name", joined("n".repeat(NAME_MAX))),
        ("full", refused(RoomCode::Full)),
        ("bad name", refused(RoomCode::BadName)),
        ("no reason", refused(RoomCode::Other)),
        ("21 viewers", presence(3, 21)),
        ("largest", presence(u64::MAX, u32::MAX)),
        ("passed on", chat(7, Some("älice"), "hello, all".into())),
        ("to the payee", chat(0, None, "☃".into())),
        ("longest", chat(u64::MAX, None, "x".repeat(CHAT_MAX))),
        ("21 sat", tip(8, "älice", 21_000)),
        ("all there is", tip(u64::MAX, "a", Msat::MAX.msat())),
        ("leave", Message::Leave),
    ]
}

/// A session's name that is nobody's.
pub const OTHER_SESSION: SessionId = SessionId([0xee; 32]);
