//! With which codes the programs end.

/// What a process says by its end. The documents have the same table (`spec/programs.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done, and all money is where it belongs.
    Done = 0,
    /// Something failed; the message says what to do.
    Failed = 1,
    /// The command, a setting, or something named there cannot be used.
    Unusable = 2,
    /// The budget is used up.
    BudgetSpent = 3,
    /// The streamer or the mint cannot be reached.
    Unreachable = 4,
    /// Some money is not home yet.
    Unsettled = 5,
    /// The price or the fee was refused.
    Refused = 6,
    /// The sums do not balance.
    Unbalanced = 7,
    /// A receipt is forged.
    Forged = 8,
}

impl Exit {
    /// Every one.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Failed,
        Self::Unusable,
        Self::BudgetSpent,
        Self::Unreachable,
        Self::Unsettled,
        Self::Refused,
        Self::Unbalanced,
        Self::Forged,
    ];

    /// The number.
    #[must_use]
    #[expect(clippy::as_conversions, reason = "the number that is written above")]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for `--help` and the documents.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, and all money is where it belongs",
            Self::Failed => "something failed; the message says what to do",
            Self::Unusable => "the command, a setting, or something named there cannot be used",
            Self::BudgetSpent => "the budget is used up (settled, the rest is back)",
            Self::Unreachable => "the streamer or the mint cannot be reached",
            Self::Unsettled => "some money is not home yet; the message says how it comes",
            Self::Refused => "the price or the fee was refused; nothing was paid",
            Self::Unbalanced => "the sums of the demo or the books do not balance",
            Self::Forged => "a receipt is forged",
        }
    }
}

/// The table for `--help`.
#[must_use]
pub fn table() -> String {
    let lines = Exit::ALL.map(|exit| format!("\n  {}  {}", exit.code(), exit.meaning()));
    format!("Exit codes:{}", lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_have_this_table() {
        let document = include_str!("../../spec/programs.md");
        for (number, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), number);
            let line = format!("| {number} | {} |", exit.meaning());
            assert!(document.lines().any(|of| of == line), "{line}");
        }
        let rows = document.lines().filter(|line| {
            let first = line
                .strip_prefix("| ")
                .and_then(|rest| rest.split(' ').next());
            first.is_some_and(|first| first.parse::<u8>().is_ok())
        });
        assert_eq!(rows.count(), Exit::ALL.len(), "one that is none");
    }
}
