//! What is measured of a relation, in one scan.

use super::super::worker::{Worker, WorkerError};
use super::fingerprint::{columns, in_utc, is_hashed_as_it_is};
use super::quote;
use unship_core::check::{ColumnProfile, RelationProfile, Values};
use unship_core::ident::RelationName;
use unship_core::relation::Column;

/// How a column is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// As a number; whether it is whole.
    Number { whole: bool },
    /// As a date or timestamp.
    Moment,
    /// Only its `NULL`s and, where there is an order or a hash, its different values.
    Other,
}

impl Sort {
    fn of(data_type: &str) -> Self {
        match data_type {
            "TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT" | "HUGEINT" | "UTINYINT"
            | "USMALLINT" | "UINTEGER" | "UBIGINT" | "UHUGEINT" => Self::Number { whole: true },
            "FLOAT" | "DOUBLE" => Self::Number { whole: false },
            "DATE"
            | "TIMESTAMP"
            | "TIMESTAMP_S"
            | "TIMESTAMP_MS"
            | "TIMESTAMP_NS"
            | "TIMESTAMP WITH TIME ZONE" => Self::Moment,
            _ if data_type.starts_with("DECIMAL(") => Self::Number { whole: false },
            _ => Self::Other,
        }
    }

    /// What is asked of a column, after how many cells are not `NULL`.
    fn aggregates(self, column: &Column) -> Vec<String> {
        let cell = quote::name(&column.name);
        let mut list = Vec::new();
        if counted(&column.data_type) {
            list.push(format!("approx_count_distinct({cell})"));
        }
        match self {
            Self::Number { .. } => {
                list.push(format!("CAST(min({cell}) AS DOUBLE)"));
                list.push(format!("CAST(max({cell}) AS DOUBLE)"));
                // The widest types have no wider one to be summed in.
                let wide = ["HUGEINT", "UHUGEINT"].contains(&column.data_type.as_str())
                    || column.data_type.starts_with("DECIMAL(");
                list.push(match wide {
                    true => format!("sum(CAST({cell} AS DOUBLE))"),
                    false => format!("CAST(sum({cell}) AS DOUBLE)"),
                });
            }
            Self::Moment => {
                list.push(format!("min({cell})"));
                list.push(format!("max({cell})"));
            }
            Self::Other => {}
        }
        list
    }
}

/// Whether different values are counted. It takes most of a scan's time; how many different amounts
/// there are says little that their mean does not, and how many different moments little that the
/// first and the last do not; of nested types each would have to be written out.
fn counted(data_type: &str) -> bool {
    let sort = Sort::of(data_type);
    let fraction = sort == Sort::Number { whole: false };
    let moment = sort == Sort::Moment && data_type != "DATE";
    is_hashed_as_it_is(data_type) && !fraction && !moment
}

/// How many rows a relation has.
///
/// # Errors
/// DuckDB's own, or the worker's end.
pub fn rows(worker: &mut Worker, relation: &RelationName) -> Result<RelationProfile, WorkerError> {
    let sql = format!(
        "SELECT CAST(count(*) AS VARCHAR) FROM {}",
        quote::full(relation)
    );
    let mut cells = one_row(worker, &sql)?.into_iter();
    Ok(RelationProfile {
        rows: number(cells.next().flatten())?,
        ..RelationProfile::default()
    })
}

/// Measures a relation, with one scan.
///
/// # Errors
/// DuckDB's own, or the worker's end.
pub fn profile(
    worker: &mut Worker,
    relation: &RelationName,
) -> Result<RelationProfile, WorkerError> {
    let columns = columns(worker, relation)?;
    // Timestamps with a time zone are printed in the session's.
    let zoned = columns
        .iter()
        .any(|c| c.data_type == "TIMESTAMP WITH TIME ZONE");
    match zoned {
        true => in_utc(worker, |worker| scan(worker, relation, &columns)),
        false => scan(worker, relation, &columns),
    }
}

