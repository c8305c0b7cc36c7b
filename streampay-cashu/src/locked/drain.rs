//! Bringing a run of locked proofs home, in swaps of bounded size and in ascending order.
//!
//! Ascending, for a witness is public at the mint (NUT-07): the preimage of a step would hand
//! whoever may sign every older one that is not spent in the same swap or before.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::chain::PROOFS_MAX;
use crate::fee::fee_of;

/// The most proofs in one swap. Chosen for mints that refuse long requests.
const BATCH_MAX: u64 = 200;

/// How many batches are asked for at once: as many outputs as the proofs of one batch. No more than that
/// many numbers in a row are of batches that were given up before the mint signed them.
pub(crate) const FIND_WINDOW: u64 = 6;
/// The most batches that one effect asks for; there is another where it did not come to the end.
pub(crate) const FIND_MAX: u64 = 16 * FIND_WINDOW;
/// No batch has a higher number: each takes a proof out of its purse at least, and a search leaves no more
/// than a window unused. A mint that claims to have signed more is not believed.
pub(crate) const FIND_LAST: u64 = PROOFS_MAX + FIND_WINDOW;

/// The first batch that is made without knowing what batches there are: no other has its number. There are
/// at most [`FIND_WINDOW`] of them, more than a purse has batches.
pub(crate) const BLIND: u64 = FIND_LAST + 1;

/// One swap, durable before it is asked for: the same inputs into the same outputs until its fate
/// is known.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Batch {
    /// Its outputs derive from this alone: no two batches of a purse share one, and whoever restored the
    /// purse from a backup can ask the mint for those that it does not know.
    #[n(0)]
    pub(crate) no: u64,
    #[n(1)]
    pub(crate) numbers: Vec<u64>,
    /// The keyset of its outputs.
    #[n(2)]
    pub(crate) keyset: ByteVec,
    /// What the outputs come to.
    #[n(3)]
    pub(crate) net: u64,
}

/// How far the proofs of one purse are home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Drain {
    /// Every proof below is home, or was found spent, or is worth less than its fee.
    #[n(0)]
    pub(crate) next: u64,
    /// Proofs from `next` on that somebody else spent.
    #[n(1)]
    pub(crate) spent: Vec<u64>,
    #[n(2)]
    pub(crate) batches: u64,
    #[n(3)]
    pub(crate) batch: Option<Batch>,
    /// The first batch of which the mint said that somebody else spent what went in. Should that be a
    /// mistake of its own, this and later ones are looked for again.
    #[n(4)]
    pub(crate) doubtful: Option<u64>,
    /// How many batches were made blindly.
    #[n(5)]
    pub(crate) blind: u64,
}

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// The first proof that is not to be brought home.
    pub(crate) until: u64,
    /// The fee of an input.
    pub(crate) ppk: u64,
    /// True where nothing may be left for a fuller batch.
    pub(crate) all: bool,
}

impl Drain {
    /// Begins the next batch; false where there is none to make, or one under way, or the numbers are used
    /// up: a mint that has had so many made anew is not asked further.
    pub(crate) fn begin(
        &mut self,
        cut: Cut,
        amount: impl Fn(u64) -> Option<u64>,
        keyset: &ByteVec,
    ) -> bool {
        let no = self.batches.saturating_add(1);
        let begun = no <= FIND_LAST && self.begin_as(no, cut, amount, keyset);
        if begun {
            self.batches = no;
        }
        begun
    }

    /// True where a batch can be made although nobody has looked for those that the records do not know.
    pub(crate) const fn has_blind(&self) -> bool {
        self.blind < FIND_WINDOW
    }

    /// True where no batch can be made any more: the mint has had each of them made anew.
    pub(crate) const fn is_used_up(&self) -> bool {
        self.batch.is_none() && self.batches >= FIND_LAST
    }

    /// Begins such a batch, of a number that only those have.
    pub(crate) fn begin_blind(
        &mut self,
        cut: Cut,
        amount: impl Fn(u64) -> Option<u64>,
        keyset: &ByteVec,
    ) -> bool {
        let no = BLIND.saturating_add(self.blind);
        let begun = self.has_blind() && self.begin_as(no, cut, amount, keyset);
        if begun {
            self.blind = self.blind.saturating_add(1);
        }
        begun
    }

