use std::path::Path;

use clap::{Parser, Subcommand};

use super::show::Shown;
use super::table::{names, nearest, settings};
use super::*;

/// A file with this in it, and its folder.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn around(variables: &[(&str, &str)], file: Option<&Path>) -> Surroundings {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Surroundings {
        variables: variables.iter().map(own).collect(),
        file: file.map(Path::to_owned),
    }
}

fn shown(program: Program, flags: &[&str], around: &Surroundings) -> Result<Shown, AppError> {
    let flags = flags.iter().map(Into::into).collect();
    Shown::of(program, None, around, flags)
}

/// The values of a setting and where they were said.
fn one(shown: &Shown, name: &str) -> (Vec<String>, Origin) {
    let held = shown.settings.iter().find(|held| held.setting.name == name);
    let held = held.unwrap();
    (held.values.clone(), held.origin.clone())
}

#[test]
fn flags_are_over_variables_over_the_file_over_what_is_built_in() {
    let (_folder, path) = file("title = \"both\"\n\n[streamer]\ntitle = \"file\"\n");
    let (both, own) = (Origin::File(path.clone(), 1), Origin::File(path.clone(), 4));
    let variable = Origin::Environment("STREAMPAY_TITLE".into());
    let said = [("STREAMPAY_TITLE", "variable")];
    for (program, flags, variables, expect, origin) in [
        (
            Program::Streamer,
            &["--title", "flag"][..],
            &said[..],
            "flag",
            Origin::Flag,
        ),
        (Program::Streamer, &[], &said, "variable", variable),
        (
            Program::Streamer,
            &[],
            &[("STREAMPAY_TITLE", "")],
            "file",
            own.clone(),
        ),
        (Program::Streamer, &[], &[], "file", own),
    ] {
        let shown = shown(program, flags, &around(variables, Some(&path))).unwrap();
        assert_eq!(one(&shown, "title"), (vec![expect.to_owned()], origin));
        let listen = one(&shown, "listen");
        assert_eq!(listen, (vec!["127.0.0.1:8080".to_owned()], Origin::Default));
    }
    let (_folder, only_both) = file("max-fee-ppk = 7\n");
    for program in Program::ALL {
        let shown = shown(program, &[], &around(&[], Some(&only_both))).unwrap();
        let at = Origin::File(only_both.clone(), both_line(&both));
        assert_eq!(one(&shown, "max-fee-ppk"), (vec!["7".to_owned()], at));
    }
}

fn both_line(origin: &Origin) -> usize {
    match origin {
        Origin::File(_, line) => *line,
        _ => 0,
    }
}

#[test]
fn unknown_keys_are_errors_with_the_line_and_the_nearest_name() {
    for (text, expect) in [
        (
            "[streamer]\npirce = \"1sat/1s\"\n",
            "line 2: `pirce` is no setting here; did you mean `price`?",
        ),
        (
            "\nmax_viewers = 3\n",
            "line 2: `max_viewers` is no setting here; did you mean `max-viewers`?",
        ),
        (
            "[viewer]\nprice = \"1sat/1s\"\n",
            "line 2: `price` is no setting here",
        ),
        (
            "[streamer]\nyes = true\n",
            "line 2: `yes` is no setting here",
        ),
        ("[straemer]\n", "line 1: `straemer` is no setting here"),
        ("streamer = 1\n", "line 1: `streamer` is a table"),
        (
            "[streamer]\nwhip = \"on\"\n",
            "line 2: `whip` is true or false",
        ),
        (
            "[streamer]\nprice = [\"1sat/1s\"]\n",
            "line 2: `price` is one value",
        ),
        (
            "[streamer]\nmint = [1.5]\n",
            "line 2: `mint` is one value in quotes, or several",
        ),
        ("[streamer]\nprice = \n", "line 2: "),
        (
            "[streamer]\nprice = \"1sat/1s\"\nprice = \"2sat/1s\"\n",
            "line 3: duplicate",
        ),
    ] {
        let (_folder, path) = file(text);
        for program in Program::ALL {
            let error = shown(program, &[], &around(&[], Some(&path))).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(expect), "{text}: {said}");
            assert_eq!(error.exit_code(), 2);
        }
    }
    let missing = Path::new("no-such-folder/config.toml");
    let around = around(&[], Some(missing));
    assert!(
        shown(Program::Viewer, &[], &around).is_ok(),
        "the usual one may be missing"
    );
    let named = Shown::of(Program::Viewer, Some(missing), &around, Vec::new());
    assert!(named.is_err(), "one that was named may not");
}

