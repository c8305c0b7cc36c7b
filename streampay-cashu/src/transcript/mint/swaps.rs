//! What the mint takes in a swap, and what it has seen spent.

use streampay_core::units::PurseKey;

use super::{Answered, Called, Coins, Hex, Int, Mint, Redeemed, Right, digest_of};
use crate::coin::to_hex;
use crate::fee::fee_of;

impl Mint {
    pub(super) fn spent_of(&self, purse: PurseKey, numbers: core::ops::RangeFrom<u64>) -> Vec<Int> {
        let of = (purse.purse.0, numbers.start)..=(purse.purse.0, u64::MAX);
        let spent = (self.locked.range(of)).filter(|(_, (secret, _))| self.spent.contains(secret));
        spent.map(|((_, number), _)| Int(*number)).collect()
    }

    pub(super) fn redeem(
        &mut self,
        purse: PurseKey,
        is_payer: bool,
        (by, inputs): (Right, &[Redeemed]),
        (name, keyset, net): (String, &Hex, u64),
    ) -> Answered {
        if self.swaps.contains(&name) {
            return Ok(Called::Swapped {});
        }
        let (mut secrets, mut sum) = (Vec::new(), 0_u64);
        for input in inputs {
            let of = (purse.purse.0, input.number.0);
            let (secret, amount) = self.locked.get(&of).ok_or("no such proof")?;
            self.opens(secret, by, input.preimage.as_ref())?;
            sum = sum.saturating_add(*amount);
            secrets.push((input.number, secret.clone()));
        }
        let spent = secrets.iter();
        let spent = spent.filter(|(_, secret)| self.spent.contains(secret));
        let numbers: Vec<Int> = spent.map(|(number, _)| *number).collect();
        if !numbers.is_empty() {
            return Ok(Called::SomeSpent { numbers });
        }
        if *keyset != self.active_id()? {
            let keysets = self.keysets();
            return Ok(Called::OtherKeysets { keysets });
        }
        let count = u64::try_from(inputs.len()).unwrap_or(u64::MAX);
        if sum.checked_sub(fee_of(count.saturating_mul(self.ppk))) != Some(net) {
            return Err("inputs less the fee are not the outputs".into());
        }
        self.spent
            .extend(secrets.into_iter().map(|(_, secret)| secret));
        self.swaps.insert(name);
        self.came_home(purse, is_payer, net);
        Ok(Called::Swapped {})
    }

    /// The newest batch from `from` on that was signed; 0 where there is none.
    pub(super) fn newest_batch(&self, purse: PurseKey, is_payer: bool, from: u64) -> u64 {
        let of = format!("{is_payer} {} ", purse.purse.0);
        let numbers = self.swaps.iter().filter_map(|name| name.strip_prefix(&of));
        let numbers = numbers.filter_map(|number| number.parse::<u64>().ok());
        numbers.filter(|no| *no >= from).max().unwrap_or_default()
    }

    /// What a mint asks of a witness beside the signature. Source: NUT-11, NUT-14.
    pub(super) fn opens(
        &self,
        secret: &str,
        by: Right,
        preimage: Option<&Hex>,
    ) -> Result<(), String> {
        let tag = |name: &str| {
            let (_, rest) = secret.split_once(name)?;
            rest.split('"').next()
        };
        let locktime = tag("[\"locktime\",\"").and_then(|text| text.parse::<u64>().ok());
        if by == Right::Refund {
            return match locktime {
                Some(locktime) if locktime <= self.time_s => Ok(()),
                _ => Err("the way back is not open".into()),
            };
        }
        if !secret.starts_with("[\"HTLC\"") {
            return Ok(());
        }
        let lock = preimage.map(|preimage| to_hex(&digest_of(&preimage.0)));
        match (tag("\"data\":\""), lock) {
            (Some(data), Some(lock)) if data == lock => Ok(()),
            _ => Err("the preimage does not open the lock".into()),
        }
    }

    pub(super) fn swap(
        &mut self,
        purse: PurseKey,
        is_payer: bool,
        coins: &[Coins],
        (keyset, net): (&Hex, u64),
    ) -> Answered {
        let secrets: Vec<String> = coins.iter().map(|coin| to_hex(&coin.secret.0)).collect();
        let name = format!("{is_payer} {}", secrets.join(" "));
        if self.swaps.contains(&name) {
            return Ok(Called::Swapped {});
        }
        if secrets.iter().any(|secret| self.spent.contains(secret)) {
            return Ok(Called::SpentElsewhere {});
        }
        if *keyset != self.active_id()? {
            let keysets = self.keysets();
            return Ok(Called::OtherKeysets { keysets });
        }
        self.spent.extend(secrets);
        self.swaps.insert(name);
        self.came_home(purse, is_payer, net);
        Ok(Called::Swapped {})
    }

    pub(super) fn came_home(&mut self, purse: PurseKey, is_payer: bool, net: u64) {
        let home = self.home.entry((purse.purse.0, is_payer)).or_default();
        *home = home.saturating_add(net);
    }
}
