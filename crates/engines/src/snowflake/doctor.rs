//! Health and rights, as `unship doctor` tells them.

use super::catalog;
use super::engine::Snowflake;
use super::session::{Session, cell, text};
use super::sql;
use std::collections::BTreeSet;
use unship_core::engine::{Diagnosis, EngineError, Level};

fn line(level: Level, subject: &str, finding: String, hint: Option<String>) -> Diagnosis {
    Diagnosis {
        level,
        subject: subject.to_owned(),
        finding,
        hint,
    }
}

/// Looks at the session and at what its role may do.
pub fn examine(engine: &Snowflake) -> Vec<Diagnosis> {
    let session = &engine.session;
    let place = session.client().settings().place();
    let rows = match session.rows(&sql::session(), "reach Snowflake") {
        Ok(rows) => rows,
        Err(error) => {
            return vec![line(Level::Error, &place, error.message, error.hint)];
        }
    };
    let row = rows.into_iter().next().unwrap_or_default();
    let get = |n| text(cell(&row, n));
    let role = get(0).unwrap_or_default();
    let version = get(1).unwrap_or_default();
    let mut out = vec![line(
        Level::Ok,
        &place,
        format!("is reached as the role {role}; Snowflake {version}"),
        None,
    )];
    if get(2).is_none() {
        out.push(line(
            Level::Error,
            "warehouse",
            "none is set, and reading rows needs one".to_owned(),
            Some("name one in the dbt target that this environment uses".to_owned()),
        ));
    }
    match rights(session, &role, &engine.guarded) {
        Ok(more) => out.extend(more),
        Err(error) => out.push(line(Level::Error, "rights", error.message, error.hint)),
    }
    out.push(line(
        Level::Warning,
        "preview",
        "unship has never met a real account of Snowflake: it was tested on a stand-in only"
            .to_owned(),
        Some("try it on a copy of your database first, and tell what you find".to_owned()),
    ));
    out.push(line(
        Level::Note,
        "publishing",
        "each table is swapped by itself: readers may see relations of two releases meanwhile"
            .to_owned(),
        None,
    ));
    out
}

/// Each right that is missing, with the statement that gives it.
fn rights(
    session: &Session,
    role: &str,
    guarded: &BTreeSet<String>,
) -> Result<Vec<Diagnosis>, EngineError> {
    let database = session.database();
    let all = catalog::schemas(session)?;
    let mut out = Vec::new();
    for schema in guarded.iter().filter(|schema| !all.contains(schema)) {
        out.push(line(
            Level::Error,
            &format!("schema {schema}"),
            "is not there, or the role may not see it".to_owned(),
            Some(sql::grant_usage(database, schema, role)),
        ));
    }
    let what = format!("see what the role {role} may do with the database {database}");
    let held: BTreeSet<String> = session
        .named(&sql::show_database_grants(database), &what)?
        .iter()
        .filter(|row| row.text("grantee_name").as_deref() == Some(role))
        .filter_map(|row| row.text("privilege"))
        .collect();
    if !held.contains("CREATE SCHEMA") && !held.contains("OWNERSHIP") {
        out.push(line(
            Level::Warning,
            &format!("database {database}"),
            format!(
                "the role {role} has no CREATE SCHEMA of its own, which staging and retained \
                 versions need"
            ),
            Some(sql::grant_create_schema(database, role)),
        ));
    }
    let scope = catalog::production(&all, guarded);
    let there = catalog::load(session, &scope, catalog::Extent::Names)?;
    let foreign: Vec<String> = there
        .iter()
        .filter(|(_, r)| r.owner.as_deref().is_some_and(|owner| owner != role))
        .map(|(at, r)| format!("{at} ({})", r.owner.as_deref().unwrap_or_default()))
        .collect();
    if !foreign.is_empty() {
        out.push(line(
            Level::Note,
            "owners",
            format!(
                "belong to other roles, and are not exchanged for what {role} builds: {}",
                foreign.join(", ")
            ),
            Some("build and release with the role that owns them".to_owned()),
        ));
    }
    Ok(out)
}
