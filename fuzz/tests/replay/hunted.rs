//! The runner of the targets finds what is there to find.

use streampay_core::units::Msat;
use streampay_core::wire::{Message, decode};
use streampay_fuzz::hunt::{Until, hunt, save};

use super::inputs;

/// Breaks at what no input of the corpus is, and what takes two changes to one.
fn planted(bytes: &[u8]) {
    if let Ok(Some(Message::Tick(tick))) = decode(bytes) {
        assert!(
            tick.tips.is_none() || tick.cumulative != Msat::MAX,
            "planted"
        );
    }
}

fn seeds() -> Vec<Vec<u8>> {
    inputs("wire").into_iter().map(|(_, bytes)| bytes).collect()
}

#[test]
fn hunt_finds_a_planted_panic_and_saves_what_breaks_it() {
    let corpus = seeds();
    corpus.iter().for_each(|bytes| planted(bytes));
    let most = Until::Executions(400_000);
    // Which seed finds it hangs on the corpus.
    let (seed, hunted) = (1..=16)
        .map(|seed| (seed, hunt(planted, &corpus, seed, most)))
        .find(|(_, hunted)| hunted.broken.is_some())
        .expect("found");
    let broken = hunted.broken.expect("found");
    assert!(hunted.executions > u64::try_from(corpus.len()).unwrap());
    assert!(std::panic::catch_unwind(|| planted(&broken.input)).is_err());
    let folder = tempfile::tempdir().unwrap();
    let path = save(folder.path(), "wire", &broken.input).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), broken.input);
    // The same seed finds the same.
    let again = hunt(planted, &corpus, seed, most);
    assert_eq!(again.executions, hunted.executions);
    assert_eq!(again.broken.unwrap().input, broken.input);
}

#[test]
fn hunt_that_finds_nothing_has_tried_every_input_of_the_corpus() {
    let hunted = hunt(|_| {}, &seeds(), 1, Until::Executions(1));
    let corpus = u64::try_from(inputs("wire").len()).unwrap();
    assert!(hunted.broken.is_none());
    assert_eq!(hunted.executions, corpus);
}
