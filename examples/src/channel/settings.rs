//! Which chain, seen by whom, and where a user's bitcoin goes: said once, kept in the home's folder,
//! so that channels are watched whenever the home is open.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use streampay_btc::bitcoin::{Network, ScriptBuf};
use streampay_btc::chain::ChainSource;
use streampay_btc::script::own_script;

use super::Setup;
use super::fees::{FeeWallet, FeeWalletArgs};
use super::shares::{self, Said, Share};
use super::source::{Unseen, chain_source};
use crate::durable;
use crate::error::AppError;
use crate::report::Report;

/// The file in the home's folder: it may hold a node's password.
const FILE: &str = "bitcoin.json";

/// What a user says of bitcoin on the command line.
#[derive(Args, Clone, Debug, Default)]
pub struct BitcoinArgs {
    /// Where blocks come from, and where transactions go: your node,
    /// http://127.0.0.1:8332/?cookie=FILE, or an Esplora that you trust, `https://example.com/api`. A
    /// node with a password, http://user:password@127.0.0.1:8332, is said as env:NAME or file:PATH:
    /// that is where its address is. Kept for next time.
    #[arg(long, value_name = "URL", value_parser = crate::secret::address)]
    btc: Option<String>,
    /// The chain: regtest, signet, testnet or mainnet. Mainnet is real money, and nobody outside has
    /// reviewed this software.
    #[arg(long, value_name = "CHAIN", default_value = "regtest", requires = "btc", value_parser = network)]
    network: Option<Network>,
}

impl BitcoinArgs {
    /// True where the user says now where blocks come from.
    #[must_use]
    pub const fn is_said(&self) -> bool {
        self.btc.is_some()
    }
}

pub(super) fn network(text: &str) -> Result<Network, String> {
    match text {
        "regtest" => Ok(Network::Regtest),
        "signet" => Ok(Network::Signet),
        "testnet" => Ok(Network::Testnet),
        "mainnet" => Ok(Network::Bitcoin),
        _ => Err("expected regtest, signet, testnet or mainnet".to_owned()),
    }
}

pub(crate) fn name_of(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => "mainnet",
        Network::Testnet => "testnet",
        Network::Signet => "signet",
        _ => "regtest",
    }
}

/// Who is asked about a chain, and which.
pub type SeenChain = (Arc<dyn ChainSource>, Network);

/// The chain source that the user says now, else the one that was said before; none where nothing
/// was. Nothing is kept.
///
/// # Errors
/// [`AppError`]: it cannot be used, or what was said before cannot be read.
pub fn source_of(folder: &Path, args: &BitcoinArgs) -> Result<Option<SeenChain>, AppError> {
    let said = args.btc.clone();
    let said = said.map(|source| (source, args.network.unwrap_or(Network::Regtest)));
    let known = || {
        let known = Settings::load(folder)?;
        Ok::<_, AppError>(known.map(|known| (known.source, known.network)))
    };
    let found = match said {
        Some(said) => Some(said),
        None => known()?,
    };
    let made = found.map(|(source, network)| Ok((chain_source(&source, network)?, network)));
    made.transpose()
}

/// Chain, source and destination of one home.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    network: Network,
    source: String,
    own: String,
    shares: Vec<Share>,
    fee_wallet: Option<FeeWallet>,
    folder: PathBuf,
}

impl Settings {
    /// What the user says now, else what was said before; none where nothing was. `own` is where
    /// this side's money goes, an address or a descriptor. What is said is kept in `folder`.
    ///
    /// # Errors
    /// [`AppError`]: something is missing or wrong, or the folder's channels are on another chain.
    pub fn from(
        folder: &Path,
        args: &BitcoinArgs,
        own: Option<&str>,
        own_flag: &'static str,
    ) -> Result<Option<Self>, AppError> {
        let known = Self::load(folder)?;
        let Some(source) = &args.btc else {
            return match (own, &known) {
                (Some(_), None) => Err(AppError::Usage(own_flag)),
                (Some(own), Some(known)) => {
                    let own = own.to_owned();
                    Self {
                        own,
                        ..known.clone()
                    }
                    .kept()
                    .map(Some)
                }
                (None, _) => Ok(known),
            };
        };
        let network = args.network.unwrap_or(Network::Regtest);
        if known.as_ref().is_some_and(|known| known.network != network) {
            return Err(AppError::Usage(
                "this folder's channels are on another chain: say --network as before, or use \
                 another --data",
            ));
        }
        let fee_wallet = known.as_ref().and_then(|known| known.fee_wallet.clone());
        let shares = known.as_ref().map(|known| known.shares.clone());
        let own = own
            .map(str::to_owned)
            .or_else(|| known.map(|known| known.own));
        let settings = Self {
            network,
            source: source.clone(),
            own: own.ok_or(AppError::Usage(own_flag))?,
            shares: shares.unwrap_or_default(),
            fee_wallet,
            folder: folder.to_owned(),
        };
        settings.kept().map(Some)
    }

