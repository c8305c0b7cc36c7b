//! Messages by kind: what is to befall the next of a kind, and what befell how many.

/// Numbers and names of what two sides without a room say. Spec: registry, types.
pub const MESSAGES: [(u8, &str); 20] = [
    (0, "hello"),
    (1, "reading"),
    (2, "welcome"),
    (4, "bind"),
    (6, "ready"),
    (8, "purse"),
    (10, "purse_ok"),
    (12, "purse_refused"),
    (14, "tick"),
    (16, "ack"),
    (18, "nack"),
    (20, "pause"),
    (22, "resume"),
    (24, "close"),
    (26, "closed"),
    (OFFER_TERMS, "offer_terms"),
    (AGREE, "agree"),
    (32, "decline"),
    (AGREED, "agreed"),
    (36, "receipt_request"),
];

pub(super) const OFFER_TERMS: u8 = 28;
pub(super) const AGREE: u8 = 30;
pub(super) const AGREED: u8 = 34;

/// What may befall a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    Lost,
    Repeated,
    Late,
}

impl Mishap {
    const fn at(self) -> usize {
        match self {
            Self::Lost => 0,
            Self::Repeated => 1,
            Self::Late => 2,
        }
    }
}

/// All of them.
const MISHAPS: usize = 3;

/// Which kind of message this is, as a place in [`MESSAGES`]: its number is the first value of its
/// map, of one byte or two.
pub(super) fn kind_of(bytes: &[u8]) -> Option<usize> {
    let number = match bytes.get(2)? {
        0x18 => bytes.get(3)?,
        number => number,
    };
    place_of(*number)
}

fn place_of(number: u8) -> Option<usize> {
    MESSAGES.iter().position(|(of, _)| *of == number)
}

/// What is to befall the next messages of each kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Aimed([[u64; MISHAPS]; MESSAGES.len()]);

impl Aimed {
    /// The next so many messages with this number.
    pub(super) fn aim(&mut self, number: u8, mishap: Mishap, count: u64) {
        if let Some(at) = place_of(number) {
            self.0[at][mishap.at()] = count;
        }
    }

    /// True where it befalls this one.
    pub(super) fn take(&mut self, kind: Option<usize>, mishap: Mishap) -> bool {
        let Some(kind) = kind else { return false };
        let left = &mut self.0[kind][mishap.at()];
        let any = *left > 0;
        *left = left.saturating_sub(1);
        any
    }
}

/// What befell how many, by kind.
#[derive(Clone, Debug, Default)]
pub struct MessageCounts([[u64; MISHAPS + 1]; MESSAGES.len()]);

impl MessageCounts {
    /// One of this kind was sent.
    pub(super) fn add_sent(&mut self, kind: Option<usize>) {
        if let Some(kind) = kind {
            self.0[kind][MISHAPS] += 1;
        }
    }

    /// And this befell it.
    pub(super) fn add(&mut self, kind: Option<usize>, mishap: Mishap) {
        if let Some(kind) = kind {
            self.0[kind][mishap.at()] += 1;
        }
    }

    /// All of another's.
    pub(super) fn merge(&mut self, other: &Self) {
        for (counts, more) in self.0.iter_mut().zip(&other.0) {
            for (count, more) in counts.iter_mut().zip(more) {
                *count += more;
            }
        }
    }

    /// The name of each kind; how many were sent; and of these lost, repeated and late.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64, [u64; 3])> + '_ {
        let kinds = MESSAGES.iter().zip(&self.0);
        kinds.map(|((_, name), [lost, repeated, late, sent])| {
            (*name, *sent, [*lost, *repeated, *late])
        })
    }
}

#[cfg(test)]
mod tests {
    use streampay_core::session::CloseCode;
    use streampay_core::wire::{Agreed, Close, Message, encode};

    use super::*;

    #[test]
    fn kind_is_read_from_numbers_of_one_byte_and_of_two() {
        let offer = streampay_core::session::Hash([0; 32]);
        let agreed = Message::Agreed(Agreed { offer });
        let close = Message::Close(Close {
            code: CloseCode::Done,
        });
        for (message, name) in [
            (agreed, "agreed"),
            (close, "close"),
            (Message::ReceiptRequest, "receipt_request"),
        ] {
            let kind = kind_of(&encode(&message));
            assert_eq!(kind.map(|kind| MESSAGES[kind].1), Some(name));
        }
        assert_eq!(kind_of(&encode(&Message::Leave)), None);
    }
}
