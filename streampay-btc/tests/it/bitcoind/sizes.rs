//! What closes and refunds weigh on a real bitcoind, against the specification's table. Spec: bitcoin
//! 5.3, with changes, refund and payout to P2TR.

use bitcoin::{WitnessProgram, WitnessVersion};
use streampay_btc::script::OutputType;

use super::*;

/// Any key will do: nobody spends from here.
pub(super) fn p2tr(number: u8) -> ScriptBuf {
    let program = WitnessProgram::new(WitnessVersion::V1, &[number; 32]).unwrap();
    ScriptBuf::new_witness_program(&program)
}

pub(super) fn to_p2tr(number: u8, kind: OutputType) -> ChannelConfig {
    let mut config = sim_config(number);
    config.payee.reserve = PayeePolicy::reserve_at(FeeRate::from_sat_per_vb_u32(10));
    config.payee.types = vec![kind];
    (config.payer.home, config.payee.payout) = (p2tr(number), p2tr(number));
    config
}

fn sides(node: &Arc<Node>, kind: OutputType) -> Two {
    Two {
        payer: Party::with(node, 1, to_p2tr(1, kind)),
        payee: Party::with(node, 2, to_p2tr(2, kind)),
        node: Arc::clone(node),
    }
}

#[tokio::test]
async fn a_close_and_a_refund_are_of_the_size_in_the_specification_on_bitcoind() {
    for (kind, of_close, of_refund) in
        [(OutputType::Taproot, 199, 139), (OutputType::Wsh, 194, 133)]
    {
        let Some(node) = node().await else { return };
        let mut two = sides(&node, kind);
        let (closed, refunded) = (key(0), key(1));
        two.open(closed).await;
        two.tick(closed, 1).await;
        two.open(refunded).await;
        two.payee
            .ask(
                closed,
                Request::Settle {
                    cumulative: Msat::ZERO,
                },
            )
            .await;
        let size = two.waits(closed).await.1;
        assert!(size.abs_diff(of_close) <= 2, "{kind:?} {size}");
        two.mine(6).await;
        let left = two.payer.report(refunded).expiry - two.node.core.view(&[]).await.unwrap().tip;
        two.node.mine_new(left).await;
        two.payer.runner.sync().await.unwrap();
        let size = two.waits(refunded).await.1;
        assert!(size.abs_diff(of_refund) <= 2, "{kind:?} {size}");
    }
}

/// What each of several channels adds, beside the payout and what every transaction has.
#[tokio::test]
async fn each_of_fifty_weighs_what_the_specification_says_on_bitcoind() {
    let Some(node) = node().await else { return };
    let mut two = sides(&node, OutputType::Taproot);
    for (count, first) in [(10, 0), (50, 10)] {
        let all = first..first + count;
        for number in all.clone() {
            two.open(key(number)).await;
            two.tick(key(number), 1).await;
        }
        two.settle_all(all).await;
        let size = two.waits(key(first)).await.1;
        // 10.5 and 43 vB once; 144.5 for each, and 0.25 more where the expiry takes three bytes.
        let expected = (107 + 289 * u64::from(count)) / 2;
        assert!(size.abs_diff(expected) <= 2, "{size}");
        if count == 50 {
            assert!((size / 50).abs_diff(146) <= 2, "{size}");
        }
        two.mine(7).await;
    }
}
