//! YAML as dbt reads it.
//!
//! dbt reads YAML 1.1 by PyYAML. The difference to YAML 1.2 is not academic in a profile: a
//! password `0123456789` or `1e10` is text to dbt and a number to YAML 1.2, `read_only: yes` is a
//! boolean to dbt and text to YAML 1.2. A profile that unship writes must mean to dbt what the
//! original meant, so scalars are resolved by PyYAML's rules here.

use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;

/// Text that dbt would not accept as YAML, or that cannot be written back with the same meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct YamlError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong. It never holds the file's text, which may be a secret.
    pub problem: String,
}

/// Deeper nesting than any configuration has; it keeps hostile input off the stack.
const DEEPEST: usize = 100;
/// More than any configuration has, aliases expanded; it keeps hostile input off the heap.
const MOST: Size = Size {
    values: 200_000,
    bytes: 16 << 20,
};

/// Reads one document. An empty one is `null`.
///
/// Keys become text as they are written, timestamps stay text (dbt turns them back into text too).
///
/// # Errors
/// When the text is not one YAML document, uses tags that dbt refuses, or is unreasonably deep or
/// large.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| YamlError {
            line: error.marker().line().max(1),
            problem: "this is not YAML; check quotes and indentation around here".to_owned(),
        })?;
        reader.line = span.start.line().max(1);
        reader.take(event)?;
    }
    Ok(reader.document.unwrap_or(Value::Null))
}

#[derive(Default)]
struct Reader {
    line: usize,
    /// The document so far.
    read: Size,
    /// The copies of what has an anchor.
    kept: Size,
    documents: usize,
    document: Option<Value>,
    /// Values by anchor, with how much each is.
    anchors: BTreeMap<usize, (Value, Size)>,
    open: Vec<Open>,
}

/// How much something is in memory.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Values, those within it included.
    values: usize,
    /// Bytes of text in them.
    bytes: usize,
}

impl Size {
    fn of_text(text: &str) -> Self {
        Self {
            values: 1,
            bytes: text.len(),
        }
    }

