//! The spike: a crowd of callers in waves, and what each of them got.
//!
//! The story behind it is real: a support chatbot that was fine all day, a marketing mail, and an API
//! that answers 429. The crowd here calls any base URL, so the same crowd can be sent to the API
//! itself and through surgetank. Everything is measured on the callers' side; nothing is scripted.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::Client;
use tokio::{task::JoinSet, time::Instant};

/// One stretch of the story.
#[derive(Copy, Clone, Debug)]
pub struct Wave {
    /// What the live view calls it.
    pub name: &'static str,
    /// How long it lasts.
    pub lasts: Duration,
    /// Callers that arrive in it, evenly spread.
    pub callers: usize,
}

/// Counts of a crowd, readable while it runs.
#[derive(Debug, Default)]
pub struct Tally {
    arrived: AtomicUsize,
    answered: AtomicUsize,
    replied: AtomicUsize,
    errors: AtomicUsize,
    waits: Mutex<Vec<Duration>>,
    last_answer: Mutex<Duration>,
}

/// What a tally says at one moment.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Callers that have made their call.
    pub arrived: usize,
    /// Of them, those who got the model's answer, whole.
    pub answered: usize,
    /// Those who got a friendly reply in its place.
    pub replied: usize,
    /// Those who saw an error.
    pub errors: usize,
}

impl Count {
    /// Callers that have got nothing yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.arrived
            .saturating_sub(self.answered + self.replied + self.errors)
    }
}

impl Tally {
    /// The counts now.
    #[must_use]
    pub fn count(&self) -> Count {
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        // Outcomes first: a caller that is counted in between is then waiting, never negative.
        let (answered, replied, errors) = (
            read(&self.answered),
            read(&self.replied),
            read(&self.errors),
        );
        Count {
            arrived: read(&self.arrived),
            answered,
            replied,
            errors,
        }
    }

    /// The wait that this part of the answered callers did not exceed; nothing when nobody was answered.
    #[must_use]
    pub fn wait(&self, part: f64) -> Option<Duration> {
        let mut waits = self
            .waits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        waits.sort_unstable();
        let last = waits.len().checked_sub(1)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index of a short list"
        )]
        waits.get((last as f64 * part).round() as usize).copied()
    }

    /// From the beginning to the last answer.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        *self
            .last_answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, got: Got, began: Instant, waited: Duration) {
        match got {
            Got::Answer => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.waits
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(waited);
                *self
                    .last_answer
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = began.elapsed();
            }
            Got::Reply => drop(self.replied.fetch_add(1, Ordering::Relaxed)),
            Got::Error => drop(self.errors.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Got {
    Answer,
    Reply,
    Error,
}

/// A caller gives up after this time; nobody in the story waits longer.
const CALLER_TIMEOUT: Duration = Duration::from_secs(50);

/// Users in the crowd; each makes several calls.
const USERS: usize = 60;

/// By which surgetank says that an answer is not the model's.
const FALLBACK: &str = "x-surgetank-fallback";

/// Sends the waves to `base_url` and waits until everybody has got something.
///
/// # Errors
/// When no HTTP client can be made.
pub async fn send(base_url: &str, waves: &[Wave], tally: &Arc<Tally>) -> reqwest::Result<()> {
    let client = Client::builder().timeout(CALLER_TIMEOUT).build()?;
    let (began, mut number, mut crowd) = (Instant::now(), 0, JoinSet::new());
    let mut wave_begins = began;
    for wave in waves {
        for index in 0..wave.callers {
            let arrives = wave_begins + wave.lasts.mul_f64(index as f64 / wave.callers as f64);
            tokio::time::sleep_until(arrives).await;
            let (client, url, tally) = (
                client.clone(),
                format!("{base_url}/v1/chat/completions"),
                tally.clone(),
            );
            let turn = number;
            number += 1;
            tally.arrived.fetch_add(1, Ordering::Relaxed);
            crowd.spawn(async move {
                let called = Instant::now();
                let got = call(&client, &url, turn).await.unwrap_or(Got::Error);
                tally.note(got, began, called.elapsed());
            });
        }
        wave_begins += wave.lasts;
    }
    crowd.join_all().await;
    Ok(())
}

/// One call as a plain application makes it: one request, and whatever comes back is shown.
async fn call(client: &Client, url: &str, caller: usize) -> reqwest::Result<Got> {
    let streams = caller.is_multiple_of(2);
    let body = serde_json::json!({
        "model": "gpt-demo",
        "stream": streams,
        "messages": [{ "role": "user", "content": "Where is my order?" }],
    });
    let user = format!("customer-{}", caller % USERS);
    let request = client
        .post(url)
        .bearer_auth("demo-key")
        .header("x-surgetank-user", user)
        .json(&body);
    let response = request.send().await?;
    let status = response.status();
    let is_told = response.headers().contains_key(FALLBACK);
    let text = response.text().await?;
    let substituted = is_told || is_told_late(&text);
    let whole = if streams {
        text.contains("data: [DONE]")
    } else {
        text.contains("\"choices\"")
    };
    Ok(match (status.is_success() && whole, substituted) {
        (true, false) => Got::Answer,
        (true, true) => Got::Reply,
        (false, _) => Got::Error,
    })
}

/// Whether a stream says in a comment that the proxy wrote it: it had begun before that was known.
fn is_told_late(stream: &str) -> bool {
    let mut comments = stream.lines().filter(|line| line.starts_with(':'));
    comments.any(|comment| comment.contains(FALLBACK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Lab, LabConfig};

    #[test]
    fn a_reply_is_told_from_an_answer_also_in_a_stream_that_had_begun() {
        let reply = ": x-surgetank-attempts: 3; x-surgetank-fallback: reply\n\ndata: [DONE]\n\n";
        assert!(is_told_late(reply));
        let answer = ": x-surgetank-attempts: 3\n\ndata: x-surgetank-fallback: reply\n\n";
        assert!(!is_told_late(answer), "a model may say anything");
    }

    #[tokio::test]
    async fn the_crowd_counts_what_it_got() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let lab = Lab::start(LabConfig::default()).expect("a free port");
        lab.script("ok, 429, ok, cut;after=2, 500")
            .expect("known faults");
        let tally = Arc::new(Tally::default());
        let waves = [Wave {
            name: "one",
            lasts: Duration::from_millis(500),
            callers: 5,
        }];
        send(&lab.url(), &waves, &tally).await.expect("a client");
        let count = tally.count();
        assert_eq!(
            count,
            Count {
                arrived: 5,
                answered: 2,
                replied: 0,
                errors: 3
            }
        );
        assert_eq!(count.waiting(), 0);
        assert!(tally.wait(0.5).is_some());
    }
}
