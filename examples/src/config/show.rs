//! `config show`: every setting, its value, and where it was said.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap::error::ErrorKind;
use serde_json::{Value, json};

use super::layers::{Held, Layers};
use super::parse::{Said, explained, named_file, with};
use super::table::{Kind, Setting};
use super::{Origin, Program, Surroundings};
use crate::error::AppError;
use crate::home;
use crate::report::{Report, show_line};

/// The settings.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// What every setting is, and where that was said. Secrets are named, never shown.
    ///
    /// The lines are those of a settings file. Flags over variables over the file over what is built
    /// in: the option `--max-viewers` is `max-viewers` there, and `STREAMPAY_MAX_VIEWERS`.
    Show {
        /// One setting a line on stdout.
        #[arg(long)]
        json: bool,
        /// Flags, to see what comes of them.
        #[arg(last = true, value_name = "FLAGS")]
        flags: Vec<OsString>,
    },
}

/// Does it. `named` is the settings file that the user named, `data` the folder that is used.
///
/// # Errors
/// [`AppError`] where a setting cannot be used.
pub fn config(
    program: Program,
    named: Option<PathBuf>,
    data: Option<PathBuf>,
    config: Config,
) -> Result<(), AppError> {
    let Config::Show { json, flags } = config;
    let around = Surroundings::of_this_process()?;
    let named = named_file(named, &around);
    let mut shown = Shown::of(program, named.as_deref(), &around, flags)?;
    shown.uses(data);
    if json {
        let report = Report { json };
        shown
            .settings
            .iter()
            .for_each(|held| report.say("setting", fields(held)));
    } else {
        show_line(shown.text(program, named.as_deref(), &around));
    }
    shown.checked(program)
}

/// All settings of a program.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) settings: Vec<Held>,
    line: Vec<OsString>,
}

impl Shown {
    pub(super) fn of(
        program: Program,
        named: Option<&Path>,
        around: &Surroundings,
        flags: Vec<OsString>,
    ) -> Result<Self, AppError> {
        let layers = Layers::read(program, named, around)?;
        let names = [program.name(), program.main_command()];
        let line: Vec<OsString> = names.map(OsString::from).into_iter().chain(flags).collect();
        let said = Said::on(program.command(), &line);
        let said = said.map_err(|_| AppError::Usage("these flags ask for help: say it without"))?;
        let held = layers.held(&said.names);
        let every = layers.table.iter();
        let settings = every.map(|setting| whole(program, setting, &said, &held));
        Ok(Self {
            settings: settings.collect(),
            line: with(line, &held),
        })
    }

    /// The folder that is used, where the command line names another than the settings.
    fn uses(&mut self, data: Option<PathBuf>) {
        let mut settings = self.settings.iter_mut();
        let held = settings.find(|held| held.setting.name == "data");
        if let (Some(held), Some(data)) = (held, data) {
            let values = vec![data.display().to_string()];
            if held.values != values {
                (held.values, held.origin) = (values, Origin::Flag);
            }
        }
    }

    fn text(&self, program: Program, named: Option<&Path>, around: &Surroundings) -> String {
        let from = match (named, &around.file) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(path)) if path.exists() => path.display().to_string(),
            (None, Some(path)) => format!("{} is not there", path.display()),
            (None, None) => "no settings file".to_owned(),
        };
        let lines = self.settings.iter().map(|held| {
            let name = &held.setting.name;
            match value(held) {
                Value::Null => format!("# {name} is not set"),
                value => format!("{name} = {value}  # {}", held.origin),
            }
        });
        let head = [format!("# {from}"), format!("[{}]", program.name())];
        head.into_iter().chain(lines).collect::<Vec<_>>().join("\n")
    }

    /// Says what is wrong with a value.
    fn checked(self, program: Program) -> Result<(), AppError> {
        let Err(error) = program.command().try_get_matches_from(self.line) else {
            return Ok(());
        };
        // What is still to be said on the command line.
        if error.kind() == ErrorKind::MissingRequiredArgument {
            return Ok(());
        }
        let _ = explained(error, &self.settings).told(program);
        Err(AppError::Usage("a setting cannot be used: see above"))
    }
}

fn whole(program: Program, setting: &Setting, said: &Said, held: &[Held]) -> Held {
    if let Some(held) = held.iter().find(|held| held.setting == *setting) {
        return held.clone();
    }
    let on_the_line = said.names.contains(&setting.name);
    let (values, origin) = match (on_the_line, setting.name.as_str()) {
        (true, name) => (said.values(name), Origin::Flag),
        (false, "data") => {
            let folder = home::folder(None, program.name());
            (vec![folder.display().to_string()], Origin::Default)
        }
        _ => (setting.default.clone(), Origin::Default),
    };
    Held {
        setting: setting.clone(),
        values,
        origin,
    }
}

/// As TOML and JSON both write it; null where it is not set.
fn value(held: &Held) -> Value {
    match (held.setting.kind, held.values.as_slice()) {
        (_, []) => Value::Null,
        (Kind::Flag, [value, ..]) => Value::Bool(value == "true"),
        (Kind::Many, values) => json!(values),
        (Kind::One, [value, ..]) => json!(value),
    }
}

fn fields(held: &Held) -> Value {
    let value = value(held);
    let (from, at) = match &held.origin {
        _ if value.is_null() => ("nowhere", Value::Null),
        Origin::Flag => ("flag", Value::Null),
        Origin::Environment(name) => ("environment", json!(name)),
        Origin::File(path, line) => ("file", json!(format!("{}:{line}", path.display()))),
        Origin::Default => ("default", Value::Null),
    };
    json!({"name": held.setting.name, "value": value, "from": from, "at": at})
}