    /// What was said before; none where nothing was.
    ///
    /// # Errors
    /// [`AppError`] where the file cannot be read.
    pub fn load(folder: &Path) -> Result<Option<Self>, AppError> {
        let mut text = String::new();
        match std::fs::File::open(folder.join(FILE)) {
            Ok(mut file) => file.read_to_string(&mut text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        }
        .map_err(AppError::io("bitcoin.json cannot be read"))?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let read = || {
            Some(Self {
                network: network(&field("network")?).ok()?,
                source: field("source")?,
                own: field("own")?,
                shares: shares::parse(value.get("shares"))?,
                fee_wallet: match value.get("fee_wallet") {
                    None | Some(Value::Null) => None,
                    Some(wallet) => Some(FeeWallet::parse(wallet)?),
                },
                folder: folder.to_owned(),
            })
        };
        let damaged = AppError::Failed("bitcoin.json is damaged: say --btc and the rest again");
        read().map(Some).ok_or(damaged)
    }

    /// The same with what the user says of a fee wallet, which is kept too.
    ///
    /// # Errors
    /// [`AppError`]: it cannot be used, or there is no chain to have one on.
    pub fn with_fee_wallet(
        settings: Option<Self>,
        args: &FeeWalletArgs,
    ) -> Result<Option<Self>, AppError> {
        let Some(mut settings) = settings else {
            return match FeeWallet::from(args, None)? {
                None => Ok(None),
                Some(_) => Err(AppError::Usage(
                    "a fee wallet is for channels: say --btc too",
                )),
            };
        };
        let wallet = FeeWallet::from(args, settings.fee_wallet.clone())?;
        if wallet != settings.fee_wallet {
            settings.fee_wallet = wallet;
            settings = settings.kept()?;
        }
        Ok(Some(settings))
    }

    /// The same with what the user says of shares, which is kept too.
    ///
    /// # Errors
    /// [`AppError`]: they cannot be paid, or there is no chain to pay them on.
    pub fn with_shares(settings: Option<Self>, said: &[Said]) -> Result<Option<Self>, AppError> {
        let Some(mut settings) = settings else {
            return match said {
                [] | [Said::None] => Ok(None),
                _ => Err(AppError::Usage(
                    "--payout-share is of what channels bring: say --btc too",
                )),
            };
        };
        let shares = shares::after(settings.shares.clone(), said);
        if shares != settings.shares {
            settings.shares = shares;
            settings = settings.kept()?;
        }
        Ok(Some(settings))
    }

    fn kept(self) -> Result<Self, AppError> {
        // Nothing is kept that cannot be used.
        chain_source(&self.source, self.network)?;
        shares::check(&self.shares, self.network, &self.script()?)?;
        let failed = AppError::io("bitcoin.json cannot be written");
        let text = json!({
            "network": name_of(self.network), "source": self.source, "own": self.own,
            "shares": shares::to_json(&self.shares),
            "fee_wallet": self.fee_wallet.as_ref().map(FeeWallet::to_json),
        });
        durable::write(&self.folder, FILE, text.to_string().as_bytes()).map_err(failed)?;
        Ok(self)
    }

    fn script(&self) -> Result<ScriptBuf, AppError> {
        own_script(&self.own, self.network).map_err(|_| {
            AppError::Usage(
                "your bitcoin goes to an address of this chain, or to the first address of a \
                 descriptor without secrets; neither was named",
            )
        })
    }

    /// What a home needs. `earns` where this side is paid: then the source must answer.
    ///
    /// # Errors
    /// [`AppError`].
    pub async fn setup(&self, report: Report, earns: bool) -> Result<Setup, AppError> {
        let source = chain_source(&self.source, self.network)?;
        let script = self.script()?;
        let mut setup = Setup::new(self.network, &script, source, report);
        setup.config.payee.shares = shares::check(&self.shares, self.network, &script)?;
        let begins = (self.fee_wallet.as_ref()).is_some_and(|wallet| wallet.since.is_none());
        let mut tip = u32::MAX;
        if earns || begins {
            tip = setup.source.view(&[]).await?.tip;
        }
        if let Some(wallet) = &self.fee_wallet {
            let wallet = match wallet.setup(tip) {
                Ok(wallet) => wallet,
                Err(error) if !earns => {
                    report.tell(&format!("the fee wallet is left out now: {error}"));
                    return Ok(setup);
                }
                Err(error) => return Err(error),
            };
            if begins {
                let mut known = self.clone();
                known
                    .fee_wallet
                    .iter_mut()
                    .for_each(|of| of.since = Some(tip));
                known.kept()?;
            }
            setup.take_fee_wallet(wallet);
        }
        Ok(setup)
    }
}

impl Settings {
    /// What the channels' own records need to be read: no chain is asked, nothing is done.
    ///
    /// # Errors
    /// [`AppError`] where the settings cannot be used.
    pub(crate) fn setup_to_read(&self, report: Report) -> Result<Setup, AppError> {
        let mut setup = Setup::new(self.network, &self.script()?, Arc::new(Unseen), report);
        setup.is_watched = false;
        if let Some(wallet) = &self.fee_wallet {
            setup.take_fee_wallet(wallet.unseen());
        }
        Ok(setup)
    }
}

impl core::fmt::Debug for Settings {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Settings")
            .field("network", &self.network)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use streampay_btc::bitcoin::hashes::Hash as _;
    use streampay_btc::bitcoin::{Address, WPubkeyHash};

