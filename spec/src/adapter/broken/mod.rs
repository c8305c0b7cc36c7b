//! Adapters that are wrong on purpose, to show that the runner would notice.

mod codec;
mod machine;
mod member;

pub(super) use self::machine::Faults;
use crate::conformance::{Part, Subject, run};

/// What must find a broken adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A vector.
    Vector,
    /// A transcript.
    Transcript,
    /// A hostile peer, and nothing else.
    Hostile,
    /// The runner, by the way that the adapter answers at all.
    Line,
}

macro_rules! broken {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $found:ident;)*) => {
        /// One way to be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Broken { $($(#[doc = $doc])* $variant,)* }

        impl Broken {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What `--broken` calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What must find it.
            #[must_use]
            pub const fn found(self) -> Found {
                match self { $(Self::$variant => Found::$found,)* }
            }
        }
    };
}

broken! {
    /// Takes a message with bytes behind it.
    Trailing = "trailing", Vector;
    /// Takes integers that are not in their shortest form.
    LongInts = "long-ints", Vector;
    /// Takes keys in any order, and twice.
    KeyOrder = "key-order", Vector;
    /// Skips even keys that it does not know.
    UnknownEven = "unknown-even", Vector;
    /// Reads text that is not UTF-8, with a replacement.
    LossyText = "lossy-text", Vector;
    /// Takes no message above 1 KiB.
    SmallAlone = "small-alone", Vector;
    /// Rounds prices down.
    RoundsDown = "rounds-down", Vector;
    /// Rounds each meter by itself.
    RoundsTwice = "rounds-twice", Vector;
    /// Hashes its hashes once more, as with another tag.
    OtherTag = "other-tag", Vector;
    /// Takes every signature.
    AnySignature = "any-signature", Vector;
    /// Sends before what it sends is durable.
    SendsFirst = "sends-first", Transcript;
    /// Knows no expiry of terms.
    NoExpiry = "no-expiry", Transcript;
    /// Pays again, with other bytes, after a reconnect.
    PaysTwice = "pays-twice", Transcript;
    /// Leaves the gate open in a pause.
    GateOpen = "gate-open", Transcript;
    /// Credits a tick again when it comes again.
    Recredits = "recredits", Transcript;
    /// Resumes from its own record alone, whatever receipt a payer's hello has.
    IgnoresEvidence = "ignores-evidence", Transcript;
    /// Takes a nack at its word and pays anew.
    BelievesNack = "believes-nack", Transcript;
    /// Pays from another purse what is outstanding.
    PaysElsewhere = "pays-elsewhere", Transcript;
    /// Says nothing twice.
    NeverRepeats = "never-repeats", Transcript;
    /// Takes the payee's reading for its own.
    BelievesReading = "believes-reading", Transcript;
    /// Lets media through for tips.
    TipsAsMedia = "tips-as-media", Transcript;
    /// Says of each tip only what it is itself, not what all come to.
    TipsByThemselves = "tips-by-themselves", Transcript;
    /// Gives a tip that is less than a tick as a whole tick.
    TipsTooMuch = "tips-too-much", Transcript;
    /// Pays the fee for joining before it is asked for it.
    FeeUnasked = "fee-unasked", Transcript;
    /// Does not join again on a new connection.
    JoinsOnce = "joins-once", Transcript;
    /// Shows the room an invitation that is not hashed: another hash than the spec's.
    PlainInvitation = "plain-invitation", Transcript;
    /// Tries no other method where one does not work.
    NoFallback = "no-fallback", Transcript;
    /// Knows no end of a purse's usable time.
    NoUsableTime = "no-usable-time", Transcript;
    /// Counts no bytes.
    NoBytes = "no-bytes", Transcript;
    /// Lets everybody into the room.
    OpenDoors = "open-doors", Transcript;
    /// Asks for the fee before it says what else keeps a payer out.
    FeeFirst = "fee-first", Transcript;
    /// Forgets who is banned when it begins anew.
    ForgetsBans = "forgets-bans", Transcript;
    /// Passes on all texts, however many come.
    TellsFlood = "tells-flood", Transcript;
    /// Answers what it does not understand at length, once it is tired of it.
    Chatters = "chatters", Hostile;
    /// Takes a tick with any number for the next one.
    AnySeq = "any-seq", Hostile;
    /// Dies after a few hundred messages that it does not understand.
    DiesOfNonsense = "dies-of-nonsense", Hostile;
    /// Answers no price.
    Hangs = "hangs", Line;
    /// Ends when asked to verify.
    Dies = "dies", Line;
    /// Prints something that is no answer before each price.
    Babbles = "babbles", Line;
    /// Answers a price with a line of megabytes.
    Endless = "endless", Line;
    /// Knows no steps.
    NoSteps = "no-steps", Line;
}

impl Broken {
    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|broken| broken.name() == name)
    }
}

/// Whether a broken adapter fails where it must, and nowhere before: one that is slow is not found.
///
/// # Errors
/// What is not found, or found too early.
pub fn find(subject: &mut dyn Subject, found: Found) -> Result<(), String> {
    let (clean, dirty): (&[Part], &[Part]) = match found {
        Found::Vector => (&[], &[Part::Vectors]),
        Found::Transcript => (&[Part::Vectors], &[Part::Transcripts]),
        Found::Hostile => (&[Part::Vectors, Part::Transcripts], &[Part::Hostile]),
        Found::Line => (&[], &[Part::Vectors, Part::Transcripts]),
    };
    if let [first, ..] = run(subject, clean)?.failures() {
        return Err(format!("it is found too early: {first}"));
    }
    let report = run(subject, dirty)?;
    match (report.failures(), report.passed()) {
        ([], _) => Err("it is not found".into()),
        (_, 0) => Err("it fails in everything".into()),
        _ => Ok(()),
    }
}
