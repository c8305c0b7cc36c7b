//! What the user says while watching: keys on a terminal, and signals.

use std::io::{IsTerminal, Read};

use streampay_core::meter::PauseReason;
use streampay_core::session::{CloseCode, Command};
use tokio::sync::mpsc;

/// Ctrl-C (and SIGTERM) settles; `p` on a terminal pauses and goes on. Runs until nobody listens.
pub async fn listen(commands: mpsc::Sender<Command>) {
    let restored_at_the_end = SingleKeys::begin();
    let mut keys = Keys::new(restored_at_the_end.is_some());
    let mut paused = false;
    let mut terminated = Terminated::new();
    loop {
        let order = tokio::select! {
            () = commands.closed() => return,
            _ = tokio::signal::ctrl_c() => Command::Close(CloseCode::Done),
            () = terminated.wait() => Command::Close(CloseCode::Done),
            key = keys.next() => match key {
                b'p' | b'P' => {
                    paused = !paused;
                    if paused { Command::Pause(PauseReason::ByPayer) } else { Command::Resume }
                }
                b'q' | b'Q' => Command::Close(CloseCode::Done),
                _ => continue,
            },
        };
        if commands.send(order).await.is_err() {
            return;
        }
    }
}

/// Keys of the terminal; none ever where stdin is none, or somebody else's.
struct Keys {
    from_reader: Option<mpsc::Receiver<u8>>,
}

impl Keys {
    fn new(terminal: bool) -> Self {
        Self {
            from_reader: terminal.then(Self::read),
        }
    }

    /// A thread of its own: nothing waits for it when the process ends.
    fn read() -> mpsc::Receiver<u8> {
        let (to, from) = mpsc::channel(8);
        std::thread::spawn(move || {
            for byte in std::io::stdin().lock().bytes().map_while(Result::ok) {
                if to.blocking_send(byte).is_err() {
                    return;
                }
            }
        });
        from
    }

    async fn next(&mut self) -> u8 {
        if let Some(keys) = &mut self.from_reader {
            if let Some(key) = keys.recv().await {
                return key;
            }
            self.from_reader = None;
        }
        std::future::pending().await
    }
}

/// The terminal gives each key as it is pressed, and does not show it. Signals stay as they are.
#[cfg(unix)]
struct SingleKeys(rustix::termios::Termios);

#[cfg(unix)]
impl SingleKeys {
    fn begin() -> Option<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcgetpgrp, tcsetattr};
        let stdin = std::io::stdin();
        // In the background the terminal is another program's: to touch it would stop this one.
        let foreground = tcgetpgrp(&stdin).ok()? == rustix::process::getpgrp();
        if !stdin.is_terminal() || !foreground {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut single = before.clone();
        single.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(&stdin, OptionalActions::Now, &single).ok()?;
        Some(Self(before))
    }
}

#[cfg(unix)]
impl Drop for SingleKeys {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Elsewhere keys come with Enter.
#[cfg(not(unix))]
struct SingleKeys;

#[cfg(not(unix))]
impl SingleKeys {
    fn begin() -> Option<Self> {
        std::io::stdin().is_terminal().then_some(Self)
    }
}

/// SIGTERM, where there is such a thing.
struct Terminated {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Terminated {
    #[cfg(unix)]
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self {
            signal: signal(SignalKind::terminate()).ok(),
        }
    }

    #[cfg(unix)]
    async fn wait(&mut self) {
        match &mut self.signal {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    #[cfg(not(unix))]
    async fn wait(&mut self) {
        std::future::pending().await
    }
}
