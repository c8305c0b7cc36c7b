//! Looks for inputs that break the targets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use streampay_fuzz::hunt::{Until, attempt, hunt, keep_panics_quiet, save};
use streampay_fuzz::{TARGETS, Target, corpus};

const USAGE: &str = "\
fuzz [--target NAME|all] [--seconds N] [--seed S] [--threads N]
fuzz --target NAME --input FILE
fuzz --target NAME --vectors FOLDER

--target NAME   a target of streampay_fuzz::TARGETS (default all)
--seconds N     how long each is tried, after its corpus (default 20)
--seed S        chooses the inputs (default 1)
--threads N     so many targets at a time (default: as many as there are cores)
--input FILE    tries this input alone, and lets its panic speak
--vectors FOLDER  writes the vectors that this target takes there, for cargo-fuzz";

struct Args {
    target: String,
    seconds: u64,
    seed: u64,
    threads: usize,
    input: Option<PathBuf>,
    vectors: Option<PathBuf>,
}

fn parse() -> Result<Args, String> {
    let mut parsed = Args {
        target: "all".into(),
        seconds: 20,
        seed: 1,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        input: None,
        vectors: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || {
            let number = value.parse::<u64>();
            number.map_err(|_| format!("{name}: no number: {value}"))
        };
        match name.as_str() {
            "--target" => parsed.target = value,
            "--seconds" => parsed.seconds = number()?,
            "--seed" => parsed.seed = number()?,
            "--threads" => parsed.threads = usize::try_from(number()?).unwrap_or(1).max(1),
            "--input" => parsed.input = Some(value.into()),
            "--vectors" => parsed.vectors = Some(value.into()),
            _ => return Err(format!("what is {name}?")),
        }
    }
    Ok(parsed)
}

fn main() -> ExitCode {
    match parse().and_then(|args| run(&args)) {
        Ok(failed) => ExitCode::from(u8::from(failed > 0)),
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<usize, String> {
    let wanted = |(name, _): &(&str, Target)| args.target == "all" || args.target == *name;
    let targets: Vec<_> = TARGETS.into_iter().filter(wanted).collect();
    if targets.is_empty() {
        return Err(format!("no target {}", args.target));
    }
    if let Some(path) = &args.input {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        targets.iter().for_each(|(_, target)| target(&bytes));
        println!("{} passed, 0 failed", targets.len());
        return Ok(0);
    }
    if let Some(folder) = &args.vectors {
        return write_vectors(&targets, folder).map(|()| 0);
    }
    keep_panics_quiet();
    let all = targets.len();
    let (left, failed) = (Mutex::new(targets.into_iter()), Mutex::new(Vec::new()));
    let work = || {
        while let Some((name, target)) = next(&left) {
            if let Err(what) = try_target(args, name, target) {
                println!("{what}");
                failed.lock().map(|mut failed| failed.push(name)).ok();
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().map_or(all, |failed| failed.len());
    println!("{} passed, {failed} failed", all - failed);
    Ok(failed)
}

/// One file a vector, for the libraries that take folders.
fn write_vectors(targets: &[(&str, Target)], folder: &Path) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(say)?;
    for (name, _) in targets {
        let vectors = corpus::of_vectors(name).map_err(say)?;
        for (at, (_, bytes)) in vectors.iter().enumerate() {
            fs::write(folder.join(format!("{name}-{at}")), bytes).map_err(say)?;
        }
        println!("{} vectors for {name}", vectors.len());
    }
    Ok(())
}

fn next<T>(left: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    left.lock().ok()?.next()
}

fn try_target(args: &Args, name: &str, target: Target) -> Result<(), String> {
    let corpus = corpus::inputs(name).map_err(|error| format!("{name}: {error}"))?;
    for (path, bytes) in &corpus {
        attempt(target, bytes).map_err(|said| format!("{name}: {path}: {said}"))?;
    }
    let corpus: Vec<_> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    let (start, time) = (Instant::now(), Duration::from_secs(args.seconds));
    let hunted = hunt(target, &corpus, args.seed, Until::Passed(time));
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{name}: {} inputs from a corpus of {}, seed {}, {seconds:.1} s, the slowest {:.3} s",
        hunted.executions,
        corpus.len(),
        args.seed,
        hunted.slowest.as_secs_f64()
    );
    let Some(broken) = hunted.broken else {
        return Ok(());
    };
    let artifacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts");
    let saved = save(&artifacts, name, &broken.input).map_err(|error| error.to_string())?;
    let (path, said) = (saved.display(), broken.message);
    Err(format!("{name}: broken by {path}: {said}"))
}
