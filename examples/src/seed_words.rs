//! Twelve words from which the seeds of a folder are derived: enough to be who one was, and to find the
//! wallet's ecash again. Source: BIP 39, NUT-13.

use std::fs;
use std::io;
use std::path::Path;

use bip39::{Language, Mnemonic};
use streampay_core::driver::entropy;
use streampay_core::session::TaggedHash;
use zeroize::Zeroizing;

use crate::durable;

/// The file with the words.
pub(crate) const FILE: &str = "words";
/// The wallet's seed, which other Cashu wallets derive from the same words.
pub(crate) const WALLET: &str = "wallet.seed";
/// The seed of everything else.
pub(crate) const IDENTITY: &str = "identity";
/// Bytes of entropy: twelve words.
const DRAWN: usize = 16;

/// The words of a folder.
pub(crate) struct SeedWords(Mnemonic);

impl SeedWords {
    /// Draws words for a folder that has neither words nor seeds. Durable before any seed is.
    pub(crate) fn begin(folder: &Path) -> io::Result<()> {
        if [FILE, WALLET, IDENTITY]
            .iter()
            .any(|name| folder.join(name).exists())
        {
            return Ok(());
        }
        let drawn = Zeroizing::new(entropy()?.0);
        let drawn = drawn.get(..DRAWN).unwrap_or_default();
        let words = Mnemonic::from_entropy_in(Language::English, drawn);
        Self(words.map_err(|_| io::ErrorKind::InvalidData)?).write(folder)
    }

    /// Those of a folder; none where it was made before there were words.
    pub(crate) fn of(folder: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(folder.join(FILE)).map(Zeroizing::new) {
            Ok(text) => match Self::parse(&text) {
                Some(words) => Ok(Some(words)),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As people write them: in capitals or not, in one line or several. None where a word is none, or
    /// they do not belong together.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let lower = Zeroizing::new(text.to_lowercase());
        let words: Vec<&str> = lower.split_whitespace().collect();
        let joined = Zeroizing::new(words.join(" "));
        let words = Mnemonic::parse_in_normalized(Language::English, &joined);
        words.ok().map(Self)
    }

    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        durable::write(folder, FILE, self.text().as_bytes()).map(|_| ())
    }

    /// The words, with spaces between.
    pub(crate) fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.to_string())
    }

    /// The seed that is kept under `name`.
    pub(crate) fn seed(&self, name: &str) -> Zeroizing<[u8; 64]> {
        let root = Zeroizing::new(self.0.to_seed_normalized(""));
        if name == WALLET {
            return root;
        }
        let mut seed = Zeroizing::new([0; 64]);
        for (half, number) in seed.chunks_exact_mut(32).zip(0_u64..) {
            let hash = TaggedHash::new("streampay/words/v1").blob(&*root);
            half.copy_from_slice(&hash.blob(name.as_bytes()).u64(number).finish().0);
        }
        seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of BIP 39, and what NUT-13 derives of such words.
    #[test]
    fn words_make_the_seeds_that_other_wallets_make_of_them() {
        let zeros = "abandon ".repeat(11) + "about";
        let words = SeedWords::parse(&zeros).unwrap();
        let seed: String = (words.seed(WALLET).iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        // The passphrase is empty: of the vectors of many wallets.
        assert!(
            seed.starts_with("5eb00bbddcf069084889a8ab9155568165f5c453ccb85e70811aaed6f6da5fc1")
        );
        assert_ne!(words.seed(IDENTITY)[..32], words.seed(IDENTITY)[32..]);
        let other =
            "half depart obvious quality work element tank gorilla view sugar picture humble";
        let words = SeedWords::parse(other).unwrap();
        let keyset: cdk::nuts::Id = "009a1f293253e41e".parse().unwrap();
        let secret = cdk::secret::Secret::from_seed(&words.seed(WALLET), keyset, 0).unwrap();
        assert_eq!(
            secret.to_string(),
            "485875df74771877439ac06339e284c3acfcd9be7abf3bc20b516faeadfe77ae"
        );
    }

    #[test]
    fn words_are_read_as_people_write_them() {
        let text = "zoo ".repeat(11) + "wrong";
        let words = SeedWords::parse(&text.to_uppercase().replace(' ', "\n")).unwrap();
        assert_eq!(*words.text(), text);
        for wrong in [
            "",
            "zoo",
            &"zoo ".repeat(12),
            &text.replace("wrong", "wrnog"),
        ] {
            assert!(SeedWords::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn only_a_new_folder_has_words() {
        let folder = tempfile::tempdir().unwrap();
        SeedWords::begin(folder.path()).unwrap();
        let words = SeedWords::of(folder.path()).unwrap().unwrap().text();
        assert_eq!(words.split(' ').count(), 12);
        SeedWords::begin(folder.path()).unwrap();
        assert_eq!(SeedWords::of(folder.path()).unwrap().unwrap().text(), words);
        let older = tempfile::tempdir().unwrap();
        fs::write(older.path().join(IDENTITY), [7; 64]).unwrap();
        SeedWords::begin(older.path()).unwrap();
        assert!(SeedWords::of(older.path()).unwrap().is_none());
        fs::write(older.path().join(FILE), "zoo").unwrap();
        assert!(SeedWords::of(older.path()).is_err());
    }
}
