//! The queue's part of the rules in force: its settings, and the secrets that they name.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};

use super::seal::{KeyError, Keys};
use crate::config::{self, Credential, CredentialError, Environment, OnRead};

/// What the secret of a webhook begins with.
const SECRET_PREFIX: &str = "whsec_";

/// The least of a webhook's secret, in bytes (Standard Webhooks).
const SHORTEST_SECRET: usize = 24;

/// How queued requests are treated.
pub struct QueueRules {
    /// The settings.
    pub settings: config::Queue,
    pub(super) keys: Keys,
    webhooks: Vec<Target>,
}

/// A webhook with its secret.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) secret: hmac::Key,
}

/// A secret of the queue cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A key is not there.
    #[error("the key of `queue.encrypt` cannot be had: {0}")]
    Key(#[source] CredentialError),
    /// A key is no key.
    #[error("`queue.encrypt` cannot be used: {0}")]
    NoKey(#[from] KeyError),
    /// The secret of a webhook is not there.
    #[error("the secret of the webhook `{0}` cannot be had: {1}")]
    Webhook(String, #[source] CredentialError),
    /// The secret of a webhook is none.
    #[error(
        "the secret of the webhook `{0}` must be `whsec_` and at least {SHORTEST_SECRET} bytes in base64, such as `echo whsec_$(openssl rand -base64 32)` makes"
    )]
    NoSecret(String),
}

impl QueueRules {
    /// Reads the secrets that the settings name; `env` looks up an environment variable.
    ///
    /// # Errors
    /// When one cannot be had or used.
    pub fn new(settings: &config::Queue, env: Environment<'_>) -> Result<Self, SecretError> {
        let key = |source: &Credential| source.resolve(env).map_err(SecretError::Key);
        let keys: Vec<SecretString> = settings.encrypt.iter().map(key).collect::<Result<_, _>>()?;
        let webhook = |webhook: &config::Webhook| {
            let name = || webhook.name.clone();
            let secret = webhook.secret.resolve(env);
            let secret = secret.map_err(|error| SecretError::Webhook(name(), error))?;
            let bytes = secret_of(secret.expose_secret());
            let bytes = bytes.ok_or_else(|| SecretError::NoSecret(name()))?;
            Ok(Target {
                name: name(),
                url: webhook.url.as_str().to_owned(),
                secret: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
            })
        };
        Ok(Self {
            keys: Keys::read(&keys)?,
            webhooks: settings
                .webhooks
                .iter()
                .map(webhook)
                .collect::<Result<_, SecretError>>()?,
            settings: settings.clone(),
        })
    }

    /// The webhook of this name.
    pub(super) fn webhook(&self, name: &str) -> Option<&Target> {
        self.webhooks.iter().find(|webhook| webhook.name == name)
    }

    /// The webhook for a request that wishes for the one of this name, or for none in particular. A name that is not
    /// there was refused before ([`Queue::lacks_webhook_of`](super::Queue::lacks_webhook_of)), unless it went meanwhile.
    pub(super) fn webhook_for(&self, wish: Option<&str>) -> Option<&Target> {
        match wish {
            Some(name) => self.webhook(name),
            None => self.webhooks.first(),
        }
    }

    pub(super) fn is_removed_when_read(&self) -> bool {
        self.settings.on_read == OnRead::Remove
    }
}

fn secret_of(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text.strip_prefix(SECRET_PREFIX)?).ok()?;
    (bytes.len() >= SHORTEST_SECRET).then_some(bytes)
}

/// Shows no secret.
impl fmt::Debug for QueueRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueRules")
            .field("settings", &self.settings)
            .field("keys", &self.keys)
            .field("webhooks", &self.webhooks.len())
            .finish_non_exhaustive()
    }
}
