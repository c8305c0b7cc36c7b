//! A node that has not kept all blocks.

use super::*;

/// A coin of the faucet's, and the transaction that spends it, in the next block.
async fn spent(node: &Node) -> Watch {
    let (to, value, fee) = (home(5), Amount::from_sat(10_000), Amount::from_sat(1_000));
    let tx = node.payment(&to, value, fee).await;
    node.core.broadcast(&tx).await.unwrap();
    node.mine_new(1).await;
    Watch {
        outpoint: tx.input[0].previous_output,
        script: anyone().to_p2wsh(),
        since: 1,
    }
}

/// The watch began in blocks that the node has pruned. What is spent in one that it has is found, and
/// of what may be spent in one that it has not, nothing is said.
#[tokio::test]
async fn a_pruned_bitcoind_says_what_it_still_knows() {
    let Some(node) = node_with(&["-prune=1", "-fastprune"]).await else {
        return;
    };
    let early = spent(&node).await;
    node.mine_new(400).await;
    let late = spent(&node).await;
    node.rpc("pruneblockchain", json!([300])).await;
    let info = node.rpc("getblockchaininfo", json!([])).await;
    let kept = info.get("pruneheight").and_then(Value::as_u64).unwrap();
    assert!(kept > 201, "{info}");
    let watches = [early, late];
    // One look reads some of the blocks, the next one the others.
    let first = node.core.view(&watches).await.unwrap();
    assert!(first.outputs.is_empty());
    let view = node.core.view(&watches).await.unwrap();
    let [state] = view.outputs.as_slice() else {
        panic!("{:?}", view.outputs);
    };
    assert_eq!(state.outpoint, watches[1].outpoint);
    let spend = state.seen.as_ref().unwrap().spend.as_ref().unwrap();
    assert_eq!(spend.height, Some(view.tip));
}

/// What was paid in a block that the node has pruned is found all the same, and what is paid later.
#[tokio::test]
async fn a_pruned_bitcoind_finds_what_was_paid_to_a_script() {
    let Some(node) = node_with(&["-prune=1", "-fastprune"]).await else {
        return;
    };
    let (script, value) = (home(6), Amount::from_sat(10_000));
    let early = node.fund(&script, value).await;
    node.mine_new(400).await;
    node.rpc("pruneblockchain", json!([300])).await;
    let found = async || {
        let coins = node.core.coins(&script, 1).await.unwrap();
        coins.iter().map(|coin| coin.outpoint).collect::<Vec<_>>()
    };
    assert_eq!(found().await, [early]);
    let late = node.fund(&script, value).await;
    node.mine_new(1).await;
    assert_eq!(found().await, [early, late]);
}

/// Outputs that were spent while nobody looked: one look over the blocks is enough for all of them.
#[tokio::test]
async fn spends_of_many_outputs_are_found_together() {
    let Some(node) = node().await else { return };
    let mut watches = Vec::new();
    for _ in 0..8 {
        watches.push(spent(&node).await);
    }
    let tip = node.core.view(&[]).await.unwrap().tip;
    let expected: Vec<_> = (tip - 7..=tip).map(|height| Some(Some(height))).collect();
    assert_eq!(spends(&node, &watches).await, expected);
    node.reorganise(2).await;
    // What the last two blocks held waits again.
    let [kept @ .., seventh, eighth] = &spends(&node, &watches).await[..] else {
        panic!("too few");
    };
    assert_eq!(kept, &expected[..6]);
    assert_eq!((seventh, eighth), (&Some(None), &Some(None)));
}

/// Whether each is spent, and the block where one is.
async fn spends(node: &Node, watches: &[Watch]) -> Vec<Option<Option<u32>>> {
    let view = node.core.view(watches).await.unwrap();
    let spend = |watch: &Watch| {
        let mut outputs = view.outputs.iter();
        let state = outputs.find(|state| state.outpoint == watch.outpoint)?;
        Some(state.seen.as_ref()?.spend.as_ref()?.height)
    };
    watches.iter().map(spend).collect()
}
