/// What passed and what failed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    passed: usize,
    failures: Vec<String>,
}

impl Report {
    /// Counts a case.
    pub fn add(&mut self, name: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed = self.passed.saturating_add(1),
            Err(why) => self.failures.push(format!("{name}: {}", shortened(&why))),
        }
    }

    /// How many cases passed.
    #[must_use]
    pub const fn passed(&self) -> usize {
        self.passed
    }

    /// A line for each case that failed.
    #[must_use]
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// `N passed, N failed`.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failures.len())
    }
}

/// One line that fits a screen or two.
fn shortened(text: &str) -> String {
    let mut line: String = text.chars().filter(|letter| !letter.is_control()).collect();
    if let Some((at, _)) = line.char_indices().nth(400) {
        line.truncate(at);
        line.push_str("...");
    }
    line
}
