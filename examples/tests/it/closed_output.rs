//! Output that nobody reads to its end, as with `| head`, and output that cannot be written.

use std::process::{Command, Stdio};

use crate::processes::{STREAMER, VIEWER};

#[test]
fn nobody_who_has_read_enough_is_shown_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    for program in [STREAMER, VIEWER] {
        for args in [
            &["config", "show"][..],
            &["doctor"],
            &["balance"],
            &["history"],
            &["history", "--csv"],
            &["completions", "bash"],
            &["--help"],
        ] {
            let mut command = Command::new(program);
            command.arg("--data").arg(folder.path()).args(args);
            command.stdin(Stdio::null()).stdout(Stdio::piped());
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            drop(child.stdout.take());
            let output = child.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(!told.contains("panicked"), "{args:?}: {told}");
            assert_eq!(output.status.code(), Some(0), "{args:?}: {told}");
        }
    }
}

/// A full disk is no reader that has read enough: what is missing is told.
#[test]
fn output_that_cannot_be_written_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    for program in [STREAMER, VIEWER] {
        for args in [&["balance"][..], &["history", "--csv"], &["config", "show"]] {
            let full = std::fs::File::options();
            let full = full.clone().write(true).open("/dev/full").unwrap();
            let mut command = Command::new(program);
            command.arg("--data").arg(folder.path()).args(args);
            let output = command.stdin(Stdio::null()).stdout(full).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
            assert!(told.contains("could not be written"), "{args:?}: {told}");
        }
    }
}
