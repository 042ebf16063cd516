//! `unship stats`

mod checks;

use self::checks::{Advice, Checks};
use crate::cli::{Global, Stats};
use crate::context::Context;
use crate::error::{CliResult, exit};
use crate::render::json;
use crate::render::text::{self, BOLD, paint};
use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use serde::Serialize;
use std::collections::BTreeMap;
use unship_core::incident::{Cause, Incident};
use unship_core::log::Ledger;
use unship_core::release::{Operation, Release, Stage};

/// A month.
#[derive(Debug, Default, Serialize)]
struct Month {
    incidents: usize,
    rollbacks: usize,
    by_cause: BTreeMap<Cause, usize>,
    detect_milliseconds: Option<u64>,
    decide_milliseconds: Option<u64>,
    restore_milliseconds: Option<u64>,
}

#[derive(Serialize)]
struct Document<'a> {
    env: &'a str,
    months: &'a BTreeMap<String, Month>,
    never: &'a [String],
    too_often: &'a [Advice],
}

/// How fast bad releases are noticed and taken back, and by what.
pub fn run(global: &Global, args: &Stats) -> CliResult {
    let context = Context::find(global)?;
    let ledger = context.read()?;
    let now = Timestamp::now();
    let months = months(&ledger, &context.env, args.months, now)?;
    let Checks { never, too_often } = checks::of(&ledger, &context.env, &context.config.declared)?;
    if global.json {
        let document = Document {
            env: &context.env,
            months: &months,
            never: &never,
            too_often: &too_often,
        };
        json("unship.stats/1", &document)?;
        return Ok(exit::OK);
    }
    crate::say!("{}", paint(BOLD, &context.env));
    let mut table = text::table([
        "month",
        "incidents",
        "rollbacks",
        "detect",
        "decide",
        "restore",
        "causes",
    ]);
    for (month, m) in &months {
        let causes: Vec<_> = m
            .by_cause
            .iter()
            .map(|(cause, n)| format!("{} ({n})", cause.words()))
            .collect();
        table.add_row([
            month.clone(),
            m.incidents.to_string(),
            m.rollbacks.to_string(),
            span(m.detect_milliseconds),
            span(m.decide_milliseconds),
            span(m.restore_milliseconds),
            causes.join(", "),
        ]);
    }
    text::print_table(&table);
    crate::say!(
        "\ndetect: from published to incident; decide: from incident to the operation that goes \
         back; restore: how long that took. Medians."
    );
    if !never.is_empty() {
        crate::say!("\n{}", paint(BOLD, "Checks that never failed"));
        for check in &never {
            crate::say!("  - {check}");
        }
    }
    if !too_often.is_empty() {
        crate::say!("\n{}", paint(BOLD, "Checks that fail too often"));
        for advice in &too_often {
            crate::say!(
                "  - {}: failed {} times, {} of them in releases that are thought good; {}",
                advice.words(),
                advice.failed,
                advice.in_good,
                advice.proposal
            );
        }
    }
    Ok(exit::OK)
}

fn span(ms: Option<u64>) -> String {
    ms.map_or_else(
        || "-".to_owned(),
        |ms| {
            text::span(SignedDuration::from_millis(
                i64::try_from(ms).unwrap_or(i64::MAX),
            ))
        },
    )
}

fn month(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m").to_string()
}

fn months(
    ledger: &Ledger,
    env: &str,
    count: u32,
    now: Timestamp,
) -> CliResult<BTreeMap<String, Month>> {
    let back = i64::from(count.saturating_sub(1));
    let first = now
        .to_zoned(TimeZone::UTC)
        .checked_sub(back.months())
        .map_or_else(|_| String::new(), |z| month(z.timestamp()));
    let mut times: BTreeMap<String, [Vec<u64>; 3]> = BTreeMap::new();
    let mut out: BTreeMap<String, Month> = BTreeMap::new();
    for incident in ledger.history(|h| h.incidents(env, usize::MAX))? {
        let key = month(incident.opened.at);
        if key < first {
            break;
        }
        let one = out.entry(key.clone()).or_default();
        one.incidents += 1;
        *one.by_cause.entry(incident.opening.cause).or_default() += 1;
        let release = ledger.history(|h| h.release(incident.release))?;
        let back = match incident.operations.first() {
            Some(id) => ledger.history(|h| h.release(*id))?,
            None => None,
        };
        let took = took(&incident, release.as_ref(), back.as_ref());
        for (list, ms) in times.entry(key).or_default().iter_mut().zip(took) {
            list.extend(ms);
        }
    }
    for release in rollbacks(ledger, env, &first)? {
        out.entry(month(release.opened)).or_default().rollbacks += 1;
    }
    for (key, lists) in times {
        let [detect, decide, restore] = lists.map(median);
        let one = out.entry(key).or_default();
        one.detect_milliseconds = detect;
        one.decide_milliseconds = decide;
        one.restore_milliseconds = restore;
    }
    Ok(out)
}

fn rollbacks(ledger: &Ledger, env: &str, first: &str) -> CliResult<Vec<Release>> {
    const PAGE: usize = 500;
    let mut out = Vec::new();
    let mut before = None;
    loop {
        let page = ledger.history(|h| h.releases(env, before, PAGE))?;
        let Some(last) = page.last() else {
            return Ok(out);
        };
        before = Some(last.id);
        let old = month(last.opened).as_str() < first;
        out.extend(page.into_iter().filter(|r| {
            matches!(
                r.operation,
                Operation::Rollback { .. } | Operation::Moment { .. }
            ) && r.stage == Stage::Published
                && !r.operation.stage().is_some_and(|stage| stage.is_between())
                && month(r.opened).as_str() >= first
        }));
        if old {
            return Ok(out);
        }
    }
}

/// To detect, to decide, to restore. A release that was held back was detected before it did harm,
/// and nothing had to be restored. Where a person went back before there was an incident, deciding
/// took until then and the incident opened with it.
fn took(
    incident: &Incident,
    release: Option<&Release>,
    back: Option<&Release>,
) -> [Option<u64>; 3] {
    let ms = |from: Timestamp, to: Timestamp| {
        u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
    };
    if !incident.opening.reached_production {
        return [None; 3];
    }
    let noticed = match back {
        Some(back) => back.opened.min(incident.opened.at),
        None => incident.opened.at,
    };
    let published = release.and_then(|r| r.closed);
    [
        published.map(|at| ms(at, noticed)),
        back.map(|back| ms(noticed, back.opened)),
        back.and_then(|back| Some(ms(back.opened, back.closed?))),
    ]
}

fn median(mut list: Vec<u64>) -> Option<u64> {
    list.sort_unstable();
    list.get(list.len() / 2).copied()
}
