//! What is kept beyond one process: shared by several, or needed again after a crash.
//!
//! The store is a help and never a condition. What surgetank does for a caller it must also do while
//! the store is away, so every use of it has a bound in time and an answer for the case that it fails.
//!
//! There is one trait for each use: [`limits`] and [`jobs`].

pub mod jobs;
pub mod limits;
pub mod redis;
pub mod sqlite;

use std::sync::Arc;

use self::redis::{
    AddressError, Redis,
    limits::{RedisLimits, Times},
};
use crate::{config, limit::shared::Shared, telemetry::Metrics};

/// Where limits are kept for several instances, if the configuration names such a place. Begins to connect on the
/// current runtime.
///
/// # Errors
/// When the configuration names no usable address or a certificate file that cannot be read.
pub fn shared_limits(
    config: Option<&config::Store>,
    metrics: &Arc<Metrics>,
) -> Result<Option<Shared>, AddressError> {
    let Some(config) = config.filter(|store| store.is_redis()) else {
        return Ok(None);
    };
    let redis = Redis::start(config, metrics.clone())?;
    let limits = RedisLimits::start(redis, metrics, Times::default(), config.replicas);
    Ok(Some(Shared::new(Arc::new(limits), config.fail, metrics)))
}
