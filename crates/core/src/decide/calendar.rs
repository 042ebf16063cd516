//! Maintenance windows and freezes: cron expressions with a time zone, each naming the moments at
//! which a span of time begins. What a cron expression means where clocks go forward or back is the
//! library's business.

use super::period::Period;
use croner::Cron;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A span of time that comes again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// What people call it.
    pub name: String,
    /// When it begins, as a cron expression: minute, hour, day of month, month, day of week.
    pub begins: String,
    /// How long it lasts, in time that really passes.
    pub lasts: Period,
    /// The time zone of `begins`, by its IANA name.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// The environments that it holds for; none named means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<String>,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// Windows and freezes. Where an environment has windows, plans are carried out in one of them;
/// where it has freezes, outside of all.
#[derive(Debug, Clone, Copy)]
pub struct Calendar<'a> {
    /// Spans in which something may be done.
    pub windows: &'a [Span],
    /// Spans in which nothing may be done.
    pub freezes: &'a [Span],
}

/// Why nothing may be done at a moment, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Closed {
    /// A freeze is on.
    Freeze {
        /// Its name.
        name: String,
        /// When it ends.
        until: Timestamp,
    },
    /// No window is open.
    Window {
        /// The one that opens next.
        name: String,
        /// When it opens.
        until: Timestamp,
    },
}

impl Closed {
    /// When to look again: the freeze has ended then, or the window opens.
    pub fn until(&self) -> Timestamp {
        match self {
            Self::Freeze { until, .. } | Self::Window { until, .. } => *until,
        }
    }
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Freeze { name, until } => {
                write!(f, "the freeze `{name}` is on until {}", second(*until))
            }
            Self::Window { name, until } => write!(
                f,
                "no maintenance window is open; the next, `{name}`, opens at {}",
                second(*until)
            ),
        }
    }
}

/// A time without what is finer than a second.
fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A span that cannot be read, or that never comes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Not a cron expression.
    #[error("`{name}`: begins = {begins:?} is not a cron expression: {why}")]
    Cron {
        /// The span.
        name: String,
        /// What it says.
        begins: String,
        /// What is wrong.
        why: String,
    },
    /// Not a time zone.
    #[error("`{name}`: there is no time zone {time_zone:?}; write it like Europe/Berlin")]
    TimeZone {
        /// The span.
        name: String,
        /// What it says.
        time_zone: String,
    },
    /// No length.
    #[error("`{name}`: lasts is no time at all")]
    NoLength {
        /// The span.
        name: String,
    },
    /// It would never begin (the 31st of February).
    #[error("`{name}`: begins = {begins:?} never comes")]
    Never {
        /// The span.
        name: String,
        /// What it says.
        begins: String,
    },
}

impl Span {
    /// Reads the expression and the zone.
    fn parsed(&self) -> Result<(Cron, TimeZone), CalendarError> {
        let cron = Cron::from_str(&self.begins).map_err(|e| CalendarError::Cron {
            name: self.name.clone(),
            begins: self.begins.clone(),
            why: e.to_string(),
        })?;
        let zone = TimeZone::get(&self.time_zone).map_err(|_| CalendarError::TimeZone {
            name: self.name.clone(),
            time_zone: self.time_zone.clone(),
        })?;
        Ok((cron, zone))
    }

    /// Refuses a span that is not well-formed or never comes.
    ///
    /// # Errors
    /// With what is wrong, and the span's name.
    pub fn check(&self) -> Result<(), CalendarError> {
        let (cron, zone) = self.parsed()?;
        if self.lasts.duration().is_zero() {
            return Err(CalendarError::NoLength {
                name: self.name.clone(),
            });
        }
        let somewhen = Timestamp::UNIX_EPOCH.to_zoned(zone);
        cron.find_next_occurrence(&somewhen, true)
            .map(drop)
            .map_err(|_| CalendarError::Never {
                name: self.name.clone(),
                begins: self.begins.clone(),
            })
    }

    fn holds_for(&self, environment: &str) -> bool {
        self.environments.is_empty() || self.environments.iter().any(|e| e == environment)
    }

    /// When the occurrence ends that this moment lies in, if it lies in one. Where occurrences
    /// overlap, the last of a row of them counts.
    fn ends(&self, now: Timestamp) -> Result<Option<Timestamp>, CalendarError> {
        let (cron, zone) = self.parsed()?;
        let lasts = self.lasts.duration();
        let end = |from: &jiff::Zoned| from.timestamp().checked_add(lasts).ok();
        let here = now.to_zoned(zone);
        let Ok(begun) = cron.find_previous_occurrence(&here, true) else {
            return Ok(None);
        };
        let Some(mut until) = end(&begun).filter(|until| *until > now) else {
            return Ok(None);
        };
        let mut last = begun;
        // A span that begins again before it ends goes on. One that always does is cut at a year.
        let horizon = now.saturating_add(SignedDuration::from_hours(24 * 366));
        let horizon = horizon.unwrap_or(Timestamp::MAX);
        while until < horizon {
            let Ok(next) = cron.find_next_occurrence(&last, false) else {
                break;
            };
            match end(&next) {
                Some(later) if next.timestamp() <= until => (last, until) = (next, later),
                _ => break,
            }
        }
        Ok(Some(until))
    }

    /// When it begins next after a moment.
    fn next(&self, now: Timestamp) -> Result<Option<Timestamp>, CalendarError> {
        let (cron, zone) = self.parsed()?;
        let next = cron.find_next_occurrence(&now.to_zoned(zone), false);
        Ok(next.ok().map(|next| next.timestamp()))
    }
}

impl Calendar<'_> {
    /// Why nothing may be done in an environment at this moment; `None` if something may.
    ///
    /// # Errors
    /// For spans that [`Span::check`] would have refused.
    pub fn closed(
        &self,
        environment: &str,
        now: Timestamp,
    ) -> Result<Option<Closed>, CalendarError> {
        let mut freeze: Option<(&Span, Timestamp)> = None;
        for span in self.freezes.iter().filter(|s| s.holds_for(environment)) {
            if let Some(until) = span.ends(now)?
                && freeze.is_none_or(|(_, latest)| until > latest)
            {
                freeze = Some((span, until));
            }
        }
        if let Some((span, until)) = freeze {
            return Ok(Some(Closed::Freeze {
                name: span.name.clone(),
                until,
            }));
        }
        let mut next: Option<(&Span, Timestamp)> = None;
        let mut any = false;
        for span in self.windows.iter().filter(|s| s.holds_for(environment)) {
            any = true;
            if span.ends(now)?.is_some() {
                return Ok(None);
            }
            if let Some(opens) = span.next(now)?
                && next.is_none_or(|(_, earliest)| opens < earliest)
            {
                next = Some((span, opens));
            }
        }
        Ok(match next {
            Some((span, until)) => Some(Closed::Window {
                name: span.name.clone(),
                until,
            }),
            // Windows that never come again keep everything out.
            None if any => Some(Closed::Window {
                name: "none".to_owned(),
                until: Timestamp::MAX,
            }),
            None => None,
        })
    }
}
