//! What the user says while watching: keys on a terminal, and signals.

use std::io::{IsTerminal, Read};

use tokio::sync::mpsc;

use super::watch::Wish;
use crate::signals::asked_to_end;

/// Ctrl-C (and SIGTERM, and `q`) settles; `p` on a terminal pauses and goes on, `y` agrees to what
/// the session waits for, `n` refuses a new price. Runs until nobody listens.
pub async fn listen(wishes: mpsc::Sender<Wish>) {
    let restored_at_the_end = SingleKeys::begin();
    let mut keys = Keys::new(restored_at_the_end.is_some());
    loop {
        let wish = tokio::select! {
            () = wishes.closed() => return,
            () = asked_to_end() => Wish::Leave,
            key = keys.next() => match key {
                b'p' | b'P' => Wish::TogglePause,
                b'y' | b'Y' => Wish::Consent,
                b'n' | b'N' => Wish::Refuse,
                b'q' | b'Q' => Wish::Leave,
                _ => continue,
            },
        };
        if wishes.send(wish).await.is_err() {
            return;
        }
    }
}

/// True where a user at a terminal can be asked.
#[must_use]
pub fn interactive() -> bool {
    std::io::stdin().is_terminal()
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
