//! Which settings there are: read off the command lines.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

use super::{PREFIX, Program};

/// Options that are for one command line alone: help, where the settings are, and consent.
const NEVER: [&str; 4] = ["help", "version", "config", "yes"];
/// Options whose value may hold a password: said as `env:NAME` or `file:PATH`.
const SECRET: [&str; 4] = ["bitcoind", "btc", "fee-wallet", "turn-password"];
/// What stands for a secret that this program has itself, or for none.
pub(super) const IN_PLAIN: [&str; 2] = ["own", "off"];
/// Options one of which is said: a layer that says one of them says all of them.
pub(super) const ONE_OF: [&[&str]; 3] = [
    &["media", "whip", "rtp"],
    &["record", "out", "browser"],
    &["tui", "json"],
];
/// Limits of something that need not be wanted: without it they mean nothing, and do no harm.
pub(super) const LIMITS_OF: [(&str, &str); 1] = [("max-join-fee", "name")];

/// How a setting is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Yes or no.
    Flag,
    /// One value.
    One,
    /// Several.
    Many,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// The option's name, and the key of the file.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// It is a file or a folder.
    pub(super) is_path: bool,
    /// Its value may hold a password.
    pub(super) is_secret: bool,
    /// What is built in.
    pub(super) default: Vec<String>,
}

impl Setting {
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_uppercase().replace('-', "_"))
    }

    fn of(arg: &Arg) -> Option<Self> {
        let name = arg.get_long().filter(|name| !NEVER.contains(name))?;
        let kind = match arg.get_action() {
            ArgAction::SetTrue => Kind::Flag,
            ArgAction::Append => Kind::Many,
            _ => Kind::One,
        };
        let defaults = arg.get_default_values().iter();
        let defaults = defaults.map(|value| value.to_string_lossy().into_owned());
        Some(Self {
            name: name.to_owned(),
            kind,
            is_path: arg.get_value_parser().type_id() == TypeId::of::<PathBuf>(),
            is_secret: SECRET.contains(&name),
            default: match kind {
                Kind::Flag => vec!["false".to_owned()],
                _ => defaults.collect(),
            },
        })
    }
}

/// The settings of `program`, in the order of its help.
pub(super) fn settings(program: Program) -> Vec<Setting> {
    let command = program.command();
    let main = command.find_subcommand(program.main_command());
    let own = main.into_iter().flat_map(Command::get_arguments);
    command
        .get_arguments()
        .chain(own)
        .filter_map(Setting::of)
        .collect()
}

/// True for an option that may hold a password, as clap names it: `--btc <URL>`.
pub(super) fn is_secret(option: &str) -> bool {
    let option = option.split(' ').next().unwrap_or_default();
    option
        .strip_prefix("--")
        .is_some_and(|name| SECRET.contains(&name))
}

/// What of `known` was probably meant by `name`.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase().replace('_', "-");
    let measured = known.map(|known| (strsim::damerau_levenshtein(&name, known), known));
    let (distance, known) = measured.min_by_key(|(distance, _)| *distance)?;
    // A third of the letters, and at least one, may be wrong. Chosen by trying.
    (distance <= (known.len() / 3).max(1)).then_some(known)
}

/// The names of `settings`.
pub(super) fn names(settings: &[Setting]) -> BTreeSet<&str> {
    settings
        .iter()
        .map(|setting| setting.name.as_str())
        .collect()
}
