/// A union of intervals, and its length. Bounded: see [`Coverage::PARTS_MAX`].
#[derive(Clone, Debug)]
pub(super) struct Coverage {
    /// Sorted, disjoint, not touching.
    parts: Vec<(u64, u64)>,
    /// Everything before this moment counts as covered.
    floor: u64,
    total: u64,
}

impl Coverage {
    /// Intervals that are remembered apart. Media moves forward, so the oldest ones are never
    /// needed again; folding them into the floor can only count too little.
    const PARTS_MAX: usize = 32;

    pub(super) const fn new() -> Self {
        Self {
            parts: Vec::new(),
            floor: 0,
            total: 0,
        }
    }

    pub(super) const fn total_us(&self) -> u64 {
        self.total
    }

    /// How much of `from` to `to` is not covered yet.
    pub(super) fn fresh(&self, from: u64, to: u64) -> u64 {
        let from = from.max(self.floor);
        let known: u64 = self
            .parts
            .iter()
            .map(|(begin, end)| to.min(*end).saturating_sub(from.max(*begin)))
            .sum();
        to.saturating_sub(from).saturating_sub(known)
    }

    pub(super) fn add(&mut self, from: u64, to: u64) {
        self.total = self.total.saturating_add(self.fresh(from, to));
        let (mut from, mut to) = (from.max(self.floor), to);
        if from >= to {
            return;
        }
        self.parts.retain(|(begin, end)| {
            let apart = *end < from || *begin > to;
            if !apart {
                from = from.min(*begin);
                to = to.max(*end);
            }
            apart
        });
        let at = self.parts.partition_point(|(begin, _)| *begin < from);
        self.parts.insert(at, (from, to));
        if self.parts.len() > Self::PARTS_MAX {
            self.floor = self.parts.remove(0).1;
        }
    }
}
