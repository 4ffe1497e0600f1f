//! The curve that a pace follows: a search while the rate is a guess, a cubic around it once it is measured.

/// Right after a refusal the rate is this part of the learned share.
pub(super) const RELIEF: f64 = 0.7;
/// The curve returns to the learned share after this many requests, at least.
const SPAN: f64 = 12.0;
/// And after this many times what the last refusal closed the gate for, as far as that is between the next two, in seconds.
/// The upper bound is for hints: the rest of a vendor's minute says nothing about the price of a refusal.
const CLOSINGS: f64 = 7.0;
const LEAST_SPAN: f64 = 2.0;
const MOST_CLOSINGS: f64 = 3.0;
/// Never slower than one request in half a minute: a lane that sends nothing learns nothing.
pub(super) const FLOOR: f64 = 1.0 / 30.0;
/// A careful search grows by this factor with each request that leaves,
const GROWTH: f64 = 1.2;
/// but not beyond this many times what is accepted.
const REACH: f64 = 2.0;
/// The same of a bold one.
const BOLD_GROWTH: f64 = 1.5;
const BOLD_REACH: f64 = 8.0;

/// How boldly a rate is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// As one of many would.
    Careful,
    /// As one that is likely alone with the quota.
    Bold,
}

/// A rate that is learned, and changes with its use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Curve {
    /// The learned share, in requests a second.
    pub(super) share: f64,
    /// How long the curve has been used with somebody waiting, in seconds.
    used: f64,
    /// The rate in force while the share is a guess, and how it is searched; nothing once it is measured.
    pub(super) search: Option<(f64, Search)>,
    /// The time back to the share, in seconds.
    span: f64,
}

impl Curve {
    /// The time back to the share is that of some requests, and no less than a few times what the next refusal will cost:
    /// a quota of many requests a second would be refused every moment otherwise.
    pub(super) fn measured(share: f64, closing: f64, trust: f64) -> Self {
        let share = share.max(FLOOR);
        let least = (CLOSINGS * closing).clamp(LEAST_SPAN, MOST_CLOSINGS);
        Self {
            share,
            used: 0.0,
            search: None,
            span: trust * (SPAN / share).max(least),
        }
    }

    /// From this guess on.
    pub(super) fn search(rate: f64, how: Search) -> Self {
        let rate = rate.max(FLOOR);
        Self {
            share: rate,
            used: 0.0,
            search: Some((rate, how)),
            span: SPAN / rate,
        }
    }

    /// A request left `gap` seconds after the one before, with somebody waiting; `measured` is the rate accepted
    /// since the last refusal.
    pub(super) fn advance(&mut self, gap: f64, measured: f64) {
        // A gap longer than the curve asks for (a closed gate, a full window) does not prove a rate.
        self.used += gap.min(2.0 / self.rate());
        if let Some((rate, how)) = &mut self.search {
            let (growth, reach) = match how {
                Search::Careful => (GROWTH, REACH),
                Search::Bold => (BOLD_GROWTH, BOLD_REACH),
            };
            *rate = (*rate * growth).min(rate.max(reach * measured));
        }
    }

    /// `share · (1 + (1 − relief) · (t/span − 1)³)`: CUBIC, written so that the time back to the share can be chosen.
    pub(super) fn rate(&self) -> f64 {
        if let Some((rate, _)) = self.search {
            return rate;
        }
        let shape = 1.0 + (1.0 - RELIEF) * (self.used / self.span - 1.0).powi(3);
        (self.share * shape).max(FLOOR)
    }
}
