//! What is measured of a relation, in one scan.
//!
//! PostgreSQL has no aggregate that estimates how many different values there are, and an exact
//! count sorts every column: several scans' worth. `ANALYZE` estimates it from a sample of fixed
//! size (30,000 rows at the default statistics target) with the estimator Duj1 of Haas and Stokes,
//! "Estimating the number of classes in a finite population", JASA 93 (1998). What is built is
//! analysed before it is published in any case.

use super::catalog::{self, Attribute, rows};
use super::connect::Connector;
use super::error::Doing;
use super::{access, build, layout, observe, parallel, quote};
use postgres::{Client, GenericClient};
use serde::Deserialize;
use std::collections::BTreeMap;
use unship_core::check::{ColumnProfile, Detail, RelationProfile, Values};
use unship_core::engine::{EngineError, ErrorKind, OnProgress, Place};
use unship_core::ident::{RelationName, ReleaseId};

/// What is larger than this is not counted where only its size is asked for: the server's counters
/// of inserted and deleted rows say it nearly as well.
const COUNTED: i64 = 64 << 20;

/// A relation that is measured, and where it is.
struct Task {
    name: RelationName,
    detail: Detail,
    schema: String,
    from: String,
    columns: Vec<Attribute>,
}

/// Measures the relations that are there.
pub fn profiles(
    connector: &Connector,
    client: &mut Client,
    place: Place,
    relations: &BTreeMap<RelationName, Detail>,
    on: OnProgress<'_>,
) -> Result<BTreeMap<RelationName, RelationProfile>, EngineError> {
    if let Place::Build(release) = place {
        build::analyze(client, release)?;
    }
    let tasks = tasks(client, place, relations)?;
    let where_they_are: Vec<_> = tasks
        .iter()
        .filter(|task| task.detail == Detail::Columns)
        .map(|task| (task.name.clone(), task.schema.clone()))
        .collect();
    let measured = parallel::each(
        connector,
        tasks,
        observe::CONNECTIONS,
        "measuring",
        on,
        &|_| Ok(()),
        &|client, task| {
            let profile = match task.detail {
                Detail::Rows => count(client, &task)?,
                Detail::Columns => measure(client, &task)?,
            };
            Ok((task.name, profile))
        },
    )?;
    let mut measured: BTreeMap<RelationName, RelationProfile> = measured.into_iter().collect();
    if !matches!(place, Place::Point(_)) {
        for (name, access) in access::of(client, &where_they_are)? {
            if let Some(profile) = measured.get_mut(&name) {
                profile.access = Some(access);
            }
        }
    }
    Ok(measured)
}

fn tasks(
    client: &mut Client,
    place: Place,
    relations: &BTreeMap<RelationName, Detail>,
) -> Result<Vec<Task>, EngineError> {
    let mut wanted = Vec::new();
    for (name, detail) in relations {
        if let Some(schema) = schema(client, place, name)? {
            wanted.push((name, *detail, schema));
        }
    }
    let namespaces = catalog::namespaces(client)?;
    let scopes: Vec<_> = namespaces
        .iter()
        .filter(|n| wanted.iter().any(|(_, _, schema)| *schema == n.name))
        .map(|n| catalog::scope(n, &n.name))
        .collect();
    let catalog = catalog::load(client, &scopes)?;
    let relation = |schema: &str, name: &str| {
        catalog.relations.values().find(|r| {
            let of = catalog.namespaces.get(&r.namespace);
            r.name == name && of.is_some_and(|n| n.name == schema)
        })
    };
    let tasks = wanted.into_iter().filter_map(|(name, detail, schema)| {
        let found = relation(&schema, &name.name)?;
        // Reading a materialised view that was never filled is an error.
        if found.kind == "m" && !found.populated {
            return None;
        }
        let only = match found.kind.as_str() {
            "r" => "ONLY ",
            _ => "",
        };
        Some(Task {
            name: name.clone(),
            detail,
            from: format!("{only}{}", quote::relation(&schema, &name.name)),
            schema,
            columns: catalog.columns.get(&found.oid).cloned().unwrap_or_default(),
        })
    });
    Ok(tasks.collect())
}

