//! What goes wrong, decided from the seed and a count of calls: the same calls meet the same faults.

use std::fmt;
use std::str::FromStr;

/// How often what goes wrong, as shares of calls (0 to 1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Rows move between pages.
    pub shift: f64,
    /// 429 although within the limit, with and without a time to wait.
    pub too_many: f64,
    /// 500 or 503 before anything happened.
    pub server_error: f64,
    /// 500 although the write took effect.
    pub error_after: f64,
    /// The connection is cut before the request took effect.
    pub cut_before: f64,
    /// The connection is cut after the request took effect.
    pub cut_after: f64,
    /// Answers take seconds.
    pub slow: f64,
    /// A written field is dropped, and the answer shows it as sent or as dropped.
    pub drop_field: f64,
    /// A written text is rewritten (trimmed to lower case), and the answer shows that.
    pub rewrite: f64,
    /// Totals are announced that are not true.
    pub total_lies: f64,
    /// A web page instead of data.
    pub html: f64,
    /// A page in the middle is empty.
    pub empty_page: f64,
    /// People whom no list shows, always the same ones, and totals that leave them out as well. Who asks for one of them, by id
    /// or address, gets them. At Chatway, WooCommerce and the CRM.
    pub omit: f64,
}

/// A text that describes no faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultsError(String);

impl fmt::Display for FaultsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "`{}` is no fault; write none, some, hostile, or a list like `429=0.05,cut_after=0.01` of: shift, 429, 5xx, \
             error_after, cut_before, cut_after, slow, drop_field, rewrite, total_lies, html, empty_page, omit",
            self.0
        )
    }
}

impl std::error::Error for FaultsError {}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// Reads `none`, `some`, `hostile`, or a list of `name=share`.
    pub fn parse(text: &str) -> Result<Faults, FaultsError> {
        text.parse()
    }
}

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Faults, FaultsError> {
        let mut faults = Faults::none();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = || FaultsError(part.to_owned());
            match part.split_once('=') {
                None if part == "none" => faults = Faults::none(),
                None if part == "some" => {
                    faults = Faults {
                        shift: 0.05,
                        too_many: 0.03,
                        server_error: 0.03,
                        cut_before: 0.02,
                        cut_after: 0.02,
                        slow: 0.03,
                        ..Faults::none()
                    };
                }
                None if part == "hostile" => {
                    faults = Faults {
                        shift: 0.15,
                        too_many: 0.06,
                        server_error: 0.06,
                        error_after: 0.03,
                        cut_before: 0.04,
                        cut_after: 0.05,
                        slow: 0.05,
                        drop_field: 0.0,
                        rewrite: 0.03,
                        total_lies: 0.05,
                        html: 0.02,
                        empty_page: 0.03,
                        omit: 0.0,
                    };
                }
                None => return Err(wrong()),
                Some((name, share)) => {
                    let share: f64 = share.parse().map_err(|_| wrong())?;
                    if !(0.0..=1.0).contains(&share) {
                        return Err(wrong());
                    }
                    *faults.named(name).ok_or_else(wrong)? = share;
                }
            }
        }
        Ok(faults)
    }
}

impl Faults {
    fn named(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "shift" => &mut self.shift,
            "429" => &mut self.too_many,
            "5xx" => &mut self.server_error,
            "error_after" => &mut self.error_after,
            "cut_before" => &mut self.cut_before,
            "cut_after" => &mut self.cut_after,
            "slow" => &mut self.slow,
            "drop_field" => &mut self.drop_field,
            "rewrite" => &mut self.rewrite,
            "total_lies" => &mut self.total_lies,
            "html" => &mut self.html,
            "empty_page" => &mut self.empty_page,
            "omit" => &mut self.omit,
            _ => return None,
        })
    }
}

/// A faulty answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultAnswer {
    TooMany { retry_after: bool },
    ServerError(u16),
    Html,
}

/// What is going to happen to one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub instead_of_effect: Option<FaultAnswer>,
    pub instead_of_answer: Option<FaultAnswer>,
    pub cut: bool,
    pub slow_ms: u64,
    pub shift: Option<u64>,
    pub drop_field: Option<u64>,
    pub answer_lies: bool,
    pub rewrite: bool,
    pub total_lies: Option<u64>,
    pub empty_page: bool,
    pub omit: f64,
    /// Set by a fake whose write, although answered as one, did nothing: a repeat that the vendor recognised.
    pub no_effect: bool,
}

/// A generator of numbers that look random.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn hits(&mut self, share: f64) -> bool {
        (self.roll() >> 11) as f64 / ((1u64 << 53) as f64) < share
    }
}

impl Fate {
    pub fn cast(faults: &Faults, seed: u64, instance: &str, call: u64, write: bool) -> Fate {
        let name = instance.bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut dice = Dice(name ^ call.wrapping_mul(0xA24B_AED4_963E_E407));
        let mut fate = Fate::default();
        if dice.hits(faults.too_many) {
            fate.instead_of_effect = Some(FaultAnswer::TooMany { retry_after: dice.roll().is_multiple_of(2) });
        } else if dice.hits(faults.server_error) {
            let status = if dice.roll().is_multiple_of(2) { 500 } else { 503 };
            fate.instead_of_effect = Some(FaultAnswer::ServerError(status));
        } else if dice.hits(faults.html) {
            fate.instead_of_effect = Some(FaultAnswer::Html);
        } else if dice.hits(faults.cut_before) {
            // Cut before the effect: nothing happens and nothing comes back.
            fate.instead_of_effect = Some(FaultAnswer::ServerError(500));
            fate.cut = true;
        } else if dice.hits(faults.cut_after) {
            fate.cut = true;
        } else if write && dice.hits(faults.error_after) {
            fate.instead_of_answer = Some(FaultAnswer::ServerError(500));
        }
        if dice.hits(faults.slow) {
            fate.slow_ms = 1000 + dice.roll() % 9000;
        }
        fate.shift = dice.hits(faults.shift).then(|| dice.roll());
        fate.drop_field = (write && dice.hits(faults.drop_field)).then(|| dice.roll());
        fate.answer_lies = dice.roll().is_multiple_of(2);
        fate.rewrite = write && dice.hits(faults.rewrite);
        fate.total_lies = dice.hits(faults.total_lies).then(|| 1 + dice.roll() % 5);
        fate.empty_page = dice.hits(faults.empty_page);
        fate.omit = faults.omit;
        fate
    }

    /// Whether no list shows this row.
    pub fn is_omitted(&self, id: u64) -> bool {
        self.omit > 0.0 && Dice(id.wrapping_mul(0xA24B_AED4_963E_E407)).hits(self.omit)
    }
}
