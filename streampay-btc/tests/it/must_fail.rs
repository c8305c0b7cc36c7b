//! Payments that MUST be refused: bytes that are no signature of this kind, and good signatures over
//! something else. Written by the example `vectors`. Spec: bitcoin 4.2, 9.1.

use bitcoin::hashes::Hash as _;
use bitcoin::hex::DisplayHex as _;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1, SecretKey, ecdsa};
use bitcoin::sighash::{Annex, EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Sequence, Transaction, Txid, absolute::LockTime};
use serde_json::{Value, json};
use streampay_btc::keys::ChannelSecret;
use streampay_btc::script::{FundingOutput, OutputType};
use streampay_btc::tx::Contract;

use crate::vectors::{Channel, RESERVE, VALUE, home, sat};

const PAID: u64 = 50_000;
const SINGLE: u8 = 0x83;
/// BIP 341: an annex begins with this.
const ANNEX: [u8; 4] = [0x50, 1, 2, 3];

/// What somebody signs.
struct Over {
    contract: Contract,
    tx: Transaction,
    signer: [u8; 32],
    flag: u8,
    annex: Option<Vec<u8>>,
    separator: u32,
    key_path: bool,
    /// How that differs from what the payer should sign.
    said: Value,
}

impl Over {
    fn new(channel: &Channel, contract: Contract, said: Value) -> Self {
        let paid = contract.value() - sat(VALUE - PAID);
        Self {
            tx: contract.update_tx(paid).unwrap(),
            contract,
            signer: channel.payer.dangerous_bytes(),
            flag: SINGLE,
            annex: None,
            separator: u32::MAX,
            key_path: false,
            said,
        }
    }

    fn sign(&self) -> Vec<u8> {
        let secp = Secp256k1::new();
        let mut cache = SighashCache::new(&self.tx);
        let output = self.contract.output();
        if output.output_type() == OutputType::Wsh {
            let kind = EcdsaSighashType::from_standard(self.flag.into()).unwrap();
            let value = self.contract.value();
            let digest = cache.p2wsh_signature_hash(0, output.script(), value, kind);
            let message = Message::from_digest(digest.unwrap().to_byte_array());
            let key = SecretKey::from_slice(&self.signer).unwrap();
            let signature = secp.sign_ecdsa_low_r(&message, &key);
            return [&signature.serialize_der()[..], &[self.flag]].concat();
        }
        let kind = TapSighashType::from_consensus_u8(self.flag).unwrap();
        let leaf = output.leaf_hash().filter(|_| !self.key_path);
        let leaf = leaf.map(|leaf| (leaf, self.separator));
        let annex = self
            .annex
            .as_deref()
            .map(|annex| Annex::new(annex).unwrap());
        let funding = [self.contract.funding()];
        let digest = cache.taproot_signature_hash(0, &Prevouts::All(&funding), annex, leaf, kind);
        let message = Message::from_digest(digest.unwrap().to_byte_array());
        let pair = Keypair::from_seckey_slice(&secp, &self.signer).unwrap();
        let signature = secp.sign_schnorr_no_aux_rand(&message, &pair);
        let flag: &[u8] = if self.flag == 0 { &[] } else { &[self.flag] };
        [&signature.serialize()[..], flag].concat()
    }
}

/// The channel with one of its fields another.
fn other(channel: &Channel, change: impl FnOnce(&mut Fields)) -> Contract {
    let of = &channel.contract;
    let output = of.output();
    let mut fields = Fields {
        outpoint: of.outpoint(),
        value: VALUE,
        payer: *output.payer(),
        payee: *output.payee(),
        expiry: output.expiry(),
        change: of.change_script().clone(),
    };
    change(&mut fields);
    let kind = output.output_type();
    let output = FundingOutput::new(kind, fields.payer, fields.payee, fields.expiry).unwrap();
    Contract::new(
        of.network(),
        output,
        fields.outpoint,
        sat(fields.value),
        sat(RESERVE),
        fields.change,
    )
    .unwrap()
}