    fn begin_as(
        &mut self,
        no: u64,
        cut: Cut,
        amount: impl Fn(u64) -> Option<u64>,
        keyset: &ByteVec,
    ) -> bool {
        while self.batch.is_none() && self.next < cut.until {
            let left = (self.next..cut.until).filter(|number| !self.spent.contains(number));
            let numbers: Vec<u64> = left.take(usize_of(BATCH_MAX)).collect();
            let more = numbers
                .last()
                .is_some_and(|last| last.saturating_add(1) < cut.until);
            let size = batch_size(u64_of(numbers.len()), cut.ppk, cut.all && !more);
            let numbers: Vec<u64> = numbers.into_iter().take(usize_of(size)).collect();
            let Some(last) = numbers.last().copied() else {
                if cut.all || self.spent.len() >= usize_of(cut.until.saturating_sub(self.next)) {
                    self.skip_to(cut.until);
                }
                return false;
            };
            let sum = (numbers.iter()).try_fold(0_u64, |sum, n| sum.checked_add(amount(*n)?));
            let fee = u64_of(numbers.len()).checked_mul(cut.ppk).map(fee_of);
            let net = sum.zip(fee).and_then(|(sum, fee)| sum.checked_sub(fee));
            match net {
                Some(net) if net > 0 => {
                    self.batch = Some(Batch {
                        no,
                        numbers,
                        keyset: keyset.clone(),
                        net,
                    });
                    return true;
                }
                // Not worth its fee.
                _ => self.skip_to(last.saturating_add(1)),
            }
        }
        false
    }

    /// The batch under way is home.
    pub(crate) fn home(&mut self) {
        if let Some(batch) = self.batch.take() {
            let next = batch
                .numbers
                .last()
                .map_or(self.next, |last| last.saturating_add(1));
            self.skip_to(next);
        }
    }

    /// Some of the batch under way are spent by somebody else: what is left goes into the next.
    pub(crate) fn some_spent(&mut self, spent: &[u64]) {
        let Some(batch) = self.batch.take() else {
            return;
        };
        let own = spent.iter().filter(|number| batch.numbers.contains(number));
        self.spent.extend(own);
        if batch.no < BLIND {
            self.doubtful = self.doubtful.or(Some(batch.no));
        }
    }

    /// The batch under way did not come to what it should: it is made anew.
    pub(crate) fn remake(&mut self) {
        self.some_spent(&[]);
    }

    /// The first batch that a search looks for.
    pub(crate) fn first_sought(&self) -> u64 {
        self.doubtful.unwrap_or(self.batches).max(1)
    }

    /// One search has ended, with this batch the newest, or 0, and so many blind ones. True where there is
    /// no more to look for.
    pub(crate) fn found(&mut self, last: u64, blind: u64) -> bool {
        let from = self.first_sought();
        self.blind = self.blind.max(blind);
        self.batches = self.batches.max(last);
        let ended = last < from.saturating_add(FIND_MAX - FIND_WINDOW) || last >= FIND_LAST;
        if !ended {
            // The next search goes on from there.
            self.doubtful = None;
        }
        ended
    }

    /// The batch under way asks for outputs of another keyset.
    pub(crate) fn other_keyset(&mut self, keyset: Option<ByteVec>) -> bool {
        match (&mut self.batch, keyset) {
            (Some(batch), Some(keyset)) if batch.keyset != keyset => {
                batch.keyset = keyset;
                true
            }
            _ => false,
        }
    }

    fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
        let next = self.next;
        self.spent.retain(|number| *number >= next);
    }
}

/// How many of `due` proofs to redeem in one swap so that the least of the fee, which is rounded
/// up, is wasted: the most whose fee is whole. Fewer than that wait, unless `all` must come.
pub(crate) fn batch_size(due: u64, ppk: u64, all: bool) -> u64 {
    let due = due.min(BATCH_MAX);
    if all || ppk == 0 {
        return due;
    }
    let period = 1000_u64.checked_div(gcd(ppk, 1000)).unwrap_or(1).max(1);
    match due.checked_rem(period) {
        Some(rest) if rest < due => due.saturating_sub(rest),
        _ => due,
    }
}

