//! Numbers with a range, for `#[serde(deserialize_with = "…")]`; the schema states the same range beside it.

use serde::de::{Deserialize, Deserializer, Error};

/// A whole number from 1.
pub(in crate::config) fn at_least_one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialOrd + From<u8>,
{
    let number = T::deserialize(deserializer)?;
    if number < T::from(1) {
        return Err(D::Error::custom("it must be at least 1"));
    }
    Ok(number)
}

/// A whole number from 1, or none.
pub(in crate::config) fn at_least_one_or_none<'de, D, T>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialOrd + From<u8>,
{
    struct Positive<T>(T);

    impl<'de, T: Deserialize<'de> + PartialOrd + From<u8>> Deserialize<'de> for Positive<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            at_least_one(deserializer).map(Self)
        }
    }

    let number = Option::<Positive<T>>::deserialize(deserializer)?;
    Ok(number.map(|positive| positive.0))
}

/// The most retries that may be asked for; patience and caps end a request long before.
pub(in crate::config) const MOST_RETRIES: u32 = 100;

/// A number of retries.
pub(in crate::config) fn retries<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if number > MOST_RETRIES {
        let why =
            format!("it must be at most {MOST_RETRIES}; `patience` bounds the time they take");
        return Err(D::Error::custom(why));
    }
    Ok(number)
}

/// What a wait is multiplied by from one retry to the next.
pub(in crate::config) fn factor<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<f64, D::Error> {
    let factor = f64::deserialize(deserializer)?;
    if !factor.is_finite() || factor < 1.0 {
        let why = "it must be at least 1, so that no wait is shorter than the one before";
        return Err(D::Error::custom(why));
    }
    Ok(factor)
}

/// A part of the whole that may be nothing.
pub(in crate::config) fn portion<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<f64, D::Error> {
    let portion = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&portion) {
        return Ok(portion);
    }
    Err(D::Error::custom(
        "it must be from 0 to 1, such as 0.1 for one of ten",
    ))
}

/// A part of the whole.
pub(in crate::config) fn share<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if share > 0.0 && share <= 1.0 {
        return Ok(share);
    }
    Err(D::Error::custom(
        "it must be above 0 and at most 1, such as 0.25 for a quarter",
    ))
}