fn scan(
    worker: &mut Worker,
    relation: &RelationName,
    columns: &[Column],
) -> Result<RelationProfile, WorkerError> {
    let mut asked = vec!["count(*)".to_owned()];
    for column in columns {
        asked.push(format!("count({})", quote::name(&column.name)));
        asked.extend(Sort::of(&column.data_type).aggregates(column));
    }
    let asked: Vec<String> = asked
        .iter()
        .map(|aggregate| format!("CAST({aggregate} AS VARCHAR)"))
        .collect();
    let sql = format!("SELECT {} FROM {}", asked.join(", "), quote::full(relation));
    let mut cells = one_row(worker, &sql)?.into_iter();
    let mut next = || cells.next().flatten();
    let rows = number(next())?;
    let mut profiles = Vec::new();
    for column in columns {
        let here = number(next())?;
        let distinct = match counted(&column.data_type) {
            true => Some(number(next())?),
            false => None,
        };
        let values = match Sort::of(&column.data_type) {
            Sort::Number { whole } => {
                let (min, max, sum) = (float(next())?, float(next())?, float(next())?);
                numbers(min, max, sum, here, whole)
            }
            Sort::Moment => match (next(), next()) {
                (Some(first), Some(last)) => Some(Values::Moments { first, last }),
                _ => None,
            },
            Sort::Other => None,
        };
        profiles.push(ColumnProfile {
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
        columns: profiles,
        ..RelationProfile::default()
    })
}

/// Of numbers that are not all finite nothing is said: a `NaN` makes every sum one.
fn numbers(
    min: Option<f64>,
    max: Option<f64>,
    sum: Option<f64>,
    count: u64,
    whole: bool,
) -> Option<Values> {
    let (min, max, sum) = (min?, max?, sum?);
    let finite = min.is_finite() && max.is_finite() && sum.is_finite() && count > 0;
    finite.then(|| Values::Numbers {
        min,
        max,
        sum,
        mean: sum / count as f64,
        whole,
    })
}

fn one_row(worker: &mut Worker, sql: &str) -> Result<Vec<Option<String>>, WorkerError> {
    let row = worker.texts(sql, &[])?.into_iter().next();
    row.ok_or_else(|| WorkerError::Garbled("a profile without a row".to_owned()))
}

fn number(cell: Option<String>) -> Result<u64, WorkerError> {
    cell.and_then(|text| text.parse().ok())
        .ok_or_else(|| WorkerError::Garbled("a profile without numbers".to_owned()))
}

fn float(cell: Option<String>) -> Result<Option<f64>, WorkerError> {
    cell.map(|text| {
        text.parse()
            .map_err(|_| WorkerError::Garbled(format!("`{text}` is no number")))
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duckdb::worker::{Open, testing};

    #[test]
    fn one_scan_measures_every_column() {
        let mut worker = testing::worker();
        worker.open(&Open::default()).unwrap();
        testing::run(
            &mut worker,
            &[
                "CREATE TABLE \"odd \"\" name\" (id INTEGER NOT NULL, amount DECIMAL(18, 2), \"at\" TIMESTAMP, \
                 zoned TIMESTAMP WITH TIME ZONE, note VARCHAR, parts INTEGER[], bad DOUBLE)",
                "INSERT INTO \"odd \"\" name\" SELECT i, CASE WHEN i % 4 = 0 THEN NULL ELSE i * 1.5 END, \
                 TIMESTAMP '2026-01-01' + to_days(i::INTEGER), TIMESTAMPTZ '2026-01-01 12:00:00+02' , \
                 'n' || i % 3, [i], CASE WHEN i = 7 THEN 'nan'::DOUBLE ELSE i END FROM range(100) t(i)",
            ],
        );
        let name = RelationName::new("memory", "main", "odd \" name");
        let seen = profile(&mut worker, &name).unwrap();
        assert_eq!(seen.rows, 100);
        let column = |name: &str| seen.column(name).unwrap();
        assert_eq!(
            column("id").values,
            Some(Values::Numbers {
                min: 0.0,
                max: 99.0,
                sum: 4950.0,
                mean: 49.5,
                whole: true
            })
        );
        assert!(!column("id").nullable);
        assert_eq!(column("amount").nulls, 25);
        let Some(Values::Numbers { sum, mean, .. }) = column("amount").values else {
            panic!("{:?}", column("amount"));
        };
        assert_eq!((sum, mean), (5625.0, 75.0));
        assert_eq!(
            column("at").values,
            Some(Values::Moments {
                first: "2026-01-01 00:00:00".to_owned(),
                last: "2026-04-10 00:00:00".to_owned()
            })
        );
        let Some(Values::Moments { first, .. }) = &column("zoned").values else {
            panic!("{:?}", column("zoned"));
        };
        assert!(first.starts_with("2026-01-01 10:00:00"), "{first}");
        assert_eq!(column("note").distinct, Some(3));
        for name in ["amount", "at", "zoned", "bad"] {
            assert_eq!(column(name).distinct, None, "{name}");
        }
        assert_eq!(column("parts").distinct, None);
        assert_eq!(column("bad").values, None, "a NaN is in it");

        testing::run(&mut worker, &["CREATE TABLE none (a INTEGER, b DATE)"]);
        let none = profile(&mut worker, &RelationName::new("memory", "main", "none")).unwrap();
        assert_eq!(none.rows, 0);
        assert!(
            none.columns
                .iter()
                .all(|c| c.values.is_none() && c.nulls == 0)
        );
        assert_eq!(rows(&mut worker, &name).unwrap().rows, 100);
    }
}