/// What it costs to bring `proofs` home, all of them at once.
pub(crate) fn total_fee(proofs: u64, ppk: u64) -> u64 {
    let full = proofs.checked_div(BATCH_MAX).unwrap_or_default();
    let rest = proofs.checked_rem(BATCH_MAX).unwrap_or_default();
    let each = fee_of(BATCH_MAX.saturating_mul(ppk));
    full.saturating_mul(each)
        .saturating_add(fee_of(rest.saturating_mul(ppk)))
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn u64_of(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyset() -> ByteVec {
        vec![1; 33].into()
    }

    fn run(cut: Cut, amount: u64, spent: &[u64]) -> (Drain, Vec<Vec<u64>>, u64) {
        let mut drain = Drain {
            spent: spent.to_vec(),
            ..Drain::default()
        };
        let (mut batches, mut net) = (Vec::new(), 0);
        while drain.begin(cut, |_| Some(amount), &keyset()) {
            let batch = drain.batch.clone().unwrap();
            batches.push(batch.numbers);
            net += batch.net;
            drain.home();
        }
        (drain, batches, net)
    }

    #[test]
    fn everything_comes_home_once_and_in_order() {
        for ppk in [0, 100, 333, 1000] {
            for until in [1, 7, 10, 199, 200, 201, 768] {
                let cut = Cut {
                    until,
                    ppk,
                    all: true,
                };
                let (drain, batches, net) = run(cut, 8, &[]);
                assert_eq!(drain.next, until);
                let all: Vec<u64> = batches.concat();
                assert_eq!(all, (0..until).collect::<Vec<_>>(), "{ppk} {until}");
                let fees: u64 = batches
                    .iter()
                    .map(|batch| fee_of(ppk * u64_of(batch.len())))
                    .sum();
                assert_eq!(net + fees, 8 * until);
                assert_eq!(fees, total_fee(until, ppk));
            }
        }
    }

    #[test]
    fn batches_waste_least_of_the_fee() {
        let cases = [
            (64, 0, false, 64),
            (64, 100, false, 60),
            (64, 100, true, 64),
            (9, 100, false, 9),
            (64, 1000, false, 64),
            (500, 100, true, 200),
            (64, 250, false, 64),
            (63, 250, false, 60),
        ];
        for (due, ppk, all, expect) in cases {
            assert_eq!(batch_size(due, ppk, all), expect, "{due} at {ppk}");
        }
    }

    #[test]
    fn spent_ones_are_left_out_and_the_rest_comes_home() {
        let cut = Cut {
            until: 10,
            ppk: 0,
            all: true,
        };
        let (drain, batches, net) = run(cut, 4, &[0, 3, 9]);
        assert_eq!(batches, vec![vec![1, 2, 4, 5, 6, 7, 8]]);
        assert_eq!((drain.next, net), (10, 28));
        let mut drain = Drain::default();
        assert!(drain.begin(cut, |_| Some(4), &keyset()));
        drain.some_spent(&[2, 77]);
        assert!(drain.begin(cut, |_| Some(4), &keyset()));
        assert_eq!(drain.batch.as_ref().unwrap().no, 2);
        assert!(!drain.batch.as_ref().unwrap().numbers.contains(&2));
    }

    #[test]
    fn search_ends_whatever_the_mint_claims() {
        // Nothing, and a few: at once.
        for last in [0, 1, 90] {
            let mut drain = Drain::default();
            assert!(drain.found(last, 0), "{last}");
            assert_eq!(drain.batches, last);
        }
        // Each search is full.
        let (mut drain, mut searches) = (Drain::default(), 1);
        while !drain.found(drain.batches.max(1) + FIND_MAX - 1, 0) {
            searches += 1;
        }
        assert!((8..=10).contains(&searches), "{searches}");
        // Also from records that such a mint has spoilt.
        assert!(drain.found(0, 0));
    }

    #[test]
    fn what_is_worth_less_than_its_fee_is_left() {
        let cut = Cut {
            until: 5,
            ppk: 1000,
            all: true,
        };
        let (drain, batches, _) = run(cut, 1, &[]);
        assert_eq!((drain.next, batches.len()), (5, 0));
    }
}