struct Fields {
    outpoint: OutPoint,
    value: u64,
    payer: bitcoin::secp256k1::PublicKey,
    payee: bitcoin::secp256k1::PublicKey,
    expiry: u32,
    change: bitcoin::ScriptBuf,
}

/// What the payer would sign, but with an annex under it.
pub(crate) fn over_an_annex(contract: &Contract, payer: &ChannelSecret, paid: Amount) -> Vec<u8> {
    let over = Over {
        tx: contract.update_tx(paid).unwrap(),
        contract: contract.clone(),
        signer: payer.dangerous_bytes(),
        flag: SINGLE,
        annex: Some(ANNEX.to_vec()),
        separator: u32::MAX,
        key_path: false,
        said: Value::Null,
    };
    over.sign()
}

/// Good signatures, each over one thing that is another.
fn over(channel: &Channel) -> Vec<(&'static str, Over)> {
    let contract = &channel.contract;
    let stranger = Channel::new(
        contract.output().output_type(),
        9,
        contract.output().expiry(),
    );
    let txid = Txid::from_byte_array([0xee; 32]);
    let expiry = contract.output().expiry() + 1;
    let (vout, payee) = (contract.outpoint().vout + 1, stranger.payee.public());
    let payer = stranger.payer.public();
    let new = |change: &dyn Fn(&mut Fields), said| Over::new(channel, other(channel, change), said);
    let plain = |said| Over::new(channel, contract.clone(), said);
    let mut all = vec![
        (
            "another output of that transaction",
            new(&|of| of.outpoint.vout = vout, json!({"vout": vout})),
        ),
        (
            "another transaction",
            new(
                &|of| of.outpoint.txid = txid,
                json!({"txid": "ee".repeat(32)}),
            ),
        ),
        (
            "another value of the output",
            new(&|of| of.value += 1, json!({"value": VALUE + 1})),
        ),
        (
            "a script with another expiry",
            new(&|of| of.expiry = expiry, json!({"expiry": expiry})),
        ),
        (
            "a script with another payee",
            new(&|of| of.payee = payee, json!({"payee": payee.to_string()})),
        ),
        (
            "a script with another payer",
            new(&|of| of.payer = payer, json!({"payer": payer.to_string()})),
        ),
        (
            "a change to another script",
            new(
                &|of| of.change = home(9),
                json!({"change_script": home(9).to_hex_string()}),
            ),
        ),
    ];
    let mut tx = |name, said, change: &dyn Fn(&mut Transaction)| {
        let mut over = plain(said);
        change(&mut over.tx);
        all.push((name, over));
    };
    let change = VALUE - PAID + 1;
    tx(
        "a change of another value",
        json!({"change": change}),
        &|tx| tx.output[0].value = sat(change),
    );
    tx("another version", json!({"version": 2}), &|tx| {
        tx.version = Version::TWO
    });
    tx("a lock time", json!({"lock_time": expiry}), &|tx| {
        tx.lock_time = LockTime::from_consensus(expiry)
    });
    tx("another sequence", json!({"sequence": 0}), &|tx| {
        tx.input[0].sequence = Sequence::ZERO
    });
    for (name, signer) in [
        ("the payee's signature", &channel.payee),
        ("a stranger's signature", &stranger.payer),
    ] {
        let mut over = plain(json!({"signer": signer.public().to_string()}));
        over.signer = signer.dangerous_bytes();
        all.push((name, over));
    }
    let taproot = contract.output().output_type() == OutputType::Taproot;
    let flags = [0x01, 0x02, 0x03, 0x81, 0x82, 0x00];
    for flag in flags.into_iter().take(if taproot { 6 } else { 5 }) {
        let mut over = plain(json!({"flag": flag}));
        over.flag = flag;
        all.push(("signed under another sighash type", over));
    }
    if taproot {
        let mut over = plain(json!({"annex": ANNEX.to_lower_hex_string()}));
        over.annex = Some(ANNEX.to_vec());
        all.push(("an annex", over));
        let mut over = plain(json!({"separator": 0}));
        over.separator = 0;
        all.push(("a code separator", over));
        let mut over = plain(json!({"key_path": true}));
        over.key_path = true;
        all.push(("the key path", over));
    }
    all
}

