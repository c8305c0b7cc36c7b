//! Every tagged hash of the protocol, with its preimage spelled out.

use bitcoin_hashes::{Hash as _, sha256};
use serde_json::Value;
use streampay_core::session::{
    BadKey, Binding, ChannelIdentity, Choice, Hash, Invitation, Receipt, Role, TaggedHash,
};
use streampay_core::wire::{Closed, OfferTerms, Terms, VERSION, VERSIONS_MAX};

use super::samples;
use crate::fields::{evidence_to_json, receipt_to_json, terms_to_json};
use crate::json::{Object, hex, int};
use crate::people::{PEOPLE, entropy, evidence, receipt, session};

/// A tagged hash, built together with its preimage.
struct Spelled {
    tag: &'static str,
    parts: Vec<Value>,
    preimage: Vec<u8>,
    hash: TaggedHash,
}

impl Spelled {
    fn new(tag: &'static str) -> Self {
        Self {
            tag,
            parts: Vec::new(),
            preimage: Vec::new(),
            hash: TaggedHash::new(tag),
        }
    }

    fn part(&mut self, name: &str, how: &str, bytes: &[u8]) {
        let part = Object::new()
            .with("name", name)
            .with("as", how)
            .hex("hex", bytes);
        self.parts.push(part.done());
        self.preimage.extend_from_slice(bytes);
    }

    fn u64(mut self, name: &str, value: u64) -> Self {
        self.part(name, "u64", &value.to_be_bytes());
        self.hash = self.hash.u64(value);
        self
    }

    fn bytes32(mut self, name: &str, bytes: &[u8; 32]) -> Self {
        self.part(name, "bytes", bytes);
        self.hash = self.hash.bytes32(bytes);
        self
    }

    fn sha256(mut self, name: &str, bytes: &[u8]) -> Self {
        let hashed = sha256::Hash::hash(bytes).to_byte_array();
        self.part(name, "sha256", &hashed);
        self.hash = self.hash.blob(bytes);
        self
    }

    /// Bytes of any length as they are, for a hash that one side keeps to itself.
    fn raw(mut self, name: &str, bytes: &[u8]) -> Self {
        self.part(name, "bytes", bytes);
        self
    }

    /// A case of such a hash: other implementations have others, so what they are asked for is a tagged
    /// hash and no more.
    fn own(self, name: &str) -> Value {
        let tag = sha256::Hash::hash(self.tag.as_bytes()).to_byte_array();
        let whole = [&tag[..], &tag, &self.preimage].concat();
        let case = Object::new()
            .with("name", name)
            .with("what", "tagged")
            .with("fields", Object::new())
            .with("tag", self.tag)
            .with("parts", self.parts)
            .hex("preimage", &self.preimage)
            .hex("hash", &sha256::Hash::hash(&whole).to_byte_array());
        case.done()
    }

    /// The case, unless the protocol's own function gives another hash.
    fn case(self, name: &str, what: &str, fields: Object, own: Hash) -> Result<Value, String> {
        let hash = self.hash.finish();
        if hash != own {
            return Err(format!("hash `{name}` is not what its preimage says"));
        }
        let case = Object::new()
            .with("name", name)
            .with("what", what)
            .with("fields", fields)
            .with("tag", self.tag)
            .with("parts", self.parts)
            .hex("preimage", &self.preimage)
            .hex("hash", &hash.0);
        Ok(case.done())
    }
}

/// All cases.
///
/// # Errors
/// A text where a hash is not what is spelled out here.
pub(super) fn cases() -> Result<Vec<Value>, String> {
    let mut cases = Vec::new();
    let all_terms = samples::all_terms().map_err(bad_key)?;
    for (name, terms) in &all_terms {
        cases.push(terms_case(name, terms)?);
    }
    cases.extend(bindings()?);
    cases.extend(receipts()?);
    cases.extend(
        all_terms
            .first()
            .map(|(_, terms)| offer(terms))
            .transpose()?,
    );
    cases.extend(closed()?);
    cases.extend(ends()?);
    cases.extend(invitations()?);
    cases.extend(blobs()?);
    cases.extend(own());
    Ok(cases)
}

