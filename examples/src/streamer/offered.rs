//! What is offered to those who come now: signed terms that name the mints which are fit. Mints
//! change while a streamer serves: they are looked at again before a new session rests on them, once in
//! a while, and only when somebody comes.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use streampay_cashu::AcceptedMint;
use streampay_core::session::BadConfig;
use streampay_core::wire::{Method, Terms};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::page::Page;
use super::serve::Offer;
use crate::error::AppError;
use crate::home::Home;
use crate::pay::{self, Pay};
use crate::price::Price;
use crate::quote;
use crate::report::Report;
use crate::trust::{Listed, Look, Verdict, fit, judge};
use crate::wallet::Request;

/// How long somebody who comes waits for the mints to be looked at. Who waits longer takes the offer
/// as it was. Well within what a viewer waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What somebody who comes is told.
#[derive(Debug)]
pub(super) struct Sale {
    /// None while no mint is fit, and there is no other way to pay.
    pub(super) terms: Option<Terms>,
    /// The page for browsers.
    pub(super) html: Bytes,
    /// See [`quote::seal`].
    pub(super) quote: Option<Bytes>,
    /// For plain players; none while no mint is fit whose ecash is taken at its face value.
    pub(super) spans: Option<Spans>,
}

/// What plain players are told: a request names one amount for all of its mints.
#[derive(Debug)]
pub(super) struct Spans {
    /// The mints that are taken at their face value.
    pub(super) mints: Vec<String>,
    /// The request for one span. Source: NUT-18.
    pub(super) demand: String,
}

/// Whether plain players can pay with a mint's ecash.
pub(super) fn takes_spans(mint: &AcceptedMint) -> bool {
    mint.price_permille() == 1_000
}

/// What is offered, as it changes.
pub(super) struct Offered {
    home: Home,
    pay: Vec<Pay>,
    price: Price,
    report: Report,
    /// The terms as they are while all mints are fit.
    whole: Terms,
    /// Each mint, and what was found of it. Held while they are looked at.
    found: Arc<Mutex<Vec<(AcceptedMint, Verdict)>>>,
    /// When that was.
    looked_at: std::sync::Mutex<Instant>,
    sale: watch::Sender<Arc<Sale>>,
}

impl Offered {
    /// What the terms `whole` say, of all mints that are listed: at first of those that are not known
    /// to be unfit.
    ///
    /// # Errors
    /// [`AppError`] where the terms cannot be.
    pub(super) fn new(home: &Home, whole: Terms, offer: &Offer) -> Result<Arc<Self>, AppError> {
        let verdict = |listed: &Listed| {
            let verdict = listed.fault.map_or(Verdict::Fit, Verdict::Unfit);
            (listed.mint.clone(), verdict)
        };
        let found = offer.mints.iter().map(verdict).collect();
        let nothing = Sale {
            terms: None,
            html: Bytes::new(),
            quote: None,
            spans: None,
        };
        let offered = Self {
            home: home.clone(),
            pay: offer.pay.clone(),
            price: offer.price,
            report: offer.report,
            whole,
            found: Arc::new(Mutex::new(found)),
            looked_at: std::sync::Mutex::new(Instant::now()),
            sale: watch::channel(Arc::new(nothing)).0,
        };
        offered.offer(&fit(&offer.mints))?;
        Ok(Arc::new(offered))
    }

    /// What is offered now, after a look at the mints where the last one was too long ago.
    pub(super) async fn now(self: &Arc<Self>) -> Arc<Sale> {
        // Before all else, so that the end of a look that runs is not missed.
        let mut sale = self.sale.subscribe();
        if self.is_fresh() {
            return sale.borrow().clone();
        }
        match self.found.clone().try_lock_owned() {
            Ok(_) if self.is_fresh() => return sale.borrow().clone(),
            // By itself: it is finished though nobody waits any more.
            Ok(found) => drop(tokio::spawn(self.clone().look_again(found))),
            Err(_) => {}
        }
        let _ = tokio::time::timeout(PATIENCE, sale.changed()).await;
        sale.borrow().clone()
    }