    use super::*;

    const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

    fn args(btc: Option<&str>, network: Network) -> BitcoinArgs {
        BitcoinArgs {
            btc: btc.map(str::to_owned),
            network: Some(network),
        }
    }

    #[test]
    fn what_is_said_once_is_kept_and_a_chain_does_not_change() {
        let folder = tempfile::tempdir().unwrap();
        let from = |args: &BitcoinArgs, own| Settings::from(folder.path(), args, own, "own?");
        let nothing = args(None, Network::Regtest);
        assert_eq!(from(&nothing, None).unwrap(), None);
        assert!(from(&nothing, Some(ADDRESS)).is_err(), "no source");
        let node = args(Some("http://a:b@127.0.0.1:18443"), Network::Regtest);
        assert!(from(&node, None).is_err(), "no destination");
        assert!(from(&node, Some("nowhere")).is_err());
        assert_eq!(Settings::load(folder.path()).unwrap(), None, "not kept");
        let said = from(&node, Some(ADDRESS)).unwrap();
        assert!(said.is_some());
        assert_eq!(from(&nothing, None).unwrap(), said);
        assert_eq!(from(&node, None).unwrap(), said);
        assert!(!format!("{said:?}").contains("a:b"));
        let shared = |said: &str| {
            let said = [shares::said(said).unwrap()];
            Settings::with_shares(from(&nothing, None).unwrap(), &said)
        };
        assert!(
            shared(&format!("{ADDRESS}=30%")).is_err(),
            "where the rest goes"
        );
        assert_eq!(from(&nothing, None).unwrap(), said, "not kept");
        let other = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([9; 20]));
        let other = Address::from_script(&other, Network::Regtest).unwrap();
        let with = shared(&format!("{other}=30%")).unwrap();
        assert_ne!(with, said);
        assert_eq!(from(&node, Some(ADDRESS)).unwrap(), with);
        let gets_a_share = other.to_string();
        assert!(from(&nothing, Some(&gets_a_share)).is_err());
        assert_eq!(shared("none").unwrap(), said);
        let mainnet = args(Some("http://a:b@127.0.0.1:8332"), Network::Bitcoin);
        assert!(from(&mainnet, None).is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let file = folder.path().join(FILE).metadata().unwrap();
            assert_eq!(file.permissions().mode() & 0o777, 0o600);
        }
    }
}
