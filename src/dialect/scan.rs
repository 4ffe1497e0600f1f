//! Walks over JSON, strictly and without building it.
//!
//! Most bytes of a request are the text of its prompt. They are passed in blocks, which the compiler makes a few vector
//! instructions of, and nothing is copied. Open containers are remembered as a bit each, so that nesting of any depth
//! needs no recursion.

use std::borrow::Cow;

/// Bytes of a string that are looked at together.
const BLOCK: usize = 32;

/// A place in a JSON text. Every step is `None` where the text is not well-formed, or ends too early.
#[derive(Debug, Clone)]
pub(super) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

/// What stands in an object.
pub(super) enum Entry<'a> {
    /// A key, and its value as it is spelt.
    Is(Cow<'a, str>, &'a [u8]),
    /// Nothing more.
    End,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Begins an object: what follows is its [`Scan::entry`]s.
    pub(super) fn object(&mut self) -> Option<()> {
        self.expect(b'{')
    }

    /// What follows in an object, behind `entries` entries.
    pub(super) fn entry(&mut self, entries: usize) -> Option<Entry<'a>> {
        if self.takes(b'}') {
            // A comma was followed by an entry, so this is no trailing one.
            return Some(Entry::End);
        }
        if entries > 0 {
            self.expect(b',')?;
        }
        let key = self.key()?;
        self.space();
        let start = self.at;
        self.value()?;
        let value = &self.text[start..self.at];
        // A number is known to be complete by what follows it.
        self.space();
        matches!(self.text.get(self.at)?, b',' | b'}').then_some(Entry::Is(key, value))
    }

    /// Passes a value.
    pub(super) fn value(&mut self) -> Option<()> {
        let mut open = Open::default();
        loop {
            match self.next()? {
                b'"' => self.string()?,
                b'{' if self.takes(b'}') => {}
                b'{' => {
                    open.push(true);
                    self.skip_key()?;
                    continue;
                }
                b'[' if self.takes(b']') => {}
                b'[' => {
                    open.push(false);
                    continue;
                }
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                first => self.number(first)?,
            }
            // A value has ended, and with it perhaps what it stands in.
            loop {
                let Some(is_object) = open.innermost() else {
                    return Some(());
                };
                match (self.next()?, is_object) {
                    (b',', false) => break,
                    (b',', true) => {
                        self.skip_key()?;
                        break;
                    }
                    (b']', false) | (b'}', true) => open.pop(),
                    _ => return None,
                }
            }
        }
    }

    /// Whether nothing but white space follows.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.space();
        self.at == self.text.len()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        self.space();
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.space();
        let is_there = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.takes(byte).then_some(())
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        let is_there = self.text[self.at..].starts_with(rest);
        self.at += rest.len();
        is_there.then_some(())
    }

    /// A key and its colon.
    fn key(&mut self) -> Option<Cow<'a, str>> {
        self.space();
        let start = self.at;
        self.skip_key_text()?;
        let quoted = &self.text[start..self.at];
        self.expect(b':')?;
        let inner = &quoted[1..quoted.len() - 1];
        if inner.contains(&b'\\') {
            return serde_json::from_slice(quoted).ok().map(Cow::Owned);
        }
        std::str::from_utf8(inner).ok().map(Cow::Borrowed)
    }

    fn skip_key(&mut self) -> Option<()> {
        self.skip_key_text()?;
        self.expect(b':')
    }

    fn skip_key_text(&mut self) -> Option<()> {
        self.expect(b'"')?;
        self.string()
    }

    /// Behind the opening quote of a string.
    fn string(&mut self) -> Option<()> {
        loop {
            self.at += plain(&self.text[self.at..]);
            match self.next_raw()? {
                b'"' => return Some(()),
                b'\\' => match self.next_raw()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let digits = self.text.get(self.at..self.at + 4)?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.at += 4;
                    }
                    _ => return None,
                },
                // A control character.
                _ => return None,
            }
        }
    }

    fn next_raw(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self, first: u8) -> Option<()> {
        let first = if first == b'-' {
            self.next_raw()?
        } else {
            first
        };
        match first {
            b'0' => {}
            b'1'..=b'9' => {
                self.digits();
            }
            _ => return None,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            (self.digits() > 0).then_some(())?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            (self.digits() > 0).then_some(())?;
        }
        Some(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - start
    }
}

/// How many bytes stand before the first one that a string of JSON cannot have as it is (RFC 8259 §7).
pub(crate) fn plain(text: &[u8]) -> usize {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let (blocks, _) = text.as_chunks::<BLOCK>();
    // In numbers and without a way out of the block: only so does the compiler make vector instructions of it. Written
    // with `matches!` and truth values it is compared byte by byte, seven times as slow.
    let is_plain = |block: &&[u8; BLOCK]| {
        let specials = block.iter().fold(0_u8, |any, byte| {
            any | u8::from(*byte == b'"') | u8::from(*byte == b'\\') | u8::from(*byte < 0x20)
        });
        specials == 0
    };
    let passed = blocks.iter().take_while(is_plain).count() * BLOCK;
    let rest = &text[passed..];
    passed + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// The kinds of the open containers: a bit for each, 1 for an object.
#[derive(Default)]
struct Open {
    /// The outer ones, in whole words.
    outer: Vec<u64>,
    inner: u64,
    depth: usize,
}

impl Open {
    const WORD: usize = u64::BITS as usize;

    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(Self::WORD) {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.inner >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(Self::WORD) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
    }

    fn innermost(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.inner & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