    fn looked_at(&self) -> MutexGuard<'_, Instant> {
        let at = self.looked_at.lock();
        at.unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self) -> bool {
        self.looked_at().elapsed() < self.home.wallet.limits().looked_at_for
    }

    async fn look_again(self: Arc<Self>, mut found: OwnedMutexGuard<Vec<(AcceptedMint, Verdict)>>) {
        let mut looks = JoinSet::new();
        for (place, (mint, before)) in found.iter().enumerate() {
            let (this, url, before) = (self.clone(), mint.url().to_owned(), *before);
            looks.spawn(async move { (place, this.look(&url, before).await) });
        }
        while let Some(look) = looks.join_next().await {
            if let Ok((place, now)) = look
                && let Some((_, verdict)) = found.get_mut(place)
            {
                *verdict = now;
            }
        }
        let fit = |(mint, verdict): &(AcceptedMint, Verdict)| {
            (!matches!(verdict, Verdict::Unfit(_))).then(|| mint.clone())
        };
        let fit: Vec<AcceptedMint> = found.iter().filter_map(fit).collect();
        // The offer goes last: who found the lock held waits for it.
        *self.looked_at() = Instant::now();
        drop(found);
        if let Err(error) = self.offer(&fit) {
            self.report
                .tell(&format!("the offer stays as it was: {error}"));
            self.sale.send_modify(|_| ());
        }
    }

    /// What is found of a mint, of which `before` was; it is told where that is something else. Who
    /// makes us look has paid nothing yet: beyond the budget for those, nothing is asked.
    async fn look(&self, mint: &str, before: Verdict) -> Verdict {
        let judged =
            async { Ok(judge(&self.home, mint, &self.pay, Look::Again, self.report).await) };
        let found = match self.home.runner.of_stranger(mint, judged).await {
            // What was against it still is, until it says otherwise.
            Ok(Ok(Verdict::Away)) if matches!(before, Verdict::Unfit(_)) => before,
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                self.report
                    .tell(&format!("{mint} could not be looked at: {error}"));
                before
            }
            Err(_) => before,
        };
        if found.is_news_after(before) {
            found.tell(mint, self.report);
        }
        found
    }

    /// From now on these mints are offered.
    fn offer(&self, mints: &[AcceptedMint]) -> Result<(), AppError> {
        let terms = self.terms_of(mints)?;
        let page = Page {
            title: self.whole.title.clone(),
            price: self.price.to_string(),
            mints: mints.to_vec(),
        };
        let seal = |terms: &Terms| quote::seal(terms, &self.home.identity).into();
        self.sale.send_replace(Arc::new(Sale {
            html: page.html().into(),
            quote: terms.as_ref().map(seal),
            spans: self.spans_of(mints)?,
            terms,
        }));
        Ok(())
    }

    fn spans_of(&self, mints: &[AcceptedMint]) -> Result<Option<Spans>, AppError> {
        let at_face = mints.iter().filter(|mint| takes_spans(mint));
        let mints: Vec<_> = at_face.map(|mint| mint.url().to_owned()).collect();
        if mints.is_empty() {
            return Ok(None);
        }
        let demand = Request::new(self.price.tick, &mints, None)?.to_string();
        Ok(Some(Spans { mints, demand }))
    }

    fn terms_of(&self, mints: &[AcceptedMint]) -> Result<Option<Terms>, AppError> {
        let ecash: Vec<Pay> = self
            .pay
            .iter()
            .copied()
            .filter(|pay| pay.is_ecash())
            .collect();
        let mut fresh: Vec<Method> = match mints {
            [] => Vec::new(),
            mints => pay::methods(&self.home, &ecash, mints)?,
        };
        let known = pay::names(&self.pay);
        // Its settle reserve goes with the fees of the day.
        if self.pay.contains(&Pay::Btc) {
            fresh.extend(pay::methods(&self.home, &[Pay::Btc], mints)?);
        }
        // In the order of the whole.
        let methods = self.whole.methods.iter().filter_map(|method| {
            if !known.contains(&method.name) {
                return Some(method.clone());
            }
            let place = fresh.iter().position(|fresh| fresh.name == method.name)?;
            Some(fresh.swap_remove(place))
        });
        let methods: Vec<Method> = methods.collect();
        if methods.is_empty() {
            return Ok(None);
        }
        let terms = Terms {
            methods,
            ..self.whole.clone()
        };
        terms.check().map_err(BadConfig::from)?;
        Ok(Some(terms))
    }
}
