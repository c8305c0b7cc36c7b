//! Programs as processes, their events, and chance.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::judge::{Paid, Told};
use crate::laps::timed;

pub(crate) const STREAMER: &str = env!("CARGO_BIN_EXE_streamer");
pub(crate) const VIEWER: &str = env!("CARGO_BIN_EXE_viewer");

/// How long a command may take, in seconds.
const LONGEST: &str = "200";
const SIGKILL: i32 = 9;

/// A seeded generator, xorshift64*: what is done when, not what machines do.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next() % most.max(1)
    }

    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            let other = self.below(u64::try_from(at).unwrap() + 1);
            all.swap(at, usize::try_from(other).unwrap());
        }
    }

    pub(crate) fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// Where strace writes, and what it does.
pub(crate) struct Trace<'a> {
    pub(crate) log: &'a Path,
    /// The files of which calls are looked at.
    pub(crate) files: Vec<PathBuf>,
    /// As `-e inject=` has it; none looks on.
    pub(crate) inject: Option<String>,
}

/// A program that runs; killed when dropped.
pub(crate) struct Process {
    child: Child,
    events: Receiver<Value>,
    /// What was heard of it, the newest last.
    pub(crate) heard: Vec<Value>,
    /// How it ended before anybody ended it; none where it had not.
    pub(crate) alone: Option<ExitStatus>,
}

impl Process {
    pub(crate) fn start(
        program: &str,
        data: &Path,
        args: &[&str],
        trace: Option<Trace<'_>>,
    ) -> Self {
        let mut command = match trace {
            None => Command::new(program),
            Some(trace) => {
                let mut command = Command::new("strace");
                // `-D`: the program stays our child. `-y`: the file's name is in each line.
                command.args(["-D", "-f", "-qq", "-y", "-e", "trace=fdatasync,pwrite64"]);
                // No other call is stopped at. Strace 6.1 cannot send a signal then.
                if !(trace.inject.iter()).any(|inject| inject.contains("signal=")) {
                    command.arg("--seccomp-bpf");
                }
                for file in &trace.files {
                    command.arg("-P").arg(file);
                }
                command.arg("-o").arg(trace.log);
                if let Some(inject) = &trace.inject {
                    command.arg("-e").arg(format!("inject={inject}"));
                }
                // Strace counts by thread: the fewer there are, the more calls are within its reach.
                command.env("TOKIO_WORKER_THREADS", "1");
                command.arg(program);
                command
            }
        };
        command.arg("--data").arg(data).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let errors = data.with_extension("log");
        let errors = std::fs::File::options()
            .create(true)
            .append(true)
            .open(errors);
        let mut child = command.stderr(errors.unwrap()).spawn().unwrap();
        let (to, events) = channel();
        let read = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let lines = BufReader::new(read).lines().map_while(Result::ok);
            for event in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                if to.send(event).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            events,
            heard: Vec::new(),
            alone: None,
        }
    }

    /// The next event that is wanted; none where it is over, or the time is up.
    pub(crate) fn wait_for(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Option<Value> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    self.heard.push(event.clone());
                    if wanted(&event) {
                        return Some(event);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// What has come by now.
    pub(crate) fn catch_up(&mut self) {
        self.heard.extend(self.events.try_iter());
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// True where it was killed before anybody here did.
    pub(crate) fn was_killed(&self) -> bool {
        self.alone.is_some_and(|end| end.signal() == Some(SIGKILL))
    }

    /// SIGKILL, where it is not over. Everything that it said is heard.
    pub(crate) fn kill(&mut self) {
        self.alone = self.child.try_wait().unwrap();
        let _ = self.child.kill();
        self.child.wait().unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        while let Ok(event) = self
            .events
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.heard.push(event);
        }
    }

    /// SIGTERM: it settles and ends. Killed where that takes too long.
    pub(crate) fn end(mut self, limit: Duration) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        timed("streamer, SIGTERM to its end", || {
            self.wait_for_end(limit);
            self.kill();
        });
    }

    pub(crate) fn wait_for_end(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.is_over() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The payments of each session that it was told are acknowledged.
    pub(crate) fn acknowledged(&self, into: &mut Told) {
        for event in self
            .heard
            .iter()
            .filter(|event| event["event"] == "tick_paid")
        {
            let session = event["session"].as_str().unwrap().to_owned();
            into.entry(session).or_default().push(Paid {
                total_msat: event["total_msat"].as_u64().unwrap(),
                media_ms: event["media_ms"].as_u64().unwrap(),
            });
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub(crate) fn run(program: &str, data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LONGEST]).arg(program);
    command.arg("--data").arg(data).args(args);
    let who = if program == VIEWER {
        "viewer"
    } else {
        "streamer"
    };
    timed(&format!("{who} {}", args[0]), || {
        command.stdin(Stdio::null()).output().unwrap()
    })
}

/// The events of a command.
pub(crate) fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
