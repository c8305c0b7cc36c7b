//! What is paid to a channel's address besides, on a real bitcoind.

use super::*;

/// A second payment and one of another value: both are told, open nothing, and come home after T.
#[tokio::test]
async fn what_is_paid_besides_is_told_and_comes_home_on_bitcoind() {
    let Some(node) = node().await else { return };
    let (payer, payee) = (Party::new(&node, 1), Party::new(&node, 2));
    let mut two = Two { node, payer, payee };
    let purse = key(0);
    two.open(purse).await;
    two.tick(purse, 1).await;
    let report = two.payer.report(purse);
    let script = report.address.clone().unwrap().script_pubkey();
    let less = report.value - Amount::from_sat(700);
    let second = two.node.fund(&script, report.value).await;
    let other = two.node.fund(&script, less).await;
    two.mine(1).await;
    let told = |two: &Two| {
        let news = two.payer.runner.news().into_iter();
        news.map(|(_, event)| event).collect::<Vec<_>>()
    };
    let news = told(&two);
    for (outpoint, value) in [(second, report.value), (other, less)] {
        let event = WatchEvent::PaidBesides { outpoint, value };
        assert!(news.contains(&event), "{news:?}");
    }
    // The channel itself goes on, and is closed.
    (two.tick(purse, 2)).await;
    two.payee
        .ask(
            purse,
            Request::Settle {
                cumulative: Msat::ZERO,
            },
        )
        .await;
    two.mine(7).await;
    assert_eq!(two.payer.report(purse).state, ChannelState::Settled);
    assert_eq!(two.payer.report(purse).besides_open(), report.value + less);
    two.payer.restart(&[purse]).await;
    let tip = two.node.core.view(&[]).await.unwrap().tip;
    two.node.mine_new(report.expiry - 1 - tip).await;
    two.payer.runner.sync().await.unwrap();
    let waiting = two.node.rpc("getrawmempool", json!([])).await;
    assert_eq!(waiting, json!([]), "nothing at T - 1");
    two.mine(8).await;
    let report = two.payer.report(purse);
    assert_eq!(report.besides_open(), Amount::ZERO);
    let news = told(&two);
    for of in &report.besides {
        let (outpoint, amount) = (of.outpoint, of.back.unwrap());
        assert!(amount + Amount::from_sat(5_000) > of.value, "{report:?}");
        assert!(news.contains(&WatchEvent::Returned { outpoint, amount }));
    }
}
