//! The chain of preimages.

use bitcoin_hashes::{Hash, sha256};
use streampay_core::backend::RefusalCode;
use streampay_core::session::TaggedHash;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::STEPS_MAX;

/// A step's preimage: worth the step's proofs to whoever also has the key that they name.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Preimage([u8; 32]);

impl Preimage {
    /// The preimage with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes: a tick's payload.
    #[must_use]
    pub const fn dangerous_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The preimage of the step before.
    #[must_use]
    pub fn older(&self) -> Self {
        Self(
            TaggedHash::new("streampay/cashu-chain/step/v1")
                .bytes32(&self.0)
                .finish()
                .0,
        )
    }

    /// The lock that it opens. Source: NUT-14.
    #[must_use]
    pub fn lock(&self) -> [u8; 32] {
        sha256::Hash::hash(&self.0).to_byte_array()
    }
}

impl core::fmt::Debug for Preimage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Preimage(..)")
    }
}

/// The preimage `steps` before `newest`; none for more than [`STEPS_MAX`] steps.
#[must_use]
pub fn walk_back(newest: &Preimage, steps: u64) -> Option<Preimage> {
    if steps > STEPS_MAX {
        return None;
    }
    Some((0..steps).fold(newest.clone(), |preimage, _| preimage.older()))
}

/// The last step that a payee credited, and its preimage where it has that.
#[derive(Clone, Copy)]
pub(crate) struct Last<'a> {
    pub(crate) step: u64,
    pub(crate) preimage: Option<&'a [u8; 32]>,
}

impl Last<'_> {
    /// The preimage that a tick's payload is, where it pays up to `step`. `lock` is that of a step.
    pub(crate) fn paid_to(
        self,
        step: u64,
        payload: &[u8],
        lock: impl Fn(u64) -> Option<[u8; 32]>,
    ) -> Result<Preimage, RefusalCode> {
        let bytes: [u8; 32] = payload.try_into().map_err(|_| RefusalCode::Malformed)?;
        let newest = Preimage::new(bytes);
        match self.is_below(&newest, step, lock) {
            true => Ok(newest),
            false => Err(RefusalCode::BadProof),
        }
    }

    /// True where `newest`, of `step`, and every older preimage down to the last credited step open their
    /// own locks and are of one chain.
    pub(crate) fn is_below(
        self,
        newest: &Preimage,
        step: u64,
        lock: impl Fn(u64) -> Option<[u8; 32]>,
    ) -> bool {
        let mut preimage = newest.clone();
        for step in (self.step.saturating_add(1)..=step).rev() {
            if lock(step) != Some(preimage.lock()) {
                return false;
            }
            preimage = preimage.older();
        }
        self.preimage
            .is_none_or(|known| known == preimage.dangerous_bytes())
    }
}

/// The payer's end of a chain: every preimage, from the newest.
#[derive(Clone, Debug)]
pub struct Chain {
    top: Preimage,
    steps: u64,
}

impl Chain {
    /// A chain of `steps` steps whose last preimage is `top`; none for no step or more than
    /// [`STEPS_MAX`]. `top` is random and of this chain alone.
    #[must_use]
    pub fn new(top: Preimage, steps: u64) -> Option<Self> {
        (1..=STEPS_MAX)
            .contains(&steps)
            .then_some(Self { top, steps })
    }

    /// The preimage of `step`, from 1; none beyond the chain.
    #[must_use]
    pub fn preimage(&self, step: u64) -> Option<Preimage> {
        if step == 0 {
            return None;
        }
        walk_back(&self.top, self.steps.checked_sub(step)?)
    }

    /// All locks, that of step 1 first.
    #[must_use]
    pub fn locks(&self) -> Vec<[u8; 32]> {
        let all = core::iter::successors(Some(self.top.clone()), |newer| Some(newer.older()));
        let count = usize::try_from(self.steps).unwrap_or_default();
        let mut locks: Vec<_> = all.take(count).map(|preimage| preimage.lock()).collect();
        locks.reverse();
        locks
    }
}
