//! Where a caller's trace stands: the `traceparent` field (W3C Trace Context, level 1, §3.2).
//!
//! It is read and never written: what the caller sent goes on to the upstream as it came, because a proxy
//! that is asked to be transparent may not put itself between two services that trace each other.

use http::{HeaderMap, HeaderName};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The caller's span, of which ours is a child.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never 0.
    pub trace: u128,
    /// The caller's span; never 0.
    pub span: u64,
    /// Whether the caller records its part.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads it from a request's fields. Two of them, or one that does not keep to the form, are none.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(TRACEPARENT).iter();
        let field = fields.next()?;
        if fields.next().is_some() {
            return None;
        }
        Self::read(field.as_bytes())
    }

    fn read(field: &[u8]) -> Option<Self> {
        let version = hex(field.get(..2)?)?;
        // Later versions may add something behind the four parts; `ff` is none.
        let is_closed = match version {
            0 => field.len() == 55,
            0xff => false,
            _ => field.len() == 55 || field.get(55) == Some(&b'-'),
        };
        let dashes = [2, 35, 52].map(|at| field.get(at));
        if !is_closed || dashes.iter().any(|at| *at != Some(&b'-')) {
            return None;
        }
        let trace = hex(field.get(3..35)?)?;
        let span = u64::try_from(hex(field.get(36..52)?)?).ok()?;
        let flags = hex(field.get(53..55)?)?;
        (trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }
}

/// Lower-case digits only: that is the form.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn of(fields: &[&str]) -> Option<TraceParent> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(
                "traceparent",
                HeaderValue::from_str(field).expect("a value"),
            );
        }
        TraceParent::of(&headers)
    }

    #[test]
    fn a_well_formed_parent_is_read() {
        let expected = |sampled| TraceParent {
            trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            span: 0x00f0_67aa_0ba9_02b7,
            sampled,
        };
        for (field, sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-03"), true),
            (format!("cc-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), true),
        ] {
            assert_eq!(of(&[&field]), Some(expected(sampled)), "{field}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        for field in [
            String::new(),
            "00".into(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{no_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{no_span}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!(" {good}"),
        ] {
            assert_eq!(of(&[&field]), None, "{field}");
        }
        assert_eq!(of(&[&good, &good]), None);
        assert_eq!(of(&[]), None);
    }
}