    fn and(self, more: Self) -> Self {
        Self {
            values: self.values.saturating_add(more.values),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }
}

/// A collection whose end has not come yet.
struct Open {
    anchor: usize,
    before: Size,
    content: Content,
}

enum Content {
    List(Vec<Value>),
    Map {
        own: Map<String, Value>,
        merged: Map<String, Value>,
        key: Option<Key>,
    },
}

enum Key {
    Text(String),
    Merge,
}

impl Reader {
    fn error<T>(&self, problem: impl Into<String>) -> Result<T, YamlError> {
        Err(YamlError {
            line: self.line,
            problem: problem.into(),
        })
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), YamlError> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.error("a second document starts here; dbt reads one only");
                }
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq")?;
                self.push(anchor, Content::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "map")?;
                let content = Content::Map {
                    own: Map::new(),
                    merged: Map::new(),
                    key: None,
                };
                self.push(anchor, content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return self.error("a list or mapping ends that never began");
                };
                let value = match open.content {
                    Content::List(list) => Value::Array(list),
                    Content::Map {
                        own, mut merged, ..
                    } => {
                        merged.extend(own);
                        Value::Object(merged)
                    }
                };
                let size = Size {
                    values: self.read.values - open.before.values,
                    bytes: self.read.bytes - open.before.bytes,
                };
                self.remember(open.anchor, &value, size)?;
                self.add(value)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let size = Size::of_text(&text);
                self.count(size)?;
                if let Some(Content::Map { key, .. }) = self.open.last_mut().map(|o| &mut o.content)
                    && key.is_none()
                {
                    *key = Some(match plain && text == "<<" {
                        true => Key::Merge,
                        false => Key::Text(text.clone().into_owned()),
                    });
                    return self.remember(anchor, &Value::String(text.into_owned()), size);
                }
                let text_by_tag = tag.as_deref().and_then(|tag| tag.core_suffix()) == Some("str");
                if !text_by_tag && let Some(tag) = &tag {
                    let known = matches!(
                        tag.core_suffix(),
                        Some("null" | "bool" | "int" | "float" | "timestamp")
                    );
                    if !known {
                        return self.error("dbt does not accept this tag");
                    }
                }
                let value = match text_by_tag || (!plain && tag.is_none()) {
                    true => Value::String(text.into_owned()),
                    false => match resolve(&text) {
                        Ok(value) => value,
                        Err(problem) => return self.error(problem),
                    },
                };
                self.remember(anchor, &value, size)?;
                self.add(value)?;
            }
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor);
                let Some(size) = known.map(|(_, size)| *size) else {
                    return self.error("an alias stands inside of what it names, or names nothing");
                };
                // Before it is copied.
                self.count(size)?;
                if let Some((value, _)) = self.anchors.get(&anchor) {
                    self.add(value.clone())?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check_tag(&self, tag: Option<&granit_parser::Tag>, own: &str) -> Result<(), YamlError> {
        match tag {
            Some(tag) if tag.core_suffix() != Some(own) => {
                self.error("dbt does not accept this tag")
            }
            _ => Ok(()),
        }
    }

    /// Counts what the document grows by.
    fn count(&mut self, more: Size) -> Result<(), YamlError> {
        self.read = self.read.and(more);
        self.within_bounds()
    }

    fn within_bounds(&self) -> Result<(), YamlError> {
        let held = self.read.and(self.kept);
        if held.values > MOST.values {
            return self.error("this file expands to more values than any configuration has");
        }
        match held.bytes > MOST.bytes {
            true => self.error("this file expands to more text than any configuration has"),
            false => Ok(()),
        }
    }

    fn push(&mut self, anchor: usize, content: Content) -> Result<(), YamlError> {
        if self.open.len() >= DEEPEST {
            return self.error("lists and mappings are nested deeper than any configuration");
        }
        let at_key = |open: &Open| matches!(open.content, Content::Map { key: None, .. });
        if self.open.last().is_some_and(at_key) {
            return self.error("a list or mapping cannot be a key");
        }
        let before = self.read;
        self.count(Size {
            values: 1,
            bytes: 0,
        })?;
        self.open.push(Open {
            anchor,
            before,
            content,
        });
        Ok(())
    }

    /// Anchors are numbered from 1; 0 is no anchor.
    fn remember(&mut self, anchor: usize, value: &Value, size: Size) -> Result<(), YamlError> {
        if anchor > 0 {
            self.kept = self.kept.and(size);
            self.within_bounds()?;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(())
    }

    fn add(&mut self, value: Value) -> Result<(), YamlError> {
        let Some(open) = self.open.last_mut() else {
            self.document = Some(value);
            return Ok(());
        };
        match &mut open.content {
            Content::List(list) => list.push(value),
            Content::Map { own, merged, key } => match (key.take(), value) {
                (Some(Key::Text(name)), value) => {
                    own.insert(name, value);
                }
                (Some(Key::Merge), Value::Object(all)) => merged.extend(all),
                (Some(Key::Merge), Value::Array(many)) => {
                    // The first of several merged mappings wins.
                    for one in many.into_iter().rev() {
                        match one {
                            Value::Object(all) => merged.extend(all),
                            _ => return self.error("`<<` merges mappings only"),
                        }
                    }
                }
                (Some(Key::Merge), _) => return self.error("`<<` merges mappings only"),
                // An alias as a key.
                (None, Value::String(name)) => *key = Some(Key::Text(name)),
                (None, _) => return self.error("only text can be a key"),
            },
        }
        Ok(())
    }
}

/// PyYAML's meaning of a plain scalar.
fn resolve(text: &str) -> Result<Value, String> {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Ok(Value::Null);
    }
    for (words, value) in [
        (["yes", "true", "on"], true),
        (["no", "false", "off"], false),
    ] {
        for word in words {
            let mut capital = word.to_owned();
            capital[..1].make_ascii_uppercase();
            if text == word || text == capital || text == word.to_ascii_uppercase() {
                return Ok(Value::Bool(value));
            }
        }
    }
    let too_large = || "this number is too large to be carried over; put it in quotes".to_owned();
    if let Some(integer) = integer(text) {
        return integer.map(Value::from).ok_or_else(too_large);
    }
    if is_float(text) {
        let float = text.replace('_', "").parse::<f64>().ok();
        let number = float.and_then(Number::from_f64);
        // PyYAML reads `1e22` as text, so a float that JSON writes that way would change.
        return number
            .filter(|number| !number.to_string().contains('e'))
            .map(Value::Number)
            .ok_or_else(too_large);
    }
    Ok(Value::String(text.to_owned()))
}

