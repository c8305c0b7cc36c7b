//! What an attacker tries, one thing at a time: a refusal of its own each, and nothing is served.
//!
//! What was wrong with the channels of Streamium and bitcore-channel, and the tests that it is not with
//! these:
//!
//! | flaw | test |
//! |---|---|
//! | the payee signed any refund, blind | `tx::tests::refund_needs_no_signature_of_the_payee_and_no_blind_signing` |
//! | one key for all viewers | `keys::tests::no_two_channels_share_a_key` |
//! | value and script of the funding were the payer's word | `a_funding_of_another_value_is_refused`, `a_funding_of_another_script_is_refused`, `a_wrong_outpoint_is_never_served`, `a_funding_that_is_spent_is_refused` |
//! | media at first sight of the funding | `deep::confirmations_are_asked_for_by_value`, `pay::unconfirmed_funding_is_not_accepted_and_a_reorganised_one_stops_ticks` |
//! | nobody looked at the locktime, nothing closed before it | `a_channel_that_lives_too_short_or_too_long_is_refused`, `tx::tests::refund_before_expiry_or_with_a_final_sequence_is_refused`, `close::payee_closes_before_the_margin_ends_and_takes_no_tick_in_it` |
//! | a fixed fee, none for refunds | `close::fee_spike_is_followed_until_the_close_is_in_a_block`, `tx::tests::refund_needs_no_signature_of_the_payee_and_no_blind_signing`, `refund::false_estimate_burns_a_small_part_of_a_refund_and_is_told` |
//! | any error of a push was taken for success | `sim::conforms`, a broken transaction |
//! | state was lost with the page | `close::restarts_at_every_step_change_nothing`, `close::close_that_was_dropped_is_broadcast_again` |
//! | a reload was another channel, the old one's money locked; and a name with an underscore in it lost the refund | `it::session::both_sides_come_back_from_their_disks_in_the_middle` |
//! | nobody watched what spends the funding | `spend::spend_that_the_payer_never_signed_does_not_end_its_channel`, `close::close_that_was_dropped_is_broadcast_again` |
//! | the payer signed on while no media came | `it::session::payer_signs_for_no_more_than_a_tick_while_no_media_comes` |
//! | what nobody had foreseen in a message ended the program | `damage::damaged_openings_and_offers_end_well_and_small`, `damage::damaged_ticks_end_well_and_small` |
//! | a rest below a step was never used | `pay::channel_that_is_spent_to_the_end_needs_no_change`, `tx::tests::capacity_leaves_no_dust_at_any_tick` |
//! | a second or another payment to the address was nobody's | `besides::second_payment_is_told_and_comes_home_though_the_channel_was_closed`, `besides::payment_of_another_value_opens_nothing_and_comes_home` |
//!
//! What is wrong, and the test that it is refused by its reason and that nothing is served:
//!
//! | what | test |
//! |---|---|
//! | outpoint | `a_wrong_outpoint_is_never_served`, `candidates::output_index_beyond_what_nodes_read_is_malformed` |
//! | value, script | `a_funding_of_another_value_is_refused`, `a_funding_of_another_script_is_refused` |
//! | network | `an_offer_on_another_network_is_refused_by_both_sides` |
//! | sighash byte | `a_signature_that_is_none_of_this_channel_at_this_amount_is_refused_by_its_reason`, `tx::tests::signature_under_another_sighash_type_is_refused` |
//! | annex | `tx::tests::signature_over_an_annex_is_refused` |
//! | change within dust | `a_change_of_dust_cannot_be_signed_or_taken` |
//! | amount over capacity | `a_tick_beyond_capacity_is_refused_by_both_sides` |
//! | tick in the margin | `close::payee_closes_before_the_margin_ends_and_takes_no_tick_in_it` |
//! | tick after a broadcast | `pay::no_tick_after_a_broadcast` |
//! | unconfirmed or reorganised funding | `deep::confirmations_are_asked_for_by_value`, `pay::unconfirmed_funding_is_not_accepted_and_a_reorganised_one_stops_ticks` |

use bitcoin::{OutPoint, TxOut};

use super::*;
use crate::chain::Seen;
use crate::params::ParamFields;
use crate::sim::{Call, Called};
use crate::tx::{Contract, UpdateSignature};
use crate::wire::Opening;

/// The payee asked to accept, and what it answers where `lie` changes what its chain shows.
fn accept_where(rig: &mut Rig, lie: impl Fn(&mut Option<Seen>)) -> Option<Outcome> {
    let opened = rig.opened();
    let request = Request::Accept {
        offer: rig.offer(),
        opening: opened.opening.clone(),
    };
    let (now, purse) = (rig.payee.now, rig.purse);
    let machine = &mut rig.payee.machine;
    let answer = machine.request(now, purse, RequestId(1), request);
    let effect = answer.effects.first().unwrap();
    assert_eq!(Call::of(effect), Some(Call::Look));
    assert!(machine.watched().is_empty(), "it is looked at apart");
    let watch = machine.candidate(purse).unwrap();
    let mut view = rig.chain.look(core::slice::from_ref(&watch)).unwrap();
    lie(&mut view.outputs[0].seen);
    machine.show(purse, &watch, view.tip, view.outputs.remove(0).seen);
    machine.effect_done(now, Called::Looked.end(effect)).outcome
}

