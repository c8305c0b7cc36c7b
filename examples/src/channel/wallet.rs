//! A user with a wallet of its own: shown an address, an amount, and beforehand what brings the
//! money back without this program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::json;
use streampay_btc::kit::RescueKit;
use streampay_btc::machine::{ChannelMachine, Role};
use streampay_btc::runner::{Funded, FundingOrder, FundingWallet};
use streampay_core::units::PurseKey;
use zeroize::Zeroizing;

use super::height;
use crate::durable;
use crate::report::{Report, show_code};

/// Shows what to pay, once for each channel, and keeps its rescue kit in a file.
pub struct Shown {
    machine: ChannelMachine,
    folder: PathBuf,
    report: Report,
    /// The channels that were shown, and the output that the refunds in their kit spend, once there is
    /// one.
    kept: Mutex<BTreeMap<PurseKey, Option<String>>>,
}

impl Shown {
    pub(super) fn new(machine: ChannelMachine, folder: PathBuf, report: Report) -> Self {
        Self {
            machine,
            folder,
            report,
            kept: Mutex::default(),
        }
    }

    /// Writes the kits of channels that are funded by now.
    pub(super) fn keep_kits(&self) {
        for channel in self.machine.report() {
            let funded = channel.role == Role::Payer && channel.outpoint.is_some();
            let outpoint = channel.outpoint.map(|outpoint| outpoint.to_string());
            if !funded || channel.settled.is_some() || self.has(channel.purse, outpoint.as_deref())
            {
                continue;
            }
            let Some(kit) = self.machine.rescue_kit(channel.purse) else {
                continue;
            };
            // Told when it was written, in this process or another.
            if self.is_written(channel.purse, &kit) {
                self.note(channel.purse, outpoint);
                continue;
            }
            match self.write(channel.purse, &kit) {
                Ok(path) => {
                    self.note(channel.purse, outpoint);
                    self.tell_funded(channel.purse, &kit, &path);
                }
                Err(error) => {
                    let line = format!("the rescue kit of a channel cannot be written: {error}");
                    self.report.tell(&line);
                }
            }
        }
    }

    /// True where its kit was written with this output, or with any or none where none is asked for.
    fn has(&self, purse: PurseKey, outpoint: Option<&str>) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get(&purse);
        kept.is_some_and(|has| outpoint.is_none() || has.as_deref() == outpoint)
    }

    fn note(&self, purse: PurseKey, outpoint: Option<String>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(purse, outpoint);
    }

    fn write(&self, purse: PurseKey, kit: &RescueKit) -> std::io::Result<PathBuf> {
        let text = Zeroizing::new(kit.dangerous_text());
        durable::write(&self.folder, &file_name(purse), text.as_bytes())
    }

    fn is_written(&self, purse: PurseKey, kit: &RescueKit) -> bool {
        let known = std::fs::read_to_string(self.folder.join(file_name(purse)));
        let text = Zeroizing::new(kit.dangerous_text());
        known.is_ok_and(|known| *Zeroizing::new(known) == *text)
    }

    /// When its time is over, as a height and a time.
    fn expiry(&self, purse: PurseKey, kit: &RescueKit) -> String {
        let channels = self.machine.report();
        let own = channels.iter().find(|channel| channel.purse == purse);
        height(kit.expiry, own.and_then(|own| own.left))
    }

    fn tell_funded(&self, purse: PurseKey, kit: &RescueKit, path: &Path) {
        let outpoint = kit.outpoint.map(|outpoint| outpoint.to_string());
        let rates: Vec<u32> = kit.refunds.iter().map(|(rate, _)| *rate).collect();
        self.report.say(
            "channel_funded",
            json!({
                "session": purse.session.to_string(), "purse": purse.purse.0, "outpoint": outpoint,
                "expiry": kit.expiry, "refund_sat_per_vb": rates, "kit": path.display().to_string(),
            }),
        );
        let outpoint = outpoint.unwrap_or_default();
        self.report.tell(&format!(
            "the channel is funded by {outpoint}. Refunds at {} sat/vB, to broadcast from block {} on \
             if nothing else brings the money back, are in {}",
            listed(&rates),
            self.expiry(purse, kit),
            path.display()
        ));
    }

    fn tell_wanted(&self, purse: PurseKey, kit: &RescueKit, uri: &str, path: &Path) {
        let report = self.report;
        let channels = self.machine.report();
        let own = channels.iter().find(|channel| channel.purse == purse);
        let reserve = own.map_or(0, |own| own.reserve.to_sat());
        let address = kit.address.as_ref().map(ToString::to_string);
        report.say(
            "channel_wanted",
            json!({
                "session": purse.session.to_string(), "purse": purse.purse.0, "address": address,
                "value_sat": kit.value.to_sat(), "reserve_sat": reserve, "uri": uri,
                "descriptor": kit.descriptor,
                "expiry": kit.expiry, "kit": path.display().to_string(),
            }),
        );
        report.tell(&format!(
            "Keep this, which brings the money back without this program from block {} on; it is \
             also in {}. It holds a secret key:\n{}\n\
             Then pay exactly {} sat, once and in one output, from any bitcoin wallet, to {}\n\
             It is yours but for what you watch and {reserve} sat for closing; the rest comes back when the channel closes, or \
             after block {}. So does whatever else is paid there, which opens nothing. Ctrl-C before you \
             pay ends without a cost",
            kit.expiry,
            path.display(),
            kit.dangerous_text().trim_end(),
            kit.value.to_sat(),
            address.unwrap_or_default(),
            self.expiry(purse, kit),
        ));
        show_code(report, uri, uri);
    }
}

/// `1, 10 and 50`.
fn listed(rates: &[u32]) -> String {
    let words: Vec<String> = rates.iter().map(u32::to_string).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

fn file_name(purse: PurseKey) -> String {
    format!("{}-{}.txt", purse.session, purse.purse.0)
}

#[async_trait]
impl FundingWallet for Shown {
    async fn fund(&self, order: &FundingOrder) -> Funded {
        if self.has(order.purse, None) {
            return Funded::Asked;
        }
        let kit = self.machine.rescue_kit(order.purse);
        let Some((kit, uri)) = kit.and_then(|kit| Some((kit.clone(), kit.uri()?))) else {
            return Funded::Declined;
        };
        // Nobody is asked for money that only this process could bring back.
        match self.write(order.purse, &kit) {
            Ok(path) => {
                self.note(order.purse, None);
                self.tell_wanted(order.purse, &kit, &uri, &path);
                Funded::Asked
            }
            Err(error) => {
                let line =
                    format!("the rescue kit cannot be written, so nothing is asked: {error}");
                self.report.tell(&line);
                Funded::Declined
            }
        }
    }
}

impl core::fmt::Debug for Shown {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}
