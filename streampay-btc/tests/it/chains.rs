//! One suite over every chain source.

use async_trait::async_trait;
use bitcoin::{Amount, FeeRate, Network, OutPoint, Script, Transaction};
use streampay_btc::chain::{ChainError, ChainSource, Esplora, Watch};
use streampay_btc::sim::{ChainLab, SimChain, conforms, home};

use super::core::{Lab, spoiler};
use super::esplora;

fn low() -> FeeRate {
    FeeRate::from_sat_per_vb_u32(1)
}

#[tokio::test]
async fn simulated_chain_conforms() {
    assert_eq!(conforms(&SimChain::new()).await, Ok(()));
}

struct Facade {
    chain: SimChain,
    source: Esplora,
}

#[async_trait]
impl ChainLab for Facade {
    fn source(&self) -> &dyn ChainSource {
        &self.source
    }

    async fn pay(&self, script: &Script, value: Amount) -> OutPoint {
        self.chain.pay(script, value).unwrap()
    }

    async fn pay_after(&self, script: &Script, value: Amount) -> OutPoint {
        self.chain.pay_after(script, value).unwrap()
    }

    async fn unpaid(&self, script: &Script, value: Amount) -> Transaction {
        self.chain.unpaid(script, value)
    }

    async fn mine(&self, blocks: u32) {
        self.chain.mine(blocks);
    }

    async fn reorganise(&self, depth: u32) {
        self.chain.reorganise(depth, &[]);
    }
}

#[tokio::test]
async fn esplora_conforms() {
    let chain = SimChain::new();
    let url = esplora::serve(chain.clone(), Network::Regtest).await;
    let source = Esplora::new(&url, Network::Regtest, low(), low());
    assert_eq!(conforms(&Facade { chain, source }).await, Ok(()));
}

/// Blocks come one after another; a look that one of them spoils is done again.
#[tokio::test]
async fn look_that_a_block_spoils_is_done_again() {
    for (blocks, sees) in [(0, true), (2, true), (3, false)] {
        let chain = SimChain::new();
        let spoil = spoiler(chain.clone(), blocks);
        let heard = move |path: &str| {
            if path.ends_with("fee-estimates") {
                spoil();
            }
        };
        let url = esplora::serve_heard(chain.clone(), Network::Regtest, heard).await;
        let esplora = Esplora::new(&url, Network::Regtest, low(), low());
        let node = Lab::spoiled(blocks).await;
        let looks = [
            (esplora.view(&[]).await, chain.tip()),
            (node.source.view(&[]).await, node.chain.tip()),
        ];
        for (view, tip) in looks {
            match view {
                Ok(view) => assert!(sees && view.tip == tip, "{blocks}: {view:?}"),
                Err(ChainError::Away(_)) => assert!(!sees, "{blocks}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Whoever funds a channel out of ever so many transactions costs no call for each: that one has to be in
/// a block.
#[tokio::test]
async fn esplora_is_not_asked_about_ever_so_many_ancestors() {
    let chain = SimChain::new();
    let url = esplora::serve(chain.clone(), Network::Regtest).await;
    let source = Esplora::new(&url, Network::Regtest, low(), low());
    let mut outpoint = chain.pay(&home(1), Amount::from_sat(50_000)).unwrap();
    for inputs in 1..=20 {
        let watch = Watch {
            outpoint,
            script: home(1),
            since: 0,
        };
        let (_, seen) = source.output(&watch).await.unwrap();
        let parent = seen.unwrap().parent.map(|of| of.tx.input.len());
        assert_eq!(parent, (inputs <= 16).then_some(inputs));
        outpoint = chain.bump(outpoint).unwrap();
    }
}

/// A server from before packages: what each transaction by itself comes to is said, and no more.
#[tokio::test]
async fn esplora_without_packages_says_so() {
    let chain = SimChain::new();
    let url = esplora::serve_without_packages(chain.clone(), Network::Regtest).await;
    let source = Esplora::new(&url, Network::Regtest, low(), low());
    let value = Amount::from_sat(50_000);
    let parent = chain.unpaid(&home(1), value);
    match source
        .broadcast_package(std::slice::from_ref(&parent))
        .await
    {
        Err(ChainError::Refused(why)) => {
            assert!(
                why.contains("404") && why.contains("min relay fee"),
                "{why}"
            );
        }
        other => panic!("{other:?}"),
    }
    let outpoint = chain.pay(&home(1), value).unwrap();
    let (paid, _) = chain.transaction(outpoint.txid).unwrap();
    assert_eq!(source.broadcast_package(&[paid]).await, Ok(()));
}

#[tokio::test]
async fn source_on_another_network_or_away_is_told_apart() {
    let chain = SimChain::new();
    let url = esplora::serve(chain.clone(), Network::Signet).await;
    let source = Esplora::new(&url, Network::Regtest, low(), low());
    assert_eq!(source.view(&[]).await, Err(ChainError::Network));
    let source = Esplora::new(&url, Network::Signet, low(), low());
    assert!(source.view(&[]).await.is_ok());
    chain.set_away(true);
    assert!(matches!(source.view(&[]).await, Err(ChainError::Away(_))));
    let nobody = Esplora::new("http://127.0.0.1:1", Network::Regtest, low(), low());
    assert!(matches!(nobody.view(&[]).await, Err(ChainError::Away(_))));
}
