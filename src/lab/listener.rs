//! When the lab takes connections, and when it does not.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::units;

/// What a caller who connects meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerState {
    /// A connection.
    #[default]
    Open,
    /// A connection that is reset at once.
    Reset,
    /// Nothing listens: the system refuses. Connections that exist live on.
    Closed,
}

/// A time during which the listener is not open.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerWindow {
    /// Time since the start (or the last reset) at which it begins.
    #[serde(deserialize_with = "units::de_duration")]
    pub from: Duration,
    /// Time since the start at which it ends.
    #[serde(deserialize_with = "units::de_duration")]
    pub until: Duration,
    /// What callers meet meanwhile.
    pub state: ListenerState,
}

/// The plan of the listener: an order that was given while running goes before the scenario's windows.
#[derive(Debug)]
pub(super) struct ListenerPlan {
    windows: Vec<ListenerWindow>,
    start: Instant,
    /// The order, with its end if it has one.
    order: Option<(ListenerState, Option<Instant>)>,
}

impl ListenerPlan {
    pub(super) fn new(windows: &[ListenerWindow], start: Instant) -> Self {
        Self {
            windows: windows.to_vec(),
            start,
            order: None,
        }
    }

    /// Orders a state, until `until` or without end.
    pub(super) fn order(&mut self, state: ListenerState, until: Option<Instant>) {
        self.order = Some((state, until));
    }

    /// Begins the plan anew.
    pub(super) fn restart(&mut self, now: Instant) {
        self.start = now;
        self.order = None;
    }

    /// The state at `now`, and the time of the next change that is known of.
    pub(super) fn state(&self, now: Instant) -> (ListenerState, Option<Instant>) {
        if let Some((state, until)) = self.order
            && until.is_none_or(|until| now < until)
        {
            return (state, until);
        }
        let at = now.saturating_duration_since(self.start);
        let current = self
            .windows
            .iter()
            .find(|window| (window.from..window.until).contains(&at));
        let edges = self
            .windows
            .iter()
            .flat_map(|window| [window.from, window.until]);
        let next = edges
            .filter(|edge| *edge > at)
            .min()
            .map(|edge| self.start + edge);
        (
            current.map_or(ListenerState::Open, |window| window.state),
            next,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn windows_and_orders_make_the_state() {
        let start = Instant::now();
        let window = ListenerWindow {
            from: SECOND,
            until: 2 * SECOND,
            state: ListenerState::Closed,
        };
        let mut plan = ListenerPlan::new(&[window], start);
        let (one, two, three) = (start + SECOND, start + 2 * SECOND, start + 3 * SECOND);

        assert_eq!(plan.state(start), (ListenerState::Open, Some(one)));
        assert_eq!(plan.state(one), (ListenerState::Closed, Some(two)));
        assert_eq!(plan.state(two), (ListenerState::Open, None));

        plan.order(ListenerState::Reset, Some(two));
        assert_eq!(
            plan.state(one),
            (ListenerState::Reset, Some(two)),
            "an order goes before a window"
        );
        assert_eq!(
            plan.state(two),
            (ListenerState::Open, None),
            "and ends by itself"
        );

        plan.order(ListenerState::Closed, None);
        assert_eq!(plan.state(three), (ListenerState::Closed, None));
        plan.restart(three);
        assert_eq!(
            plan.state(three),
            (ListenerState::Open, Some(three + SECOND))
        );
    }
}
