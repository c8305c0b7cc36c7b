//! Closes of both types, weighed by hand: every byte of the serialised transaction is counted once.

use bitcoin::Witness;
use bitcoin::consensus::serialize;

use super::*;

/// Version, both counts and lock time; marker and flag of the witness.
const HEAD: usize = 4 * (4 + 1 + 1 + 4) + 2;
/// An output to P2TR: value, length, script.
const OUTPUT: usize = 4 * (8 + 1 + 34);
/// Outpoint, empty script, sequence.
const INPUT: usize = 4 * (36 + 1 + 4);
/// `CHECKSIG NOTIF <T> CHECKLOCKTIMEVERIFY VERIFY ENDIF` and `CHECKSIG`, with a height of three bytes.
const OPERATIONS: usize = 2 + 4 + 3 + 1;

/// The weight of a channel's witness: a count, and each element with its length.
const fn witness(kind: OutputType) -> usize {
    let (payer, payee, script, control) = match kind {
        // The payee's signature is of the default type. The leaf is alone: its control block is short.
        OutputType::Taproot => (64 + 1, 64, 2 * 33 + OPERATIONS, 1 + 33),
        // DER of two numbers of 32 bytes, and the type.
        OutputType::Wsh => (70 + 1, 70 + 1, 2 * 34 + OPERATIONS, 0),
    };
    1 + (1 + payer) + (1 + payee) + (1 + script) + control
}

/// Virtual bytes of a close of `count` channels of which so many are fully spent.
const fn by_hand(kind: OutputType, count: usize, spent: usize) -> usize {
    let channels = count * (INPUT + witness(kind)) + (count - spent) * OUTPUT;
    (HEAD + channels + OUTPUT).div_ceil(4)
}

/// The size of the bytes that are broadcast. Source: BIP 141.
fn serialised(tx: &Transaction) -> usize {
    let mut stripped = tx.clone();
    for input in &mut stripped.input {
        input.witness = Witness::new();
    }
    (3 * serialize(&stripped).len() + serialize(tx).len()).div_ceil(4)
}

#[test]
fn batches_of_both_types_are_as_large_as_their_parts() {
    for kind in BOTH {
        let all: Vec<Fixture> = (0..68).map(|number| fixture(kind, number)).collect();
        for count in [1, 2, 10, 50, 68] {
            for every in [1, 2, 100] {
                // Every so many channels one is fully spent.
                let paid = |at: usize| {
                    if (at + 1).is_multiple_of(every) {
                        VALUE
                    } else {
                        50_000
                    }
                };
                let some = all.iter().take(count).enumerate();
                let some: Vec<_> = some.map(|(at, of)| (of, paid(at))).collect();
                let tx = close(&some, 3).unwrap();
                let (found, expected) = (serialised(&tx), by_hand(kind, count, count / every));
                // A number of a DER signature is shorter than 32 bytes once in 128.
                assert!(
                    found.abs_diff(expected) <= 2,
                    "{kind:?} {count}: {found}, {expected}"
                );
                let of: Vec<&Fixture> = all.iter().collect();
                let spent = spent(&tx, &of)
                    .iter()
                    .map(|of| of.value.to_sat())
                    .sum::<u64>();
                let out = tx.output.iter().map(|of| of.value.to_sat()).sum::<u64>();
                // The fee is for what it may come to at most.
                let paid_for = usize::try_from((spent - out) / 3).unwrap();
                assert!(
                    (found..=found + 2).contains(&paid_for),
                    "{paid_for} {found}"
                );
            }
        }
    }
}

/// What is written down: the specification's table, and 145.8 vB for each of 50 Taproot channels.
#[test]
fn sizes_by_hand_are_those_that_are_written_down() {
    for (kind, one, of_ten, of_fifty) in [
        (OutputType::Taproot, 199, 1_501, 7_291),
        (OutputType::Wsh, 194, 1_454, 7_054),
    ] {
        assert_eq!(by_hand(kind, 1, 0), one);
        assert_eq!(by_hand(kind, 10, 0), of_ten);
        assert_eq!(by_hand(kind, 50, 0), of_fifty);
    }
}
