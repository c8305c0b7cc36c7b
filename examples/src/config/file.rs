//! The settings file: TOML, with a table for each program, and what is for both above them.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::layers::Layer;
use super::table::{Kind, Setting, names, nearest, settings};
use super::{Origin, Program};
use crate::error::AppError;
use crate::secret::SecretPlace;

/// The longest settings file that is read, in bytes. Chosen arbitrarily.
const LENGTH_MAX: u64 = 1024 * 1024;

/// What the file says for `program`.
///
/// # Errors
/// [`AppError::Setting`] with the line: it is no TOML, or has keys or values that are none of ours,
/// also in the other program's table.
pub(super) fn read(path: &Path, program: Program) -> Result<Layer, AppError> {
    let text = text_of(path)?;
    let root = DeTable::parse(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        wrong(path, line_of(&text, at), error.message())
    })?;
    let tables = Program::ALL.map(|program| (program, settings(program)));
    let reader = Reader { path, text: &text };
    let mut layer = Layer::default();
    let mut shared = Vec::new();
    for (key, value) in root.get_ref() {
        let name: &str = key.get_ref();
        let table = Program::ALL.into_iter().find(|own| own.name() == name);
        match (table, value.get_ref()) {
            (Some(owner), DeValue::Table(table)) => {
                let known = tables.iter().find(|(program, _)| *program == owner);
                let known =
                    known.map_or_else(Default::default, |(_, settings)| settings.as_slice());
                let said = reader.table(table, &[known])?;
                if owner == program {
                    layer.add(said);
                }
            }
            (Some(_), _) => {
                let why = format!("`{name}` is a table: write [{name}]");
                return Err(reader.wrong(key, &why));
            }
            (None, _) => shared.push((key, value)),
        }
    }
    // What is for both gives way to what is for this one.
    let known: Vec<&[Setting]> = tables
        .iter()
        .map(|(_, settings)| settings.as_slice())
        .collect();
    for (key, value) in shared {
        let (name, values) = reader.entry(key, value, &known)?;
        let own = tables.iter().find(|(own, _)| *own == program);
        if own.is_some_and(|(_, settings)| names(settings).contains(name.as_str())) {
            layer.add_under(name, values, reader.origin(key));
        }
    }
    Ok(layer)
}

fn text_of(path: &Path) -> Result<String, AppError> {
    let failed = |error: std::io::Error| AppError::file(path, &error.to_string());
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let read = std::io::Read::read_to_string(&mut std::io::Read::take(file, LENGTH_MAX), &mut text);
    match read.map(u64::try_from).map_err(failed)? {
        Ok(length) if length < LENGTH_MAX => Ok(text),
        _ => Err(AppError::file(path, "it is too long for settings")),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    let ends = before.iter().filter(|byte| **byte == b'\n').count();
    ends.saturating_add(1)
}

fn wrong(path: &Path, line: usize, why: &str) -> AppError {
    AppError::Setting {
        origin: Origin::File(path.to_owned(), line).to_string(),
        why: why.to_owned(),
    }
}

type Key<'i> = Spanned<toml::de::DeString<'i>>;
type Said = (String, Vec<String>, Origin);

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn origin(&self, key: &Key<'_>) -> Origin {
        Origin::File(self.path.to_owned(), line_of(self.text, key.span().start))
    }

    fn wrong(&self, key: &Key<'_>, why: &str) -> AppError {
        wrong(self.path, line_of(self.text, key.span().start), why)
    }

    fn table(&self, table: &DeTable<'_>, known: &[&[Setting]]) -> Result<Vec<Said>, AppError> {
        let mut said = Vec::new();
        for (key, value) in table {
            let (name, values) = self.entry(key, value, known)?;
            said.push((name, values, self.origin(key)));
        }
        Ok(said)
    }

    fn entry(
        &self,
        key: &Key<'_>,
        value: &Spanned<DeValue<'_>>,
        known: &[&[Setting]],
    ) -> Result<(String, Vec<String>), AppError> {
        let name: &str = key.get_ref();
        let all = || known.iter().copied().flatten();
        let Some(setting) = all().find(|setting| setting.name == name) else {
            let near = nearest(name, all().map(|setting| setting.name.as_str()));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`config show` names all".to_owned(),
            };
            return Err(self.wrong(key, &format!("`{name}` is no setting here; {hint}")));
        };
        let values = self.values(setting, value.get_ref());
        let values = values.ok_or_else(|| {
            let kind = match setting.kind {
                Kind::Flag => "true or false",
                Kind::One => "one value, in quotes or a number",
                Kind::Many => "one value in quotes, or several as [\"..\", \"..\"]",
            };
            self.wrong(key, &format!("`{name}` is {kind}"))
        })?;
        Ok((setting.name.clone(), values))
    }

    fn values(&self, setting: &Setting, value: &DeValue<'_>) -> Option<Vec<String>> {
        match (setting.kind, value) {
            (Kind::Flag, DeValue::Boolean(value)) => Some(vec![value.to_string()]),
            (Kind::Flag, _) => None,
            (Kind::Many, DeValue::Array(values)) => {
                let each = values.iter();
                each.map(|value| self.one(setting, value.get_ref()))
                    .collect()
            }
            (_, value) => self.one(setting, value).map(|value| vec![value]),
        }
    }

    fn one(&self, setting: &Setting, value: &DeValue<'_>) -> Option<String> {
        match value {
            DeValue::String(text) if setting.is_path => {
                Some(self.beside(PathBuf::from(&**text)).display().to_string())
            }
            DeValue::String(text) if setting.is_secret => Some(match SecretPlace::named(text) {
                Some(SecretPlace::File(path)) => SecretPlace::File(self.beside(path)).to_string(),
                _ => text.to_string(),
            }),
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A relative path is one from the file's folder.
    fn beside(&self, path: PathBuf) -> PathBuf {
        match self.path.parent() {
            Some(folder) => folder.join(path),
            None => path,
        }
    }
}
