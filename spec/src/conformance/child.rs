//! An adapter in a process of its own, which may hang, die or babble.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::subject::{Subject, Trouble, result, shortened};
use crate::json::{Object, one_line};

/// How long an answer may take, unless the command line says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest line that is read. An answer with 16 KiB of message in it has about 40 KiB.
pub const LINE_MAX: u64 = 1 << 20;
/// How often an adapter that failed is started again. Each may have cost a timeout.
const STARTS_MAX: u32 = 12;

/// Starts a command and asks it.
#[derive(Debug)]
pub struct Child {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
    running: Option<Running>,
    starts: u32,
    next: u64,
}

#[derive(Debug)]
struct Running {
    process: std::process::Child,
    /// Lines to write; the thread behind it may block where the adapter does not read.
    requests: Sender<String>,
    answers: Receiver<Result<String, Trouble>>,
}

impl Child {
    /// An adapter that is started when it is first asked.
    #[must_use]
    pub fn new(program: impl Into<String>, arguments: &[String], timeout: Duration) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.to_vec(),
            timeout,
            running: None,
            starts: 0,
            next: 0,
        }
    }

    fn start(&mut self) -> Result<&Running, Trouble> {
        if self.running.is_none() {
            if self.starts >= STARTS_MAX {
                return Err(Trouble::GivenUp);
            }
            self.starts = self.starts.saturating_add(1);
            let running = Running::start(&self.program, &self.arguments);
            self.running = Some(running.map_err(|_| Trouble::Died)?);
        }
        self.running.as_ref().ok_or(Trouble::Died)
    }

    fn ask_line(&mut self, line: String) -> Result<String, Trouble> {
        let timeout = self.timeout;
        let running = self.start()?;
        running.requests.send(line).map_err(|_| Trouble::Died)?;
        match running.answers.recv_timeout(timeout) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => Err(Trouble::Hung),
            Err(RecvTimeoutError::Disconnected) => Err(Trouble::Died),
        }
    }

    /// Ends a process that is of no more use: what it says later would be taken for another
    /// answer.
    fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            // It may have ended by itself.
            let _ = running.process.kill();
            let _ = running.process.wait();
        }
    }
}

impl Subject for Child {
    fn ask(&mut self, request: Object) -> Result<Value, Trouble> {
        self.next = self.next.saturating_add(1);
        let id = self.next;
        let line = one_line(&request.int("id", id).done());
        let answer = self.ask_line(line).and_then(|line| {
            let answer: Result<Value, _> = serde_json::from_str(&line);
            let answer = answer.map_err(|_| Trouble::Garbage(shortened(&line)))?;
            result(&answer, id)
        });
        let sound = matches!(
            answer,
            Ok(_) | Err(Trouble::Unsupported | Trouble::Refused(_) | Trouble::GivenUp)
        );
        if !sound {
            self.stop();
        }
        answer
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    fn start(program: &str, arguments: &[String]) -> std::io::Result<Self> {
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (stdin, stdout) = pipes.ok_or(std::io::ErrorKind::BrokenPipe)?;
        let (requests, lines) = channel();
        let (answered, answers) = sync_channel(16);
        thread::spawn(move || write_lines(stdin, &lines));
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let line = read_line(&mut stdout);
                let last = line.is_err();
                if answered.send(line).is_err() || last {
                    break;
                }
            }
        });
        Ok(Self {
            process,
            requests,
            answers,
        })
    }
}

fn write_lines(mut stdin: ChildStdin, lines: &Receiver<String>) {
    while let Ok(line) = lines.recv() {
        if writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .is_err()
        {
            break;
        }
    }
}

fn read_line(stdout: &mut BufReader<ChildStdout>) -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    let mut limited = stdout.take(LINE_MAX);
    let read = limited.read_until(b'\n', &mut bytes);
    match read {
        Err(_) | Ok(0) => Err(Trouble::Died),
        Ok(_) if bytes.last() == Some(&b'\n') => {
            String::from_utf8(bytes).map_err(|_| Trouble::Garbage("no UTF-8".into()))
        }
        Ok(read) if u64::try_from(read).unwrap_or(u64::MAX) >= LINE_MAX => Err(Trouble::LongLine),
        // It ended in the middle of a line.
        Ok(_) => Err(Trouble::Died),
    }
}