pub(super) fn bad_key(_: BadKey) -> String {
    "a fixed key is none".into()
}

fn terms_case(name: &str, terms: &Terms) -> Result<Value, String> {
    let rates = [("time", terms.tariff.time), ("bytes", terms.tariff.bytes)];
    let spelled = Spelled::new("streampay/terms/v1").sha256("title", terms.title.as_bytes());
    let spelled = rates.into_iter().fold(spelled, |spelled, (meter, rate)| {
        let (msat, per) = rate.map_or((0, 0), |rate| (rate.msat().msat(), rate.per()));
        spelled
            .u64(&format!("{meter} msat"), msat)
            .u64(&format!("{meter} per"), per)
    });
    let spelled = spelled
        .u64("tick", terms.tick.msat())
        .u64("preview", terms.preview.msat())
        .u64("window", terms.window.msat())
        .u64("tolerance_permille", terms.tolerance_permille.into())
        .u64("tolerance_ms", terms.tolerance_ms.into())
        .u64("live_ms", terms.live_ms.into())
        .u64("resumable_s", terms.resumable_s.into())
        .u64("expires", terms.expires.0)
        .bytes32("payee", &terms.payee.0)
        .u64("join_fee", terms.join_fee.msat());
    let spelled = terms.methods.iter().fold(spelled, |spelled, method| {
        spelled
            .sha256("method name", method.name.as_bytes())
            .sha256("method params", &method.params)
    });
    let fields = Object::new().with("terms", terms_to_json(terms));
    spelled.case(&format!("terms: {name}"), "terms", fields, terms.hash())
}

fn bindings() -> Result<Vec<Value>, String> {
    let first = samples::binding([0; 32]).map_err(bad_key)?;
    let later = Binding {
        payer_nonce: [0x33; 32],
        payee_nonce: [0x34; 32],
        choice: Choice {
            versions: vec![7, VERSION, 9],
            offered: 1 << 41,
            version: VERSION,
            features: 2,
        },
        ..samples::binding(first.hash().0).map_err(bad_key)?
    };
    let mut cases = vec![
        binding_case("the first binding", &first)?,
        binding_case("a later binding, chained to the first", &later)?,
    ];
    for (role, name, number) in [(Role::Payer, "payer", 1), (Role::Payee, "payee", 2)] {
        let spelled = Spelled::new("streampay/bind-role/v1")
            .bytes32("binding", &first.hash().0)
            .u64("role", number);
        let fields = Object::new()
            .hex("binding", &first.hash().0)
            .with("role", name);
        let title = format!("what the {name} signs");
        cases.push(spelled.case(&title, "binding_role", fields, role.hash(first.hash()))?);
    }
    Ok(cases)
}

fn binding_case(name: &str, binding: &Binding) -> Result<Value, String> {
    let parts = [
        ("session", &binding.session.0),
        ("payer_nonce", &binding.payer_nonce),
        ("payee_nonce", &binding.payee_nonce),
        ("payer", &binding.payer.0),
        ("payee", &binding.payee.0),
        ("payer_session_key", &binding.payer_session_key.0),
        ("payee_session_key", &binding.payee_session_key.0),
        ("payer_certificate", &binding.channel.payer),
        ("payee_certificate", &binding.channel.payee),
        ("terms", &binding.terms.0),
        ("root", &binding.root),
    ];
    let choice = &binding.choice;
    let spelled = (0..VERSIONS_MAX).fold(Spelled::new("streampay/bind/v1"), |spelled, at| {
        let offered = choice.versions.get(at).copied().unwrap_or_default();
        spelled.u64(&format!("offered version {at}"), offered.into())
    });
    let spelled = spelled
        .u64("offered_features", choice.offered)
        .u64("version", choice.version.into())
        .u64("features", choice.features);
    let spelled = parts.iter().fold(spelled, |spelled, (name, bytes)| {
        spelled.bytes32(name, bytes)
    });
    let versions: Vec<Value> = choice
        .versions
        .iter()
        .map(|version| int(*version))
        .collect();
    let fields = Object::new()
        .with("versions", versions)
        .int("offered_features", choice.offered)
        .int("version", choice.version)
        .int("features", choice.features);
    let fields = parts
        .iter()
        .fold(fields, |fields, (name, bytes)| fields.hex(name, *bytes));
    spelled.case(name, "binding", fields, binding.hash())
}

