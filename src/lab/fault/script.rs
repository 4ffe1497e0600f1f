//! Reading faults and scripts of faults.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use thiserror::Error;

use super::catalogue::{CATALOGUE, SHAPE};
use super::{Fault, Params};

/// Most entries of one script; an entry may stand for many attempts.
const MOST_ENTRIES: usize = 256;

/// A fault with its parameters, read from `NAME[;key=value…]`.
///
/// Values may be percent-encoded (`%3B` for a semicolon, `%2C` for a comma).
#[derive(Debug, Clone, PartialEq)]
pub struct FaultSpec {
    pub(in crate::lab) fault: Fault,
    pub(in crate::lab) params: Params,
}

/// What successive attempts meet: `429*2,529,ok`. `NAME*3` is three attempts, `NAME*` all from here on.
///
/// Attempts after the end of a script are not scripted: rules and quota decide, and without them the answer is healthy.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Each entry with the number of attempts that it serves; `None` is without end.
    entries: Vec<(FaultSpec, Option<u32>)>,
}

/// Why a fault or a script could not be read. The text is meant for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FaultError {
    /// There is no fault of this name.
    #[error("there is no fault `{given}`{}; `surgetank lab --list-faults` names them all", did_you_mean(.near.as_deref()))]
    Unknown {
        /// What was written.
        given: String,
        /// The listed name that is closest, if one is close.
        near: Option<&'static str>,
    },
    /// The fault exists and does not take this parameter.
    #[error("the fault `{fault}` takes no parameter `{given}`; it takes: {takes}")]
    Parameter {
        /// The fault's name.
        fault: String,
        /// The parameter as written.
        given: String,
        /// The parameters that it takes.
        takes: String,
    },
    /// The parameter's value makes no sense.
    #[error("`{key}={value}` is not understood: expected {expected}")]
    Value {
        /// The parameter.
        key: String,
        /// Its value as written.
        value: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// The number of repetitions behind `*` is not a positive number.
    #[error(
        "`{0}` is not a number of attempts; write `429*3` for three, `429*` for all that follow"
    )]
    Times(String),
    /// A script without an entry, or with too many.
    #[error("a script has 1 to {MOST_ENTRIES} entries, separated by commas")]
    Length,
}

impl FaultSpec {
    /// The healthy answer without any parameter.
    pub(in crate::lab) fn healthy() -> Self {
        Self {
            fault: Fault::Ok,
            params: Params::default(),
        }
    }

    /// Which fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// These bytes in place of an HTTP answer, then FIN: for tests that need an answer byte by byte.
    ///
    /// `bytes` are sent as they are, nothing is decoded.
    #[must_use]
    pub fn raw(bytes: &str) -> Self {
        Self {
            fault: Fault::Raw,
            params: Params {
                bytes: Some(bytes.to_owned()),
                ..Params::default()
            },
        }
    }
}

impl Script {
    /// What the given attempt meets (the first is 1); `None` after the script's end.
    #[must_use]
    pub fn at(&self, attempt: u32) -> Option<&FaultSpec> {
        let mut before = 0u32;
        for (spec, times) in &self.entries {
            let Some(times) = times else {
                return Some(spec);
            };
            before = before.saturating_add(*times);
            if attempt <= before {
                return Some(spec);
            }
        }
        None
    }
}

// === impl FromStr ===

impl FromStr for FaultSpec {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let (fault, takes, shapes) = look_up(name)?;
        let mut params = Params::default();
        for part in parts.filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let takes_it = takes.contains(&key) || (shapes && SHAPE.contains(&key));
            if !takes_it {
                return Err(FaultError::Parameter {
                    fault: name.to_owned(),
                    given: key.to_owned(),
                    takes: list(takes, shapes),
                });
            }
            let wrong = |expected| FaultError::Value {
                key: key.to_owned(),
                value: value.to_owned(),
                expected,
            };
            let decoded =
                percent_decoded(value).ok_or_else(|| wrong("percent-encoding of UTF-8 text"))?;
            params.set(key, &decoded).map_err(wrong)?;
        }
        Ok(Self { fault, params })
    }
}

impl FromStr for Script {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let entries = text
            .split(',')
            .map(str::trim)
            .map(entry)
            .collect::<Result<Vec<_>, _>>()?;
        if entries.len() > MOST_ENTRIES {
            return Err(FaultError::Length);
        }
        Ok(Self { entries })
    }
}

impl FromIterator<FaultSpec> for Script {
    fn from_iter<I: IntoIterator<Item = FaultSpec>>(specs: I) -> Self {
        Self {
            entries: specs.into_iter().map(|spec| (spec, Some(1))).collect(),
        }
    }
}

/// One entry of a script: `NAME[*[COUNT]][;key=value…]`.
fn entry(text: &str) -> Result<(FaultSpec, Option<u32>), FaultError> {
    if text.is_empty() {
        return Err(FaultError::Length);
    }
    let name_ends = text.find(';').unwrap_or(text.len());
    let (head, params) = text.split_at(name_ends);
    let Some((name, times)) = head.split_once('*') else {
        return Ok((text.parse()?, Some(1)));
    };
    let spec = format!("{name}{params}").parse()?;
    match times.trim() {
        "" => Ok((spec, None)),
        times => match times.parse() {
            Ok(0) | Err(_) => Err(FaultError::Times(times.to_owned())),
            Ok(times) => Ok((spec, Some(times))),
        },
    }
}