#[test]
fn near_names_are_found_and_far_ones_are_not() {
    let table = settings(Program::Streamer);
    let known = names(&table);
    for (name, expect) in [
        ("pirce", Some("price")),
        ("MAX_EXPOSURE", Some("max-exposure")),
        ("listne", Some("listen")),
        ("colour-of-the-sea", None),
    ] {
        assert_eq!(nearest(name, known.iter().copied()), expect, "{name}");
    }
}

#[test]
fn a_stronger_place_that_names_another_source_leaves_none_to_a_weaker_one() {
    let (_folder, path) = file("[streamer]\nmedia = \"clip.ivf\"\n[viewer]\nrecord = \"a.webm\"\n");
    let beside = path.with_file_name("clip.ivf").display().to_string();
    let file_alone = shown(Program::Streamer, &[], &around(&[], Some(&path))).unwrap();
    assert_eq!(
        one(&file_alone, "media").0,
        [beside],
        "from the file's folder"
    );
    let whip = shown(Program::Streamer, &["--whip"], &around(&[], Some(&path))).unwrap();
    assert_eq!(one(&whip, "media").0, Vec::<String>::new());
    assert_eq!(one(&whip, "whip").0, ["true"]);
    let by_variable = around(&[("STREAMPAY_WHIP", "yes")], Some(&path));
    let whip = shown(Program::Streamer, &[], &by_variable).unwrap();
    assert_eq!(one(&whip, "media").0, Vec::<String>::new());
    let browser = shown(Program::Viewer, &["--browser"], &around(&[], Some(&path))).unwrap();
    assert_eq!(one(&browser, "record").0, Vec::<String>::new());
    let odd = around(&[("STREAMPAY_WHIP", "perhaps")], None);
    assert!(shown(Program::Streamer, &[], &odd).is_err());
}

#[test]
fn a_secret_in_a_variable_stays_there_and_one_in_the_file_is_refused() {
    let plain = "http://ann:hunter2@127.0.0.1:8332";
    let variable = around(&[("STREAMPAY_BTC", plain)], None);
    let shown_of = |around: &Surroundings| shown(Program::Streamer, &[], around);
    let held = shown_of(&variable).unwrap();
    assert_eq!(one(&held, "btc").0, ["env:STREAMPAY_BTC"]);
    for (seed, expect) in [("own", "own"), ("0a0a", "env:STREAMPAY_FEE_WALLET")] {
        let held = shown_of(&around(&[("STREAMPAY_FEE_WALLET", seed)], None)).unwrap();
        assert_eq!(one(&held, "fee-wallet").0, [expect]);
    }
    let (_folder, path) = file("btc = \"file:node\"\n");
    let held = shown_of(&around(&[], Some(&path))).unwrap();
    let node = path.with_file_name("node").display().to_string();
    assert_eq!(one(&held, "btc").0, [format!("file:{node}")]);
    let (_folder, path) = file(&format!("btc = \"{plain}\"\npayout = \"x\"\n"));
    let stop = parsed(&["toy", "serve"], &around(&[], Some(&path))).unwrap_err();
    let Stop::Line(error, origin) = stop else {
        panic!("the value is refused by the option's own check");
    };
    let said = error.to_string();
    assert!(
        said.contains("env:NAME") && !said.contains("hunter2"),
        "{said}"
    );
    assert!(origin.unwrap().ends_with("config.toml, line 1"));
}

