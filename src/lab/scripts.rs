//! Scripts and the attempts that were made at them.
//!
//! An SDK sends the same headers on each of its attempts, and a proxy on each of its own, so the only one who can know
//! that a call is the second attempt is the upstream that counts. It counts by `x-lab-key`.

use std::collections::{HashMap, VecDeque};

use super::fault::{FaultError, FaultSpec, Script};
use super::head::Head;

/// Most keys whose attempts are counted; the oldest are forgotten.
const MOST_KEYS: usize = 10_000;

/// What was scripted, and how far the scripts have been played.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    /// For whoever comes next, with the attempts already served.
    next: Option<(Script, u32)>,
    keys: HashMap<String, Key>,
    /// Keys in the order in which they came, for forgetting.
    order: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Key {
    attempts: u32,
    script: Option<Script>,
}

impl Scripts {
    /// Scripts the next requests, whoever sends them.
    pub(super) fn play_next(&mut self, script: Script) {
        self.next = Some((script, 0));
    }

    /// Scripts the attempts with this key, counted from the next one.
    pub(super) fn play_for(&mut self, key: &str, script: Script) {
        *self.key(key) = Key {
            attempts: 0,
            script: Some(script),
        };
    }

    /// Counts an attempt; returns its number, from 1.
    pub(super) fn attempt(&mut self, key: &str) -> u32 {
        let key = self.key(key);
        key.attempts = key.attempts.saturating_add(1);
        key.attempts
    }

    /// What the request's own headers or a script want to be played; `None` leaves it to the rules.
    pub(super) fn choose(
        &mut self,
        head: &Head,
        attempt: Option<(&str, u32)>,
    ) -> Result<Option<FaultSpec>, Misuse> {
        if let Some(text) = header(head, "x-lab-script")? {
            let script: Script = text.parse()?;
            let (_, attempt) = attempt.ok_or(Misuse::NoKey)?;
            return Ok(script.at(attempt).cloned());
        }
        if let Some(text) = header(head, "x-lab-fault")? {
            return Ok(Some(text.parse()?));
        }
        if let Some((key, attempt)) = attempt
            && let Some(script) = self.keys.get(key).and_then(|key| key.script.as_ref())
        {
            return Ok(script.at(attempt).cloned());
        }
        let Some((script, served)) = &mut self.next else {
            return Ok(None);
        };
        *served = served.saturating_add(1);
        let spec = script.at(*served).cloned();
        if spec.is_none() {
            self.next = None;
        }
        Ok(spec)
    }

    fn key(&mut self, key: &str) -> &mut Key {
        if !self.keys.contains_key(key) {
            if self.order.len() >= MOST_KEYS
                && let Some(oldest) = self.order.pop_front()
            {
                self.keys.remove(&oldest);
            }
            self.order.push_back(key.to_owned());
        }
        self.keys.entry(key.to_owned()).or_default()
    }
}

/// Whether the request's own header asks for an answer before its body is read.
pub(super) fn wants_early(head: &Head) -> bool {
    let spec = head
        .text("x-lab-fault")
        .and_then(|text| text.parse::<FaultSpec>().ok());
    spec.is_some_and(|spec| spec.params.early)
}

/// Why the `x-lab-…` headers of a request are not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misuse {
    #[error(transparent)]
    Fault(#[from] FaultError),
    #[error("`x-lab-script` needs `x-lab-key`, by which the lab counts attempts")]
    NoKey,
    #[error("the header `{0}` stands more than once, or is not text")]
    Header(&'static str),
}

fn header<'a>(head: &'a Head, name: &'static str) -> Result<Option<&'a str>, Misuse> {
    match head.all(name).count() {
        0 => Ok(None),
        1 => head.text(name).map(Some).ok_or(Misuse::Header(name)),
        _ => Err(Misuse::Header(name)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::fault::Fault;
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> Head {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        Head {
            raw: Bytes::new(),
            method: "POST".to_owned(),
            target: "/".to_owned(),
            minor_version: 1,
            fields: fields
                .iter()
                .map(|(name, value)| (bytes(name), bytes(value)))
                .collect(),
        }
    }

    fn name(chosen: Result<Option<FaultSpec>, Misuse>) -> String {
        chosen
            .unwrap()
            .map_or("-".to_owned(), |spec| spec.fault().name().into_owned())
    }

    #[test]
    fn a_script_in_a_header_is_played_by_key() {
        let mut scripts = Scripts::default();
        let head = head(&[("x-lab-script", "429,529,ok")]);
        let mut play = |key: &str| {
            let attempt = scripts.attempt(key);
            name(scripts.choose(&head, Some((key, attempt))))
        };
        assert_eq!(
            [play("a"), play("b"), play("a"), play("a"), play("a")],
            ["429", "429", "529", "ok", "-"]
        );
    }

    #[test]
    fn a_script_from_the_test_serves_whoever_comes() {
        let mut scripts = Scripts::default();
        scripts.play_next("500*2,503".parse().unwrap());
        let played: Vec<_> = (0..5)
            .map(|_| name(scripts.choose(&head(&[]), None)))
            .collect();
        assert_eq!(played, ["500", "500", "503", "-", "-"]);

        scripts.play_for("mine", "400".parse().unwrap());
        let attempt = scripts.attempt("mine");
        assert_eq!(
            name(scripts.choose(&head(&[]), Some(("mine", attempt)))),
            "400"
        );
        assert_eq!(name(scripts.choose(&head(&[]), None)), "-");
    }

    #[test]
    fn misuse_is_told() {
        let mut scripts = Scripts::default();
        let mut told = |fields: &[_]| scripts.choose(&head(fields), None).unwrap_err().to_string();
        assert!(told(&[("x-lab-script", "429")]).contains("x-lab-key"));
        assert!(told(&[("x-lab-fault", "hnag")]).contains("did you mean `hang`"));
        assert!(
            told(&[("x-lab-fault", "hang"), ("X-Lab-Fault", "reset")]).contains("more than once")
        );
        assert_eq!(
            name(scripts.choose(&head(&[("x-lab-fault", "hang")]), None)),
            Fault::Hang.name()
        );
    }

    #[test]
    fn keys_are_bounded() {
        let mut scripts = Scripts::default();
        for key in 0..=MOST_KEYS {
            assert_eq!(scripts.attempt(&key.to_string()), 1);
        }
        assert_eq!(
            (scripts.keys.len(), scripts.order.len()),
            (MOST_KEYS, MOST_KEYS)
        );
        assert_eq!(scripts.attempt("0"), 1, "the oldest was forgotten");
        assert_eq!(
            scripts.attempt(&MOST_KEYS.to_string()),
            2,
            "the newest was not"
        );
    }
}