type Found = (Fault, &'static [&'static str], bool);

fn look_up(name: &str) -> Result<Found, FaultError> {
    if let Some(entry) = CATALOGUE.iter().find(|entry| entry.name == name) {
        return Ok((entry.fault, entry.takes, entry.shapes));
    }
    if let Ok(status @ 400..=599) = name.parse::<u16>()
        && let Some(like) = CATALOGUE
            .iter()
            .find(|entry| entry.fault == Fault::Status(500))
    {
        return Ok((Fault::Status(status), like.takes, false));
    }
    let near = CATALOGUE
        .iter()
        .map(|entry| (strsim::jaro_winkler(name, entry.name), entry.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    Err(FaultError::Unknown {
        given: name.to_owned(),
        near: near.map(|(_, name)| name),
    })
}

fn list(takes: &[&str], shapes: bool) -> String {
    let shape = if shapes { SHAPE } else { &[] };
    let all: Vec<&str> = takes.iter().chain(shape).copied().collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map(|name| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
}

/// Undoes percent-encoding; `None` when an escape is cut short or the result is not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

// === impl Deserialize ===

impl<'de> Deserialize<'de> for FaultSpec {
    /// Reads the text form; a bare number such as `529` is taken as its name.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Spec;
        impl Visitor<'_> for Spec {
            type Value = FaultSpec;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a fault such as 529 or \"cut;after=3\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<FaultSpec, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, status: u64) -> Result<FaultSpec, E> {
                self.visit_str(&status.to_string())
            }

            fn visit_i64<E: de::Error>(self, status: i64) -> Result<FaultSpec, E> {
                self.visit_str(&status.to_string())
            }
        }
        from.deserialize_any(Spec)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{After, RetryAfter, Split};
    use super::*;

    fn spec(text: &str) -> FaultSpec {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_listed_name_reads_back_as_its_fault() {
        for entry in CATALOGUE {
            assert_eq!(spec(entry.name).fault, entry.fault);
            assert_eq!(entry.fault.name(), entry.name);
        }
    }

    #[test]
    fn every_listed_parameter_exists() {
        for entry in CATALOGUE {
            for key in entry.takes.iter().chain(SHAPE) {
                let unknown =
                    Params::default().set(key, "\u{1}") == Err("a parameter of this fault");
                assert!(
                    !unknown,
                    "{} lists `{key}`, which nothing reads",
                    entry.name
                );
            }
        }
    }

    #[test]
    fn parameters_are_read_and_decoded() {
        assert_eq!(
            spec("cut;after=3;split=true").params.after,
            Some(After::Count(3))
        );
        assert_eq!(spec("cut;after=end").params.after, Some(After::End));
        assert_eq!(spec("cut;split").params.split, Split::Half);
        assert_eq!(spec("cut;split=char").params.split, Split::Character);
        assert_eq!(
            spec("503;message=a%3Bb%2Cc").params.message.as_deref(),
            Some("a;b,c")
        );
        assert_eq!(
            spec("429;retry-after=-1").params.retry_after,
            Some(RetryAfter::Raw("-1".into()))
        );
        assert_eq!(
            spec("429;retry-after=digits:4000").params.retry_after,
            Some(RetryAfter::Digits(4000))
        );
        assert_eq!(spec("418").fault, Fault::Status(418));
    }

    #[test]
    fn mistakes_are_told_with_their_cure() {
        let told = |text: &str| text.parse::<FaultSpec>().unwrap_err().to_string();
        assert!(told("hangbody").contains("did you mean `hang-body`?"));
        assert!(told("200").contains("no fault `200`"));
        assert!(told("600").contains("no fault `600`"));
        assert!(told("hang;retry-after=1").contains("it takes: for"));
        assert!(told("hang;for=soon").contains("20ms"));
        assert!(told("cut;after=%zz").contains("percent"));
        assert!("429,,ok".parse::<Script>().is_err());
        assert!("429*0".parse::<Script>().is_err());
        assert!("429*x".parse::<Script>().is_err());
    }

    #[test]
    fn a_script_is_read_attempt_by_attempt() {
        let script: Script = "429*2;retry-after=3, 529, ok*".parse().unwrap();
        let faults: Vec<_> = (1..=5)
            .map(|attempt| script.at(attempt).map(FaultSpec::fault))
            .collect();
        let (limited, busy) = (Fault::Status(429), Fault::Status(529));
        assert_eq!(
            faults,
            [
                Some(limited),
                Some(limited),
                Some(busy),
                Some(Fault::Ok),
                Some(Fault::Ok)
            ]
        );

        let finite: Script = "429,ok".parse().unwrap();
        assert_eq!(finite.at(3), None);
    }
}
