//! What checks read: measures of relations, and queries that people write.

use super::catalog::{self, Extent};
use super::session::{Session, cell, number, text};
use super::sql::{self, Place as At};
use super::{layout, observe};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use unship_core::check::{Answer, ColumnProfile, Detail, RelationProfile, Values};
use unship_core::engine::{EngineError, ErrorKind, OnProgress, Place};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::Column;

/// Where a relation of a place lies, if it is there. What a job did not build is production's.
pub fn find(
    session: &Session,
    place: Place,
    name: &RelationName,
) -> Result<Option<At>, EngineError> {
    Ok(found(session, place, &BTreeSet::from([name.clone()]))?
        .into_iter()
        .next()
        .map(|(_, (at, _))| at))
}

type Found = BTreeMap<RelationName, (At, catalog::Relation)>;

fn found(
    session: &Session,
    place: Place,
    names: &BTreeSet<RelationName>,
) -> Result<Found, EngineError> {
    let mut scope = observe::scope(session, place, &BTreeSet::new())?;
    if let Place::Build(_) = place {
        scope.extend(names.iter().map(|name| name.schema.clone()));
    }
    let own: BTreeSet<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    scope.retain(|schema| {
        let of = At::new("", &**schema, "");
        own.contains(observe::named(&of).schema.as_str())
    });
    let mut out = Found::new();
    for (at, relation) in catalog::load(session, &scope, Extent::All)? {
        let name = observe::named(&at);
        if observe::is_helper(&at, &relation) || !names.contains(&name) {
            continue;
        }
        // What was built comes before what stands in production; of versions, the newest.
        let ours = |at: &At| !layout::may_be_production(&at.schema);
        match out.get(&name) {
            Some((other, _)) if ours(other) && !ours(&at) => {}
            _ => drop(out.insert(name, (at, relation))),
        }
    }
    Ok(out)
}

/// How a column is measured.
#[derive(Clone, Copy)]
enum Sort {
    Number { whole: bool },
    Moment,
    Other,
}

fn sort(column: &Column) -> Sort {
    let (base, scale) = match column.data_type.split_once('(') {
        Some((base, rest)) => (base, rest.trim_end_matches(')').split(',').nth(1)),
        None => (column.data_type.as_str(), None),
    };
    match base {
        "NUMBER" => Sort::Number {
            whole: scale.is_none_or(|scale| scale.trim() == "0"),
        },
        "FLOAT" | "REAL" | "DOUBLE" => Sort::Number { whole: false },
        "DATE" | "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ" => Sort::Moment,
        _ => Sort::Other,
    }
}

/// Measures relations, each with one scan.
pub fn profiles(
    session: &Session,
    place: Place,
    relations: &BTreeMap<RelationName, Detail>,
    on: OnProgress<'_>,
) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
    let names: BTreeSet<RelationName> = relations.keys().cloned().collect();
    let there = found(session, place, &names)?;
    let mut out = BTreeMap::new();
    for (n, (name, (at, relation))) in there.iter().enumerate() {
        on("measuring", n as u64, there.len() as u64);
        let profile = match relations.get(name) {
            Some(Detail::Columns) => measure(session, at, &relation.columns)?,
            _ => RelationProfile {
                rows: count(session, at)?,
                ..RelationProfile::default()
            },
        };
        out.insert(name.clone(), profile);
    }
    Ok(out)
}

fn garbled(at: &At) -> EngineError {
    EngineError::new(
        ErrorKind::Query,
        format!("could not measure {at}: no number"),
    )
}

/// Snowflake counts a table from its metadata, without reading it.
fn count(session: &Session, at: &At) -> Result<u64, EngineError> {
    let rows = session.rows(&sql::count(at), &format!("count the rows of {at}"))?;
    let row = rows.into_iter().next().unwrap_or_default();
    number(cell(&row, 0)).ok_or_else(|| garbled(at))
}

fn measure(session: &Session, at: &At, columns: &[Column]) -> Result<RelationProfile, EngineError> {
    let sorts: Vec<(&Column, Sort)> = columns.iter().map(|c| (c, sort(c))).collect();
    let asked: Vec<(String, bool)> = sorts
        .iter()
        .map(|(c, sort)| (c.name.clone(), !matches!(sort, Sort::Other)))
        .collect();
    let numbers = sorts.iter().map(|(_, s)| matches!(s, Sort::Number { .. }));
    let statement = sql::profile(at, &asked, &numbers.collect::<Vec<_>>());
    let rows = session.rows(&statement, &format!("measure {at}"))?;
    let row = rows.into_iter().next().unwrap_or_default();
    let mut cells = row.iter();
    let mut next = || cells.next().and_then(text);
    let whole = |cell: Option<String>| -> Result<u64, EngineError> {
        cell.and_then(|text| text.parse().ok())
            .ok_or_else(|| garbled(at))
    };
    let rows = whole(next())?;
    let mut out = Vec::new();
    for (column, sort) in sorts {
        let here = whole(next())?;
        let distinct = match sort {
            Sort::Other => None,
            _ => Some(whole(next())?),
        };
        let values = match sort {
            Sort::Number { whole } => {
                let [min, max, sum] = [next(), next(), next()].map(|c| c?.parse::<f64>().ok());
                let all = min.zip(max).zip(sum).filter(|((min, max), sum)| {
                    here > 0 && min.is_finite() && max.is_finite() && sum.is_finite()
                });
                all.map(|((min, max), sum)| Values::Numbers {
                    min,
                    max,
                    sum,
                    mean: sum / here as f64,
                    whole,
                })
            }
            Sort::Moment => {
                let (first, last) = (next(), next());
                first
                    .zip(last)
                    .map(|(first, last)| Values::Moments { first, last })
            }
            Sort::Other => None,
        };
        out.push(ColumnProfile {
            name: column.name.clone(),
            data_type: column.data_type.clone(),
            nullable: column.nullable,
            nulls: rows.saturating_sub(here),
            distinct,
            values,
        });
    }
    Ok(RelationProfile {
        rows,
        columns: out,
        ..RelationProfile::default()
    })
}

/// Runs one query that only reads. It is put into brackets, so that it must be one query; Snowflake
/// takes one statement in a request. What a procedure does that it calls is whoever wrote it to answer
/// for.
pub fn query(
    session: &Session,
    place: Place,
    only: &BTreeSet<String>,
    text: &str,
    limit: u64,
    timeout: Duration,
) -> Result<Answer, EngineError> {
    let scope = observe::scope(session, place, only)?;
    let schema = match scope.len() {
        1 => scope.first().map(String::as_str),
        _ => None,
    };
    let began = Instant::now();
    let statement = sql::bounded(text, limit.saturating_add(1));
    let what = "run a check's query";
    let (columns, rows, truncated) = session.some(&statement, schema, limit, timeout, what)?;
    Ok(Answer {
        columns,
        rows,
        truncated,
        took: began.elapsed(),
    })
}

/// Where a relation must be.
pub fn needed(session: &Session, place: Place, name: &RelationName) -> Result<At, EngineError> {
    find(session, place, name)?.ok_or_else(|| {
        let of = match place {
            Place::Live => "in production".to_owned(),
            Place::Build(ReleaseId(n)) => format!("in what is built for R{n}"),
            Place::Point(ReleaseId(n)) => format!("retained of R{n}"),
        };
        EngineError::new(ErrorKind::Missing, format!("{name} is not {of}"))
    })
}
