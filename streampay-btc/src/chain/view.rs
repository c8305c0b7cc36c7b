//! What a chain source sees, as plain data.

use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut};

/// An output to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Which output.
    pub outpoint: OutPoint,
    /// What it should pay to: sources find outputs by script.
    pub script: ScriptBuf,
    /// No spend is in a block below this height.
    pub since: u32,
}

/// The chain as it is now, as far as it was asked for. A new view replaces the old one: a
/// reorganisation is a view like any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainView {
    /// The height of the best block.
    pub tip: u32,
    /// What confirmation costs.
    pub fees: FeeTable,
    /// The outputs that were asked for, each once; without those that could not be looked at.
    pub outputs: Vec<OutputState>,
}

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputState {
    /// Which.
    pub outpoint: OutPoint,
    /// None where no transaction with it is in a block or waiting for one.
    pub seen: Option<Seen>,
}

/// An output that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Value and script.
    pub output: TxOut,
    /// The block with it; none while it waits for one.
    pub height: Option<u32>,
    /// True for a block's own reward: not spendable before depth 100.
    pub coinbase: bool,
    /// The transaction with it, while it waits and is safe from changed transaction ids, and a close
    /// can follow it unconfirmed: all inputs are segwit and in blocks, and the version is 3. Source:
    /// BIP 431.
    pub parent: Option<Parent>,
    /// What spends it.
    pub spend: Option<Spend>,
}

/// A funding that waits for a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The transaction.
    pub tx: Transaction,
    /// What it pays itself: a close that follows it pays the rest.
    pub fee: Amount,
}

/// A transaction that spends an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The transaction.
    pub tx: Transaction,
    /// The block with it; none while it waits for one.
    pub height: Option<u32>,
}

impl Seen {
    /// Blocks from the one with it to the tip, both included; 0 while it waits.
    #[must_use]
    pub fn depth(&self, tip: u32) -> u32 {
        depth(self.height, tip)
    }
}

impl Spend {
    /// Blocks from the one with it to the tip, both included; 0 while it waits.
    #[must_use]
    pub fn depth(&self, tip: u32) -> u32 {
        depth(self.height, tip)
    }
}

fn depth(height: Option<u32>, tip: u32) -> u32 {
    height.map_or(0, |height| tip.saturating_add(1).saturating_sub(height))
}

/// Feerates by how many blocks one can wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeTable {
    /// Ascending targets in blocks, and the rate for each.
    pub targets: Vec<(u32, FeeRate)>,
    /// The least that the node relays.
    pub floor: FeeRate,
}

impl Default for FeeTable {
    /// 1 sat/vB for everything: what most nodes relay.
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            floor: FeeRate::BROADCAST_MIN,
        }
    }
}

impl FeeTable {
    /// The rate to be in a block within `blocks`: that of the longest target not above it, else of
    /// the shortest there is; never below the floor.
    #[must_use]
    pub fn rate(&self, blocks: u32) -> FeeRate {
        let mut within = self.targets.iter().rev();
        let within = within.find(|(target, _)| *target <= blocks);
        let rate = within.or_else(|| self.targets.first());
        rate.map_or(self.floor, |(_, rate)| *rate).max(self.floor)
    }
}
