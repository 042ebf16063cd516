//! Health: what is looked at, what could not be taken back, and what would eat a restore point.

use super::Delta;
use super::point::Eyes;
use super::reader::Version;
use jiff::SignedDuration;
use unship_core::engine::{Diagnosis, EngineError, Level};

struct Report(Vec<Diagnosis>);

impl Report {
    fn say(&mut self, level: Level, subject: &str, finding: String, hint: Option<String>) {
        self.0.push(Diagnosis {
            level,
            subject: subject.to_owned(),
            finding,
            hint,
        });
    }

    fn error(&mut self, subject: &str, error: &EngineError) {
        let finding = unship_core::execute::chain(error);
        self.say(Level::Error, subject, finding, error.hint.clone());
    }
}

/// Properties that say for how long what is not the newest version stays, with what counts where they
/// are not set (Delta's documentation, "Table properties").
const RETENTION: [(&str, &str, &str); 2] = [
    (
        "delta.deletedFileRetentionDuration",
        "interval 1 week",
        "vacuum may delete files of older versions after",
    ),
    (
        "delta.logRetentionDuration",
        "interval 30 days",
        "older versions may be cleaned out of the log after",
    ),
];

/// Looks at everything that unship depends on.
pub fn examine(engine: &mut Delta) -> Vec<Diagnosis> {
    let mut report = Report(Vec::new());
    let promise = engine.settings.promise;
    match engine.eyes(|eyes| tables(eyes, promise, &mut report)) {
        Ok(()) => {}
        Err(error) => report.error("production", &error),
    }
    match engine.proved(&|_, _, _| ()) {
        Ok(found) => report
            .0
            .extend(found.into_iter().filter(|d| d.level > Level::Ok)),
        Err(error) => report.error("restore points", &error),
    }
    report.0
}

fn tables(
    eyes: &mut Eyes<'_>,
    promise: SignedDuration,
    report: &mut Report,
) -> Result<(), EngineError> {
    let seen = eyes.everything(&|_, _, _| ())?;
    let finding = format!("{} tables in {}", seen.len(), eyes.lake.root);
    match seen.is_empty() {
        false => report.say(Level::Ok, "production", finding, None),
        true => report.say(
            Level::Warning,
            "production",
            finding,
            Some("check `root` and `namespaces` in unship.toml".to_owned()),
        ),
    }
    for (name, seen) in &seen {
        let what = name.to_string();
        let dir = eyes.lake.dir(&seen.path);
        let version = eyes.reader.version(&what, &dir, seen.version)?;
        if let Some(why) = eyes.refused(name, seen)? {
            report.say(
                Level::Warning,
                &what,
                format!("it {why}: unship cannot take it back"),
                Some("name in `namespaces` what jobs build, without this table".to_owned()),
            );
        }
        for (key, default, means) in RETENTION {
            let said = property(&version, key);
            let text = said.unwrap_or(default);
            let kept = interval(text);
            if kept.is_some_and(|kept| kept >= promise) {
                continue;
            }
            let days = promise.as_secs().div_euclid(86_400)
                + i64::from(promise.as_secs().rem_euclid(86_400) > 0);
            let mend = format!(
                "ALTER TABLE delta.`{}` SET TBLPROPERTIES ('{key}' = 'interval {days} days')",
                dir
            );
            let finding = match kept {
                Some(_) => format!(
                    "{means} {text} ({key}), and `keep` in unship.toml promises {days} days"
                ),
                None => format!("{key} is {text:?}, which is no interval"),
            };
            report.say(Level::Warning, &what, finding, Some(mend));
        }
    }
    Ok(())
}

fn property<'a>(version: &'a Version, key: &str) -> Option<&'a str> {
    version.metadata["configuration"].get(key)?.as_str()
}

/// Reads an interval as Spark writes it: `interval 1 week 2 days`. Months and years are none: they
/// differ in length.
fn interval(text: &str) -> Option<SignedDuration> {
    let text = text.trim().to_lowercase();
    let mut words = text
        .strip_prefix("interval")
        .unwrap_or(&text)
        .split_whitespace();
    let mut total: Option<SignedDuration> = None;
    while let Some(count) = words.next() {
        let count: i64 = count.parse().ok()?;
        let seconds = match words.next()?.trim_end_matches('s') {
            "week" => 7 * 86_400,
            "day" => 86_400,
            "hour" => 3_600,
            "minute" => 60,
            "second" => 1,
            "millisecond" | "microsecond" | "nanosecond" => 0,
            _ => return None,
        };
        let more = SignedDuration::from_secs(count.checked_mul(seconds)?);
        total = Some(total.unwrap_or_default().checked_add(more)?);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_read_as_spark_writes_it() {
        for (text, hours) in [
            ("interval 1 week", Some(168)),
            ("INTERVAL 30 DAYS", Some(720)),
            ("interval 1 day 2 hours", Some(26)),
            ("7 days", Some(168)),
            ("interval 90 minutes 1800 seconds", Some(2)),
            ("interval 0 microseconds", Some(0)),
            ("interval 1 month", None),
            ("interval", None),
            ("interval one day", None),
            ("interval 1", None),
            ("interval 9223372036854775807 weeks", None),
        ] {
            assert_eq!(
                interval(text),
                hours.map(SignedDuration::from_hours),
                "{text}"
            );
        }
    }
}