/// A command line like ours.
#[derive(Debug, Parser)]
struct Toy {
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Order,
}

#[derive(Debug, PartialEq, Eq, Subcommand)]
enum Order {
    Serve {
        #[arg(long, default_value = "one")]
        title: String,
        #[arg(long)]
        mint: Vec<String>,
        #[arg(long, value_parser = crate::secret::address)]
        btc: Option<String>,
        #[arg(long)]
        seal: bool,
        rest: Vec<String>,
    },
    Balance {
        #[arg(long)]
        mint: Option<String>,
    },
    Mint,
}

fn parsed(line: &[&str], around: &Surroundings) -> Result<Toy, Stop> {
    parse(
        Program::Streamer,
        line.iter().map(Into::into).collect(),
        around,
    )
}

#[test]
fn a_command_takes_the_settings_that_it_knows() {
    let text = "[streamer]\ntitle = \"file\"\nmint = [\"a\", \"b\"]\nseal = true\ndata = \"own\"\n";
    let (_folder, path) = file(text);
    let around = around(&[("STREAMPAY_SEAL", "false")], Some(&path));
    let data = path.with_file_name("own");
    let toy = parsed(&["toy", "serve", "--mint", "c", "--", "--title"], &around).unwrap();
    assert_eq!(toy.data, Some(data.clone()));
    let expect = Order::Serve {
        title: "file".into(),
        mint: vec!["c".into()],
        btc: None,
        seal: false,
        rest: vec!["--title".into()],
    };
    assert_eq!(toy.command, expect);
    // Its own `--mint` is another thing.
    let toy = parsed(&["toy", "balance"], &around).unwrap();
    assert_eq!(
        (toy.data, toy.command),
        (Some(data), Order::Balance { mint: None })
    );
    let toy = parsed(&["toy", "--data", "said", "balance"], &around).unwrap();
    assert_eq!(toy.data, Some("said".into()));
    // What owns nothing of the user's reads no settings.
    assert_eq!(parsed(&["toy", "mint"], &around).unwrap().data, None);
    let elsewhere = Surroundings {
        file: None,
        ..around
    };
    let named = ["toy", "serve", "--config", path.to_str().unwrap()];
    let Order::Serve { mint, .. } = parsed(&named, &elsewhere).unwrap().command else {
        panic!("another command");
    };
    assert_eq!(mint, ["a", "b"]);
}

#[test]
fn every_setting_of_both_programs_can_be_set() {
    for program in Program::ALL {
        let table = settings(program);
        let known = names(&table);
        assert_eq!(known.len(), table.len(), "a name is there twice");
        assert!(known.contains("data") && known.contains("max-fee-ppk"));
        assert!(!known.contains("yes") && !known.contains("config"));
        for setting in &table {
            let id = setting.name.replace('-', "_");
            let command = program.command();
            let main = command.find_subcommand(program.main_command()).unwrap();
            let mut args = command.get_arguments().chain(main.get_arguments());
            assert!(args.any(|arg| *arg.get_id() == *id.as_str()), "{id}");
        }
    }
    for secret in ["btc", "fee-wallet", "turn-password"] {
        let table = settings(Program::Streamer);
        assert!(
            table
                .iter()
                .any(|setting| setting.name == secret && setting.is_secret)
        );
    }
}

#[test]
fn variables_that_are_nearly_ours_are_named() {
    let around = around(
        &[
            ("STREAMPAY_PIRCE", "1sat/1s"),
            ("STREAMPAY_PRICE", "1sat/1s"),
            ("STREAMPAY_CONFIG", "x"),
        ],
        None,
    );
    let expect = [("STREAMPAY_PIRCE".to_owned(), "STREAMPAY_PRICE".to_owned())];
    assert_eq!(layers::misspelt(&around), expect);
}
