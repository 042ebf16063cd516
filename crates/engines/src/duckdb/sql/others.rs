//! Rows that others added to a table since it was published. DuckDB adds rows at a table's end and
//! keeps their order, so that they are the ones behind as many as were published; that those still are
//! what was published, says the fingerprint.

use super::super::worker::{Worker, WorkerError};
use super::fingerprint::{columns, fingerprint_of, in_utc};
use super::quote;
use super::rows::fitted;
use serde::{Deserialize, Serialize};
use unship_core::engine::EngineError;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::others::{Replay, Written};
use unship_core::relation::{Fingerprint, RelationState};
use unship_core::rows::exchanged;
use unship_core::value::Value;

/// How rows that others added are put into an older version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The columns that are written, each with what it gets.
    pub written: Vec<(String, String)>,
    /// Which rows of the table as it is now: the place behind which they are.
    pub behind: i64,
    /// The keys of the older version, by their columns.
    pub keys: Vec<Vec<String>>,
    /// What the relation is then.
    pub after: Fingerprint,
}

/// How many conflicts are named.
const NAMED: usize = 5;

/// Looks at what others wrote to `live` since it was `published`. `older` is the version that is to
/// come back, as it was recorded, where it is there.
pub fn written(
    worker: &mut Worker,
    live: &RelationName,
    published: &RelationState,
    older: Option<(&RelationName, &RelationState)>,
    from: ReleaseId,
) -> Result<Option<Written>, EngineError> {
    let Some(then) = &published.fingerprint else {
        return Ok(None);
    };
    let now = columns(worker, live)?;
    let names = |columns: &[unship_core::relation::Column]| -> Vec<String> {
        columns.iter().map(|c| c.name.clone()).collect()
    };
    let none = |keep: &str| Written {
        added: 0,
        lost: 0,
        writers: Vec::new(),
        keep: Err(keep.to_owned()),
    };
    if names(&now) != names(&published.columns) {
        return Ok(Some(none("others changed its columns")));
    }
    let full = quote::full(live);
    let last = worker.texts(
        &format!(
            "SELECT CAST(coalesce(max(place), -1) AS VARCHAR) FROM (SELECT rowid AS place FROM {full} \
             ORDER BY rowid LIMIT {})",
            then.rows
        ),
        &[],
    )?;
    let last = last.into_iter().flatten().flatten().next();
    let Some(behind) = last.and_then(|text| text.parse::<i64>().ok()) else {
        return Ok(None);
    };
    let part = |worker: &mut Worker, which: &str| {
        let from = format!("(SELECT * FROM {full} WHERE rowid {which} {behind})");
        in_utc(worker, |worker| fingerprint_of(worker, &from, &now))
    };
    let left = part(worker, "<=")?;
    if left.method != then.method {
        return Ok(None);
    }
    let added = part(worker, ">")?;
    if left != *then {
        // Which rows are theirs cannot be told where rows before them went or changed.
        let mut out = none(
            "others changed or deleted rows of the release, and what these were is not retained",
        );
        out.lost = then.rows.saturating_sub(left.rows).max(1);
        return Ok(Some(out));
    }
    let keep = match older {
        None => Err("there is no such relation in the release gone back to".to_owned()),
        Some((older, state)) => replay(worker, live, older, state, behind, from)?,
    };
    Ok(Some(Written {
        added: added.rows,
        lost: 0,
        writers: Vec::new(),
        keep,
    }))
}

