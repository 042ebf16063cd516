//! The table of restore points that the dbt package in `dbt/unship` keeps in the warehouse: read, and
//! written to.

use crate::context::Context;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use unship_core::engine::{Engine, EngineError, ErrorKind, Place, ReleaseRecord};
use unship_core::estate;
use unship_core::ident::RelationName;
use unship_core::release::Release;
use unship_core::value::Value as Cell;
use unship_engines::quote;
use unship_engines::snowflake::plan::ENGINE as SNOWFLAKE;

/// The table's name; the package's macro `restore_points_table` has it, too.
const TABLE: &str = "unship_restore_points";

/// How long the warehouse may think about it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A run of dbt that the package wrote down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Its id: dbt's invocation.
    pub restore_point: String,
    /// The dbt target that it built.
    pub target: Option<String>,
    /// What was run.
    pub job: Option<String>,
    /// The commit, where it was told.
    pub code: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; nothing is known of one that was killed.
    pub ended_at: Option<Timestamp>,
    /// `running`, `good`, `failed` or `rolled back`.
    pub outcome: String,
}

/// The newest runs that dbt recorded itself, the newest first; none where `[dbt]` names no schema for
/// them. What unship recorded there is a release.
///
/// # Errors
/// The warehouse's, and [`ErrorKind::Corrupt`] where the table holds what the package does not write.
pub fn recorded(
    context: &Context,
    engine: &mut dyn Engine,
    limit: usize,
) -> Result<Vec<Recorded>, EngineError> {
    let dbt = context.config.dbt.as_ref();
    let Some(schema) = dbt.and_then(|dbt| dbt.restore_points.as_deref()) else {
        return Ok(Vec::new());
    };
    if engine.capabilities().engine == estate::ENGINE {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT restore_point, target, job, code, CAST(started_at AS VARCHAR(40)), \
         CAST(ended_at AS VARCHAR(40)), outcome FROM {} WHERE recorded_by = 'dbt' \
         ORDER BY started_at DESC",
        table(engine, schema)
    );
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let answer = engine.query(Place::Live, &sql, limit, PATIENCE)?;
    let read = |row: Vec<Cell>| {
        let [restore_point, target, job, code, started, ended, outcome] =
            <[Option<String>; 7]>::try_from(row.into_iter().map(text).collect::<Vec<_>>()).ok()?;
        Some(Recorded {
            restore_point: restore_point?,
            target,
            job,
            code,
            started_at: moment(&started?)?,
            ended_at: ended.as_deref().and_then(moment),
            outcome: outcome?,
        })
    };
    let rows = answer.rows.into_iter().map(read);
    rows.collect::<Option<Vec<_>>>().ok_or_else(|| {
        let text = format!("{schema}.{TABLE} holds what the dbt package does not write");
        EngineError::new(ErrorKind::Corrupt, text)
    })
}

/// Records a release there too, so that the package goes back from it as from a run of its own.
/// Where dbt's package has no table, or the warehouse is one file, nothing is recorded.
///
/// # Errors
/// The warehouse's.
pub fn record(
    schema: &str,
    engine: &mut dyn Engine,
    release: &Release,
    changed: impl Iterator<Item = RelationName>,
) -> Result<(), EngineError> {
    let places: BTreeSet<_> = changed.map(|name| (name.database, name.schema)).collect();
    let places = places.into_iter();
    let places = places.map(|(database, schema)| json!({"database": database, "schema": schema}));
    let now = Timestamp::now();
    let ago = |at: Timestamp| now.duration_since(at).unsigned_abs();
    let record = ReleaseRecord {
        // The package puts its beginning into names of schemas.
        id: format!("{}_{}", release.id, release.env)
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_"),
        env: release.env.clone(),
        job: format!("unship {}", release.operation.word()),
        commit: release.code.as_ref().map(|code| code.commit.clone()),
        schemas: Value::from_iter(places).to_string(),
        began: ago(release.opened),
        ended: ago(release.closed.unwrap_or(now)),
    };
    engine.record_release(schema, &record)?;
    Ok(())
}

/// The table as the warehouse's SQL names it.
fn table(engine: &mut dyn Engine, schema: &str) -> String {
    // dbt writes names without quotes there, which then are in capitals.
    let folds = engine.capabilities().engine == SNOWFLAKE;
    let name = |name: &str| match folds {
        true => quote::name(&name.to_uppercase()),
        false => quote::name(name),
    };
    format!("{}.{}", name(schema), name(TABLE))
}

fn text(value: Cell) -> Option<String> {
    match value {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

fn moment(text: &str) -> Option<Timestamp> {
    let civil: DateTime = text.parse().ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_each_warehouse_writes_them() {
        let at: Timestamp = "2026-11-22T04:14:58.302Z".parse().unwrap();
        assert_eq!(moment("2026-11-22 04:14:58.302"), Some(at));
        assert_eq!(moment("2026-11-22 04:14:58.302000"), Some(at));
        assert_eq!(moment("yesterday"), None);
    }
}
