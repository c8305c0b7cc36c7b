//! What shells and `man` want to know of the command lines.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};

use crate::config::Program;
use crate::error::AppError;

/// For the shell and for `man`.
#[derive(Debug, Subcommand)]
pub enum Shell {
    /// A script on stdout that lets a shell complete this program's commands and options.
    ///
    /// bash: into ~/.local/share/bash-completion/completions/, under the program's name. zsh: into a
    /// folder of $fpath, as _ and the program's name. fish: into ~/.config/fish/completions/, with
    /// .fish at the end.
    Completions {
        /// Which shell.
        shell: Kind,
    },
    /// The manual page on stdout, or one for each command into a folder.
    Man {
        /// The folder, such as ~/.local/share/man/man1.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// A shell that can be helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// GNU bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

impl Shell {
    /// Does it.
    ///
    /// # Errors
    /// [`AppError`] where it cannot be written.
    pub fn run(self, program: Program) -> Result<(), AppError> {
        match self {
            Self::Completions { shell } => said(&completions(program, shell)),
            Self::Man { out: None } => said(&manual(program)?),
            Self::Man { out: Some(folder) } => pages(program, &folder),
        }
    }
}

pub(super) fn completions(program: Program, shell: Kind) -> Vec<u8> {
    use clap_complete::Shell as Of;
    let shell = match shell {
        Kind::Bash => Of::Bash,
        Kind::Zsh => Of::Zsh,
        Kind::Fish => Of::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program.command(), program.name(), &mut script);
    script
}

pub(super) fn manual(program: Program) -> Result<Vec<u8>, AppError> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(program.command()).render(&mut page);
    rendered.map_err(AppError::io("the page cannot be written"))?;
    Ok(page)
}

pub(super) fn pages(program: Program, folder: &Path) -> Result<(), AppError> {
    let failed = |error: std::io::Error| AppError::file(folder, &error.to_string());
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(program.command(), folder).map_err(failed)
}

/// Nobody who reads only the first lines is told of a failure.
fn said(bytes: &[u8]) -> Result<(), AppError> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(AppError::io("stdout cannot be written")(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_is_in_the_scripts_and_pages() {
        for program in Program::ALL {
            let command = program.command();
            let main = command.find_subcommand(program.main_command()).unwrap();
            let longs = main.get_arguments().filter_map(clap::Arg::get_long);
            let longs: Vec<_> = longs.map(|long| format!("--{long}")).collect();
            for shell in Kind::value_variants() {
                let script = String::from_utf8(completions(program, *shell)).unwrap();
                for long in &longs {
                    let bare = long.trim_start_matches('-');
                    assert!(script.contains(bare), "{shell:?} has no {long}");
                }
            }
            let folder = tempfile::tempdir().unwrap();
            let inside = folder.path().join("man1");
            pages(program, &inside).unwrap();
            for inner in command.get_subcommands() {
                let file = format!("{}-{}.1", program.name(), inner.get_name());
                let page = std::fs::read_to_string(inside.join(&file)).unwrap();
                assert!(page.starts_with(".ie") || page.contains(".TH"), "{file}");
            }
            let page = format!("{}-{}.1", program.name(), program.main_command());
            let page = std::fs::read_to_string(inside.join(page)).unwrap();
            let page = page.replace("\\-", "-");
            for long in &longs {
                assert!(page.contains(long.as_str()), "the page has no {long}");
            }
            let whole = String::from_utf8(manual(program).unwrap()).unwrap();
            assert!(whole.contains("Exit codes"), "they belong into the page");
        }
    }
}
