//! Settings: what the command line says, over the environment, over the settings file, over what
//! is built in.
//!
//! What can be set is what the programs' main commands take as options, under the same names: the
//! option `--max-exposure` is the key `max-exposure` of the file and the variable
//! `STREAMPAY_MAX_EXPOSURE`. So there is one table of settings, that of the command lines.

mod file;
mod layers;
mod parse;
mod show;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use parse::{Stop, parse, parse_this};
pub use show::{Config, config};

use crate::error::AppError;
use crate::home;

/// What variables that are settings begin with.
pub const PREFIX: &str = "STREAMPAY_";

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// `streamer`.
    Streamer,
    /// `viewer`.
    Viewer,
}

impl Program {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Streamer, Self::Viewer];

    /// What it is called; also its table in the settings file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Streamer => "streamer",
            Self::Viewer => "viewer",
        }
    }

    /// The command whose options are its settings.
    #[must_use]
    pub const fn main_command(self) -> &'static str {
        match self {
            Self::Streamer => "serve",
            Self::Viewer => "watch",
        }
    }

    /// Its command line.
    #[must_use]
    pub fn command(self) -> clap::Command {
        match self {
            Self::Streamer => crate::cli::streamer::command(),
            Self::Viewer => crate::cli::viewer::command(),
        }
    }
}

/// Where a setting was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag,
    /// In this variable.
    Environment(String),
    /// In the settings file, at this line.
    File(PathBuf, usize),
    /// Nowhere: it is built in.
    Default,
}

impl core::fmt::Display for Origin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Flag => f.write_str("the command line"),
            Self::Environment(name) => write!(f, "the variable {name}"),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Default => f.write_str("built in"),
        }
    }
}

/// What a process finds around it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Its variables that begin with [`PREFIX`].
    pub variables: BTreeMap<String, String>,
    /// The settings file that is read where none is named, if it is there.
    pub file: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    ///
    /// # Errors
    /// [`AppError::Setting`] for a variable of ours that is no text.
    pub fn of_this_process() -> Result<Self, AppError> {
        let mut variables = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            let value = value.into_string().map_err(|_| AppError::Setting {
                origin: Origin::Environment(name.to_owned()).to_string(),
                why: "this is no text".to_owned(),
            })?;
            variables.insert(name.to_owned(), value);
        }
        Ok(Self {
            variables,
            file: Some(home::config_folder().join("config.toml")),
        })
    }
}
