//! What each place says, and which of it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::table::{IN_PLAIN, Kind, LIMITS_OF, ONE_OF, Setting, nearest, settings};
use super::{Origin, PREFIX, Program, Surroundings, file};
use crate::error::AppError;
use crate::secret::SecretPlace;

/// What one place says.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer(BTreeMap<String, (Vec<String>, Origin)>);

impl Layer {
    /// Takes these over what it had.
    pub(super) fn add(&mut self, said: Vec<(String, Vec<String>, Origin)>) {
        let said = said.into_iter();
        self.0
            .extend(said.map(|(name, values, origin)| (name, (values, origin))));
    }

    /// Takes this where it had nothing of the name.
    pub(super) fn add_under(&mut self, name: String, values: Vec<String>, origin: Origin) {
        self.0.entry(name).or_insert((values, origin));
    }
}

/// What all places below the command line say: the settings of one program.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    pub(super) table: Vec<Setting>,
    /// From the weakest to the strongest.
    layers: [Layer; 2],
}

/// A setting that holds, as the command line would say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) setting: Setting,
    pub(super) values: Vec<String>,
    pub(super) origin: Origin,
}

impl Held {
    /// As arguments.
    pub(super) fn arguments(&self) -> Vec<String> {
        let name = &self.setting.name;
        match self.setting.kind {
            Kind::Flag if self.values == ["true"] => vec![format!("--{name}")],
            Kind::Flag => Vec::new(),
            _ => {
                let each = self.values.iter();
                each.map(|value| format!("--{name}={value}")).collect()
            }
        }
    }
}

impl Layers {
    /// Reads the settings file, `named` by the user, and the variables.
    ///
    /// # Errors
    /// [`AppError`]: a file that was named is not there; a value or a key that is none of ours.
    pub(super) fn read(
        program: Program,
        named: Option<&Path>,
        around: &Surroundings,
    ) -> Result<Self, AppError> {
        let table = settings(program);
        let usual = around.file.as_deref().filter(|path| path.exists());
        let file = match named.or(usual) {
            Some(path) => file::read(path, program)?,
            None => Layer::default(),
        };
        let environment = environment(&table, around)?;
        let layers = [file, environment];
        Ok(Self { table, layers })
    }

    /// What holds, where the command line says `on_the_line` itself.
    pub(super) fn held(&self, on_the_line: &BTreeSet<String>) -> Vec<Held> {
        let mut taken = on_the_line.clone();
        let mut held: BTreeMap<String, (Vec<String>, Origin)> = BTreeMap::new();
        for layer in self.layers.iter().rev() {
            let said = layer.0.iter();
            let free = said.filter(|(name, _)| !taken.iter().any(|taken| excludes(taken, name)));
            let free: Vec<_> = free
                .map(|(name, said)| (name.clone(), said.clone()))
                .collect();
            taken.extend(free.iter().map(|(name, _)| name.clone()));
            held.extend(free);
        }
        for (limit, of) in LIMITS_OF {
            if !taken.contains(of) {
                held.remove(limit);
            }
        }
        let settings = self.table.iter();
        let in_order = settings.filter_map(|setting| {
            let (values, origin) = held.remove(&setting.name)?;
            let setting = setting.clone();
            Some(Held {
                setting,
                values,
                origin,
            })
        });
        in_order.collect()
    }
}

/// A stronger place that says `taken` leaves nothing to a weaker one's `name`.
fn excludes(taken: &str, name: &str) -> bool {
    taken == name
        || ONE_OF
            .iter()
            .any(|group| group.contains(&taken) && group.contains(&name))
}

fn environment(table: &[Setting], around: &Surroundings) -> Result<Layer, AppError> {
    let mut layer = Layer::default();
    for setting in table {
        let variable = setting.variable();
        let Some(value) = around.variables.get(&variable).filter(|v| !v.is_empty()) else {
            continue;
        };
        let values = match setting.kind {
            Kind::Flag => match value.as_str() {
                "1" | "true" | "yes" => vec!["true".to_owned()],
                "0" | "false" | "no" => vec!["false".to_owned()],
                _ => {
                    return Err(AppError::Setting {
                        origin: Origin::Environment(variable).to_string(),
                        why: "say true or false".to_owned(),
                    });
                }
            },
            Kind::Many => value.split_whitespace().map(str::to_owned).collect(),
            // The secret itself may be in the environment, and stays there.
            Kind::One
                if setting.is_secret
                    && SecretPlace::named(value).is_none()
                    && !IN_PLAIN.contains(&value.as_str()) =>
            {
                vec![SecretPlace::Environment(variable.clone()).to_string()]
            }
            Kind::One => vec![value.clone()],
        };
        layer.add_under(setting.name.clone(), values, Origin::Environment(variable));
    }
    Ok(layer)
}

/// What a user may have meant to set: variables of ours that are none, and near to one.
pub(super) fn misspelt(around: &Surroundings) -> Vec<(String, String)> {
    let both = Program::ALL.into_iter().flat_map(settings);
    let known: BTreeSet<String> = both.map(|setting| setting.name).collect();
    let names = around.variables.keys().filter_map(|variable| {
        let name = variable
            .strip_prefix(PREFIX)?
            .to_lowercase()
            .replace('_', "-");
        let near = nearest(&name, known.iter().map(String::as_str))?;
        let is_other = near != name && name != "config";
        let meant = format!("{PREFIX}{}", near.to_uppercase().replace('-', "_"));
        is_other.then(|| (variable.clone(), meant))
    });
    names.collect()
}
