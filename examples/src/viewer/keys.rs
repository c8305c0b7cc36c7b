//! What the user says while watching: keys on a terminal, and signals.

use std::io::{IsTerminal, Read, Write};

use tokio::sync::mpsc;

use super::watch::Wish;
use crate::signals::asked_to_end;

/// Ctrl-C (and SIGTERM, and `q`) settles; `p` on a terminal pauses and goes on, `y` agrees to what
/// the session waits for, `n` refuses a new price. Who is in the `room` begins a line for it with `t`, which
/// Enter sends; where stdin is no terminal, each line of it is for the room. Runs until nobody listens.
pub async fn listen(wishes: mpsc::Sender<Wish>, room: bool) {
    let restored_at_the_end = SingleKeys::begin();
    let terminal = restored_at_the_end.is_some();
    let piped = room && !std::io::stdin().is_terminal();
    let mut keys = Keys::new(terminal || piped);
    let mut typed: Option<Typed> = piped.then(Typed::default);
    let mut asked = false;
    loop {
        let wish = tokio::select! {
            () = wishes.closed() => return,
            () = asked_to_end(), if !asked => {
                asked = true;
                Wish::Leave
            }
            key = keys.next() => match (&mut typed, key) {
                (Some(line), key) => match line.key(key, terminal) {
                    None => continue,
                    Some(text) => {
                        typed = piped.then(Typed::default);
                        Wish::Say(text)
                    }
                },
                (None, key) => match pressed(key, room) {
                    None => continue,
                    Some(Pressed::Wish(wish)) => wish,
                    Some(Pressed::Line) => {
                        typed = Some(Typed::default());
                        show(b"\r\x1b[K> ");
                        continue;
                    }
                },
            },
        };
        if wishes.send(wish).await.is_err() {
            return;
        }
    }
}

/// What the keys do, for who watches on a terminal.
#[must_use]
pub const fn help(room: bool) -> &'static str {
    match room {
        true => "p pauses and goes on, t talks to the room, Ctrl-C settles and ends",
        false => "p pauses and goes on, Ctrl-C settles and ends; --name NAME joins the room",
    }
}

/// What a key is, outside a line.
#[derive(Debug)]
enum Pressed {
    Wish(Wish),
    Line,
}

fn pressed(key: u8, room: bool) -> Option<Pressed> {
    Some(match key.to_ascii_lowercase() {
        b'p' => Pressed::Wish(Wish::TogglePause),
        b'y' => Pressed::Wish(Wish::Consent),
        b'n' => Pressed::Wish(Wish::Refuse),
        b'q' => Pressed::Wish(Wish::Leave),
        // Who is in no room would talk to nobody, and not be told.
        b't' if room => Pressed::Line,
        _ => return None,
    })
}

/// A line under way.
#[derive(Default)]
struct Typed(Vec<u8>);

/// The longest line that is taken: what the room takes at once.
const LINE_MAX: usize = 500;
const BACKSPACE: [u8; 2] = [8, 127];

impl Typed {
    /// One more key; the line once it is whole. The terminal shows nothing by itself.
    fn key(&mut self, key: u8, echo: bool) -> Option<String> {
        match key {
            b'\r' | b'\n' => {
                if echo {
                    show(b"\r\x1b[K");
                }
                let line = core::mem::take(&mut self.0);
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            key if BACKSPACE.contains(&key) => {
                // All bytes of the last character.
                while self.0.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
                if echo {
                    show(b"\r\x1b[K> ");
                    show(&self.0);
                }
            }
            key if key >= b' ' && self.0.len() < LINE_MAX => {
                self.0.push(key);
                if echo {
                    show(&[key]);
                }
            }
            _ => {}
        }
        None
    }
}

fn show(bytes: &[u8]) {
    let mut out = std::io::stderr().lock();
    // A terminal that is gone shows nothing.
    let _ = out.write_all(bytes).and_then(|()| out.flush());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> Vec<String> {
        let mut line = Typed::default();
        keys.iter()
            .filter_map(|key| line.key(*key, false))
            .collect()
    }

    #[test]
    fn only_who_is_in_the_room_is_offered_a_line_to_it() {
        assert!(matches!(pressed(b't', true), Some(Pressed::Line)));
        assert!(pressed(b't', false).is_none() && pressed(b'T', false).is_none());
        assert!(help(true).contains("t talks") && !help(false).contains("t talks"));
        let pauses = pressed(b'P', false);
        assert!(matches!(pauses, Some(Pressed::Wish(Wish::TogglePause))));
    }

    #[test]
    fn a_line_is_what_was_typed_when_enter_comes() {
        assert_eq!(typed(b"hello\r"), ["hello"]);
        assert_eq!(typed(b"hx\x7fello\nyou\n"), ["hello", "you"]);
        assert_eq!(typed("h\u{e9}\x7fi\n".as_bytes()), ["hi"]);
        assert_eq!(typed(b"\x7f\x1b\n"), [""]);
        assert_eq!(typed(&[b'x'; 600]), Vec::<String>::new());
    }
}
