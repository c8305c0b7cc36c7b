//! The two times. The core is told both and asks for neither.

/// Milliseconds on a monotonic clock of this process. For deadlines and meters; never stored,
/// never sent.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Mono(pub u64);

impl Mono {
    /// The moment `ms` milliseconds later, or the last there is.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here, zero where `earlier` is later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Seconds since 1970 on the wall clock. For stored expiries only: wall time never meters.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Unix(pub u64);

impl Unix {
    /// The moment `s` seconds later, or the last there is.
    #[must_use]
    pub const fn after_s(self, s: u64) -> Self {
        Self(self.0.saturating_add(s))
    }
}

/// What every entry into the core is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Now {
    /// The monotonic time.
    pub mono: Mono,
    /// The wall-clock time.
    pub unix: Unix,
}
