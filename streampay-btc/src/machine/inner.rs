//! Requests, the ends of effects, notes and restarts, each given to the channel that it concerns.

use streampay_core::backend::{
    Answer, BackendError, EffectResult, Outcome, RefusalCode, Request, RestoredPurse,
};
use streampay_core::session::Entropy;
use streampay_core::units::{Now, PurseKey};

use super::payee::Payee;
use super::payer::Payer;
use super::{
    Chain, Channel, DRAW, Env, Inner, OUT_OF_ORDER, Reply, STALE_MS, Side, draw, merge, released,
    settled,
};
use super::{candidates, record};
use crate::codec::{self, Undecodable};
use crate::job::{Done, Job};

impl Inner {
    /// The newest view, unless it is too old for money.
    pub(super) fn chain_at(chain: Option<&Chain>, now: Now) -> Option<&Chain> {
        chain.filter(|chain| now.mono.0.saturating_sub(chain.at) < STALE_MS)
    }

    pub(super) fn request(
        &mut self,
        now: Now,
        key: PurseKey,
        request: Request,
        fresh: bool,
    ) -> Answer {
        if let Request::Note { bytes } = &request {
            return self.note(key, bytes);
        }
        if matches!(request, Request::Acked { .. }) {
            // What is signed is signed. Whoever waits for an answer goes on waiting.
            return Answer::default();
        }
        let env = Env {
            config: &self.config,
            keys: &self.keys,
            chain: Self::chain_at(self.chain.as_ref(), now),
            now,
            fresh,
        };
        if !self.channels.contains_key(&key) {
            let role = match begin(&env, key, &request) {
                Ok(role) => role,
                Err(answer) => return *answer,
            };
            if let Err(error) = candidates::admit(&mut self.channels, &self.wallet, &role) {
                return Answer::failed(error);
            }
            let channel = Channel {
                role,
                waiting: None,
                running: false,
            };
            self.channels.insert(key, channel);
        }
        let Some(channel) = self.channels.get_mut(&key) else {
            return Answer::default();
        };
        let reply = match &mut channel.role {
            Side::Payer(payer) => payer.request(&env, key, &request),
            Side::Payee(payee) => payee.request(&env, key, &request),
        };
        match reply {
            Reply::Answer(answer) => {
                channel.waiting = None;
                if channel.is_candidate() && candidates::ends(&answer) {
                    self.channels.remove(&key);
                }
                answer
            }
            Reply::First(mut answer, job) => {
                channel.waiting = Some(request);
                answer.effects.extend(channel.start(key, &job));
                answer
            }
        }
    }

    /// What the other side's backend shows ours: of the mutual close.
    fn note(&mut self, key: PurseKey, bytes: &[u8]) -> Answer {
        let mut answer = Answer::default();
        let Some(channel) = self.channels.get_mut(&key) else {
            return answer;
        };
        match &mut channel.role {
            Side::Payer(payer) => {
                if payer.on_note(bytes, &mut answer.delta) {
                    answer.effects.push(draw(key));
                }
            }
            Side::Payee(payee) => {
                if payee.cosigned(bytes) {
                    answer.effects.extend(channel.start(key, &Job::Look));
                }
            }
        }
        answer
    }

    /// Randomness came, or none: then there is no mutual close.
    fn drawn(&mut self, result: EffectResult) -> Answer {
        let mut answer = Answer::default();
        let Some(channel) = self.channels.get_mut(&result.purse) else {
            return answer;
        };
        let done = result.result.ok();
        let done = done.and_then(|body| codec::decode::<Done>(&body, 256).ok());
        answer.note = match (&mut channel.role, done) {
            (Side::Payer(payer), Some(Done::Drawn(drawn))) => payer.cosign(Entropy(*drawn.0)),
            (Side::Payee(payee), Some(Done::Drawn(drawn))) => payee.propose(Entropy(*drawn.0)),
            (Side::Payee(payee), _) => {
                payee.give_up_mutual();
                None
            }
            (Side::Payer(_), _) => None,
        };
        answer
    }

