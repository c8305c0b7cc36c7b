use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::{Block, CompactTarget, Transaction, TxMerkleNode, TxOut, absolute, transaction};

use super::searches::{FOUND_MAX, IDLE_TIPS, SEARCHES_MAX};
use super::*;

fn found(byte: u8, height: Option<u32>) -> Found {
    Found {
        outpoint: OutPoint::new(Txid::from_byte_array([byte; 32]), 0),
        value: Amount::from_sat(1),
        height,
    }
}

fn script(number: usize) -> ScriptBuf {
    ScriptBuf::from_bytes(number.to_be_bytes().into())
}

fn key(number: usize) -> Key {
    (script(number), None)
}

fn hash(number: u8) -> BlockHash {
    BlockHash::from_byte_array([number; 32])
}

/// A transaction that pays these satoshi to these scripts; `lock` makes it another one.
fn paying(lock: u32, outputs: &[(usize, u64)]) -> Transaction {
    let output = |(number, sat): &(usize, u64)| TxOut {
        value: Amount::from_sat(*sat),
        script_pubkey: script(*number),
    };
    Transaction {
        version: transaction::Version(2),
        lock_time: absolute::LockTime::from_consensus(lock),
        input: Vec::new(),
        output: outputs.iter().map(output).collect(),
    }
}

fn block_after(before: BlockHash, txdata: Vec<Transaction>) -> Block {
    Block {
        header: Header {
            version: Version::TWO,
            prev_blockhash: before,
            merkle_root: TxMerkleNode::all_zeros(),
            time: 0,
            bits: CompactTarget::default(),
            nonce: 0,
        },
        txdata,
    }
}

fn values(search: &Search) -> Vec<u64> {
    let all = search.found.iter();
    all.map(|found| found.value.to_sat()).collect()
}

/// With as many as there may be, all others go on, each from where it is.
#[test]
fn search_that_was_asked_for_longest_ago_makes_room_and_no_other() {
    let mut searches = Searches::default();
    let known = |searches: &mut Searches, number| searches.begun(&key(number)).upto.is_some();
    for number in 0..SEARCHES_MAX {
        searches.begun(&key(number)).upto = Some((7, hash(7)));
    }
    assert!(known(&mut searches, 0));
    assert!(!known(&mut searches, SEARCHES_MAX));
    assert_eq!(searches.len(), SEARCHES_MAX);
    assert!((2..SEARCHES_MAX).all(|number| known(&mut searches, number)));
    assert!(known(&mut searches, 0));
    assert!(!known(&mut searches, 1), "made room");
}

/// As of a channel that is settled: nobody asks for it at any block that comes.
#[test]
fn search_that_nobody_asks_for_any_more_is_let_go() {
    let mut searches = Searches::default();
    let read = Some((7, hash(7)));
    for number in 0..100 {
        searches.begun(&key(number)).upto = read;
    }
    // One script, another value: a search of its own.
    let other = (script(1), Some(Amount::from_sat(5)));
    for tip in 1..=u8::try_from(IDLE_TIPS).unwrap() {
        searches.see(hash(tip));
        // Looked at again: the block is the same.
        searches.see(hash(tip));
        searches.begun(&key(3));
        searches.begun(&other);
        assert_eq!(searches.len(), 101, "after {tip} blocks");
    }
    searches.see(hash(99));
    assert_eq!(searches.len(), 2);
    assert_eq!(searches.begun(&key(3)).upto, read, "goes on");
    assert_eq!(searches.begun(&key(4)).upto, None, "let go");
    assert_eq!(searches.begun(&key(1)).upto, None, "let go");
}

/// A machine that slept sees many blocks at once, and has missed one look.
#[test]
fn blocks_that_came_together_let_no_search_go() {
    let mut searches = Searches::default();
    searches.see(hash(1));
    searches.begun(&key(0)).upto = Some((1, hash(1)));
    searches.see(hash(200));
    assert_eq!(searches.len(), 1);
}

