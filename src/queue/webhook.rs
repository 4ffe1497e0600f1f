//! Telling the operator's own endpoints that a queued request has ended, by the Standard Webhooks scheme.
//!
//! The message says which entry and how it ended, and nothing of what was asked or answered: whoever wants that reads it
//! with the credential that queued it. It goes to configured URLs alone. That a message is owed is in the store, so it is
//! sent also after a crash, at least once; its `webhook-id` is the same every time.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header;
use ring::hmac;
use serde_json::json;

use super::{Queue, location, rules::Target};
use crate::store::jobs::{JobId, Millis, Owed, State};

/// How often the store is asked for what is owed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Messages that are sent at once.
const AT_ONCE: usize = 16;

/// An endpoint that takes longer has not taken the message.
const PATIENCE: Duration = Duration::from_secs(15);

/// A message whose sender has died is sent again after this; longer than a sender may take.
const CLAIM: Duration = Duration::from_secs(60);

/// The waits before the tries after the first: about as the scheme suggests. Then it is given up.
const WAITS: [Duration; 8] = [
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
];

/// Tells whatever is owed, for ever.
pub(super) async fn tell_all(queue: Queue, tls: Arc<rustls::ClientConfig>) {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .timeout(PATIENCE)
        .tls_backend_preconfigured(tls.as_ref().clone())
        .user_agent(concat!("surgetank/", env!("CARGO_PKG_VERSION")))
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(reason = %error.without_url(), "webhooks cannot be told: no client");
            return;
        }
    };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if queue.rules().settings.webhooks.is_empty() {
            continue;
        }
        let now = Millis::now();
        // The storage itself says when it is down.
        let owed = queue.store().owed(AT_ONCE, now, now.after(CLAIM)).await;
        let telling = owed
            .unwrap_or_default()
            .into_iter()
            .map(|owed| queue.tell(&client, owed));
        futures_util::future::join_all(telling).await;
    }
}

impl Queue {
    async fn tell(&self, client: &reqwest::Client, owed: Owed) {
        let id = owed.record.id;
        let rules = self.rules();
        // One that was taken out of the configuration is nobody any more.
        let sent = match rules.webhook(&owed.webhook) {
            Some(target) => send(client, target, &owed).await,
            None => Ok(()),
        };
        let (next, result) = match (&sent, wait_after(owed.tries)) {
            (Ok(()), _) => (None, "told"),
            (Err(_), Some(wait)) => (Some(Millis::now().after(wait)), "again"),
            (Err(_), None) => (None, "given_up"),
        };
        if let Err(reason) = sent {
            tracing::warn!(queue_id = %id, webhook = owed.webhook, tries = owed.tries + 1, reason, result, "a webhook was not told of a queued request's end");
        }
        self.metrics()
            .queue
            .webhooks
            .with_label_values(&[result])
            .inc();
        // Where this is not kept, the claim runs out and the message is sent once more.
        let _ = self.store().told(id, next).await;
    }
}

/// The wait before the next try; nothing when it is to be given up. `tries` were made before the one that failed.
fn wait_after(tries: u32) -> Option<Duration> {
    WAITS.get(usize::try_from(tries).ok()?).copied()
}

/// Sends one message. The error says what went wrong, and not where to: a URL may have a key in it.
async fn send(client: &reqwest::Client, target: &Target, owed: &Owed) -> Result<(), String> {
    let message = Message::of(owed, Millis::now());
    let response = client
        .post(&target.url)
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", message.timestamp.to_string())
        .header("webhook-signature", message.signature(&target.secret))
        .body(message.body)
        .send()
        .await;
    match response {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(format!("it answered {}", response.status())),
        Err(error) if error.is_timeout() => {
            Err(format!("it did not answer for {} s", PATIENCE.as_secs()))
        }
        Err(error) => Err(error.without_url().to_string()),
    }
}

/// One message.
struct Message {
    id: String,
    /// Seconds since 1970.
    timestamp: i64,
    body: String,
}

impl Message {
    fn of(owed: &Owed, now: Millis) -> Self {
        let record = &owed.record;
        let kind = match record.state {
            State::Done => "queue.request.done",
            State::Uncertain => "queue.request.uncertain",
            _ => "queue.request.failed",
        };
        let body = json!({
            "type": kind,
            "timestamp": rfc3339(record.changed),
            "data": {
                "id": record.id.to_string(),
                "status": record.state.as_str(),
                "uncertain": record.uncertain,
                "location": location(record.id),
            },
        });
        Self {
            id: message_id(record.id),
            timestamp: now.0.div_euclid(1000),
            body: body.to_string(),
        }
    }

    /// `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
    fn signature(&self, secret: &hmac::Key) -> String {
        let signed = format!("{}.{}.{}", self.id, self.timestamp, self.body);
        let tag = hmac::sign(secret, signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

/// The same for every try: by it a receiver knows what it has seen.
fn message_id(id: JobId) -> String {
    format!("msg_{id}")
}

/// A moment as the scheme wants it written, in UTC.
fn rfc3339(at: Millis) -> String {
    let (days, ms) = (at.0.div_euclid(86_400_000), at.0.rem_euclid(86_400_000));
    // Howard Hinnant's `civil_from_days`: eras of 400 years, years from March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, ms) = (ms / 1000, ms % 1000);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_schemes_own_example() {
        // From the specification and its libraries' tests.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let message = Message {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            timestamp: 1_614_265_330,
            body: r#"{"test": 2432232314}"#.to_owned(),
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        assert_eq!(
            message.signature(&key),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn moments_are_written_as_the_standard_wants() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (1_772_323_200_000, "2026-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(Millis(ms)), expected);
        }
    }

    #[test]
    fn a_webhook_that_does_not_answer_is_given_up_after_a_day_and_more() {
        let waits: Vec<Duration> = (0..20).map_while(wait_after).collect();
        assert!(waits.is_sorted() && waits.len() == 8);
        assert!(waits.iter().sum::<Duration>() > Duration::from_secs(24 * 3600));
    }
}
