//! Cells: what the API sends as text, as values, without losing a digit.

use unship_core::value::Value;

/// What a column holds, as far as it matters for reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `NUMBER` with so many digits after the point.
    Fixed {
        /// Digits after the point.
        scale: u32,
    },
    /// `FLOAT`.
    Real,
    /// `BOOLEAN`.
    Boolean,
    /// `BINARY`.
    Binary,
    /// `DATE`, sent as days since 1970.
    Date,
    /// `TIME`, sent as seconds since midnight.
    Time,
    /// `TIMESTAMP_NTZ`, sent as seconds since 1970 by the wall clock.
    Wall,
    /// `TIMESTAMP_LTZ`, sent as seconds since 1970 in UTC.
    Instant,
    /// `TIMESTAMP_TZ`, sent as seconds since 1970 in UTC and minutes of the zone, plus 1440.
    Zoned,
    /// `VARCHAR`, `VARIANT`, `ARRAY`, `OBJECT` and whatever has no form of its own: text.
    Text,
}

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Type,
}

impl Type {
    /// By the name that the API gives it.
    pub(super) fn of(name: &str, scale: Option<u32>) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "fixed" => Self::Fixed {
                scale: scale.unwrap_or(0),
            },
            "real" => Self::Real,
            "boolean" => Self::Boolean,
            "binary" => Self::Binary,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp_ntz" => Self::Wall,
            "timestamp_ltz" => Self::Instant,
            "timestamp_tz" => Self::Zoned,
            _ => Self::Text,
        }
    }

    /// A cell. `None` where the text is not one of the type.
    ///
    /// Whole numbers of up to 38 digits fit [`Value::Int`]; numbers with a fraction stay the text
    /// that they are, as a binary number would round them.
    pub(super) fn value(self, cell: Option<&str>) -> Option<Value> {
        let Some(text) = cell else {
            return Some(Value::Null);
        };
        Some(match self {
            Self::Fixed { scale: 0 } => Value::Int(text.parse().ok()?),
            Self::Real => Value::Float(real(text)?),
            Self::Boolean => Value::Bool(match text {
                "true" | "TRUE" | "1" => true,
                "false" | "FALSE" | "0" => false,
                _ => return None,
            }),
            Self::Binary => Value::Bytes(crate::duckdb::worker::protocol::unhex(text)?),
            Self::Date => Value::Text(date(text)?),
            Self::Time => Value::Text(time(text)?),
            Self::Wall => Value::Text(moment(text, 0)?),
            Self::Instant => Value::Text(format!("{}+00:00", moment(text, 0)?)),
            Self::Zoned => {
                let (seconds, zone) = text.split_once(' ')?;
                let minutes = zone.parse::<i64>().ok()?.checked_sub(1440)?;
                let sign = if minutes < 0 { '-' } else { '+' };
                let (hours, rest) = (minutes.abs() / 60, minutes.abs() % 60);
                let local = moment(seconds, minutes.checked_mul(60)?)?;
                Value::Text(format!("{local}{sign}{hours:02}:{rest:02}"))
            }
            Self::Fixed { .. } | Self::Text => Value::Text(text.to_owned()),
        })
    }
}

fn real(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "inf" | "Infinity" => Some(f64::INFINITY),
        "-inf" | "-Infinity" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

/// Whole seconds and nanoseconds of `-1.500000000`; the nanoseconds count forward.
fn seconds(text: &str) -> Option<(i64, i64)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: i64 = whole.parse().ok()?;
    if part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{part:0<9}").parse().ok()?;
    Some(match (negative, nanos) {
        (false, _) => (whole, nanos),
        (true, 0) => (-whole, 0),
        (true, _) => (-whole - 1, 1_000_000_000 - nanos),
    })
}

fn civil(days: i64) -> Option<jiff::civil::Date> {
    let span = jiff::Span::new().try_days(days).ok()?;
    jiff::civil::date(1970, 1, 1).checked_add(span).ok()
}

fn date(text: &str) -> Option<String> {
    Some(civil(text.parse().ok()?)?.to_string())
}

fn clock(of_day: i64, nanos: i64) -> String {
    let (hours, minutes, seconds) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{nanos:09}")
}

fn time(text: &str) -> Option<String> {
    let (whole, nanos) = seconds(text)?;
    (0..86_400).contains(&whole).then(|| clock(whole, nanos))
}

fn moment(text: &str, shift: i64) -> Option<String> {
    let (whole, nanos) = seconds(text)?;
    let whole = whole.checked_add(shift)?;
    let day = civil(whole.div_euclid(86_400))?;
    Some(format!("{day} {}", clock(whole.rem_euclid(86_400), nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(kind: &str, scale: Option<u32>, cell: &str) -> String {
        let value = Type::of(kind, scale).value(Some(cell));
        value.map_or_else(|| "?".to_owned(), |v| format!("{v:?}"))
    }

    #[test]
    fn no_digit_is_lost() {
        let most = "99999999999999999999999999999999999999";
        assert_eq!(text("fixed", Some(0), most), format!("Int({most})"));
        assert_eq!(
            text(
                "fixed",
                Some(2),
                "12345678901234567890123456789012345678.90"
            ),
            "Text(\"12345678901234567890123456789012345678.90\")"
        );
        assert_eq!(
            text("variant", None, "{\"a\":1.0}"),
            "Text(\"{\\\"a\\\":1.0}\")"
        );
        assert_eq!(text("boolean", None, "true"), "Bool(true)");
        assert_eq!(text("binary", None, "00FF"), "Bytes([0, 255])");
        assert_eq!(text("date", None, "18262"), "Text(\"2020-01-01\")");
        assert_eq!(text("date", None, "-719162"), "Text(\"0001-01-01\")");
        assert_eq!(
            text("time", None, "82919.000000000"),
            "Text(\"23:01:59.000000000\")"
        );
        assert_eq!(
            text("timestamp_ntz", None, "-0.500000000"),
            "Text(\"1969-12-31 23:59:59.500000000\")"
        );
        // The documentation's own example: 960 is 480 minutes behind, 16:00 UTC is 08:00 there.
        assert_eq!(
            text("timestamp_tz", None, "1616173619.000000000 960"),
            "Text(\"2021-03-19 09:06:59.000000000-08:00\")"
        );
        assert_eq!(
            text("timestamp_ltz", None, "1611871200.123456789"),
            "Text(\"2021-01-28 22:00:00.123456789+00:00\")"
        );
        assert_eq!(Type::of("fixed", Some(0)).value(None), Some(Value::Null));
    }

    #[test]
    fn what_is_no_value_of_its_type_is_none() {
        for (kind, cell) in [
            ("fixed", "1e5"),
            ("boolean", "maybe"),
            ("binary", "0"),
            ("date", "tomorrow"),
            ("time", "86400"),
            ("timestamp_ntz", "1.0123456789"),
            ("timestamp_tz", "1.0"),
            ("timestamp_ntz", "99999999999999999"),
        ] {
            assert_eq!(text(kind, None, cell), "?", "{kind} {cell}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_makes_it_fail(cell in ".*", at in 0usize..9) {
            let kinds = ["fixed", "real", "boolean", "binary", "date", "time", "timestamp_ntz",
                "timestamp_ltz", "timestamp_tz"];
            let _ = Type::of(kinds[at], None).value(Some(&cell));
        }

        #[test]
        fn moments_keep_their_order(a in -60_000_000_000i64..250_000_000_000, b in 0u32..1_000_000_000) {
            let one = moment(&format!("{a}.{b:09}"), 0);
            prop_assert!(one.is_some());
        }
    }
}