/// `None` if the text is not a YAML 1.1 integer, `Some(None)` if it is one that does not fit.
fn integer(text: &str) -> Option<Option<i64>> {
    let (sign, body) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let all = |part: &str, ok: fn(u8) -> bool| {
        !part.is_empty() && part.bytes().all(|b| b == b'_' || ok(b))
    };
    let parse = |digits: &str, radix: u32| {
        // `0_` is nothing but zero.
        let digits = format!("0{}", digits.replace('_', ""));
        i64::from_str_radix(&digits, radix)
            .ok()
            .map(|number| sign * number)
    };
    if body == "0" {
        return Some(Some(0));
    }
    if let Some(digits) = body.strip_prefix("0b") {
        return all(digits, |b| matches!(b, b'0' | b'1')).then(|| parse(digits, 2));
    }
    if let Some(digits) = body.strip_prefix("0x") {
        return all(digits, |b| b.is_ascii_hexdigit()).then(|| parse(digits, 16));
    }
    if let Some(digits) = body.strip_prefix('0') {
        return all(digits, |b| matches!(b, b'0'..=b'7')).then(|| parse(digits, 8));
    }
    if !body.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if all(body, |b| b.is_ascii_digit()) {
        return Some(parse(body, 10));
    }
    // `1:30` is 90 in YAML 1.1.
    let mut parts = body.split(':');
    let first = parts
        .next()
        .filter(|part| all(part, |b| b.is_ascii_digit()))?;
    let mut total = parse(first, 10).map(|number| number * sign);
    let mut several = false;
    for part in parts {
        several = true;
        let number: i64 = match part.as_bytes() {
            [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9'] => part.parse().ok()?,
            _ => return None,
        };
        total = total.and_then(|so_far| so_far.checked_mul(60)?.checked_add(number));
    }
    several.then(|| total.map(|number| number * sign))
}

/// A YAML 1.1 float has a dot, and a sign in its exponent. `.inf` and `.nan` count, sexagesimal
/// floats are left as text: they do not occur in profiles.
fn is_float(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (mantissa, exponent) = match body.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (body, None),
    };
    let Some((whole, fraction)) = mantissa.split_once('.') else {
        return false;
    };
    let digits = |part: &str| part.bytes().all(|b| b == b'_' || b.is_ascii_digit());
    let starts = match whole.is_empty() {
        // Without a digit before the dot there is no sign either.
        true => body == text && fraction.starts_with(|c: char| c.is_ascii_digit()),
        false => whole.starts_with(|c: char| c.is_ascii_digit()),
    };
    let exponent_ok = exponent.is_none_or(|exponent| {
        exponent
            .strip_prefix(['-', '+'])
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    starts && digits(whole) && digits(fraction) && exponent_ok
}

/// Feeds arbitrary bytes to the reader, for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// What PyYAML 6.0.3 answers.
    #[test]
    fn scalars_mean_what_they_mean_to_dbt() {
        for (text, value) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("y", json!("y")),
            ("tRUE", json!("tRUE")),
            ("012", json!(10)),
            ("0123456789", json!("0123456789")),
            ("1_000", json!(1000)),
            ("1e3", json!("1e3")),
            ("1.0e3", json!("1.0e3")),
            ("1.0e+3", json!(1000.0)),
            ("1.", json!(1.0)),
            (".5", json!(0.5)),
            (".", json!(".")),
            ("+.5", json!("+.5")),
            ("0_", json!(0)),
            ("1:30", json!(90)),
            ("-1:30", json!(-90)),
            ("1:99", json!("1:99")),
            ("0o17", json!("0o17")),
            ("0x1F", json!(31)),
            ("-0b11", json!(-3)),
            ("+5", json!(5)),
            ("0", json!(0)),
            ("1.2.3", json!("1.2.3")),
            ("2020-01-01", json!("2020-01-01")),
            ("~", json!(null)),
            ("'yes'", json!("yes")),
            ("\"1\"", json!("1")),
            ("!!str 12", json!("12")),
            ("!!int '12'", json!(12)),
            ("{{ x }}", json!("never")),
        ] {
            match parse(&format!("a: {text}\n")) {
                Ok(read) => assert_eq!(read, json!({"a": value}), "{text}"),
                Err(_) => assert_eq!(text, "{{ x }}", "dbt asks for quotes around templates"),
            }
        }
    }

    #[test]
    fn anchors_and_merges_are_expanded() {
        let text = "base: &b\n  x: 1\n  p: q\no:\n  <<: *b\n  p: r\n  l: [*b]\n\
                    z:\n  <<: [*b, {x: 2, w: 2}]\nx: 1\nx: 2\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "base": {"x": 1, "p": "q"},
                "o": {"x": 1, "p": "r", "l": [{"x": 1, "p": "q"}]},
                "z": {"x": 1, "p": "q", "w": 2},
                "x": 2,
            })
        );
    }

    #[test]
    fn what_dbt_would_refuse_is_refused_with_its_line() {
        for (text, line, says) in [
            ("a: 1\nb: [\n", 2, "not YAML"),
            ("a: 1\n---\nb: 2\n", 2, "second document"),
            ("a: !!python/none x\n", 1, "tag"),
            ("a: !vault x\n", 1, "tag"),
            ("a:\n  ? [1]\n  : 2\n", 2, "cannot be a key"),
            ("a:\n  <<: 3\n", 2, "merges mappings"),
            ("a: 99999999999999999999\n", 1, "too large"),
            ("a: .inf\n", 1, "too large"),
            ("a: &a [*a]\n", 1, "alias"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.problem.contains(says), "{text}: {error}");
            assert_eq!(error.line, line, "{text}: {error}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
        let laughs = (1..20).fold("a0: &a0 [x, x]\n".to_owned(), |text, i| {
            format!("{text}a{i}: &a{i} [*a{p}, *a{p}, *a{p}]\n", p = i - 1)
        });
        assert!(parse(&laughs).unwrap_err().problem.contains("more values"));
        // Few values, and each of them long.
        let long = "x".repeat(100_000);
        let text = format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(10_000));
        assert!(parse(&text).unwrap_err().problem.contains("more text"));
        // Each anchor keeps a copy of all that is within it.
        let many = "1, ".repeat(50_000);
        let nested = (0..90).fold(many, |inner, i| format!("&a{i} [{inner}]"));
        assert!(parse(&nested).unwrap_err().problem.contains("more values"));
        assert_eq!(parse("").unwrap(), Value::Null);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[-a-c0-9:.{}&*!<>'\"|\\[\\], \n_+e]*", any: Vec<u8>) {
            fuzz(text.as_bytes());
            fuzz(&any);
        }
    }
}
