//! A command line, filled up with what the settings say.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use super::layers::{Held, Layers, misspelt};
use super::table::is_secret;
use super::{PREFIX, Program, Surroundings};
use crate::error::AppError;
use crate::report::show_note;

/// Commands that use no setting: they own nothing, or write what does not depend on it.
const WITHOUT: [&str; 5] = ["demo", "mint", "completions", "man", "help"];
/// Commands that use all settings; the others use those of every command, such as `--data`.
const FULL: [&str; 3] = ["serve", "watch", "doctor"];

/// Why there is nothing to do.
#[derive(Debug)]
pub enum Stop {
    /// The command line is wrong, or asks for help; where a setting is wrong that is said
    /// elsewhere, where.
    Line(Box<clap::Error>, Option<String>),
    /// The settings are wrong.
    Settings(AppError),
}

impl Stop {
    /// Says it, and the exit code.
    #[must_use]
    pub fn told(&self, program: Program) -> u8 {
        match self {
            Self::Line(error, origin) => {
                // A terminal that is gone is told nothing.
                let _ = error.print();
                if let Some(origin) = origin {
                    show_note(format_args!("It is said in {origin}."));
                }
                u8::try_from(error.exit_code()).unwrap_or(2)
            }
            Self::Settings(error) => {
                show_note(format_args!("{}: {error}", program.name()));
                error.exit_code()
            }
        }
    }
}

impl From<AppError> for Stop {
    fn from(error: AppError) -> Self {
        Self::Settings(error)
    }
}

/// What the command line of this process asks for, settings included.
///
/// # Errors
/// [`Stop`].
pub fn parse_this<C: CommandFactory + FromArgMatches>(program: Program) -> Result<C, Stop> {
    let around = Surroundings::of_this_process()?;
    parse(program, std::env::args_os().collect(), &around)
}

/// What the command line `line` asks for, settings included.
///
/// # Errors
/// [`Stop`].
pub fn parse<C: CommandFactory + FromArgMatches>(
    program: Program,
    line: Vec<OsString>,
    around: &Surroundings,
) -> Result<C, Stop> {
    let said = Said::on(C::command(), &line)?;
    if !said.command {
        return matched(C::command(), line, &[]);
    }
    for (variable, meant) in misspelt(around) {
        show_note(format_args!(
            "{}: {variable} is no setting; did you mean {meant}?",
            program.name()
        ));
    }
    let file = named_file(said.config_file(), around);
    let layers = Layers::read(program, file.as_deref(), around)?;
    let mut held = layers.held(&said.names);
    held.retain(|held| said.takes.contains(&held.setting.name));
    matched(C::command(), with(line, &held), &held)
}

/// `line` with what holds, before what `--` ends.
pub(super) fn with(mut line: Vec<OsString>, held: &[Held]) -> Vec<OsString> {
    let end = line.iter().position(|argument| argument == "--");
    let at = end.unwrap_or(line.len());
    let more = held.iter().flat_map(Held::arguments).map(OsString::from);
    line.splice(at..at, more);
    line
}

/// What the whole line comes to.
pub(super) fn matched<C: FromArgMatches>(
    command: Command,
    line: Vec<OsString>,
    held: &[Held],
) -> Result<C, Stop> {
    let matches = command.clone().try_get_matches_from(line);
    let taken = matches.and_then(|matches| C::from_arg_matches(&matches));
    taken.map_err(|error| explained(error, held))
}

/// The error without secrets, and where the wrong setting was said.
pub(super) fn explained(mut error: clap::Error, held: &[Held]) -> Stop {
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => option.clone(),
        _ => String::new(),
    };
    if is_secret(&option) {
        let hidden = ContextValue::String("(not shown)".to_owned());
        error.insert(ContextKind::InvalidValue, hidden);
    }
    let name = option.split(' ').next().unwrap_or_default();
    let of = |held: &&Held| name.strip_prefix("--") == Some(&held.setting.name);
    let origin = held.iter().find(of).map(|held| held.origin.to_string());
    Stop::Line(Box::new(error), origin)
}

/// What a command line says by itself.
pub(super) struct Said {
    /// There is a command that has use for settings.
    command: bool,
    /// The options that it says.
    pub(super) names: BTreeSet<String>,
    /// The options that its command takes.
    takes: BTreeSet<String>,
    /// Of the program, and of its command.
    outer: ArgMatches,
    inner: ArgMatches,
}

impl Said {
    /// # Errors
    /// [`Stop`] where it asks for help alone.
    pub(super) fn on(command: Command, line: &[OsString]) -> Result<Self, Stop> {
        // What is wrong with it is found once it is whole.
        let matches = command
            .clone()
            .ignore_errors(true)
            .try_get_matches_from(line);
        let matches = match matches {
            Ok(matches) => matches,
            Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                ArgMatches::default()
            }
            Err(error) => return Err(Stop::Line(Box::new(error), None)),
        };
        let mut said = Self {
            command: false,
            names: BTreeSet::new(),
            takes: BTreeSet::new(),
            outer: matches.clone(),
            inner: ArgMatches::default(),
        };
        said.take(&command, &matches);
        if let Some((name, inner)) = matches.subcommand()
            && !WITHOUT.contains(&name)
        {
            said.command = true;
            if let Some(command) = command
                .find_subcommand(name)
                .filter(|_| FULL.contains(&name))
            {
                said.take(command, inner);
                said.inner = inner.clone();
            }
        }
        Ok(said)
    }

    fn take(&mut self, command: &Command, matches: &ArgMatches) {
        for arg in command.get_arguments() {
            let Some(name) = arg.get_long() else { continue };
            self.takes.insert(name.to_owned());
            let id = arg.get_id().as_str();
            let known = matches.try_contains_id(id).is_ok();
            if known && matches.value_source(id) == Some(ValueSource::CommandLine) {
                self.names.insert(name.to_owned());
            }
        }
    }

    /// What it says of one of [`Self::names`].
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let id = name.replace('-', "_");
        let of = |matches: &ArgMatches| {
            let values = matches.try_get_raw(&id).ok().flatten()?;
            let text = values.map(|value| value.to_string_lossy().into_owned());
            Some(text.collect())
        };
        of(&self.inner)
            .or_else(|| of(&self.outer))
            .unwrap_or_default()
    }

    fn config_file(&self) -> Option<PathBuf> {
        let named = self.outer.try_get_one::<PathBuf>("config");
        named.ok().flatten().cloned()
    }
}

/// The settings file that the user named: on the command line, or by the variable.
pub(super) fn named_file(on_the_line: Option<PathBuf>, around: &Surroundings) -> Option<PathBuf> {
    on_the_line.or_else(|| {
        let variable = around.variables.get(&format!("{PREFIX}CONFIG"));
        variable.filter(|path| !path.is_empty()).map(PathBuf::from)
    })
}
