//! How much of a body is text, and how much is data in letters.

/// A body is looked at in windows of this many bytes.
const WINDOW: usize = 1024;

/// A window that begins with so many letters of base64 in a row is data: no word is so long.
const SAMPLE: usize = 64;

/// The bytes of `body` that are text.
///
/// Only the beginning of each window is looked at, so that a megabyte costs some microseconds.
#[must_use]
pub(super) fn text_bytes(body: &[u8]) -> u64 {
    let text = body
        .chunks(WINDOW)
        .filter(|window| !is_data(window))
        .map(|window| window.len() as u64);
    text.sum()
}

fn is_data(window: &[u8]) -> bool {
    window.len() >= SAMPLE && window[..SAMPLE].iter().all(|&byte| is_base64(byte))
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_text_and_a_picture_is_not() {
        let prose = "The quick brown fox jumps over the lazy dog. ".repeat(1_000);
        assert_eq!(text_bytes(prose.as_bytes()), prose.len() as u64);
        let chinese = "敏捷的棕色狐狸跳过了懒狗。".repeat(1_000);
        assert_eq!(text_bytes(chinese.as_bytes()), chinese.len() as u64);
        let escaped = r"\u654f\u6377\u7684".repeat(1_000);
        assert_eq!(text_bytes(escaped.as_bytes()), escaped.len() as u64);
        let picture = format!(
            "{{\"url\":\"data:image/png;base64,{}\"}}",
            "iVBORw0KGgo".repeat(50_000)
        );
        assert!(text_bytes(picture.as_bytes()) <= 2 * WINDOW as u64);
        let both = format!("{prose}{picture}{prose}");
        let counted = text_bytes(both.as_bytes());
        assert!(counted.abs_diff(2 * prose.len() as u64) <= 3 * WINDOW as u64);
        assert_eq!(text_bytes(b""), 0);
    }
}