    pub(super) fn effect_done(&mut self, now: Now, result: EffectResult) -> Answer {
        if result.id == DRAW {
            return self.drawn(result);
        }
        let key = result.purse;
        let Some(channel) = self.channels.get_mut(&key) else {
            return Answer::default();
        };
        channel.running = false;
        let waiting = channel.waiting.take();
        let done = result
            .result
            .and_then(|body| codec::decode::<Done>(&body, 256).map_err(|_| BackendError::Unknown));
        let mut answer = Answer::default();
        match done {
            Ok(Done::Funded { outpoint, fee }) => {
                if let Side::Payer(payer) = &mut channel.role {
                    payer.funded(self.config.network, outpoint, fee, &mut answer.delta);
                }
            }
            Ok(Done::Looked | Done::Drawn(_)) => {}
            // That a wallet does not pay ends an opening, and no release.
            Err(BackendError::Fatal(_)) if matches!(waiting, Some(Request::Release)) => {
                return self.request(now, key, Request::Release, false);
            }
            Err(error) => {
                answer.outcome = waiting.map(|_| Outcome::Failed(error));
                return answer;
            }
        }
        match waiting {
            Some(request) => merge(answer, self.request(now, key, request, true)),
            None => answer,
        }
    }

    pub(super) fn restore(&mut self, key: PurseKey, records: &RestoredPurse) -> Answer {
        // One that is watched already is at least as new as what was read of it before.
        if let Some(known) = self.channels.get_mut(&key) {
            (known.waiting, known.running) = (None, false);
            return Answer {
                effects: known.start(key, &Job::Look),
                ..Answer::default()
            };
        }
        let mut channel = match self.read(key, records) {
            Ok(Some(channel)) => channel,
            Ok(None) => return Answer::default(),
            Err(Undecodable) => {
                return Answer::failed(BackendError::Fatal(RefusalCode::Malformed));
            }
        };
        let effects = channel.start(key, &Job::Look);
        self.channels.insert(key, channel);
        Answer {
            effects,
            ..Answer::default()
        }
    }
}

impl Inner {
    /// A channel as its records tell it; none where there is none in them.
    pub(super) fn read(
        &self,
        key: PurseKey,
        records: &RestoredPurse,
    ) -> Result<Option<Channel>, Undecodable> {
        let Some(found) = record::read_all(records)? else {
            return Ok(None);
        };
        let (network, best, decided) = (self.config.network, found.best, found.decided);
        let role = match found.meta {
            // A payer's word, written down by an older version: it is shown again.
            record::Meta::Payee(meta) if !meta.accepted => return Ok(None),
            record::Meta::Payer(meta) => {
                Payer::restore(&self.keys, network, key, meta, best, decided)
                    .map(|payer| payer.with_strays(network, &found.strays))
                    .map(|payer| Side::Payer(Box::new(payer)))
            }
            record::Meta::Payee(meta) => {
                let payee = Payee::restore(&self.keys, network, key, meta, best, decided);
                payee.map(|mut payee| {
                    payee.parent = found.parent;
                    payee.split = found.split;
                    Side::Payee(Box::new(payee))
                })
            }
        };
        Ok(Some(Channel {
            role: role.ok_or(Undecodable)?,
            waiting: None,
            running: false,
        }))
    }
}

/// The first request of a purse that is not known.
fn begin(env: &Env<'_>, key: PurseKey, request: &Request) -> Result<Side, Box<Answer>> {
    let failed = |error| Box::new(Answer::failed(error));
    match request {
        Request::Open { .. } => Payer::begin(env, key)
            .map(|payer| Side::Payer(Box::new(payer)))
            .map_err(failed),
        Request::Accept { offer, opening } => Payee::begin(env, key, offer, opening)
            .map(|payee| Side::Payee(Box::new(payee)))
            .map_err(failed),
        // A purse that never was has nothing to give back.
        Request::Release => Err(Box::new(released(0))),
        Request::Settle { .. } => Err(Box::new(settled(0))),
        _ => Err(failed(OUT_OF_ORDER)),
    }
}
