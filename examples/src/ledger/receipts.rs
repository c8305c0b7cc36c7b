//! Receipts as files: what a streamer signed, for whoever was not there.
//!
//! One receipt a line, as JSON. What is signed is in `proof`; the other fields say the same for
//! people, and a file in which they say anything else is a forgery too.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};
use streampay_core::session::{ReceiptProof, SessionLedger};

use crate::error::AppError;
use crate::report::{Report, plain, show_line};

/// What this form of a receipt calls itself.
const FORM: &str = "streampay-receipt/1";
/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 64 * 1024 * 1024;
const TOO_LONG: &str = "it is longer than 64 MiB, and nothing of it was checked: part it between \
                        lines, and check each part";

/// A receipt as one line of a file.
#[must_use]
pub fn render(proof: &ReceiptProof) -> Value {
    let receipt = proof.evidence().receipt;
    let terms = proof.terms();
    json!({
        "form": FORM,
        "session": proof.session().to_string(),
        "payee": terms.payee.to_string(),
        "payer": proof.payer().to_string(),
        "title": terms.title,
        "purse": receipt.purse.0,
        "seq": receipt.seq.0,
        "cumulative_msat": receipt.cumulative.msat(),
        "total_msat": receipt.total.msat(),
        "tips_msat": receipt.tips.msat(),
        "media_ms": receipt.reading.media_ms,
        "bytes": receipt.reading.bytes,
        "proof": hex(&proof.to_bytes()),
    })
}

/// Why a line is no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forged {
    /// Not in the form of a receipt.
    #[error("this is no receipt")]
    Form,
    /// What is said beside the proof is not what was signed.
    #[error("what it says is not what was signed")]
    Changed,
    /// A signature does not hold.
    #[error(transparent)]
    Proof(#[from] streampay_core::session::BadProof),
}

/// Checks a line of a file by itself alone.
///
/// # Errors
/// [`Forged`]: what is wrong with it.
pub fn verify(line: &str) -> Result<ReceiptProof, Forged> {
    let said: Value = serde_json::from_str(line).map_err(|_| Forged::Form)?;
    let is_one = said.get("form").and_then(Value::as_str) == Some(FORM);
    let proof = said.get("proof").and_then(Value::as_str).filter(|_| is_one);
    let proof = proof.and_then(bytes).ok_or(Forged::Form)?;
    let proof = ReceiptProof::from_bytes(&proof)?;
    proof.verify()?;
    match render(&proof) == said {
        true => Ok(proof),
        false => Err(Forged::Changed),
    }
}

/// Writes the receipts of all sessions, or of those whose name begins with `only`, to stdout.
///
/// # Errors
/// [`AppError::Usage`] where there is none of that name.
pub fn export(
    sessions: &[SessionLedger],
    only: Option<&str>,
    report: Report,
) -> Result<(), AppError> {
    let wanted = |session: &&SessionLedger| {
        only.is_none_or(|start| session.session.to_string().starts_with(start))
    };
    let proofs = sessions.iter().filter(wanted);
    let proofs: Vec<_> = proofs.filter_map(|of| of.proof.as_ref()).collect();
    if proofs.is_empty() {
        let none = match only {
            Some(_) => "no session of that name has a receipt",
            None => "nobody has given a receipt here: whoever pays has them",
        };
        return Err(AppError::Usage(none));
    }
    proofs.iter().for_each(|proof| show_line(render(proof)));
    report.tell(&format!(
        "{} receipts; `receipts verify FILE` checks them anywhere",
        proofs.len()
    ));
    Ok(())
}

/// Checks every line of a file, and says of each what it proves.
///
/// # Errors
/// [`AppError::File`] where it cannot be read, is longer than 64 MiB, or has no line;
/// [`AppError::Forged`] where one does not hold.
pub fn verify_file(path: &Path, report: Report) -> Result<(), AppError> {
    verify_up_to(FILE_MAX, path, report)
}

/// The same for a file of up to `most` bytes. Of a longer one no line is judged: what is not looked
/// at would pass.
fn verify_up_to(most: u64, path: &Path, report: Report) -> Result<(), AppError> {
    let unfit = |why: &str| AppError::file(path, why);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| unfit(&error.to_string()))?;
    if u64::try_from(read).map_or(true, |read| read > most) {
        return Err(unfit(TOO_LONG));
    }
    let text = String::from_utf8(bytes).map_err(|_| unfit("it is no text"))?;
    let lines = text.lines().enumerate();
    let lines: Vec<_> = lines.filter(|(_, line)| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return Err(unfit("there is no receipt in it"));
    }
    let mut forged = 0_usize;
    for (at, line) in lines {
        let number = at.saturating_add(1);
        match verify(line) {
            Ok(proof) => tell(&proof, number, report),
            Err(why) => {
                forged = forged.saturating_add(1);
                let fields = json!({"line": number, "good": false, "why": why.to_string()});
                report.say("receipt", fields);
                report.tell(&format!("line {number}: FORGED: {why}"));
            }
        }
    }
    match forged {
        0 => Ok(()),
        _ => Err(AppError::Forged),
    }
}

fn tell(proof: &ReceiptProof, number: usize, report: Report) {
    let mut fields = render(proof);
    if let Some(object) = fields.as_object_mut() {
        object.remove("proof");
        object.insert("line".into(), number.into());
        object.insert("good".into(), true.into());
    }
    report.say("receipt", fields);
    let (receipt, terms) = (proof.evidence().receipt, proof.terms());
    report.tell(&format!(
        "line {number}: good: {} of {} signed that {} were paid by {} in session {}",
        terms.payee,
        plain(&terms.title),
        receipt.total,
        proof.payer(),
        proof.session(),
    ));
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_as_it_is_written_and_nothing_else_is() {
        assert_eq!(bytes(&hex(&[0, 9, 171, 255])), Some(vec![0, 9, 171, 255]));
        for wrong in ["0", "0g", "AB", "é", " 00"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    /// Whatever follows the longest file that is read was not looked at, and must not pass.
    #[test]
    fn a_file_that_is_too_long_is_refused_and_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipts.jsonl");
        let first = "{}\n";
        std::fs::write(&path, [first, "[]\n"].concat()).unwrap();
        let verify = |most: usize| {
            let most = u64::try_from(most).unwrap();
            verify_up_to(most, &path, Report { json: false }).unwrap_err()
        };
        for most in [0, first.len(), 2 * first.len() - 1] {
            let refused = verify(most);
            assert_eq!(refused.exit_code(), 2, "{most}: {refused}");
            assert!(refused.to_string().contains(TOO_LONG), "{refused}");
        }
        assert!(matches!(verify(2 * first.len()), AppError::Forged));
    }

    #[test]
    fn anything_else_is_no_receipt() {
        let form = format!("{{\"form\":\"{FORM}\"}}");
        let empty = format!("{{\"form\":\"{FORM}\",\"proof\":\"\"}}");
        for (line, why) in [
            ("", Forged::Form),
            ("[1]", Forged::Form),
            ("{}", Forged::Form),
            (&form, Forged::Form),
            (
                &empty,
                Forged::Proof(streampay_core::session::BadProof::Malformed),
            ),
        ] {
            assert_eq!(verify(line).unwrap_err(), why, "{line}");
        }
    }
}