fn replay(
    worker: &mut Worker,
    live: &RelationName,
    older: &RelationName,
    state: &RelationState,
    behind: i64,
    from: ReleaseId,
) -> Result<Result<Replay, String>, EngineError> {
    let fit = match fitted(worker, older, live, from) {
        Ok(fit) => fit,
        Err(error) => return Ok(Err(error.message)),
    };
    let then = columns(worker, older)?;
    let keys = keys(worker, older)?;
    let coming = fit.select(&format!("{} WHERE rowid > {behind}", quote::full(live)));
    let clash = clash(&keys, older);
    let more = in_utc(worker, |worker| {
        let free = format!("(SELECT c.* FROM ({coming}) c WHERE NOT ({clash}))");
        fingerprint_of(worker, &free, &then)
    })?;
    let nothing = Fingerprint {
        rows: 0,
        whole: "0".to_owned(),
        columns: more
            .columns
            .keys()
            .map(|c| (c.clone(), "0".to_owned()))
            .collect(),
        ..more.clone()
    };
    let whole = state.fingerprint.as_ref();
    let Some(after) = whole.and_then(|whole| exchanged(whole, &nothing, &more)) else {
        return Ok(Err(
            "it is not known what the older version holds".to_owned()
        ));
    };
    let mut conflicts = Vec::new();
    let mut conflicting = 0;
    if let Some(key) = keys.first() {
        let cells: Vec<_> = key
            .iter()
            .map(|c| {
                format!(
                    "{} || CAST(c.{} AS VARCHAR)",
                    quote::text(&format!("{c} ")),
                    quote::name(c)
                )
            })
            .collect();
        let rows = worker.texts(
            &format!(
                "SELECT concat_ws(', ', {}) FROM ({coming}) c WHERE {clash} ORDER BY 1",
                cells.join(", ")
            ),
            &[],
        )?;
        conflicting = rows.len() as u64;
        conflicts = rows.into_iter().flatten().flatten().take(NAMED).collect();
    }
    let added = Added {
        written: fit.written,
        behind,
        keys,
        after: after.clone(),
    };
    let engine = serde_json::to_value(added).unwrap_or_default();
    Ok(Ok(Replay {
        rows: more.rows,
        conflicts,
        conflicting,
        after: Some(RelationState {
            rows: Some(after.rows),
            fingerprint: Some(after),
            storage: None,
            ..state.clone()
        }),
        engine,
    }))
}

/// Whether a row `c` has a key that a row of a relation has.
fn clash(keys: &[Vec<String>], relation: &RelationName) -> String {
    let one = |key: &Vec<String>| {
        let same = key.iter().map(|c| {
            let c = quote::name(c);
            format!("o.{c} = c.{c}")
        });
        let same: Vec<_> = same.collect();
        let full = quote::full(relation);
        format!(
            "EXISTS (SELECT 1 FROM {full} o WHERE {})",
            same.join(" AND ")
        )
    };
    match keys {
        [] => "false".to_owned(),
        keys => keys.iter().map(one).collect::<Vec<_>>().join(" OR "),
    }
}

/// The columns of each key of a table.
fn keys(worker: &mut Worker, relation: &RelationName) -> Result<Vec<Vec<String>>, WorkerError> {
    let text = |text: &str| Value::Text(text.to_owned());
    let rows = worker.texts(
        "SELECT CAST(to_json(constraint_column_names) AS VARCHAR) FROM duckdb_constraints() \
         WHERE database_name = ? AND schema_name = ? AND table_name = ? \
         AND constraint_type IN ('PRIMARY KEY', 'UNIQUE') ORDER BY constraint_index",
        &[
            text(&relation.database),
            text(&relation.schema),
            text(&relation.name),
        ],
    )?;
    rows.into_iter()
        .flatten()
        .flatten()
        .map(|json| {
            serde_json::from_str(&json)
                .map_err(|_| WorkerError::Garbled("a key without columns".to_owned()))
        })
        .collect()
}

/// Puts the rows that others added to `now` into `relation`, which is the older version.
pub fn put(
    worker: &mut Worker,
    relation: &RelationName,
    now: &RelationName,
    added: &Added,
) -> Result<(), WorkerError> {
    let names = quote::names(added.written.iter().map(|(column, _)| column.as_str()));
    let cells: Vec<_> = added
        .written
        .iter()
        .map(|(column, cell)| format!("{cell} AS {}", quote::name(column)))
        .collect();
    let sql = format!(
        "INSERT INTO {} ({names}) SELECT {names} FROM (SELECT {} FROM {} WHERE rowid > {}) c \
         WHERE NOT ({})",
        quote::full(relation),
        cells.join(", "),
        quote::full(now),
        added.behind,
        clash(&added.keys, relation)
    );
    in_utc(worker, |worker| worker.execute(&sql, &[]))
}
