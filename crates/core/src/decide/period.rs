//! Lengths of time as people write them: `30m`, `1h`, `2d`, `1w`.

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A length of time, not negative. A day has 24 hours: nobody means a deadline to depend on
/// daylight saving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(SignedDuration);

/// Text that is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a length of time: write it like 30m, 1h, 2d or 1w")]
pub struct NotAPeriod(pub String);

impl Period {
    /// So many whole seconds.
    pub fn from_secs(seconds: u32) -> Self {
        Self(SignedDuration::from_secs(i64::from(seconds)))
    }

    /// As a duration.
    pub fn duration(self) -> SignedDuration {
        self.0
    }
}

impl FromStr for Period {
    type Err = NotAPeriod;

    fn from_str(text: &str) -> Result<Self, NotAPeriod> {
        let no = || NotAPeriod(text.to_owned());
        let span: Span = text.parse().map_err(|_| no())?;
        let duration = span
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .map_err(|_| no())?;
        if duration.is_negative() {
            return Err(no());
        }
        Ok(Self(duration))
    }
}

impl fmt::Display for Period {
    /// `1h 30m`, `2d`, whole seconds at the finest. What is written so reads as the same again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_secs();
        let mut parts = Vec::new();
        for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
            if rest >= seconds {
                parts.push(format!("{}{unit}", rest / seconds));
                rest %= seconds;
            }
        }
        match parts.is_empty() {
            true => f.write_str("0s"),
            false => f.write_str(&parts.join(" ")),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
