//! Puts an implementation through vectors, transcripts and hostile peers:
//! `conformance [--adapter 'CMD ARGS'] [--timeout-ms N] [--without cashu]`. Without `--adapter`, this
//! one, which is this program again. `conformance --broken` puts every adapter that is broken on
//! purpose through it and fails where one is not found.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use streampay_spec::adapter::{Broken, Found, find, serve};
use streampay_spec::conformance::{Child, DEFAULT_TIMEOUT, Part, Report, not_asked, run};

/// Makes this program answer instead of ask.
const AS_ADAPTER: &str = "--as-adapter";
const USAGE: &str = "usage: conformance [--adapter 'CMD ARGS' | --broken] [--timeout-ms N] \
                     [--without cashu]";
/// How long those of our broken adapters may take that hang: they answer nothing else late.
const HANGING_TIMEOUT: Duration = Duration::from_millis(500);

struct Arguments {
    adapter: Option<String>,
    broken: bool,
    timeout: Option<Duration>,
    parts: Vec<Part>,
}

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(AS_ADAPTER) {
        return serve(env::args().nth(2).and_then(|name| Broken::named(&name)));
    }
    let result = match arguments() {
        None => Err(USAGE.into()),
        Some(arguments) if arguments.broken => check_broken(&arguments),
        Some(arguments) => check_one(&arguments),
    };
    match result {
        Ok(report) => {
            for failure in report.failures() {
                println!("FAILED {failure}");
            }
            println!("{}", report.summary());
            ExitCode::from(u8::from(!report.failures().is_empty()))
        }
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::from(2)
        }
    }
}

fn check_one(arguments: &Arguments) -> Result<Report, String> {
    let (program, rest) = match &arguments.adapter {
        Some(line) => {
            let mut words = line.split_whitespace().map(String::from);
            (words.next().ok_or(USAGE)?, words.collect())
        }
        None => (own_program()?, vec![AS_ADAPTER.into()]),
    };
    let timeout = arguments.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let report = run(&mut Child::new(program, &rest, timeout), &arguments.parts)?;
    for (folder, count) in not_asked(&arguments.parts)? {
        println!("not asked: {folder}, {count} files");
    }
    Ok(report)
}

/// Each broken adapter is a case, which passes where the adapter fails just where it must.
fn check_broken(arguments: &Arguments) -> Result<Report, String> {
    let program = own_program()?;
    let mut report = Report::default();
    for broken in Broken::ALL {
        let rest = [AS_ADAPTER.into(), broken.name().into()];
        let usual = match broken.found() {
            Found::Line => HANGING_TIMEOUT,
            _ => DEFAULT_TIMEOUT,
        };
        let timeout = arguments.timeout.unwrap_or(usual);
        let result = find(
            &mut Child::new(program.clone(), &rest, timeout),
            broken.found(),
        );
        println!(
            "{}: {}",
            broken.name(),
            if result.is_ok() { "found" } else { "not found" }
        );
        report.add(&format!("broken adapter `{}`", broken.name()), result);
    }
    Ok(report)
}

fn own_program() -> Result<String, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let path = own.to_str().map(ToOwned::to_owned);
    path.ok_or_else(|| "this program's path is no text".into())
}

fn arguments() -> Option<Arguments> {
    let mut found = Arguments {
        adapter: None,
        broken: false,
        timeout: None,
        parts: Part::ALL.to_vec(),
    };
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--adapter" => found.adapter = Some(arguments.next()?),
            "--broken" => found.broken = true,
            "--timeout-ms" => {
                found.timeout = Some(Duration::from_millis(arguments.next()?.parse().ok()?));
            }
            "--without" => match arguments.next()?.as_str() {
                "cashu" => found.parts.retain(|part| *part != Part::Cashu),
                _ => return None,
            },
            _ => return None,
        }
    }
    Some(found)
}
