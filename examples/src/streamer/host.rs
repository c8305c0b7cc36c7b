//! The streamer's room: who comes and goes, what is said, and what the host types.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use streampay_core::driver::RoomHandle;
use streampay_core::room::{HostCommand, RoomConfig, RoomEvent, RoomId};
use streampay_core::session::Line;
use streampay_core::store::StoreError;
use streampay_core::units::XOnlyKey;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::home::Home;
use crate::report::Report;

/// What the host may type, for the user.
pub const HELP: &str =
    "type to all viewers; /kick NAME, /ban NAME, /unban NAME, /mute NAME, /unmute NAME";
/// The most names that are remembered, for who left and is to be unbanned. Chosen arbitrarily.
const NAMES_MAX: usize = 10_000;

/// Everybody's name so far.
type Names = Arc<Mutex<BTreeMap<String, XOnlyKey>>>;

/// Opens the streamer's room. `tasks` tell what happens in it and, with `typing`, pass on what the
/// host types.
///
/// # Errors
/// [`StoreError`] where the store cannot be read.
pub(super) async fn open(
    home: &Home,
    report: Report,
    typing: bool,
    tasks: &mut JoinSet<()>,
) -> Result<RoomHandle, StoreError> {
    let id = RoomId(home.identity.public().0);
    let (room, events) = RoomHandle::open(&home.node, RoomConfig::new(id)).await?;
    let names = Names::default();
    tasks.spawn(tell(events, names.clone(), report));
    let of_dashboard = Board::of_this_process().and_then(Board::typed);
    if let Some(lines) = of_dashboard.filter(|_| typing) {
        tasks.spawn(listen(room.clone(), lines, names, report));
    } else if typing && may_read_stdin() {
        let (typed, lines) = mpsc::channel(8);
        // A thread of its own: nothing waits for it when the process ends.
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if typed.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        tasks.spawn(listen(room.clone(), lines, names, report));
    }
    Ok(room)
}

/// In the background a terminal is another program's: to read it would stop this one.
fn may_read_stdin() -> bool {
    let stdin = std::io::stdin();
    #[cfg(unix)]
    {
        let ours = rustix::termios::tcgetpgrp(&stdin).ok() == Some(rustix::process::getpgrp());
        !stdin.is_terminal() || ours
    }
    #[cfg(not(unix))]
    {
        let _ = stdin;
        true
    }
}

async fn listen(room: RoomHandle, mut lines: mpsc::Receiver<String>, names: Names, report: Report) {
    while let Some(line) = lines.recv().await {
        let command = {
            let names = names.lock().unwrap_or_else(PoisonError::into_inner);
            command(&line, &names)
        };
        match command {
            Ok(Some(command)) => {
                if let Err(error) = room.host(command) {
                    report.tell(&format!("the room is closed: {error}"));
                }
            }
            Ok(None) => {}
            Err(why) => report.tell(why),
        }
    }
    // No more will be typed: the room stays open.
    std::future::pending::<()>().await;
}

/// What a typed line asks for; none for an empty one.
fn command(
    line: &str,
    names: &BTreeMap<String, XOnlyKey>,
) -> Result<Option<HostCommand>, &'static str> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let Some(order) = line.strip_prefix('/') else {
        let text = Line::new(line).map_err(|_| "too long to say at once; nothing was said")?;
        return Ok(Some(HostCommand::Say(text)));
    };
    let (verb, name) = order.split_once(' ').unwrap_or((order, ""));
    let act: fn(XOnlyKey) -> HostCommand = match verb {
        "kick" => HostCommand::Kick,
        "ban" => HostCommand::Ban,
        "unban" => HostCommand::Unban,
        "mute" => HostCommand::Mute,
        "unmute" => HostCommand::Unmute,
        _ => return Err(HELP),
    };
    let who = names.get(name.trim());
    let who = who.ok_or("nobody of that name was here; say it whole, with what is after the #")?;
    Ok(Some(act(*who)))
}

async fn tell(mut events: mpsc::Receiver<RoomEvent>, names: Names, report: Report) {
    while let Some(event) = events.recv().await {
        if let RoomEvent::Joined { identity, name } = &event {
            let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
            if names.len() < NAMES_MAX {
                names.insert(name.clone(), *identity);
            }
        }
        let (what, fields, line) = described(&event);
        report.say(what, fields);
        report.tell(&line);
    }
}

fn described(event: &RoomEvent) -> (&'static str, serde_json::Value, String) {
    match event {
        RoomEvent::Viewers { viewers } => (
            "viewers",
            json!({"viewers": viewers}),
            format!("{viewers} watching"),
        ),
        RoomEvent::Joined { name, .. } => {
            ("joined", json!({"name": name}), format!("{name} joined"))
        }
        RoomEvent::Left { name, .. } => ("left", json!({"name": name}), format!("{name} left")),
        RoomEvent::Refused { code, .. } => (
            "join_refused",
            json!({"why": code.to_string()}),
            format!("somebody may not join: {code}"),
        ),
        RoomEvent::Said { name, text, .. } => (
            "chat",
            json!({"name": name, "text": text.as_str()}),
            format!("<{name}> {}", text.as_str()),
        ),
        RoomEvent::Tip { name, amount, .. } => {
            let who = name.as_deref().unwrap_or("somebody");
            (
                "tip",
                json!({"name": name, "amount_msat": amount.msat()}),
                format!("{who} gave {amount}"),
            )
        }
        RoomEvent::ListFull => (
            "list_full",
            json!({}),
            "the list is full: not kept".to_owned(),
        ),
        _ => (
            "other",
            json!({}),
            "something happened in the room".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_said_or_done_to_who_is_named() {
        let who = XOnlyKey([7; 32]);
        let names = BTreeMap::from([("ann#0707".to_owned(), who)]);
        let typed = |line: &str| command(line, &names);
        let said = HostCommand::Say(Line::new("hello").unwrap());
        assert_eq!(typed(" hello "), Ok(Some(said)));
        assert_eq!(typed("  "), Ok(None));
        assert_eq!(typed("/kick ann#0707"), Ok(Some(HostCommand::Kick(who))));
        assert_eq!(typed("/ban  ann#0707 "), Ok(Some(HostCommand::Ban(who))));
        assert_eq!(
            typed("/unmute ann#0707"),
            Ok(Some(HostCommand::Unmute(who)))
        );
        for wrong in ["/kick", "/kick bob", "/dance ann#0707", "/"] {
            assert!(typed(wrong).is_err(), "{wrong}");
        }
        assert!(typed(&"x".repeat(501)).is_err());
    }
}
