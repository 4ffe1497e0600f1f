//! Several whole proxies behind one store, in front of one fake API.

use std::fmt::Write as _;

use surgetank::lab::{Lab, LabConfig, LabHandle};

use super::{
    harness::{Answer, Recipe, Request, Tank, Tongue},
    server::Server,
};

/// The tanks, and what is behind them.
pub(crate) struct Replicas {
    pub(crate) lab: LabHandle,
    pub(crate) tanks: Vec<Tank>,
}

impl Replicas {
    /// So many tanks, with these further keys of `store` and this block of `limits`.
    pub(crate) fn start(count: usize, url: &str, store: &str, limits: &str) -> Self {
        let lab = Lab::start(LabConfig::default()).expect("a free port");
        let mut blocks = format!("store: {{ url: '{url}'");
        let _ = write!(
            blocks,
            "{}{store} }}\nlimits: {{ {limits} }}",
            if store.is_empty() { "" } else { ", " }
        );
        let recipe = Recipe::over(&lab.url()).fallback("[ { reply: 'Please wait.' } ]");
        let tanks = (0..count).map(|_| recipe.start_with(&blocks)).collect();
        Self { lab, tanks }
    }

    /// Tanks whose store has all the time it needs: what is tested is not how fast a busy machine is.
    pub(crate) fn patient(count: usize, server: &Server, limits: &str) -> Self {
        Self::start(count, &server.url(), "timeout: 10s", limits)
    }
}

/// A plain request of a user.
pub(crate) fn of(user: &str) -> Request {
    Tongue::Chat.plain().header("x-surgetank-user", user)
}

/// What an answer says is left of the user's rate.
pub(crate) fn left(answer: &Answer) -> u64 {
    let state = answer.head.one("ratelimit").expect("what is left");
    let rest = state.strip_prefix("\"user\";r=").expect("the user's rate");
    rest.split(';')
        .next()
        .expect("a number")
        .parse()
        .expect("a number")
}
