//! Health and rights, as `unship doctor` tells them.

use super::catalog;
use super::engine::Snowflake;
use super::level::Level as Exchanged;
use super::rights;
use super::session::{cell, text};
use super::sql;
use unship_core::engine::{Diagnosis, EngineError, Level};
use unship_core::relation::RelationKind;

/// How many missing rights are told at once.
const MOST: usize = 50;

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
    match lacking(engine, &role, get(2).as_deref()) {
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
    let publishing = match engine.level {
        Exchanged::Table => {
            "each table is swapped by itself: readers may see relations of two releases meanwhile"
        }
        Exchanged::Schema => {
            "a schema is swapped whole where a release replaces all that is in it, and otherwise \
             table by table: readers may see schemas or relations of two releases meanwhile"
        }
    };
    out.push(line(Level::Note, "publishing", publishing.to_owned(), None));
    out
}

/// A right that is needed: the privilege, on what sort of thing, its name in parts, what for.
struct Need<'a> {
    privilege: &'static str,
    on: &'static str,
    name: Vec<&'a str>,
    why: &'static str,
    level: Level,
}

/// Each right that is missing, with the statement that gives it.
fn lacking(
    engine: &Snowflake,
    role: &str,
    warehouse: Option<&str>,
) -> Result<Vec<Diagnosis>, EngineError> {
    let session = &engine.session;
    let database = session.database();
    let rights = rights::of(session, role)?;
    let all = catalog::schemas(session)?;
    let scope = catalog::production(&all, &engine.guarded);
    let there = catalog::load(session, &scope, catalog::Extent::Names)?;
    let need = |privilege, on, name, why| Need {
        privilege,
        on,
        name,
        why,
        level: Level::Error,
    };
    let mut needs = vec![
        need("USAGE", "DATABASE", vec![database], "to see what is in it"),
        need(
            "CREATE SCHEMA",
            "DATABASE",
            vec![database],
            "for staging and retained versions",
        ),
    ];
    if let Some(warehouse) = warehouse {
        needs.push(need("USAGE", "WAREHOUSE", vec![warehouse], "to read rows"));
    }
    let unseen = engine.guarded.iter().filter(|schema| !all.contains(schema));
    for schema in scope.iter().chain(unseen) {
        for (privilege, why) in [
            ("USAGE", "to see what is in it"),
            ("CREATE TABLE", "to move tables into it"),
            ("CREATE VIEW", "to put views in place"),
        ] {
            needs.push(need(privilege, "SCHEMA", vec![database, schema], why));
        }
        if engine.level == Exchanged::Schema {
            needs.push(Need {
                level: Level::Warning,
                ..need(
                    "OWNERSHIP",
                    "SCHEMA",
                    vec![database, schema],
                    "to exchange it whole; without, it is exchanged table by table",
                )
            });
        }
    }
    for (at, relation) in &there {
        if relation.owner.as_deref() != Some(role) {
            needs.push(Need {
                level: Level::Note,
                ..need(
                    "OWNERSHIP",
                    if relation.kind == RelationKind::View {
                        "VIEW"
                    } else {
                        "TABLE"
                    },
                    vec![&at.database, &at.schema, &at.name],
                    "should a release replace it; what nobody releases needs none",
                )
            });
        }
    }
    let missing: Vec<&Need<'_>> = needs
        .iter()
        .filter(|need| !rights.has(need.privilege, need.on, &need.name))
        .collect();
    let mut out: Vec<Diagnosis> = missing
        .iter()
        .take(MOST)
        .map(|need| {
            let full: Vec<String> = need.name.iter().map(|part| sql::name(part)).collect();
            let full = full.join(".");
            let give = match need.privilege {
                "OWNERSHIP" => sql::give_ownership(need.on, &full, role),
                privilege => sql::give(privilege, need.on, &full, role),
            };
            line(
                need.level,
                &format!("{} {}", need.on.to_lowercase(), need.name.join(".")),
                format!("the role {role} lacks {}, {}", need.privilege, need.why),
                Some(give),
            )
        })
        .collect();
    if missing.len() > MOST {
        out.push(line(
            Level::Note,
            "rights",
            format!("{} more are missing", missing.len() - MOST),
            Some("give these first, and run `unship doctor` again".to_owned()),
        ));
    }
    Ok(out)
}
