use serde_json::Value;

use crate::adapter::Adapter;
use crate::json::{Fields, Object};

/// An implementation that is asked.
pub trait Subject {
    /// The result of a request.
    ///
    /// # Errors
    /// [`Trouble`] where there is none.
    fn ask(&mut self, request: Object) -> Result<Value, Trouble>;
}

/// Why a request had no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No answer in time.
    #[error("no answer in time")]
    Hung,
    /// The process ended.
    #[error("the adapter ended")]
    Died,
    /// A line that is no answer to the request.
    #[error("no answer but `{0}`")]
    Garbage(String),
    /// A line beyond all bounds.
    #[error("a line that is too long")]
    LongLine,
    /// The adapter does not know the command.
    #[error("unsupported")]
    Unsupported,
    /// The adapter does not take the request.
    #[error("refused: {0}")]
    Refused(String),
    /// The adapter failed too often to be started again.
    #[error("not asked: the adapter failed too often")]
    GivenUp,
}

/// Reads an answer: its number, and its result.
pub(super) fn result(answer: &Value, id: u64) -> Result<Value, Trouble> {
    let fields = Fields::new(answer);
    if fields.int::<u64>("id").ok() != Some(id) {
        return Err(Trouble::Garbage(shortened(&answer.to_string())));
    }
    if fields.flag("unsupported") {
        return Err(Trouble::Unsupported);
    }
    if let Ok(why) = fields.text("refused") {
        return Err(Trouble::Refused(shortened(why)));
    }
    let result = fields.opt("ok").cloned();
    result.ok_or_else(|| Trouble::Garbage(shortened(&answer.to_string())))
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// An adapter in this process: quick, but cannot hang or die.
#[derive(Debug)]
pub struct InProcess(Adapter);

impl InProcess {
    /// Asks this one.
    #[must_use]
    pub const fn new(adapter: Adapter) -> Self {
        Self(adapter)
    }
}

impl Subject for InProcess {
    fn ask(&mut self, request: Object) -> Result<Value, Trouble> {
        let request = request.int("id", 0_u64).done();
        let line = self.0.answer_line(&request.to_string());
        let line = line.ok_or(Trouble::Died)?;
        let answer = serde_json::from_str(&line);
        let answer: Value = answer.map_err(|_| Trouble::Garbage(shortened(&line)))?;
        result(&answer, 0)
    }
}