fn receipts() -> Result<Vec<Value>, String> {
    let signed = evidence().map_err(bad_key)?.receipt;
    [
        ("a receipt", receipt()),
        ("the empty receipt", Receipt::default()),
        ("the receipt that is signed", signed),
    ]
    .into_iter()
    .map(|(name, receipt)| {
        let spelled = Spelled::new("streampay/receipt/v1")
            .bytes32("session", &session().0)
            .u64("purse", receipt.purse.0.into())
            .u64("seq", receipt.seq.0)
            .u64("cumulative", receipt.cumulative.msat())
            .u64("total", receipt.total.msat())
            .u64("media_ms", receipt.reading.media_ms)
            .u64("bytes", receipt.reading.bytes)
            .u64("tips", receipt.tips.msat());
        let inner = receipt_to_json(&receipt);
        let fields = Object::new()
            .hex("session", &session().0)
            .with("receipt", inner);
        spelled.case(name, "receipt", fields, receipt.hash(session()))
    })
    .collect()
}

/// These terms, offered. The signature is none of it.
pub(super) fn an_offer(terms: &Terms) -> Result<OfferTerms, String> {
    Ok(OfferTerms {
        terms: terms.clone(),
        from: crate::people::msat(1_002_000),
        signature: evidence().map_err(bad_key)?.signature,
    })
}

fn offer(terms: &Terms) -> Result<Value, String> {
    let offer = an_offer(terms)?;
    let spelled = Spelled::new("streampay/offer/v1")
        .bytes32("session", &session().0)
        .bytes32("terms", &terms.hash().0)
        .u64("from", offer.from.msat());
    let fields = Object::new()
        .hex("session", &session().0)
        .with("terms", terms_to_json(terms))
        .int("from", offer.from.msat());
    spelled.case(
        "an offer of other terms",
        "offer",
        fields,
        offer.hash(session()),
    )
}

/// With what is due, and where nothing was paid.
fn closed() -> Result<[Value; 2], String> {
    let due = samples::a_closed().map_err(bad_key)?;
    let unpaid = Closed {
        evidence: None,
        ..due.clone()
    };
    let receipt = receipt().hash(session()).0;
    Ok([
        a_closed("the answer to a hello after the end", &due, receipt)?,
        a_closed(
            "the same where nothing was paid: 32 zero bytes for the receipt",
            &unpaid,
            [0; 32],
        )?,
    ])
}

fn a_closed(name: &str, closed: &Closed, receipt: [u8; 32]) -> Result<Value, String> {
    let nonce = samples::HELLO_NONCE;
    let spelled = Spelled::new("streampay/closed/v1")
        .bytes32("session", &session().0)
        .bytes32("nonce", &nonce)
        .u64("code", closed.code.code().into())
        .bytes32("receipt", &receipt);
    let fields = Object::new()
        .hex("session", &session().0)
        .hex("nonce", &nonce)
        .int("code", closed.code.code())
        .maybe("evidence", closed.evidence.as_ref().map(evidence_to_json));
    let hash = closed.hash(session(), &nonce);
    spelled.case(name, "closed", fields, hash)
}

