//! Addresses to listen on.
//!
//! Names are not looked up: what a process binds must not depend on a resolver's answer of the day.
//! `localhost` alone is known, and means `127.0.0.1`.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::units::from_text;

/// The longest path that a socket address holds on Linux, without its closing zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// A TCP address. Port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix domain socket.
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine (within its network namespace) can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether both cannot be bound at once.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(other)) => one == other,
            (Self::Tcp(one), Self::Tcp(other)) => {
                let overlap = one.ip() == other.ip()
                    || (one.is_ipv4() == other.is_ipv4()
                        && (one.ip().is_unspecified() || other.ip().is_unspecified()));
                one.port() != 0 && one.port() == other.port() && overlap
            }
            _ => false,
        }
    }
}

/// Why a text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Not an IP address with a port.
    #[error(
        "write an IP address and a port, such as `127.0.0.1:4290` or `[::1]:4290`, or `localhost:4290`, or `unix:/run/surgetank.sock`"
    )]
    Form,
    /// A port without an address, which is every interface in some programs and none in others.
    #[error(
        "say which interface: `127.0.0.1:{0}` for this machine alone, `0.0.0.0:{0}` for every interface"
    )]
    NoAddress(u16),
    /// A relative path would depend on where the process was started.
    #[error("the path of a Unix socket must be absolute, such as `unix:/run/surgetank.sock`")]
    RelativePath,
    /// The operating system's limit.
    #[error("the path of a Unix socket is at most {LONGEST_SOCKET_PATH} bytes long")]
    LongPath,
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                _ if !Path::new(path).is_absolute() => Err(ListenError::RelativePath),
                _ if path.len() > LONGEST_SOCKET_PATH => Err(ListenError::LongPath),
                _ => Ok(Self::Unix(path.into())),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse().map_err(|_| ListenError::Form)?;
        match host {
            "localhost" => Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into())),
            "" | "*" => Err(ListenError::NoAddress(port)),
            _ => Err(ListenError::Form),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "an address such as `127.0.0.1:4290`")
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Listen {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Listen".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(unix:/.+|.+:[0-9]{1,5}|.*\$\{.*)$",
            "examples": ["127.0.0.1:4290", "unix:/run/surgetank.sock"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_print_as_they_are_read() {
        for text in [
            "127.0.0.1:4290",
            "0.0.0.0:0",
            "[::1]:80",
            "unix:/run/surgetank.sock",
        ] {
            assert_eq!(listen(text).to_string(), text);
        }
        assert_eq!(listen("localhost:4290"), listen("127.0.0.1:4290"));
    }

    #[test]
    fn what_is_no_address_says_what_would_be() {
        for (text, expected) in [
            ("", ListenError::Form),
            ("example.com:80", ListenError::Form),
            ("127.0.0.1", ListenError::Form),
            ("127.0.0.1:99999", ListenError::Form),
            ("::1:80:x", ListenError::Form),
            ("4290", ListenError::NoAddress(4290)),
            (":4290", ListenError::NoAddress(4290)),
            ("*:4290", ListenError::NoAddress(4290)),
            ("unix:surgetank.sock", ListenError::RelativePath),
            ("unix:", ListenError::RelativePath),
            (&format!("unix:/{}", "x".repeat(107)), ListenError::LongPath),
        ] {
            assert_eq!(text.parse::<Listen>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn only_what_cannot_be_bound_together_collides() {
        for (one, other, collide) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("[::]:1", "[::1]:1", true),
            ("127.0.0.1:1", "[::1]:1", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/a", "127.0.0.1:1", false),
        ] {
            assert_eq!(
                listen(one).collides_with(&listen(other)),
                collide,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn loopback_and_unix_are_local() {
        for (text, local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/a", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(listen(text).is_local(), local, "{text}");
        }
    }
}
