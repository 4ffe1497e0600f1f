//! Which answers are begun before they are there, when, and how.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use crate::{
    config::{self, NoticeAfter},
    dialect::{Ask, Dialect, Endpoint},
    retry::deadline::{Budget, BudgetSource},
};

/// Node's `fetch` gives up where no head has come for 300 s. No answer is held so long.
pub const LATEST: Duration = Duration::from_mins(4);

/// Nobody is sent signs of life more often than this, whatever its timeouts are.
const OFTENEST: Duration = Duration::from_millis(50);

/// How an answer is begun.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A stream: notices as comments.
    Events,
    /// One JSON document: white space, and no words.
    Json,
}

impl Form {
    /// A label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Json => "json",
        }
    }
}

/// When and how an answer is begun that is not there yet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In which form.
    pub form: Form,
    /// When, if nothing has come by then.
    pub at: Instant,
    /// How often a sign of life follows.
    pub every: Duration,
    /// Whether it comes with the operator's notice.
    pub tells: bool,
}

/// What a request is, as far as a plan depends on it.
#[derive(Copy, Clone, Debug)]
pub struct Occasion<'a> {
    /// The route's settings.
    pub stream: &'a config::Stream,
    /// How it is asked.
    pub dialect: Dialect,
    /// As the caller sent it.
    pub method: &'a Method,
    /// What it asks for; `None` where its body was not read.
    pub ask: Option<&'a Ask>,
    /// How long its caller waits, if it said so.
    pub budget: Option<Budget>,
    /// When its head had arrived.
    pub arrived: Instant,
}

impl Plan {
    /// The plan for a request that is complete at `now`; `None` where its answer is never begun early:
    /// because nobody knows what form the answer will have, or because the operator has not allowed it.
    #[must_use]
    pub fn of(occasion: &Occasion<'_>, now: Instant) -> Option<Self> {
        let Occasion { stream, budget, .. } = occasion;
        let form = form_of(occasion)?;
        let (after, tells) = match form {
            Form::Json => (stream.json_keepalive?, false),
            Form::Events => match stream.notice_after {
                NoticeAfter::After(after) => (after, true),
                NoticeAfter::Never => (LATEST, false),
            },
        };
        let every = match form {
            Form::Json => after,
            Form::Events => stream.keepalive,
        };
        let mut plan = Self {
            form,
            at: now + after.min(LATEST),
            every,
            tells,
        };
        if let Some(budget) = budget {
            plan.fit(budget, occasion.arrived);
        }
        Some(plan)
    }

    /// A caller who gives up earlier is begun with earlier, and kept alive more often.
    fn fit(&mut self, budget: &Budget, arrived: Instant) {
        if budget.source == BudgetSource::SdkReadTimeout {
            self.every = self.every.min(budget.limit / 3).max(OFTENEST);
        }
        if self.tells && budget.source != BudgetSource::OwnHeader {
            self.at = self.at.min(arrived + budget.answer_within());
        }
    }

    /// Whether the plan meets the caller's limit, so that it no longer bounds the wait for the answer.
    #[must_use]
    pub fn meets(&self, budget: &Budget, arrived: Instant) -> bool {
        let in_time = self.at <= arrived + budget.answer_within();
        match budget.source {
            BudgetSource::OwnHeader => false,
            // Any byte satisfies it.
            BudgetSource::SdkReadTimeout => in_time,
            // The head satisfies it; the newest of them counts a plain answer to its end.
            BudgetSource::SdkTimeout => in_time && self.form == Form::Events,
        }
    }
}

