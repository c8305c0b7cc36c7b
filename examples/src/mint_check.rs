//! `mint-check`: what a mint says of itself, told to a person or a program.

use crate::error::AppError;
use crate::home::Home;
use crate::report::{Report, plain, show_line};
use crate::wallet::{Canary, KeysetReport, MintReport, Refused};

/// How far a mint's clock may be off before somebody should know, in seconds. Locktimes are hours.
const CLOCK_S: i64 = 60;

/// Looks at the mint, and says what was found.
///
/// # Errors
/// [`AppError::BadMint`] where nothing can be paid there, or it breaks a lock; or it does not
/// answer.
pub(crate) async fn mint_check(
    home: &Home,
    url: &str,
    canary: bool,
    report: Report,
) -> Result<(), AppError> {
    let found = home.wallet.report_on(url, canary).await?;
    if report.json {
        let fields = serde_json::to_value(&found);
        let mut fields = fields.map_err(|_| AppError::Failed("the report cannot be written"))?;
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("usable".into(), found.is_usable().into());
        }
        report.say("mint", fields);
    } else {
        lines(&found).iter().for_each(show_line);
    }
    if found.is_usable() {
        Ok(())
    } else {
        Err(AppError::BadMint)
    }
}

fn lines(found: &MintReport) -> Vec<String> {
    let none = || "does not say".to_owned();
    let mut lines = vec![
        format!("{}", found.mint),
        row("name", found.name.clone().unwrap_or_else(none)),
        row("software", found.software.clone().unwrap_or_else(none)),
    ];
    if let Some(notice) = &found.notice {
        lines.push(row("notice", plain(notice)));
    }
    let nuts: Vec<_> = found.nuts.iter().map(|nut| format!("{nut:02}")).collect();
    lines.push(row("supports NUTs", nuts.join(" ")));
    lines.push(row("units", found.units.join(" ")));
    lines.push(row("deposit", limits(found.deposit_sat)));
    lines.push(row("withdrawal", limits(found.withdraw_sat)));
    if let Some(most) = found.array_max {
        lines.push(row("at once", format!("{most} inputs or outputs")));
    }
    lines.push(row("clock", clock(found.clock_ahead_s)));
    lines.extend(found.keysets.iter().map(|set| row("keyset", keyset(set))));
    if found.keysets.is_empty() {
        lines.push(row("keyset", "none in sat".to_owned()));
    }
    for mode in &found.modes {
        let missing: Vec<_> = mode
            .missing
            .iter()
            .map(|nut| format!("NUT-{nut:02}"))
            .collect();
        let verdict = match (mode.runs, missing.is_empty()) {
            (true, _) => "can run".to_owned(),
            (false, true) => "cannot run: no active keyset in sat".to_owned(),
            (false, false) => format!("cannot run: it lacks {}", missing.join(", ")),
        };
        lines.push(row(mode.name, verdict));
    }
    match &found.canary {
        Some(canary) => lines.extend(canary_lines(canary)),
        None => lines.push(row(
            "locks",
            "not tried; --canary tries them with a few sat of yours".to_owned(),
        )),
    }
    lines
}

fn row(name: &str, value: String) -> String {
    format!("  {name:<16} {value}")
}

fn limits(of: Option<(Option<u64>, Option<u64>)>) -> String {
    match of {
        None => "not by Lightning in sat".to_owned(),
        Some((None, None)) => "by Lightning; no limits said".to_owned(),
        Some((least, most)) => {
            let least = least.map_or(String::new(), |least| format!(", at least {least} sat"));
            let most = most.map_or(String::new(), |most| format!(", at most {most} sat"));
            format!("by Lightning{least}{most}")
        }
    }
}

fn clock(ahead: Option<i64>) -> String {
    match ahead {
        None => "does not say".to_owned(),
        Some(ahead) if ahead.abs() <= CLOCK_S => format!("{} s off: fine", ahead.abs()),
        Some(ahead) => {
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            format!("{} s {side} yours: check which one is wrong", ahead.abs())
        }
    }
}

fn keyset(set: &KeysetReport) -> String {
    let state = if set.active { "active" } else { "old" };
    let fee = match set.input_fee_ppk {
        0 => "no fee".to_owned(),
        ppk => format!("fee {ppk} ppk (each swap: {ppk}/1000 sat a proof, rounded up)"),
    };
    let end = match set.final_expiry {
        Some(at) => format!("; ends at Unix time {at}"),
        None => String::new(),
    };
    let keys = match (set.amounts, set.id_matches) {
        (_, Some(false)) => "; ITS ID DOES NOT FOLLOW FROM ITS KEYS".to_owned(),
        (Some(amounts), _) => format!("; {amounts} amounts"),
        (None, _) => String::new(),
    };
    format!("{} {state}; {fee}{end}{keys}", set.id)
}

fn canary_lines(canary: &Canary) -> Vec<String> {
    let verdict = |refused| match refused {
        Refused::Yes => "hold: a wrong witness was refused",
        Refused::No => "BROKEN: a wrong witness was taken. Do not use this mint",
        Refused::Unclear => "unclear: the mint failed; try again",
    };
    vec![
        row("locks to keys", verdict(canary.p2pk).to_owned()),
        row("locks to hashes", verdict(canary.htlc).to_owned()),
        row("trying cost", format!("{} sat", canary.cost_msat / 1000)),
    ]
}
