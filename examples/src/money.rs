//! The commands that both programs have: money in, money out, and what there is.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;
use streampay_core::units::Msat;

use crate::backup::restored;
use crate::error::AppError;
use crate::home::Home;
use crate::mint_check::mint_check;
use crate::price::amount;
use crate::progress::count_down;
use crate::report::{Report, ask, plain, show_balance, show_code, show_line, show_note};
use crate::signals::asked_to_end;
use crate::wallet::{Begun, Handover, Invoice, PayQuote, Request, To, WithdrawQuote, Withdrawn};

/// Money in, money out.
#[derive(Subcommand)]
pub enum Money {
    /// Put money in, by a Lightning invoice that it shows.
    ///
    /// It waits for the payment and turns it into ecash. Cut short, it goes on with the next
    /// `deposit` of the same amount, or with `recover`.
    Deposit {
        /// How much, such as 100sat.
        #[arg(value_name = "AMOUNT", value_parser = amount)]
        amount: Msat,
        /// The mint: one that the stream takes. You trust it with this money.
        #[arg(long, value_name = "URL")]
        mint: String,
        /// How long to wait for the payment, in seconds. Without it as long as the invoice is good.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
        /// One event a line on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Take money out by Lightning, to an invoice or a Lightning address.
    ///
    /// It shows all fees, and asks. With an amount alone, it makes a token, as `send` does.
    Withdraw {
        /// An invoice (lnbc...), a Lightning address (name@example.com), or an amount for a token.
        #[arg(value_name = "INVOICE|ADDRESS|AMOUNT")]
        to: To,
        /// How much, for an address or an invoice that does not say, such as 100sat.
        #[arg(value_name = "AMOUNT", value_parser = amount)]
        amount: Option<Msat>,
        /// From which mint, if you have money at several.
        #[arg(long, value_name = "URL")]
        mint: Option<String>,
        /// The most that all fees together may come to. Where `--yes` is said without it, a
        /// twentieth of the amount, or 10sat if that is more.
        #[arg(long, value_name = "AMOUNT", value_parser = amount)]
        max_fee: Option<Msat>,
        /// Agree to the fees without being asked.
        #[arg(long)]
        yes: bool,
        /// One event a line on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Put a token into your wallet; the token is worthless afterwards.
    Receive {
        /// The token, cashuA... or cashuB...; without it, or as `-`, it is read from stdin.
        token: Option<String>,
    },
    /// Take money out as a token, for whoever redeems it first.
    Send {
        /// How much, such as 100sat.
        #[arg(value_name = "AMOUNT", value_parser = amount)]
        amount: Msat,
        /// From which mint, if you have money at several.
        #[arg(long, value_name = "URL")]
        mint: Option<String>,
    },
    /// Ask somebody's Cashu wallet for money, by a payment request.
    ///
    /// What comes back is a token, for `receive`.
    Request {
        /// How much, such as 100sat.
        #[arg(value_name = "AMOUNT", value_parser = amount)]
        amount: Msat,
        /// A mint whose ecash you take; may be said several times. Without it, those where you have
        /// money.
        #[arg(long, value_name = "URL")]
        mint: Vec<String>,
        /// What it is for, shown to the payer.
        #[arg(long, value_name = "TEXT")]
        memo: Option<String>,
        /// As creqB (NUT-26) instead of creqA (NUT-18).
        #[arg(long)]
        bech32: bool,
    },
    /// Pay a payment request: shows what it costs, and asks.
    Pay {
        /// The request: creqA... or creqB...
        #[arg(value_name = "REQUEST")]
        request: Request,
        /// How much, if the request does not say, such as 100sat.
        #[arg(value_name = "AMOUNT", value_parser = amount)]
        amount: Option<Msat>,
        /// From which mint, if you have money at several.
        #[arg(long, value_name = "URL")]
        mint: Option<String>,
        /// Agree without being asked.
        #[arg(long)]
        yes: bool,
    },
    /// What you have.
    Balance,
    /// What a mint can do, before you trust it with money.
    MintCheck {
        /// The mint.
        #[arg(value_name = "URL")]
        url: String,
        /// Also lock a few satoshi of yours there and offer them with a wrong signature: a mint
        /// that takes them is broken. Costs the mint's fees.
        #[arg(long)]
        canary: bool,
        /// As one line of JSON on stdout.
        #[arg(long)]
        json: bool,
    },
}

/// The longest token that is read, in bytes: a thousand proofs, locked and with DLEQ.
const TOKEN_BYTES: u64 = 1024 * 1024;
/// Where nobody can be asked, and nothing was said of fees: a twentieth, or this if it is more.
const SMALL_FEE_SAT: u64 = 10;
/// How long a mint that does not say when its invoices end is asked, in seconds.
const INVOICE_S: u64 = 3600;

impl core::fmt::Debug for Money {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // One of them holds a token.
        f.debug_struct("Money").finish_non_exhaustive()
    }
}

impl Money {
    /// Does it.
    ///
    /// # Errors
    /// [`AppError`] with what to do next.
    pub async fn run(self, home: &Home) -> Result<(), AppError> {
        if !matches!(self, Self::Balance | Self::MintCheck { .. }) {
            restored::ready(home, Report { json: false }, false).await?;
        }
        match self {
            Self::Deposit {
                amount,
                mint,
                wait,
                json,
            } => deposit(home, amount, &mint, wait, Report { json }).await,
            Self::Withdraw {
                to: To::Token(sat),
                amount: None,
                mint,
                ..
            } => send(home, sat, mint.as_deref()).await,
            Self::Withdraw {
                to,
                amount,
                mint,
                max_fee,
                yes,
                json,
            } => {
                let consent = Consent { max_fee, yes };
                let mint = mint.as_deref();
                withdraw(home, &to, amount, mint, consent, Report { json }).await
            }
            Self::Receive { token } => {
                let token = token_from(token)?;
                show_line(format_args!(
                    "{} received",
                    home.wallet.receive(&token).await?
                ));
                Ok(())
            }
            Self::Send { amount, mint } => send(home, amount, mint.as_deref()).await,
            Self::Request {
                amount,
                mint,
                memo,
                bech32,
            } => request(home, amount, mint, memo, bech32).await,
            Self::Pay {
                request,
                amount,
                mint,
                yes,
            } => pay(home, &request, amount, mint.as_deref(), yes).await,
            Self::Balance => {
                show_balance(&home.wallet.balance().await?);
                Ok(())
            }
            Self::MintCheck { url, canary, json } => {
                mint_check(home, &url, canary, Report { json }).await
            }
        }
    }
}

async fn deposit(
    home: &Home,
    amount: Msat,
    mint: &str,
    wait: Option<u64>,
    report: Report,
) -> Result<(), AppError> {
    let arrived = match home.wallet.begin_deposit(mint, amount).await? {
        Begun::Arrived(arrived) => {
            report.tell("the invoice of an earlier deposit of this amount was paid");
            arrived
        }
        Begun::Waits(invoice) => {
            show_invoice(report, &invoice);
            let good_for = invoice.expires_in.unwrap_or(INVOICE_S);
            let wait = Duration::from_secs(wait.unwrap_or(good_for));
            let finish = home.wallet.finish_deposit(mint, &invoice, wait);
            tokio::select! {
                arrived = finish => arrived?,
                never = count_down(report, "waiting for the payment", wait) => match never {},
                () = asked_to_end() => {
                    report.wipe();
                    let request = invoice.request.clone();
                    return Err(crate::wallet::WalletError::DepositPending(request).into());
                }
            }
        }
    };
    report.wipe();
    let fields = json!({"mint": mint, "amount_msat": arrived.msat()});
    report.say("deposited", fields);
    done(report, &format!("{arrived} deposited at {mint}"));
    Ok(())
}

fn show_invoice(report: Report, invoice: &Invoice) {
    let again = if invoice.resumed { "again: " } else { "" };
    let until = match invoice.expires_in {
        Some(seconds) => format!(", within {} min", seconds.div_ceil(60)),
        None => String::new(),
    };
    report.tell(&format!(
        "{again}pay this Lightning invoice for {}{until}; Ctrl-C leaves it for later",
        invoice.amount,
    ));
    report.say(
        "invoice",
        json!({
            "request": invoice.request, "amount_msat": invoice.amount.msat(),
            "expires_in_s": invoice.expires_in, "resumed": invoice.resumed,
        }),
    );
    // Capitals take a third less of a QR code. BOLT 11 allows them, as a whole.
    let code = format!("LIGHTNING:{}", invoice.request.to_ascii_uppercase());
    show_code(report, &invoice.request, &code);
}

/// What the user has said beforehand.
#[derive(Clone, Copy)]
pub(crate) struct Consent {
    pub(crate) max_fee: Option<Msat>,
    pub(crate) yes: bool,
}

impl Consent {
    pub(crate) fn to(self, quote: &WithdrawQuote) -> Result<(), AppError> {
        let fees = quote.fee_reserve.saturating_plus(quote.mint_fee);
        let small = Msat::from_sat(SMALL_FEE_SAT).unwrap_or(Msat::ZERO);
        let usual = Msat::from_sat(quote.amount.sat_floor() / 20).unwrap_or(Msat::ZERO);
        let unasked = self.yes.then(|| usual.max(small));
        if let Some(allowed) = self.max_fee.or(unasked)
            && fees > allowed
        {
            return Err(AppError::DearFee { fees, allowed });
        }
        let offer = format!(
            "{} out, from {}. Fees: at most {} for Lightning, of which the unused part comes back, \
             and {} for the mint; so at most {} in all",
            quote.amount,
            quote.mint,
            quote.fee_reserve,
            quote.mint_fee,
            quote.total(),
        );
        if self.yes {
            Report { json: false }.tell(&offer);
            return Ok(());
        }
        ask(
            &format!("{offer}. Pay?"),
            "nobody can be asked here: say --yes to agree to the fees, and --max-fee to limit them",
        )
    }
}

async fn withdraw(
    home: &Home,
    to: &To,
    amount: Option<Msat>,
    mint: Option<&str>,
    consent: Consent,
    report: Report,
) -> Result<(), AppError> {
    let mut refused = None;
    let (begun, begins) = tokio::sync::oneshot::channel();
    let agree = |quote: &WithdrawQuote| {
        let agreed = consent.to(quote);
        refused = agreed.err();
        let agreed = refused.is_none();
        if agreed {
            // Nobody looks where it is dropped.
            let _ = begun.send(());
        }
        agreed
    };
    let most = home.wallet.limits().payment;
    let paying = async {
        match begins.await {
            Ok(()) => count_down(report, "the mint pays", most).await,
            Err(_) => std::future::pending().await,
        }
    };
    let paid = tokio::select! {
        biased;
        paid = home.wallet.withdraw(to, amount, mint, agree) => paid,
        never = paying => match never {},
    };
    report.wipe();
    if let Some(refused) = refused {
        return Err(refused);
    }
    let Withdrawn {
        amount,
        fees,
        preimage,
    } = paid?;
    let fields = json!({
        "amount_msat": amount.msat(), "fees_msat": fees.msat(), "preimage": preimage,
    });
    report.say("withdrawn", fields);
    done(
        report,
        &format!("{amount} paid, and {fees} of fees; all else is back"),
    );
    Ok(())
}

async fn send(home: &Home, amount: Msat, mint: Option<&str>) -> Result<(), AppError> {
    let token = home.wallet.send(amount, mint).await?;
    show_line(&token);
    show_note(format_args!(
        "a token of {amount}: whoever redeems it first has it. If nobody does, `recover --take-back` brings it home"
    ));
    Ok(())
}

async fn request(
    home: &Home,
    amount: Msat,
    mut mints: Vec<String>,
    memo: Option<String>,
    bech32: bool,
) -> Result<(), AppError> {
    if mints.is_empty() {
        let held = home.wallet.balance().await?.into_iter();
        mints = held.map(|at| at.mint.to_string()).collect();
    }
    if mints.is_empty() {
        return Err(AppError::Usage(
            "say with --mint whose ecash you take: you trust it with this money",
        ));
    }
    let request = Request::new(amount, &mints, memo)?;
    let short = request.bech32();
    let text = match &short {
        Some(short) if bech32 => short.clone(),
        _ => request.to_string(),
    };
    let code = short.as_ref().unwrap_or(&text);
    show_code(Report { json: false }, &text, code);
    show_note(format_args!(
        "a request for {amount} in ecash of {}; give the token that you get for it to `receive`",
        mints.join(" or ")
    ));
    Ok(())
}

async fn pay(
    home: &Home,
    request: &Request,
    amount: Option<Msat>,
    mint: Option<&str>,
    yes: bool,
) -> Result<(), AppError> {
    let mut refused = None;
    let agree = |quote: &PayQuote| {
        let offer = sentence(quote);
        let agreed = if yes {
            Report { json: false }.tell(&offer);
            Ok(())
        } else {
            let otherwise = "nobody can be asked here: say --yes to agree";
            ask(&format!("{offer}. Pay?"), otherwise)
        };
        refused = agreed.err();
        refused.is_none()
    };
    let paid = home.wallet.pay_request(request, amount, mint, agree).await;
    if let Some(refused) = refused {
        return Err(refused);
    }
    let (quote, handover) = paid?;
    match handover {
        Handover::Delivered => show_line(format_args!("{} paid", quote.amount)),
        Handover::Token(token) => {
            show_line(&token);
            show_note(format_args!("give this token to whoever made the request"));
        }
        Handover::Undelivered(token) => {
            show_line(&token);
            let back = if quote.locked {
                "it is locked to them"
            } else {
                "`recover --take-back` brings it home"
            };
            show_note(format_args!(
                "whoever made the request did not take it, or did not say so: give them this token; {back}"
            ));
        }
    }
    Ok(())
}

fn sentence(quote: &PayQuote) -> String {
    let memo = quote.memo.as_deref().map(plain);
    let memo = memo.map_or(String::new(), |memo| format!(" for \"{memo}\""));
    let how = match &quote.target {
        Some(url) => format!("posted to {}", plain(url)),
        None => "as a token that you hand over".to_owned(),
    };
    let locked = if quote.locked {
        ", locked to the receiver's key"
    } else {
        ""
    };
    format!(
        "{}{memo}, and {} of fees, in ecash of {}, {how}{locked}",
        quote.amount, quote.fees, quote.mint
    )
}

/// The token that was said, or what stdin has.
fn token_from(said: Option<String>) -> Result<String, AppError> {
    match said {
        Some(token) if token != "-" => return Ok(token),
        _ => {}
    }
    if std::io::stdin().is_terminal() {
        show_note(format_args!(
            "paste the token, then press Enter and Ctrl-D. A terminal takes 4000 characters a line: for a longer one, `receive - < FILE`"
        ));
    }
    let mut token = String::new();
    let read = std::io::stdin()
        .lock()
        .take(TOKEN_BYTES)
        .read_to_string(&mut token);
    read.map_err(AppError::io("stdin cannot be read"))?;
    Ok(token)
}

/// The last word: on stdout, unless that is for JSON.
fn done(report: Report, line: &str) {
    if report.json {
        report.tell(line);
    } else {
        show_line(line);
    }
}