/// The form of the answer, where that is certain.
fn form_of(occasion: &Occasion<'_>) -> Option<Form> {
    let ask = occasion.ask?;
    if occasion.method != Method::POST {
        return None;
    }
    match (occasion.dialect.endpoint(), ask.stream) {
        (Endpoint::Other, _) | (Endpoint::Embeddings, true) => None,
        (_, true) => Some(Form::Events),
        (_, false) => Some(Form::Json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(
        dialect: Dialect,
        streams: bool,
        stream: &config::Stream,
        budget: Option<Budget>,
        now: Instant,
    ) -> Option<Plan> {
        let ask = Ask {
            stream: streams,
            ..Ask::default()
        };
        let occasion = Occasion {
            stream,
            dialect,
            method: &Method::POST,
            ask: Some(&ask),
            budget,
            arrived: now,
        };
        Plan::of(&occasion, now)
    }

    #[test]
    fn only_answers_of_a_known_form_are_begun() {
        let (now, stream) = (Instant::now(), config::Stream::default());
        for dialect in Dialect::ALL {
            let known = !matches!(dialect.endpoint(), Endpoint::Other | Endpoint::Embeddings);
            let begun = plan(dialect, true, &stream, None, now);
            assert_eq!(begun.is_some(), known, "{dialect:?}");
            let plain = plan(dialect, false, &stream, None, now);
            assert_eq!(plain, None, "{dialect:?}: off by default");
            let on = config::Stream {
                json_keepalive: Some(SECOND),
                ..stream.clone()
            };
            let plain = plan(dialect, false, &on, None, now);
            let known = dialect.endpoint() != Endpoint::Other;
            assert_eq!(plain.is_some(), known, "{dialect:?}");
        }
        let ask = Ask {
            stream: true,
            ..Ask::default()
        };
        for (method, ask) in [(Method::GET, Some(&ask)), (Method::POST, None)] {
            let occasion = Occasion {
                stream: &stream,
                dialect: Dialect::MESSAGES,
                method: &method,
                ask,
                budget: None,
                arrived: now,
            };
            assert_eq!(Plan::of(&occasion, now), None, "{method} {ask:?}");
        }
    }

    #[test]
    fn never_is_before_any_client_gives_up() {
        let now = Instant::now();
        let mut stream = config::Stream {
            notice_after: NoticeAfter::Never,
            ..config::Stream::default()
        };
        let never = plan(Dialect::MESSAGES, true, &stream, None, now).unwrap();
        assert_eq!((never.at, never.tells), (now + LATEST, false));
        stream.notice_after = NoticeAfter::After(Duration::ZERO);
        let at_once = plan(Dialect::MESSAGES, true, &stream, None, now).unwrap();
        assert_eq!((at_once.at, at_once.tells), (now, true));
    }

    #[test]
    fn a_caller_with_little_time_is_begun_with_in_time() {
        use BudgetSource::{OwnHeader, SdkReadTimeout, SdkTimeout};
        let (now, stream) = (Instant::now(), config::Stream::default());
        let of = |source, limit| {
            let budget = Budget { limit, source };
            let plan = plan(Dialect::CHAT_COMPLETIONS, true, &stream, Some(budget), now).unwrap();
            (plan.at - now, plan.every, plan.meets(&budget, now))
        };
        let (usual, often) = (2 * SECOND, 15 * SECOND);
        assert_eq!(of(SdkReadTimeout, 600 * SECOND), (usual, often, true));
        assert_eq!(of(SdkReadTimeout, 9 * SECOND), (usual, 3 * SECOND, true));
        assert_eq!(
            of(SdkReadTimeout, SECOND),
            (SECOND * 49 / 50, SECOND / 3, true)
        );
        assert_eq!(of(SdkTimeout, SECOND), (SECOND * 49 / 50, often, true));
        assert_eq!(of(OwnHeader, SECOND), (usual, often, false));
    }

    #[test]
    fn white_space_meets_a_timeout_between_bytes_alone() {
        let now = Instant::now();
        let stream = config::Stream {
            json_keepalive: Some(2 * SECOND),
            ..config::Stream::default()
        };
        for (source, limit, met) in [
            (BudgetSource::SdkReadTimeout, 5, true),
            (BudgetSource::SdkReadTimeout, 1, false),
            (BudgetSource::SdkTimeout, 5, false),
            (BudgetSource::OwnHeader, 5, false),
        ] {
            let limit = limit * SECOND;
            let budget = Budget { limit, source };
            let plan = plan(Dialect::MESSAGES, false, &stream, Some(budget), now).unwrap();
            assert_eq!(plan.meets(&budget, now), met, "{budget:?}");
        }
    }
}