fn with(change: impl Fn(&mut Seen)) -> impl Fn(&mut Option<Seen>) {
    move |seen| change(seen.as_mut().unwrap())
}

#[test]
fn a_funding_of_another_value_is_refused() {
    for change in [-1_i64, 1] {
        let found = accept_where(
            &mut Rig::new(),
            with(|seen| {
                let value = seen.output.value.to_sat().checked_add_signed(change);
                seen.output.value = Amount::from_sat(value.unwrap());
            }),
        );
        assert_eq!(found, refusal(RefusalCode::WrongAmount));
    }
}

#[test]
fn a_funding_of_another_script_is_refused() {
    let other = with(|seen| {
        seen.output = TxOut {
            value: seen.output.value,
            script_pubkey: home(9),
        };
    });
    let found = accept_where(&mut Rig::new(), other);
    assert_eq!(found, refusal(RefusalCode::WrongLock));
}

#[test]
fn a_funding_that_is_spent_is_refused() {
    let mut rig = Rig::new();
    let opened = rig.opened();
    let left = rig.expiry() - rig.chain.tip();
    rig.chain.mine(left);
    rig.payer.look();
    rig.chain.mine(1);
    let spent = BackendError::Rejected(RefusalCode::AlreadySpent, Consumed::Yes);
    assert_eq!(rig.accept(&opened), Some(Outcome::Failed(spent)));
}

#[test]
fn a_reward_that_is_not_mature_is_not_accepted() {
    let found = accept_where(&mut Rig::new(), with(|seen| seen.coinbase = true));
    assert_eq!(found, LATER);
}

/// The opening is right in itself, and the output is not there.
#[test]
fn a_wrong_outpoint_is_never_served() {
    let mut rig = Rig::new();
    rig.opened();
    let contract = rig.contract(|_| {}, |outpoint| outpoint.vout += 1, |_| {});
    let opening = codec::encode(&Opening::new(rig.purse, &contract)).into();
    let request = Request::Accept {
        offer: rig.offer(),
        opening,
    };
    assert_eq!(rig.payee.request(rig.purse, request), LATER);
    let report = rig.payee.machine.report().remove(0);
    assert_ne!(report.state, ChannelState::Open);
}

/// Streamium: nobody looked at the locktime. Too short: the payer could take it back; too long: the
/// payee keeps it locked.
#[test]
fn a_channel_that_lives_too_short_or_too_long_is_refused() {
    for (change, good) in [(-325_i32, false), (0, true), (2_000, false)] {
        let mut rig = Rig::new();
        rig.opened();
        let contract = rig.contract(
            |expiry| *expiry = expiry.checked_add_signed(change).unwrap(),
            |_| {},
            |_| {},
        );
        let value = contract.value();
        let script = contract.output().script_pubkey();
        let outpoint = rig.chain.pay(&script, value).unwrap();
        rig.chain.mine(1);
        let contract = rig.contract(
            |expiry| *expiry = expiry.checked_add_signed(change).unwrap(),
            |place| *place = outpoint,
            |_| {},
        );
        let opening = codec::encode(&Opening::new(rig.purse, &contract)).into();
        let request = Request::Accept {
            offer: rig.offer(),
            opening,
        };
        let found = rig.payee.request(rig.purse, request);
        match good {
            true => assert!(matches!(found, Some(Outcome::Accepted { .. })), "{found:?}"),
            false => assert_eq!(found, refusal(RefusalCode::WrongLock), "{change}"),
        }
    }
}

#[test]
fn a_tick_beyond_capacity_is_refused_by_both_sides() {
    let mut rig = Rig::ready();
    rig.tick(1);
    let contract = rig.contract(|_| {}, |_| {}, |_| {});
    let capacity = contract.capacity(Amount::from_sat(STEP)).to_sat() / STEP;
    assert_eq!(rig.pay(capacity + 1), EMPTY);
    let payload = rig.payload(2);
    assert_eq!(
        rig.receive(capacity + 1, payload),
        refusal(RefusalCode::PurseEmpty)
    );
}

