//! Records as both machines write them, and sessions for the corpus.

use std::collections::BTreeMap;

use bytes::Bytes;
use streampay_core::session::{
    ChannelIdentity, Entropy, Input, LinkEvent, Output, PayeeConfig, PayeeSession, PayerConfig,
    PayerSession, Policy, SecretKey,
};
use streampay_core::store::{ChangeSet, fixed_key, session_key};
use streampay_core::units::{Msat, Now, Unix};
use streampay_core::wire::Terms;

const NOW: Now = Now {
    mono: streampay_core::units::Mono(0),
    unix: Unix(1_700_000_000),
};

#[derive(Default)]
struct Disk(BTreeMap<Vec<u8>, Vec<u8>>);

impl Disk {
    fn append(&mut self, set: &ChangeSet) {
        for change in set.changes() {
            if let Some(value) = &change.value {
                self.0.insert(change.key.to_vec(), value.clone());
            }
        }
    }
}

/// The records of a payer and of a payee that have just been bound.
pub(crate) fn records(terms: Terms, key: impl Fn(&str) -> SecretKey) -> [Vec<u8>; 2] {
    let policy = Policy {
        budget: Msat::MAX,
        max_purse: Msat::MAX,
        max_tariff: terms.tariff,
        max_tick: Msat::MAX,
        methods: vec!["fake".into()],
        stall_close_ms: 60_000,
    };
    let payer = PayerConfig {
        identity: key("payer"),
        payee: terms.payee,
        policy,
    };
    let payee = PayeeConfig {
        identity: key("payee"),
        preview_left: terms.preview,
        terms: terms.into(),
        unpaid_ms: 30_000,
    };
    let mut payer = PayerSession::new(payer, &Entropy([2; 32])).unwrap();
    let mut payee = PayeeSession::new(payee, &Entropy([3; 32])).unwrap();
    let identity = ChannelIdentity {
        payer: [4; 32],
        payee: [5; 32],
    };
    let up = |byte| {
        let entropy = Entropy([byte; 32]);
        Input::Link(LinkEvent::Up { identity, entropy })
    };
    payer.handle(NOW, up(6)).unwrap();
    payee.handle(NOW, up(7)).unwrap();
    let (mut payers, mut payees) = (Disk::default(), Disk::default());
    for _ in 0..4 {
        let to_payee = drain(|| payer.poll_output(), &mut payers);
        for message in to_payee {
            payee.handle(NOW, Input::Received(message)).unwrap();
        }
        let to_payer = drain(|| payee.poll_output(), &mut payees);
        for message in to_payer {
            payer.handle(NOW, Input::Received(message)).unwrap();
        }
    }
    let session = payer.session();
    [payers, payees].map(|disk| {
        let [fixed, rest] = [fixed_key(session), session_key(session)].map(|key| &disk.0[&key]);
        let length = u16::try_from(fixed.len()).unwrap();
        [&length.to_be_bytes(), fixed.as_slice(), rest].concat()
    })
}

fn drain(mut next: impl FnMut() -> Option<Output>, disk: &mut Disk) -> Vec<Bytes> {
    let mut sent = Vec::new();
    while let Some(output) = next() {
        match output {
            Output::Persist(changes) => disk.append(&changes),
            Output::Send(bytes) => sent.push(bytes),
            _ => {}
        }
    }
    sent
}
