//! The repeat of a request under its idempotency key: the same entry, wherever that stands.

use std::time::Duration;

use http::Response;

use super::{NotQueued, Queue, desk::Turned, offer::accepted, owner::key_of};
use crate::{body::Body, call::Call, store::jobs::State};

impl Queue {
    /// What the entry of a call's idempotency key comes to, if there is one. Nothing for a call without a key, and where
    /// that entry was given up: then the repeat is tried like a new request.
    ///
    /// # Errors
    /// When the key belongs to another request, or to one of which nobody knows whether it was carried out.
    pub async fn repeat(&self, call: &Call) -> Result<Option<Response<Body>>, NotQueued> {
        let (Some(owner), Some(body)) = (call.owner, call.payload.bytes()) else {
            return Ok(None);
        };
        let Some((key, print)) = key_of(call, &owner, &body) else {
            return Ok(None);
        };
        let known = match self.store().look_up(key).await {
            Ok(Some(known)) => known,
            Ok(None) => return Ok(None),
            Err(error) => {
                tracing::warn!(
                    request_id = call.id.as_str(),
                    reason = %error,
                    "whether this request was queued before could not be looked up; it is treated as a new one"
                );
                return Ok(None);
            }
        };
        if known.print != print {
            return Err(NotQueued::KeyReused);
        }
        let response = match known.state {
            State::Failed | State::Gone => None,
            State::Pending | State::Running => {
                accepted(call, known.id, Duration::ZERO, &self.rules())
            }
            State::Done | State::Uncertain => match self.result(&known).await {
                Ok(response) => Some(response),
                Err(Turned::Uncertain(_)) => return Err(NotQueued::Unsure),
                Err(_) => None,
            },
        };
        if response.is_some() {
            call.journal().queued = Some(known.id);
        }
        Ok(response)
    }
}
