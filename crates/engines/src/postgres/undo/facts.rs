//! What is true of a table's undo log, as plans ask for it.

use super::home;
use crate::postgres::error::Doing;
use crate::postgres::swap::Name;
use postgres::Client;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::ReleaseId;
use unship_core::plan::Fact;

/// Which guard writes a table's changes down: of which table, and which of its logs.
pub fn guarded(at: &Name, relation: u32, guard: i64) -> Fact {
    let subject = serde_json::json!([at.schema, at.name]);
    Fact::new(format!("undo {subject}"), format!("{relation} {guard}"))
}

/// Whether a table was brought back for a release.
pub fn back(guard: i64, release: ReleaseId, done: bool) -> Fact {
    let subject = serde_json::json!([guard.to_string(), release.to_string()]);
    let is = if done { "yes" } else { "no" };
    Fact::new(format!("back {subject}"), is)
}

/// Answers what is asked of undo logs, and has the rest answered.
pub fn with(
    client: &mut Client,
    subjects: &[&str],
    others: impl FnOnce(&mut Client, &[&str]) -> Result<Vec<String>, EngineError>,
) -> Result<Vec<String>, EngineError> {
    let ours = |subject: &&str| subject.starts_with("undo ") || subject.starts_with("back ");
    let rest: Vec<&str> = subjects.iter().filter(|s| !ours(s)).copied().collect();
    let mut rest = match rest.is_empty() {
        true => Vec::new(),
        false => others(client, &rest)?,
    }
    .into_iter();
    let mut out = Vec::new();
    for subject in subjects {
        out.push(match ours(subject) {
            true => answer(client, subject)?,
            false => rest.next().unwrap_or_default(),
        });
    }
    Ok(out)
}

fn answer(client: &mut Client, subject: &str) -> Result<String, EngineError> {
    const WHAT: &str = "look at the undo log";
    let unknown = || {
        let text = format!("the plan asks for {subject:?}");
        EngineError::new(ErrorKind::Unsupported, text).hint("it may come from a newer unship")
    };
    let (what, of) = subject.split_once(' ').ok_or_else(unknown)?;
    let [one, other]: [String; 2] = serde_json::from_str(of).map_err(|_| unknown())?;
    if !home::there(client)? {
        return Ok("no".to_owned());
    }
    let sql = match what {
        "undo" => {
            "SELECT coalesce((SELECT concat(g.relation, ' ', g.id) FROM unship_undo.guards g
                 JOIN pg_class c ON c.oid = g.relation JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE g.ended IS NULL AND n.nspname = $1 AND c.relname = $2), 'no')"
        }
        _ => {
            "SELECT CASE WHEN EXISTS (SELECT FROM unship_undo.changes c WHERE c.guard = $1::text::bigint
                 AND c.op = 'back' AND c.release = $2) THEN 'yes' ELSE 'no' END"
        }
    };
    let row = client.query_one(sql, &[&one, &other]).doing(WHAT)?;
    row.try_get(0).doing(WHAT)
}
