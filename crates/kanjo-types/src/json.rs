//! Is a text well-formed JSON (RFC 8259)? Replicas must agree for ever, so this is written down
//! here and does not change with a library. Nesting is bounded; numbers are looked at as text only.

/// Deepest nesting of arrays and objects.
pub const JSON_DEPTH_MAX: usize = 64;

/// Is `text` one JSON value, nested at most [`JSON_DEPTH_MAX`] deep?
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let mut reader = Reader { rest: text.as_bytes(), open: Vec::new() };
    reader.document().is_some()
}

struct Reader<'a> {
    rest: &'a [u8],
    /// The brackets that close what is open.
    open: Vec<u8>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn skip_digits(&mut self) -> usize {
        let mut count = 0;
        while let [b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
            count += 1;
        }
        count
    }

    fn document(&mut self) -> Option<()> {
        loop {
            self.skip_space();
            // True when a value has ended, false when another must follow at once.
            if self.value()? && !self.after_value()? {
                self.skip_space();
                return self.rest.is_empty().then_some(());
            }
        }
    }

    fn value(&mut self) -> Option<bool> {
        match self.peek()? {
            b'{' => return self.open(b'}'),
            b'[' => return self.open(b']'),
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }?;
        Some(true)
    }

    fn open(&mut self, close: u8) -> Option<bool> {
        self.next()?;
        if self.open.len() >= JSON_DEPTH_MAX {
            return None;
        }
        self.skip_space();
        if self.peek()? == close {
            self.next()?;
            return Some(true);
        }
        self.open.push(close);
        if close == b'}' {
            self.name()?;
        }
        Some(false)
    }

    /// After a value: closes what ends; true when another value follows.
    fn after_value(&mut self) -> Option<bool> {
        while let Some(close) = self.open.last().copied() {
            self.skip_space();
            match self.next()? {
                b',' => {
                    if close == b'}' {
                        self.skip_space();
                        self.name()?;
                    }
                    return Some(true);
                }
                byte if byte == close => {
                    self.open.pop();
                }
                _ => return None,
            }
        }
        Some(false)
    }

    /// `"name" :`
    fn name(&mut self) -> Option<()> {
        self.string()?;
        self.skip_space();
        self.take(b':')
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                0..=0x1f => return None,
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let (digits, rest) = self.rest.split_at_checked(4)?;
                self.rest = rest;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.next()?;
        }
        let leading_zero = self.peek()? == b'0';
        let digits = self.skip_digits();
        if digits == 0 || (leading_zero && digits > 1) {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.next()?;
            (self.skip_digits() > 0).then_some(())?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.next()?;
            if let Some(b'+' | b'-') = self.peek() {
                self.next()?;
            }
            (self.skip_digits() > 0).then_some(())?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_is_told_from_what_only_looks_like_it() {
        for good in [
            "null",
            " -0.5e+10 ",
            "\"\\u00e9\\n\"",
            "[]",
            "{}",
            "[1, [true], {\"a\": {\"b\": []}, \"a\": false}]",
        ] {
            assert!(is_well_formed(good), "{good}");
        }
        for bad in [
            "",
            "01",
            "1.",
            ".5",
            "1e",
            "-",
            "+1",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{a:1}",
            "{\"a\":1,}",
            "[1 2]",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "tru",
            "1 2",
            "[}",
            "NaN",
        ] {
            assert!(!is_well_formed(bad), "{bad}");
        }
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_well_formed(&nested(JSON_DEPTH_MAX)));
        assert!(!is_well_formed(&nested(JSON_DEPTH_MAX + 1)));
    }

    proptest! {
        /// Against a reader of another author, on texts of the bytes that matter.
        #[test]
        fn it_agrees_with_a_library(text in "[\\[\\]{}\",: 0-9eE+.tfn\\\\u-]{0,14}|(\\[|\\{\"a\":|1|,|\\]|\\}| |\"\"|null){0,12}") {
            let library = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(is_well_formed(&text), library, "{}", text);
        }
    }
}