#[test]
fn block_is_read_once_for_all_that_stand_before_it() {
    let mut searches = Searches::default();
    let exact = (script(1), Some(Amount::from_sat(5)));
    for key in [&key(1), &exact, &key(2)] {
        searches.begun(key).upto = Some((7, hash(7)));
    }
    // This one stands elsewhere, and this on another branch.
    searches.begun(&key(3)).upto = Some((6, hash(6)));
    searches.begun(&key(4)).upto = Some((7, hash(77)));
    // This one is asked for: it begins here.
    let asked = key(5);
    searches.begun(&asked);
    let all: Vec<(usize, u64)> = (0..=6).map(|number| (number, 5)).collect();
    let block = block_after(hash(7), vec![paying(0, &all), paying(1, &[(1, 6)])]);
    let at = (8, BlockHash::from_byte_array([8; 32]));
    searches.take(&asked, at, &block);
    for (key, found, upto) in [
        (key(1), vec![5, 6], at),
        (exact, vec![5], at),
        (key(2), vec![5], at),
        (key(3), vec![], (6, hash(6))),
        (key(4), vec![], (7, hash(77))),
        (asked, vec![5], at),
    ] {
        let search = searches.begun(&key);
        assert_eq!(
            (values(search), search.upto),
            (found, Some(upto)),
            "{key:?}"
        );
    }
    let outpoint = OutPoint::new(block.txdata[0].compute_txid(), 2);
    let search = searches.begun(&key(2));
    assert_eq!(search.found[0].outpoint, outpoint);
    assert_eq!(search.found[0].height, Some(8));
}

/// Whoever knows an address can pay to it for ever; each output costs a call at every block.
#[test]
fn largest_outputs_of_a_script_are_kept() {
    let mut searches = Searches::default();
    let asked = key(1);
    let small: Vec<(usize, u64)> = (0..FOUND_MAX + 100).map(|_| (1, 1)).collect();
    let block = block_after(hash(0), vec![paying(0, &small), paying(1, &[(1, 9)])]);
    searches.take(&asked, (1, hash(1)), &block);
    assert_eq!(searches.len(), 0, "nobody asked");
    searches.begun(&asked);
    searches.take(&asked, (1, hash(1)), &block);
    let search = searches.begun(&asked);
    assert_eq!(search.found.len(), FOUND_MAX);
    assert_eq!(values(search).last(), Some(&9));
    assert_eq!(search.found[0].outpoint.vout, 0, "of one value the oldest");
}

#[test]
fn what_waits_is_known_by_its_script_and_value_while_it_waits() {
    let mut waiting = Waiting::default();
    let txs = [
        paying(0, &[(1, 5), (2, 5), (1, 5)]),
        paying(1, &[(1, 5), (1, 6)]),
    ];
    txs.iter().for_each(|tx| waiting.take(tx));
    let of = |waiting: &Waiting, number, sat| {
        let all = waiting.paying(&script(number), Amount::from_sat(sat));
        let mut all: Vec<OutPoint> = all.into_iter().map(|found| found.outpoint).collect();
        all.sort();
        all
    };
    let [first, second] = txs.each_ref().map(Transaction::compute_txid);
    let mut expected = [(first, 0), (first, 2), (second, 0)].map(|(of, at)| OutPoint::new(of, at));
    expected.sort();
    assert_eq!(of(&waiting, 1, 5), expected);
    assert_eq!(of(&waiting, 1, 6), [OutPoint::new(second, 1)]);
    assert_eq!(of(&waiting, 2, 5), [OutPoint::new(first, 1)]);
    assert!(of(&waiting, 2, 6).is_empty() && of(&waiting, 3, 5).is_empty());
    waiting.retain(&HashSet::from([second]));
    assert!(waiting.has(&second) && !waiting.has(&first));
    assert_eq!(of(&waiting, 1, 5), [OutPoint::new(second, 0)]);
    assert!(of(&waiting, 2, 5).is_empty());
}

/// A full mempool is read in parts: what is not read yet may be the payment.
#[test]
fn that_nobody_paid_is_said_once_all_that_waits_is_read() {
    let mut search = Search::default();
    let reading = |done| matches!(done, Err(ChainError::Reading(_)));
    assert!(reading(search.outputs(vec![], Ok(1))));
    assert!(search.outputs(vec![], Ok(0)).unwrap().is_empty());
    let waiting = vec![found(1, None)];
    assert_eq!(search.outputs(waiting.clone(), Ok(9)).unwrap().len(), 1);
    search.found.push(found(1, Some(7)));
    assert_eq!(search.outputs(waiting, Ok(9)).unwrap().len(), 1, "the same");
}
