//! The id of a request.

use http::{HeaderMap, HeaderValue};

use crate::dialect::{Dialect, Vendor};

/// 16 random bytes as 32 hexadecimal digits.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct CallId([u8; 32]);

impl CallId {
    /// A new one.
    pub fn random(rng: &mut impl rand::Rng) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0xf)];
        }
        Self(digits)
    }

    /// As a number; never 0.
    #[must_use]
    pub fn number(&self) -> u128 {
        u128::from_str_radix(self.as_str(), 16).map_or(1, |number| number.max(1))
    }

    /// Where it lies between 0 and 1: evenly spread, and the same wherever it is asked.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        let first = self.0[..8].iter().fold(0, |number: u32, digit| {
            // Only hexadecimal digits are in it, of which letters have their value in the low bits, less 9.
            let value = (digit & 0xf) + 9 * (digit >> 6);
            number << 4 | u32::from(value)
        });
        f64::from(first) / (f64::from(u32::MAX) + 1.0)
    }

    /// As text, in bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Puts it where the SDKs of this dialect read the vendor's: they show it to their users, who will ask us about it.
    pub fn name_in(&self, headers: &mut HeaderMap, dialect: Dialect) {
        let name = match dialect.vendor() {
            Vendor::Anthropic => "request-id",
            Vendor::OpenAi => "x-request-id",
        };
        if let Ok(value) = HeaderValue::from_str(self.as_str()) {
            headers.insert(name, value);
        }
    }
}

impl std::fmt::Debug for CallId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_digits_and_differ() {
        let mut rng = rand::rng();
        let (a, b) = (CallId::random(&mut rng), CallId::random(&mut rng));
        assert_eq!(a.as_str().len(), 32);
        assert!(a.as_str().bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_ne!(a, b);
        assert_eq!(format!("{:032x}", a.number()), a.as_str());
        let (number, fraction) = (a.number() as f64 / u128::MAX as f64, a.fraction());
        assert!(
            (number - fraction).abs() < 1e-6 && fraction < 1.0,
            "{number} {fraction}"
        );
    }
}