/// The schema that holds a relation at a place; none, if it is not there. What a job did not build
/// is production's, and a build is of what was built.
pub fn schema(
    client: &mut impl GenericClient,
    place: Place,
    name: &RelationName,
) -> Result<Option<String>, EngineError> {
    let candidates = match place {
        Place::Live => vec![name.schema.clone()],
        Place::Build(_) => vec![layout::build(&name.schema)?, name.schema.clone()],
        Place::Point(release) => vec![layout::retained(release, &name.schema)?],
    };
    let what = format!("look for {name}");
    for candidate in candidates {
        let full = quote::relation(&candidate, &name.name);
        let sql = "SELECT coalesce(obj_description(to_regclass($1), 'pg_class'), '') <> $2 \
                   FROM (SELECT WHERE to_regclass($1) IS NOT NULL) there";
        let row = client
            .query_opt(sql, &[&full, &build::STANDS_IN])
            .doing(&what)?;
        let there = match row {
            Some(row) => row.try_get(0).doing(&what)?,
            None => false,
        };
        if there {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// The schemas in which a name without a schema is looked for, what was built first.
pub fn search_path(
    client: &mut impl GenericClient,
    place: Place,
    only: Option<&[String]>,
) -> Result<Vec<String>, EngineError> {
    let namespaces = catalog::namespaces(client)?;
    let mut path: Vec<String> = match place {
        Place::Live => Vec::new(),
        Place::Build(release) => staging(&namespaces, release),
        Place::Point(release) => observe::retained(&namespaces, release)
            .into_iter()
            .map(|scope| scope.schema)
            .collect(),
    };
    let production = catalog::production(&namespaces, only);
    path.extend(production.into_iter().map(|scope| scope.schema));
    Ok(path)
}

fn staging(namespaces: &[catalog::Namespace], release: ReleaseId) -> Vec<String> {
    let of = |n: &&catalog::Namespace| {
        layout::parse_build(&n.name).is_some()
            && n.comment
                .as_deref()
                .and_then(build::Mark::read)
                .is_some_and(|mark| mark.release == release)
    };
    namespaces
        .iter()
        .filter(of)
        .map(|n| n.name.clone())
        .collect()
}

fn count(client: &mut Client, task: &Task) -> Result<RelationProfile, EngineError> {
    let what = format!("count the rows of {}", task.name);
    let sql = "SELECT pg_relation_size(c.oid), \
                      greatest(pg_stat_get_live_tuples(c.oid), c.reltuples::int8), c.relkind::text \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2";
    let row = client
        .query_opt(sql, &[&task.schema, &task.name.name])
        .doing(&what)?;
    if let Some(row) = row {
        let size: i64 = row.try_get(0).doing(&what)?;
        let known: i64 = row.try_get(1).doing(&what)?;
        let kind: String = row.try_get(2).doing(&what)?;
        if size > COUNTED && known > 0 && kind == "r" {
            return Ok(RelationProfile {
                rows: known.unsigned_abs(),
                ..RelationProfile::default()
            });
        }
    }
    let sql = format!("SELECT count(*) FROM {}", task.from);
    let row = client.query_one(&sql, &[]).doing(&what)?;
    let rows: i64 = row.try_get(0).doing(&what)?;
    Ok(RelationProfile {
        rows: rows.unsigned_abs(),
        ..RelationProfile::default()
    })
}

/// How a column is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Number { whole: bool },
    Moment,
    Other,
}

impl Sort {
    fn of(column: &Attribute) -> Self {
        match column.base.as_deref().unwrap_or_default() {
            "int2" | "int4" | "int8" => Self::Number { whole: true },
            "numeric" | "float4" | "float8" => Self::Number { whole: false },
            "date" | "timestamp" | "timestamptz" => Self::Moment,
            _ => Self::Other,
        }
    }
}

/// One query for everything: `count(*)`, and for each column as many cells as its sort has.
fn query(task: &Task) -> String {
    let mut asked = vec!["count(*)::text".to_owned()];
    for column in &task.columns {
        let cell = quote::name(&column.name);
        asked.push(format!("count({cell})::text"));
        match Sort::of(column) {
            // Through binary floating point, whose text every reader understands: a `numeric` may
            // have a thousand digits. One too large for it is no number to compare.
            Sort::Number { .. } => {
                let text = |aggregate: String| format!("({aggregate})::text");
                asked.push(text(format!("min({cell})")));
                asked.push(text(format!("max({cell})")));
                asked.push(text(format!("sum({cell})")));
            }
            Sort::Moment => {
                asked.push(format!("min({cell})::text"));
                asked.push(format!("max({cell})::text"));
            }
            Sort::Other => {}
        }
    }
    format!("SELECT ARRAY[{}] FROM {}", asked.join(", "), task.from)
}

fn measure(client: &mut Client, task: &Task) -> Result<RelationProfile, EngineError> {
    let what = format!("measure {}", task.name);
    let garbled = || EngineError::new(ErrorKind::Query, format!("could not {what}: no number"));
    let row = client.query_one(&query(task), &[]).doing(&what)?;
    let cells: Vec<Option<String>> = row.try_get(0).doing(&what)?;
    let mut cells = cells.into_iter();
    let mut next = || cells.next().flatten();
    let count = |cell: Option<String>| -> Result<u64, EngineError> {
        cell.and_then(|text| text.parse().ok()).ok_or_else(garbled)
    };
    let rows = count(next())?;
    let distinct = distinct(client, task, rows)?;
    let mut columns = Vec::new();
    for column in &task.columns {
        let here = count(next())?;
        let values = match Sort::of(column) {
            Sort::Number { whole } => numbers([next(), next(), next()], here, whole),
            Sort::Moment => match (next(), next()) {
                (Some(first), Some(last)) => Some(Values::Moments { first, last }),
                _ => None,
            },
            Sort::Other => None,
        };
        columns.push(ColumnProfile {
            name: column.name.clone(),
            data_type: column.data_type.clone(),
            nullable: !column.not_null,
            nulls: rows.saturating_sub(here),
            distinct: distinct.get(&column.name).copied(),
            values,
        });
    }
    Ok(RelationProfile {
        rows,
        columns,
        ..RelationProfile::default()
    })
}

/// Of numbers that are not all finite nothing is said: a `NaN` makes every sum one.
fn numbers(cells: [Option<String>; 3], count: u64, whole: bool) -> Option<Values> {
    let [min, max, sum] = cells.map(|cell| cell?.parse::<f64>().ok());
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

/// What `ANALYZE` estimated, where it has been here. Negative numbers are fractions of the rows.
fn distinct(
    client: &mut Client,
    task: &Task,
    rows_there: u64,
) -> Result<BTreeMap<String, u64>, EngineError> {
    #[derive(Deserialize)]
    struct Estimate {
        name: String,
        distinct: f64,
    }
    let sql = "SELECT attname AS name, (array_agg(n_distinct ORDER BY inherited DESC))[1]::float8 AS distinct \
               FROM pg_stats WHERE schemaname = $1 AND tablename = $2 GROUP BY attname";
    let estimates: Vec<Estimate> = rows(client, sql, &[&task.schema, &task.name.name])?;
    let known = estimates.into_iter().filter(|e| e.distinct != 0.0);
    Ok(known
        .map(|e| {
            let all = if e.distinct < 0.0 {
                -e.distinct * rows_there as f64
            } else {
                e.distinct
            };
            (e.name, all.round() as u64)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::testing::Database;

    #[test]
    fn one_scan_measures_every_column() {
        let Some(database) = Database::new() else {
            return;
        };
        let mut client = database.client();
        client
            .batch_execute(
                "CREATE TABLE public.\"odd \"\" name\" (id int NOT NULL, amount numeric(18, 2), at timestamp, \
                 zoned timestamptz, note text, bad float8);
                 INSERT INTO public.\"odd \"\" name\" SELECT i, CASE WHEN i % 4 > 0 THEN i * 1.5 END, \
                 timestamp '2026-01-01' + i * interval '1 day', timestamptz '2026-01-01 12:00:00+02', \
                 'n' || i % 3, CASE WHEN i = 7 THEN 'NaN'::float8 ELSE i END FROM generate_series(0, 99) i;
                 ANALYZE public.\"odd \"\" name\";
                 CREATE VIEW public.seen AS SELECT id, note FROM public.\"odd \"\" name\" WHERE id < 10;
                 CREATE MATERIALIZED VIEW public.unfilled AS SELECT 1 AS one WITH NO DATA",
            )
            .unwrap();
        let connector = database.connector();
        let named = |name: &str| RelationName::new(connector.database(), "public", name);
        let wanted = ["odd \" name", "seen", "unfilled", "missing"]
            .map(|name| (named(name), Detail::Columns))
            .into();
        let seen = profiles(&connector, &mut client, Place::Live, &wanted, &|_, _, _| {}).unwrap();
        assert_eq!(seen.len(), 2, "what cannot be read is left out");
        assert_eq!(seen[&named("seen")].rows, 10);
        let table = &seen[&named("odd \" name")];
        assert_eq!(table.rows, 100);
        let column = |name: &str| table.column(name).unwrap();
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
        assert_eq!(
            (column("id").nullable, column("id").distinct),
            (false, Some(100))
        );
        assert_eq!(column("amount").nulls, 25);
        assert_eq!(column("note").distinct, Some(3));
        assert_eq!(column("bad").values, None, "a NaN is in it");
        assert_eq!(
            column("at").values,
            Some(Values::Moments {
                first: "2026-01-01 00:00:00".to_owned(),
                last: "2026-04-10 00:00:00".to_owned()
            })
        );
        assert_eq!(
            column("zoned").values,
            Some(Values::Moments {
                first: "2026-01-01 10:00:00+00".to_owned(),
                last: "2026-01-01 10:00:00+00".to_owned()
            })
        );
        let counted = [(named("seen"), Detail::Rows)].into();
        let seen = profiles(
            &connector,
            &mut client,
            Place::Live,
            &counted,
            &|_, _, _| {},
        )
        .unwrap();
        assert_eq!(seen[&named("seen")].rows, 10);
    }
}