/// What both ends know a TCP connection by.
fn ends() -> Result<Vec<Value>, String> {
    let random = [[0x51; 32], [0x52; 32]];
    let [payer, payee] = &random;
    let known = ChannelIdentity::of_tcp(payer, payee);
    let sides = [("payer", payer, known.payer), ("payee", payee, known.payee)];
    let side = |(name, random, own): (&str, &[u8; 32], [u8; 32])| {
        let spelled = Spelled::new("streampay/tcp/v1").bytes32("random", random);
        let fields = Object::new().hex("random", random);
        let title = format!("the {name}'s end of a TCP connection");
        spelled.case(&title, "tcp", fields, Hash(own))
    };
    sides.into_iter().map(side).collect()
}

/// What a room shows of an invitation, and keeps.
fn invitations() -> Result<Vec<Value>, String> {
    let all: [(&str, Vec<u8>); 3] = [
        ("16 bytes", (0..16).collect()),
        ("64 bytes", vec![0x5a; 64]),
        ("no bytes", vec![]),
    ];
    let case = |(name, bytes): (&str, Vec<u8>)| {
        let own = Invitation::new(bytes.clone()).map_err(|_| "an invitation is too long")?;
        let spelled = Spelled::new("streampay/invitation/v1").sha256("invitation", &bytes);
        let fields = Object::new().hex("invitation", &bytes);
        let title = format!("an invitation of {name}");
        spelled.case(&title, "invitation", fields, own.hash())
    };
    all.into_iter().map(case).collect()
}

/// Hashes over bytes of any length, and what entropy gives.
fn blobs() -> Result<Vec<Value>, String> {
    let mut cases = Vec::new();
    for label in ["session-id", "session-key", "nonce", "bind"] {
        let bytes = entropy(PEOPLE);
        let spelled = Spelled::new("streampay/entropy/v1")
            .bytes32("entropy", &bytes.0)
            .sha256("label", label.as_bytes());
        let fields = Object::new().hex("entropy", &bytes.0).with("label", label);
        let name = format!("entropy for `{label}`");
        cases.push(spelled.case(&name, "entropy", fields, Hash(bytes.derive(label)))?);
    }
    for (name, preimage) in [("no bytes", vec![]), ("80 bytes", vec![0x5a; 80])] {
        let chunks = preimage.chunks_exact(8).map(word);
        let hash = chunks.fold(TaggedHash::new("streampay/test/v1"), TaggedHash::u64);
        let case = Object::new()
            .with("name", format!("a tag and {name}"))
            .with("what", "tagged")
            .with("fields", Object::new())
            .with("tag", "streampay/test/v1")
            .with("preimage", hex(&preimage))
            .hex("hash", &hash.finish().0);
        cases.push(case.done());
    }
    Ok(cases)
}

/// What one side keeps to itself. Tests of the packages that have these hold their code to it.
fn own() -> Vec<Value> {
    let opening: Vec<u8> = (0..40).collect();
    let mut cases = vec![
        Spelled::new("streampay/purse/v1")
            .sha256("opening", &opening)
            .own("an opening, known again"),
        Spelled::new("streampay/tick/v1")
            .raw("payload", &[0x70; 47])
            .own("a payload, known again"),
        Spelled::new("streampay/name/v1")
            .bytes32("identity", &[0x6e; 32])
            .own("the mark behind a name"),
        Spelled::new("streampay/btc/payer/v1")
            .raw("session", &[0x62; 32])
            .raw("purse", &7_u32.to_be_bytes())
            .own("the path of the payer's key of a channel"),
    ];
    for (tag, name) in [
        ("streampay/cashu-chain/top/v1", "the end of a chain"),
        ("streampay/cashu/salt/v1", "the salt of a purse"),
        ("streampay/cashu/refund/v1", "the refund key of a purse"),
    ] {
        let spelled = Spelled::new(tag).sha256("seed", &[0x63; 64]);
        cases.push(spelled.own(name));
    }
    cases
}

fn word(chunk: &[u8]) -> u64 {
    u64::from_be_bytes(chunk.try_into().unwrap_or_default())
}
