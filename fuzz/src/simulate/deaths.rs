//! Deaths that were ordered: before which output, in which write, at which operation of a disk.

use std::collections::VecDeque;

use streampay_core::session::Output;

use super::world::{Ev, PAYER, World};

/// What a process was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// To write to its store.
    Write,
    /// To send a message.
    Send,
    /// To ask its payment method.
    Request,
    /// To call the mint.
    Call,
    /// To tell its gate.
    Gate,
    /// To tell its user.
    Event,
}

impl Step {
    const fn of(output: &Output) -> Self {
        match output {
            Output::Persist(_) => Self::Write,
            Output::Send(_) => Self::Send,
            Output::Backend { .. } => Self::Request,
            Output::Effect { .. } => Self::Call,
            Output::Gate(_) => Self::Gate,
            Output::Event(_) => Self::Event,
        }
    }
}

/// Where in a write a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Before it; before any other output too.
    Before,
    /// In it: it may be there or not, or on a disk in part.
    During,
    /// After it.
    After,
}

/// When a process is to die. Numbers count from the beginning, or from the death before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The process whose output has this number, over all processes.
    Output(u64, Part),
    /// The process of this node, at this operation of its disk.
    Operation(usize, u64),
    /// The same, but the operation fails, and the process is told before it dies.
    Failure(usize, u64),
}

/// How a process died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Death {
    /// The payer's process, or the payee's.
    pub of_payer: bool,
    /// How.
    pub how: How,
}

/// See [`Death`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Before it did this.
    Before(Step),
    /// In a write.
    During,
    /// After a write.
    After,
    /// At an operation of its disk.
    Operation,
    /// Soon after an operation of its disk had failed.
    Failure,
}

impl How {
    /// All ways to die that a run of many points must have, for the payer or the payee.
    pub(super) fn all(of_payer: bool) -> impl Iterator<Item = Self> {
        let steps = [
            Step::Write,
            Step::Send,
            Step::Request,
            Step::Call,
            Step::Gate,
            Step::Event,
        ];
        // A payer has no gate.
        let steps = steps
            .into_iter()
            .filter(move |step| !of_payer || *step != Step::Gate);
        let others = [Self::During, Self::After, Self::Operation, Self::Failure];
        steps.map(Self::Before).chain(others)
    }
}

impl core::fmt::Display for How {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Before(Step::Write) => "before a write",
            Self::Before(Step::Send) => "before a send",
            Self::Before(Step::Request) => "before a request",
            Self::Before(Step::Call) => "before a call",
            Self::Before(Step::Gate) => "before the gate heard",
            Self::Before(Step::Event) => "before an event",
            Self::During => "in a write",
            Self::After => "after a write",
            Self::Operation => "at a disk operation",
            Self::Failure => "of a disk error",
        })
    }
}

/// What is ordered, and what happened of it.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    pub(super) ordered: VecDeque<Moment>,
    /// Since the beginning, or since the death before.
    outputs: u64,
    /// Whose every output was, and what it was, where nothing is ordered.
    pub(super) taken: Vec<(bool, Step)>,
    pub(super) died: Vec<Death>,
    /// A process was told that its disk failed, and is about to end.
    told: bool,
}

impl Deaths {
    pub(super) fn ordered(moments: &[Moment]) -> Self {
        Self {
            ordered: moments.iter().copied().collect(),
            ..Self::default()
        }
    }

    /// Counts an output; the part of it in which its process dies, if it does.
    fn take(&mut self, of_payer: bool, output: &Output) -> Option<Part> {
        let number = self.outputs;
        self.outputs += 1;
        match self.ordered.front() {
            Some(Moment::Output(at, part)) if *at == number => Some(*part),
            Some(_) => None,
            None if self.died.is_empty() => {
                self.taken.push((of_payer, Step::of(output)));
                None
            }
            None => None,
        }
    }

    fn strike(&mut self, of_payer: bool, how: How) {
        self.ordered.pop_front();
        (self.outputs, self.told) = (0, false);
        self.died.push(Death { of_payer, how });
    }
}

impl World {
    /// True where the process died at this output, as was ordered.
    pub(super) fn dies_as_ordered(&mut self, slot: usize, node: usize, output: &Output) -> bool {
        let of_payer = self.nodes[node].role == PAYER;
        let Some(part) = self.deaths.take(of_payer, output) else {
            return false;
        };
        let (writing, how) = match (output, part) {
            (Output::Persist(changes), Part::During) => (Some(changes), How::During),
            (Output::Persist(changes), Part::After) => {
                let _ = self.nodes[node].store.append(&mut self.rng, changes);
                (None, How::After)
            }
            _ => (None, How::Before(Step::of(output))),
        };
        self.log(|| format!("s{slot} n{node} xx as ordered: {how:?}"));
        self.deaths.strike(of_payer, how);
        let away_ms = self.between(100, 8_000);
        self.die(node, away_ms, writing);
        true
    }

    /// Gives the next order to the disk that it is for.
    pub(super) fn order_disk(&self) {
        if let Some(Moment::Operation(node, at) | Moment::Failure(node, at)) =
            self.deaths.ordered.front()
        {
            self.nodes[*node].store.cut_in(*at);
        }
    }

    /// A disk was cut off: notes that it happened.
    pub(super) fn note_cut(&mut self, node: usize) {
        let of_payer = self.nodes[node].role == PAYER;
        let how = match self.deaths.ordered.front() {
            Some(Moment::Operation(of, _)) if *of == node => How::Operation,
            Some(Moment::Failure(of, _)) if *of == node => How::Failure,
            _ => return,
        };
        self.log(|| format!("n{node} xx as ordered: {how:?}"));
        self.deaths.strike(of_payer, how);
    }

    /// Looks after every disk.
    pub(super) fn die_with_disks(&mut self) {
        for node in 0..self.nodes.len() {
            self.dies_with_its_disk(node);
        }
    }

    /// The process whose disk was cut off in what has just happened is gone with it, or soon where it
    /// is told. True where it is gone.
    pub(super) fn dies_with_its_disk(&mut self, node: usize) -> bool {
        if !self.nodes[node].up || !self.nodes[node].store.is_cut() {
            return false;
        }
        match self.deaths.ordered.front() {
            Some(Moment::Operation(of, _)) if *of == node => {}
            Some(Moment::Failure(of, _)) if *of == node && !self.deaths.told => {
                self.deaths.told = true;
                let away_ms = self.between(200, 8_000);
                self.after(50, Ev::Die { node, away_ms });
                return false;
            }
            _ => return false,
        }
        let away_ms = self.between(100, 8_000);
        self.die(node, away_ms, None);
        true
    }
}
