//! Messages that are built, not changed: each key right or wrong as the input chooses, by the
//! chapters' own table of keys, so that the codec is held to the text.

use streampay_core::wire::{self, Terms};
use streampay_spec::fields::MESSAGES;
use streampay_spec::vectors::cbor::Item;
use streampay_spec::vectors::schema::{self, Key, Kind};

/// The type of purse frames, whose part is below the number of parts.
const PURSE: u64 = 8;
/// Where the two are.
const PART: (u64, u64) = (4, 6);
/// A key of no message that whoever does not know it passes over.
const ODD: u64 = 1_001;
/// One that nobody may pass over.
const EVEN: u64 = 1_002;
/// The longest text or bytes made where more may be.
const LENGTH: u64 = 80;

/// What keeps to the table is read, and written again as it was; what does not is refused.
///
/// # Panics
/// Where the codec and the table differ.
pub fn messages(bytes: &[u8]) {
    let mut input = Input(bytes);
    let kind = input.below(u64::try_from(MESSAGES.len()).unwrap_or_default() + 1);
    let kind = usize::try_from(kind).unwrap_or_default();
    let Some((_, number)) = MESSAGES.get(kind) else {
        let built = Built::new(&schema::terms(), &mut input);
        let terms = Terms::from_bytes(&built.bytes()).ok();
        return built.judge(terms.map(|terms| terms.to_bytes()), false);
    };
    let mut built = Built::new(&schema::message(*number), &mut input);
    built.pairs.insert(0, (0, Item::Uint(*number)));
    if *number == PURSE {
        built.order_parts();
    }
    let message = wire::decode(&built.bytes()).ok().flatten();
    let other = message.as_ref().is_some_and(crate::has_unknown_code);
    built.judge(
        message.map(|message| wire::encode(&message).to_vec()),
        other,
    );
}

/// A map, and what it must come to.
#[derive(Debug)]
struct Built {
    pairs: Vec<(u64, Item)>,
    /// What is wrong with it.
    wrong: Option<&'static str>,
    /// It has keys that are not written again.
    odd: bool,
}

impl Built {
    fn new(keys: &[Key], input: &mut Input<'_>) -> Self {
        let mut built = Self {
            pairs: Vec::new(),
            wrong: None,
            odd: false,
        };
        for key in keys {
            built.add(key, input);
        }
        match input.below(32) {
            1 => {
                built.pairs.push((ODD, Item::Uint(input.below(2))));
                built.odd = true;
            }
            2 => {
                built.pairs.push((EVEN, Item::Uint(1)));
                built.wrong = Some("an unknown key");
            }
            _ => {}
        }
        built
    }

    fn add(&mut self, key: &Key, input: &mut Input<'_>) {
        let choice = input.below(64);
        if key.optional && choice.is_multiple_of(2) {
            return;
        }
        let good = self.good(&key.kind, input);
        let item = match choice {
            1 if key.optional => good,
            1 => {
                self.wrong = Some("what is missing");
                return;
            }
            3 => {
                self.wrong = Some("a kind");
                key.kind.wrong()
            }
            5 => {
                let mut outside = key.kind.outside(&good);
                let at = input.below(u64::try_from(outside.len()).unwrap_or_default());
                let at = usize::try_from(at).unwrap_or_default();
                if at < outside.len() {
                    let (what, item) = outside.swap_remove(at);
                    self.wrong = Some(what);
                    item
                } else {
                    good
                }
            }
            _ => good,
        };
        self.pairs.push((key.key, item));
    }

    /// A value within its bounds; what is in it may be wrong in its turn.
    fn good(&mut self, kind: &Kind, input: &mut Input<'_>) -> Item {
        match kind {
            Kind::Uint(min, max) => Item::Uint(input.between(*min, *max)),
            Kind::Bytes(min, max) => {
                let len = input.length(*min, *max);
                Item::Bytes(input.take(len))
            }
            Kind::Text(max) => Item::Text(input.text(0, *max)),
            Kind::Line(max) | Kind::Name(max) => Item::Text(input.text(1, *max)),
            Kind::Numbers(min, max) => {
                let len = input.length(*min, *max);
                let number = |_| Item::Uint(input.between(1, 0xffff));
                Item::List((0..len).map(number).collect())
            }
            Kind::Map(keys) => self.within(keys, input),
            Kind::Maps(keys, min, max) => {
                let len = input.length(*min, *max);
                let maps = (0..len).map(|at| {
                    let mut map = self.within(keys, input);
                    name_apart(&mut map, at);
                    map
                });
                Item::List(maps.collect())
            }
        }
    }

    fn within(&mut self, keys: &[Key], input: &mut Input<'_>) -> Item {
        let built = Self::new(keys, input);
        self.wrong = self.wrong.or(built.wrong);
        self.odd |= built.odd;
        Item::Map(built.pairs)
    }

    /// The table knows no bound of a key that is another's value.
    fn order_parts(&mut self) {
        let of = |pairs: &[(u64, Item)], at| {
            pairs.iter().find_map(|(key, item)| match item {
                Item::Uint(value) if *key == at => Some(*value),
                _ => None,
            })
        };
        if let (Some(part), Some(all)) = (of(&self.pairs, PART.0), of(&self.pairs, PART.1))
            && part >= all
            && self.wrong.is_none()
        {
            self.wrong = Some("a part that is none of all");
        }
    }

    fn bytes(&self) -> Vec<u8> {
        Item::Map(self.pairs.clone()).encode()
    }

    /// `again` is what was read of it and written; `other`, that this is another's code.
    fn judge(&self, again: Option<Vec<u8>>, other: bool) {
        let wrong = self.wrong.unwrap_or("nothing");
        let as_said = again.is_none() == self.wrong.is_some();
        assert!(as_said, "there is {wrong} wrong with {self:?}");
        if let Some(again) = again
            && !self.odd
            && !other
        {
            assert!(again == self.bytes(), "written in another way: {self:?}");
        }
    }
}

/// No two methods of terms have one name.
fn name_apart(map: &mut Item, at: usize) {
    let pairs = map.pairs_mut().and_then(|pairs| pairs.first_mut());
    let letter = u8::try_from(at).ok().and_then(|at| b'a'.checked_add(at));
    if let (Some((0, Item::Text(name))), Some(letter)) = (pairs, letter)
        && let Some(first) = name.first_mut()
        && first.is_ascii_lowercase()
    {
        *first = letter;
    }
}

/// What chooses. Where it ends, all is small.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: u64) -> u64 {
        u64::from(self.next()).checked_rem(end).unwrap_or_default()
    }

    /// Often one of the two.
    fn between(&mut self, min: u64, max: u64) -> u64 {
        match self.next() % 4 {
            0 => min,
            1 => max,
            2 => min.saturating_add(u64::from(self.next())).min(max),
            _ => {
                let bytes = std::array::from_fn(|_| self.next());
                u64::from_be_bytes(bytes).clamp(min, max)
            }
        }
    }

    fn length(&mut self, min: usize, max: usize) -> usize {
        let [min, max] = [min, max].map(|at| u64::try_from(at).unwrap_or(u64::MAX));
        let max = max.min(min.saturating_add(LENGTH));
        usize::try_from(self.between(min, max)).unwrap_or_default()
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next()).collect()
    }

    /// Letters that a line and a name may have.
    fn text(&mut self, min: usize, max: usize) -> Vec<u8> {
        let len = self.length(min, max);
        let letter = |byte: u8| b'a' + byte % 26;
        self.take(len).into_iter().map(letter).collect()
    }
}
