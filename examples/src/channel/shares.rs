//! Who gets a part of what is earned in bitcoin, by each close.

use serde_json::{Value, json};
use streampay_btc::bitcoin::{Network, ScriptBuf};
use streampay_btc::policy::{PayoutShare, SHARES_MAX};
use streampay_btc::script::own_script;

use crate::error::AppError;

const OPTION: &str = "--payout-share";
const WHOLE: u16 = 1_000;

/// What the user says: a share, or none from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// All that was said before is forgotten.
    None,
    /// To whom, and how much.
    Share(Share),
}

/// An address, or a descriptor, and its part in thousandths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    to: String,
    permille: u16,
}

/// `ADDRESS=12.5%`, or `none`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn said(text: &str) -> Result<Said, String> {
    if text == "none" {
        return Ok(Said::None);
    }
    let form = || "write an address and its part, such as bcrt1q..=12.5%, or none".to_owned();
    let (to, percent) = text.rsplit_once('=').ok_or_else(form)?;
    let permille = crate::pay::permille(percent).ok_or_else(form)?;
    match u16::try_from(permille) {
        Ok(permille) if (1..WHOLE).contains(&permille) => Ok(Said::Share(Share {
            to: to.to_owned(),
            permille,
        })),
        _ => Err("a part is 0.1% to 99.9%".to_owned()),
    }
}

/// What holds from now on, after `known`.
pub(super) fn after(known: Vec<Share>, said: &[Said]) -> Vec<Share> {
    if said.is_empty() {
        return known;
    }
    let shares = said.iter().filter_map(|said| match said {
        Said::None => None,
        Said::Share(share) => Some(share.clone()),
    });
    shares.collect()
}

/// Them as channels take them, beside what goes to `payout`.
///
/// # Errors
/// [`AppError::Setting`]: an address is none of the chain, or named twice; or nothing would be left.
pub(super) fn check(
    shares: &[Share],
    network: Network,
    payout: &ScriptBuf,
) -> Result<Vec<PayoutShare>, AppError> {
    let wrong = |why: String| AppError::Setting {
        origin: OPTION.to_owned(),
        why,
    };
    if shares.len() > SHARES_MAX {
        return Err(wrong(format!("name {SHARES_MAX} at most")));
    }
    let sum: u32 = shares.iter().map(|share| u32::from(share.permille)).sum();
    if sum >= u32::from(WHOLE) {
        return Err(wrong(
            "all together come to less than 100%: --payout has the rest".to_owned(),
        ));
    }
    let mut checked: Vec<PayoutShare> = Vec::new();
    for share in shares {
        let to = crate::report::plain(&share.to);
        let script = own_script(&share.to, network);
        let script = script.map_err(|_| {
            wrong(format!(
                "{to} is no address of this chain, and no descriptor"
            ))
        })?;
        if script == *payout || checked.iter().any(|other| other.script == script) {
            return Err(wrong(format!(
                "{to} is named twice, or is where --payout goes"
            )));
        }
        checked.push(PayoutShare {
            script,
            permille: share.permille,
        });
    }
    Ok(checked)
}

pub(super) fn to_json(shares: &[Share]) -> Value {
    let one = |share: &Share| json!({"to": share.to, "permille": share.permille});
    shares.iter().map(one).collect()
}

/// None where it is damaged.
pub(super) fn parse(value: Option<&Value>) -> Option<Vec<Share>> {
    let Some(value) = value else {
        return Some(Vec::new());
    };
    let one = |value: &Value| {
        Some(Share {
            to: value.get("to")?.as_str()?.to_owned(),
            permille: u16::try_from(value.get("permille")?.as_u64()?).ok()?,
        })
    };
    value.as_array()?.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

    fn share(to: &str, permille: u16) -> Share {
        Share {
            to: to.to_owned(),
            permille,
        }
    }

    #[test]
    fn shares_are_read_as_people_write_them() {
        for (text, expect) in [
            ("none", Some(Said::None)),
            ("a=12.5%", Some(Said::Share(share("a", 125)))),
            ("tr(a=b)=30%", Some(Said::Share(share("tr(a=b)", 300)))),
            ("a=0%", None),
            ("a=100%", None),
            ("a=6653.6%", None),
            ("a=1.25%", None),
            ("a=1", None),
            ("a", None),
        ] {
            assert_eq!(said(text).ok(), expect, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_paid_is_refused_and_what_was_said_is_kept() {
        let payout = own_script(OTHER, Network::Regtest).unwrap();
        let nobody = ScriptBuf::new();
        let check = |shares: &[Share], payout| check(shares, Network::Regtest, payout);
        let shares = [share(OTHER, 300)];
        let checked = check(&shares, &nobody).unwrap();
        assert_eq!((checked[0].permille, &checked[0].script), (300, &payout));
        assert!(check(&shares, &payout).is_err(), "where the rest goes");
        assert!(check(&[share("nowhere", 300)], &nobody).is_err());
        assert!(check(&[share(OTHER, 300), share(OTHER, 200)], &nobody).is_err());
        assert!(check(&[share(OTHER, 600), share("x", 400)], &nobody).is_err());
        let many: Vec<_> = (0..17).map(|_| share(OTHER, 1)).collect();
        assert!(check(&many, &nobody).is_err());
        assert_eq!(parse(Some(&to_json(&shares))), Some(shares.to_vec()));
        assert_eq!(parse(None), Some(Vec::new()));
        assert_eq!(parse(Some(&json!([{"to": 1}]))), None);
        let new = [Said::Share(share("b", 1))];
        assert_eq!(after(shares.to_vec(), &[]), shares);
        assert_eq!(after(shares.to_vec(), &new), [share("b", 1)]);
        assert_eq!(after(shares.to_vec(), &[Said::None]), []);
    }
}
