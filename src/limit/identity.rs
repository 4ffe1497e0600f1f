//! Who a user is, to us: a fingerprint.
//!
//! A user's name may be an address, a credential, a session, or ten kilobytes of JSON. None of it
//! is needed to count, and all of it is dangerous to keep: it would end in a log, a metric or a
//! core dump one day. So the name is hashed where it is read, and from there on only the hash
//! exists: of a fixed size, the same in every replica, and harmless in a key, a label or a line.
//!
//! A hash hides a name but does not make it secret: whoever can guess a name can hash it too.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// How much of a name is hashed. What follows counts by its length alone, so that no caller makes
/// us hash megabytes; names that differ only in there and have the same length are one user.
pub const HASHED_BYTES: usize = 8 * 1024;

/// A user, as the first 16 bytes of a SHA-256 over where the name was found and what it is.
///
/// Equal names from different sources are different users: a header called `alice` must not share
/// a quota with a credential that happens to read `alice`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserKey([u8; 16]);

impl UserKey {
    /// The user whom `source` (the configured place, such as `header:x-user` or `credential`)
    /// calls `value`.
    #[must_use]
    pub fn from_source(source: &str, value: &[u8]) -> Self {
        // The lengths go in first, so that no value can borrow letters of its source.
        let hash = Sha256::new()
            .chain_update(b"surgetank user 1\0")
            .chain_update(length(source.len()))
            .chain_update(source)
            .chain_update(length(value.len()))
            .chain_update(value.get(..HASHED_BYTES).unwrap_or(value))
            .finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        Self(key)
    }

    /// The user whose fingerprint was kept somewhere.
    #[must_use]
    pub const fn from_fingerprint(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The fingerprint itself, for a key in a store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// All of it in hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// Eight hexadecimal digits, by which an operator recognises a user on the status page and in a
    /// log that was asked for. Too few to be a key: with tens of thousands of users, two may share
    /// them.
    #[must_use]
    pub fn hash_hex(&self) -> String {
        let [a, b, c, d, ..] = self.0;
        format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserKey({}…)", self.hash_hex())
    }
}

fn length(bytes: usize) -> [u8; 8] {
    u64::try_from(bytes).unwrap_or(u64::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key(value: &str) -> UserKey {
        UserKey::from_source("header:x-user", value.as_bytes())
    }

    /// The fingerprint is shared by replicas, so it may not change from version to version.
    #[test]
    fn it_is_the_same_everywhere_and_always() {
        assert_eq!(key("alice"), key("alice"));
        assert_eq!(key("alice").hash_hex(), "2633de7b");
    }

    #[test]
    fn every_source_has_its_own_users() {
        let keys: HashSet<_> = [
            ("header:x-user", "alice"),
            ("credential", "alice"),
            ("header:x-useralice", ""),
            ("", "header:x-useralice"),
            ("header:x-use", "ralice"),
            ("header:x-user", "alice "),
            ("header:x-user", "Alice"),
            ("header:x-user", ""),
        ]
        .into_iter()
        .map(|(source, value)| UserKey::from_source(source, value.as_bytes()))
        .collect();
        assert_eq!(keys.len(), 8);
    }

    #[test]
    fn hostile_names_are_users_like_any_other() {
        let names = [
            "a".repeat(10 * 1024),
            "a\nlevel=error msg=forged".to_owned(),
            "\u{1b}[31mred".to_owned(),
            "a\0b".to_owned(),
            "{user}*".to_owned(),
            "🦀".to_owned(),
            "{\"user\": [1, 2, 3]}".to_owned(),
        ];
        let keys: HashSet<_> = names.iter().map(|name| key(name)).collect();
        assert_eq!(keys.len(), names.len());
        for key in keys {
            let shown = format!("{key:?}");
            let hex = shown.trim_start_matches("UserKey(").trim_end_matches("…)");
            assert_eq!(hex.len(), 8, "{shown}");
            assert!(hex.bytes().all(|b| b.is_ascii_hexdigit()), "{shown}");
            assert_eq!(hex, key.hash_hex());
        }
    }

    #[test]
    fn beyond_the_bound_only_the_length_counts() {
        let head = "a".repeat(HASHED_BYTES);
        assert_eq!(key(&format!("{head}b")), key(&format!("{head}c")));
        assert_ne!(key(&format!("{head}b")), key(&format!("{head}bb")));
        assert_ne!(key(&format!("{head}b")), key(&head));
        let (last, other) = (
            "a".repeat(HASHED_BYTES - 1) + "b",
            "a".repeat(HASHED_BYTES - 1) + "c",
        );
        assert_ne!(key(&last), key(&other));
    }
}