/// A signature of P2WSH with S above half of the order. Source: BIP 62, rule 5; BIP 146.
fn high_s(good: &[u8]) -> Vec<u8> {
    let (flag, der) = good.split_last().unwrap();
    let compact = ecdsa::Signature::from_der(der).unwrap().serialize_compact();
    let s = SecretKey::from_slice(&compact[32..]).unwrap().negate();
    let s = s.secret_bytes();
    let compact: Vec<u8> = compact[..32].iter().chain(&s).copied().collect();
    let high = ecdsa::Signature::from_compact(&compact).unwrap();
    [&high.serialize_der()[..], &[*flag]].concat()
}

/// The same number with a zero in front of R. Source: BIP 66.
fn padded(good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    bytes[1] += 1;
    bytes[3] += 1;
    bytes.insert(4, 0);
    bytes
}

/// Bytes that are no signature, or not for this amount.
fn plain(channel: &Channel) -> Vec<(&'static str, u64, Vec<u8>)> {
    let sign = |paid| {
        channel
            .contract
            .sign_update(&channel.payer, sat(paid))
            .unwrap()
            .to_bytes()
    };
    let good = sign(PAID);
    let last = good.len() - 1;
    let changed = |at: usize, with: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= with;
        bytes
    };
    let mut cases = vec![
        ("another amount", PAID + 1, good.clone()),
        ("more than there is", VALUE + 1, good.clone()),
        ("change that is dust", VALUE - 1, good.clone()),
        ("the reserve alone", RESERVE, good.clone()),
        ("less than the reserve", RESERVE - 1, good.clone()),
        ("a changed signature", PAID, changed(last - 1, 1)),
        ("a signature without its type", PAID, good[..last].to_vec()),
        ("nothing", PAID, Vec::new()),
        (
            "a byte too many",
            PAID,
            [good.as_slice(), &[SINGLE]].concat(),
        ),
        ("fully spent under SINGLE", VALUE, good.clone()),
        ("a change under NONE", PAID, sign(VALUE)),
    ];
    for flag in [0x00, 0x01, 0x02, 0x03, 0x04, 0x81, 0x82, 0xff] {
        cases.push((
            "another sighash type",
            PAID,
            [&good[..last], &[flag]].concat(),
        ));
    }
    if channel.contract.output().output_type() == OutputType::Wsh {
        cases.push(("a high S", PAID, high_s(&good)));
        cases.push(("a number with padding", PAID, padded(&good)));
    } else {
        cases.push((
            "R beyond the field",
            PAID,
            [&[0xff; 32], &good[32..]].concat(),
        ));
        cases.push((
            "S beyond the order",
            PAID,
            [&good[..32], &[0xff; 32], &[SINGLE]].concat(),
        ));
    }
    cases
}

/// For each of these channels.
pub(crate) fn cases(channels: &[&Channel]) -> Vec<Value> {
    let mut all = Vec::new();
    for channel in channels {
        let case = |name: &str, paid: u64, bytes: &[u8]| {
            let refusal = channel
                .contract
                .verify_update(bytes, sat(paid))
                .unwrap_err();
            json!({
                "name": name,
                "channel": channel.number,
                "paid": paid,
                "signature": bytes.to_lower_hex_string(),
                "error": format!("{refusal:?}"),
            })
        };
        for (name, paid, bytes) in plain(channel) {
            all.push(case(name, paid, &bytes));
        }
        for (name, over) in over(channel) {
            let mut value = case(name, PAID, &over.sign());
            value["over"] = over.said;
            all.push(value);
        }
    }
    all
}