#[test]
fn a_signature_that_is_none_of_this_channel_at_this_amount_is_refused_by_its_reason() {
    let mut rig = Rig::ready();
    rig.tick(1);
    let good = rig.payload(2);
    let flag = |kind: u8| {
        let mut bytes = good.to_vec();
        bytes[64] = kind;
        Bytes::from(bytes)
    };
    let third = rig.payload(3);
    let cases = [
        (Bytes::new(), RefusalCode::Malformed),
        (good.slice(..64), RefusalCode::Malformed),
        (Bytes::from(vec![1; 74]), RefusalCode::Malformed),
        (flag(0x00), RefusalCode::WrongLock),
        (flag(0x01), RefusalCode::WrongLock),
        (flag(0x03), RefusalCode::WrongLock),
        (flag(0x81), RefusalCode::WrongLock),
        (flag(0x82), RefusalCode::WrongLock),
        (third, RefusalCode::BadProof),
    ];
    for (payload, code) in cases {
        assert_eq!(
            rig.receive(2, payload.clone()),
            refusal(code),
            "{payload:?}"
        );
        assert_eq!(
            rig.payee.machine.report()[0].paid.to_sat(),
            rig.reserve() + STEP
        );
    }
    assert_eq!(rig.receive(2, good), Some(Outcome::Credited));
}

/// One that a payer's own program would never make: it leaves dust, or pays nothing.
#[test]
fn a_change_of_dust_cannot_be_signed_or_taken() {
    let mut rig = Rig::ready();
    let contract = rig.contract(|_| {}, |_| {}, |_| {});
    let dust = contract.dust().to_sat();
    let value = contract.value().to_sat();
    let secret = NodeKeys::new(&Seed([PAYER; 32]), Network::Regtest).unwrap();
    let secret = secret.payer(rig.purse).unwrap();
    for paid in [value - 1, value - dust + 1] {
        let signed = contract.sign_update(&secret, Amount::from_sat(paid));
        assert_eq!(signed.err(), Some(crate::tx::Refusal::ChangeIsDust));
        let good = contract.sign_update(&secret, Amount::from_sat(value - dust));
        let payload: Bytes = good.as_ref().map(UpdateSignature::to_bytes).unwrap().into();
        let cumulative = sat(paid - rig.reserve());
        let request = Request::Receive {
            seq: Seq(1),
            amount: cumulative,
            cumulative,
            payload,
        };
        let found = rig.payee.request(rig.purse, request);
        assert_eq!(found, refusal(RefusalCode::WrongAmount), "{paid}");
    }
}

#[test]
fn an_offer_on_another_network_is_refused_by_both_sides() {
    let mut rig = Rig::new();
    let opened = rig.opened();
    let params = ChannelParams::decode(&rig.offer().params).unwrap();
    let elsewhere = ChannelParams::new(&ParamFields {
        network: Network::Signet,
        ..params
    });
    let offer = PurseOffer {
        params: elsewhere.unwrap().encode(),
        ..rig.offer()
    };
    let accept = Request::Accept {
        offer: offer.clone(),
        opening: opened.opening,
    };
    let found = rig.payee.request(rig.purse, accept);
    // The channel's id names the chain, so this one is none of that offer's.
    assert_eq!(found, refusal(RefusalCode::WrongSession), "payee");
    rig.purse = key(1);
    let open = Request::Open {
        offer,
        capacity: sat(100_000),
        budget: sat(100_000),
    };
    let found = rig.payer.request(rig.purse, open);
    let other = BackendError::Fatal(RefusalCode::NoCommonMethod);
    assert_eq!(found, Some(Outcome::Failed(other)), "payer");
}

/// A name in the tables above that is no test's says nothing.
#[test]
fn every_test_that_the_tables_name_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut text, mut folders) = (String::new(), vec![root.join("src"), root.join("tests")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let rows = include_str!("audit.rs").lines();
    let rows = rows.filter(|line| line.starts_with("//! |"));
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let mut count = 0;
    for name in names {
        let own = name.rsplit("::").next().unwrap();
        let test = text.contains(&format!("fn {own}()")) || name == "sim::conforms";
        assert!(test, "{name}");
        count += 1;
    }
    assert!(count > 25, "{count}");
}

impl Rig {
    /// The channel as this rig's terms make it, changed before it is agreed on.
    fn contract(
        &self,
        expiry: impl Fn(&mut u32),
        place: impl Fn(&mut OutPoint),
        terms: impl Fn(&mut ParamFields),
    ) -> Contract {
        let report = self.payer.machine.report().remove(0);
        let mut params = ChannelParams::decode(&self.offer().params).unwrap();
        terms(&mut params);
        let keys = NodeKeys::new(&Seed([PAYER; 32]), Network::Regtest).unwrap();
        let payer = keys.payer(self.purse).unwrap().public();
        let payee = params.payee.channel_key(&payer, self.purse).unwrap();
        let mut height = report.expiry;
        expiry(&mut height);
        let kind = *params.types.first().unwrap();
        let output = crate::script::FundingOutput::new(kind, payer, payee, height).unwrap();
        let mut outpoint = report.outpoint.unwrap();
        place(&mut outpoint);
        Contract::new(
            Network::Regtest,
            output,
            outpoint,
            report.value,
            params.reserve,
            home(PAYER),
        )
        .unwrap()
    }
}
