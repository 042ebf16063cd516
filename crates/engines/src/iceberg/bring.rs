//! Brings over to what comes back what others added to what is live, by an engine that writes.
//!
//! It works on a branch that begins at the snapshot that comes back, and puts into it the rows of each
//! run of others' commits, a commit for a run. What it made is looked at before it is planned: that
//! branch must lead back to where it began, and each of its commits must have added exactly as many
//! rows as those that it stands for. Production then goes to its head at once.

use super::act::Hands;
use super::branch::Branch;
use super::keep::{Brought, Keep, Run};
use super::look;
use super::name;
use super::plan::Survey;
use super::rest::{LoadTable, Snapshots, TableMetadata};
use super::rows::{self, Sql};
use super::state::{self, TableState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use unship_core::engine::{EngineError, ErrorKind, RestoreRequest};
use unship_core::fault::boundary;
use unship_core::ident::RelationName;
use unship_core::relation::RelationState;

/// What came of one table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct With {
    /// The branch.
    pub branch: String,
    /// Its head.
    pub head: i64,
    /// What the table will be.
    pub after: RelationState,
    /// What the table says afterwards of what was brought over.
    pub says: String,
}

fn error(kind: ErrorKind, text: String) -> EngineError {
    EngineError::new(kind, text)
}

/// Others were faster than the engine that brings their rows over.
fn moved_on(name: &RelationName) -> EngineError {
    let text = format!("somebody committed to {name} while what others wrote was brought over");
    error(ErrorKind::Conflict, text).hint(
        "what commits more often than this takes is stopped for it, or goes with `--others \
         set-aside`",
    )
}

/// Brings over what is asked for, and adds what came of it to what planning knows. Whatever fails,
/// production is as it was, and no branch of this is left but where nobody could take it away.
pub fn over(
    hands: &Hands<'_>,
    sql: Option<&Sql>,
    request: &RestoreRequest,
    survey: &mut Survey,
) -> Result<(), EngineError> {
    let mut asked = BTreeMap::new();
    for (name, keep) in &request.keep {
        let keep = Keep::deserialize(keep).map_err(|e| {
            error(
                ErrorKind::Io,
                format!("what is kept of {name} cannot be read"),
            )
            .because(e)
        })?;
        asked.insert(name, keep);
    }
    asked.retain(|_, keep| !keep.runs.is_empty());
    if asked.is_empty() {
        return Ok(());
    }
    let sql = sql.ok_or_else(|| {
        let text = "no program is configured that brings rows over";
        error(ErrorKind::Unsupported, text.to_owned())
    })?;
    let tables = loaded(hands, &asked)?;
    let mut works = Vec::new();
    for (name, keep) in &asked {
        let wanted = request.bring.get(*name).and_then(|v| v.state.as_ref());
        let table = tables.get(*name).ok_or_else(|| moved_on(name))?;
        works.push(Work::of(name, keep, wanted, table)?);
    }
    let mut statements = Vec::new();
    for work in &works {
        statements.extend(work.statements()?);
    }
    let begun = || {
        for work in &works {
            work.branch.begin(hands, &work.table.metadata, work.base)?;
        }
        boundary("branches for others' rows made");
        sql.run(&statements, "bring over what others wrote")
    };
    let ran = begun();
    boundary("others' rows brought over");
    let made = ran.and_then(|()| {
        let after = loaded(hands, &asked)?;
        let made = works.iter().map(|work| {
            let table = after.get(work.name).ok_or_else(|| moved_on(work.name))?;
            Ok((work.name.clone(), work.came_of(table)?, Arc::clone(table)))
        });
        made.collect::<Result<Vec<_>, EngineError>>()
    });
    match made {
        Ok(made) => {
            for (name, with, table) in made {
                survey.tables.insert(name.clone(), table);
                survey.brought.push((name, with));
            }
            Ok(())
        }
        Err(error) => {
            for work in &works {
                // One that stays is removed by the next that works there, and is in nobody's way.
                let _ = work.branch.remove(hands);
            }
            Err(error)
        }
    }
}

fn loaded(
    hands: &Hands<'_>,
    asked: &BTreeMap<&RelationName, Keep>,
) -> Result<BTreeMap<RelationName, Arc<LoadTable>>, EngineError> {
    let ids: Vec<_> = asked
        .keys()
        .filter_map(|name| name::identifier(name))
        .collect();
    let on = &|_: &str, _, _| ();
    let seen = look::some(hands.client, hands.scope.catalog, &ids, Snapshots::All, on)?;
    Ok(seen.tables)
}

/// What is done to one table.
struct Work<'a> {
    name: &'a RelationName,
    keep: &'a Keep,
    wanted: &'a RelationState,
    table: &'a Arc<LoadTable>,
    /// The columns' names.
    columns: Vec<String>,
    /// Whether one of them holds a map, which Spark cannot put into an order.
    maps: bool,
    /// The snapshot that comes back.
    base: i64,
    branch: Branch<'a>,
}

impl<'a> Work<'a> {
    fn of(
        name: &'a RelationName,
        keep: &'a Keep,
        wanted: Option<&'a RelationState>,
        table: &'a Arc<LoadTable>,
    ) -> Result<Self, EngineError> {
        let unknown = || {
            let text = format!("what {name} was is not known as a table's state");
            error(ErrorKind::Unsupported, text)
        };
        let wanted = wanted.ok_or_else(unknown)?;
        let then = TableState::read(wanted).ok_or_else(unknown)?;
        let metadata = &table.metadata;
        if state::current(metadata) != keep.main || metadata.table_uuid != then.uuid {
            return Err(moved_on(name));
        }
        let base = then.snapshot.ok_or_else(unknown)?;
        look::snapshot_readable(&name.to_string(), metadata, base)?;
        let fields = then.schema.get("fields").and_then(Value::as_array);
        let fields = fields.into_iter().flatten();
        let columns = fields.filter_map(|field| field.get("name")?.as_str());
        Ok(Self {
            name,
            keep,
            wanted,
            table,
            columns: columns.map(str::to_owned).collect(),
            maps: has_map(&then.schema),
            base,
            branch: Branch::new(name, metadata),
        })
    }

    /// What the engine does, as Spark writes it.
    fn statements(&self) -> Result<Vec<String>, EngineError> {
        let unnamed = || {
            let text = format!("{} has no name in Spark", self.name);
            error(ErrorKind::Unsupported, text)
        };
        let table = rows::table(self.name).ok_or_else(unnamed)?;
        let branch = rows::on_branch(&table, &self.branch.name);
        let columns: Vec<_> = self.columns.iter().map(|c| rows::quoted(c)).collect();
        let columns = columns.join(", ");
        // A session that was there before the branch may remember the table without it.
        let mut out = vec![format!("REFRESH TABLE {table}")];
        for (n, run) in self.keep.runs.iter().enumerate() {
            let (_, last) = run.ends().ok_or_else(unnamed)?;
            let of: Vec<_> = run.commits.iter().map(i64::to_string).collect();
            // Spark compares old and new rows for what changed, and reads only files that were added;
            // it cannot where files delete rows or where rows have no order, nor can a name with
            // quotation marks be given to it safely. All of the table is read then.
            if run.plain && !self.maps && !table.contains(['\'', '\\']) {
                let view = format!("{}_{n}", self.branch.name);
                out.push(format!(
                    "CALL {}.system.create_changelog_view(table => '{table}', changelog_view => \
                     '{view}', options => map('start-snapshot-id', '{}', 'end-snapshot-id', \
                     '{last}'))",
                    rows::quoted(&self.name.database),
                    run.before
                ));
                out.push(format!(
                    "INSERT INTO {branch} SELECT {columns} FROM {} WHERE _change_type = 'INSERT'",
                    rows::quoted(&view)
                ));
            } else {
                out.push(format!(
                    "INSERT INTO {branch} SELECT {columns} FROM {table} VERSION AS OF {last} WHERE \
                     _file IN (SELECT data_file.file_path FROM {table}.entries VERSION AS OF {last} \
                     WHERE snapshot_id IN ({}) AND status < 2 AND data_file.content = 0)",
                    of.join(", ")
                ));
            }
        }
        Ok(out)
    }

    /// What the engine made of it.
    fn came_of(&self, table: &LoadTable) -> Result<With, EngineError> {
        let metadata = &table.metadata;
        if state::current(metadata) != self.keep.main
            || metadata.table_uuid != self.table.metadata.table_uuid
        {
            return Err(moved_on(self.name));
        }
        let snapshots = self.on_branch(metadata)?;
        let head = snapshots.last().copied().unwrap_or(self.base);
        let mut there = table.clone();
        if let Some(main) = there.metadata.refs.get_mut("main") {
            main.snapshot_id = head;
        }
        there.metadata.current_snapshot_id = Some(head);
        let there = look::table_state(self.name, &there)?;
        let unwritten = |e| {
            let text = format!("what was brought over to {} cannot be noted", self.name);
            error(ErrorKind::Io, text).because(e)
        };
        let before = Brought::of(metadata).map_err(|why| error(ErrorKind::Corrupt, why))?;
        Ok(With {
            branch: self.branch.name.clone(),
            head,
            after: RelationState {
                rows: there.rows,
                fingerprint: there.fingerprint,
                storage: there.storage,
                ..self.wanted.clone()
            },
            says: before
                .with(&self.keep.runs, &snapshots, metadata)
                .map_err(unwritten)?,
        })
    }

    /// The commits on the branch, the oldest first: one for each run, with as many rows.
    fn on_branch(&self, metadata: &TableMetadata) -> Result<Vec<i64>, EngineError> {
        let wrong = |what: String| {
            let text = format!("the branch {} of {} {what}", self.branch.name, self.name);
            error(ErrorKind::Refused, text).hint(
                "production is as it was. `--others set-aside` goes back without what others wrote, \
                 and keeps it under a tag",
            )
        };
        let head = metadata.refs.get(&self.branch.name);
        let head = head.ok_or_else(|| wrong("was removed while it was written to".to_owned()))?;
        let mut at = head.snapshot_id;
        let mut out = Vec::new();
        for run in self.keep.runs.iter().rev() {
            let snapshot = metadata.snapshots.iter().find(|s| s.snapshot_id == at);
            let found = snapshot.filter(|_| at != self.base);
            let Some((snapshot, parent)) = found.and_then(|s| Some((s, s.parent_snapshot_id?)))
            else {
                return Err(wrong(format!(
                    "has fewer commits than the {} that were to come",
                    self.keep.runs.len()
                )));
            };
            let told = |key: &str| snapshot.summary.get(key).map(String::as_str);
            let added = told("added-records").unwrap_or("0");
            if told("operation") != Some("append") || added != run.rows.to_string() {
                return Err(wrong(format!(
                    "got {added} rows ({}) where others had added {}",
                    told("operation").unwrap_or("changed"),
                    words(run)
                )));
            }
            out.push(at);
            at = parent;
        }
        if at != self.base {
            return Err(wrong(
                "does not lead back to where it began: somebody else wrote to it".to_owned(),
            ));
        }
        out.reverse();
        Ok(out)
    }
}

fn words(run: &Run) -> String {
    match run.commits.as_slice() {
        [one] => format!("{} by the commit {one}", run.rows),
        all => format!("{} by {} commits", run.rows, all.len()),
    }
}

/// Whether a type has a map in it.
fn has_map(of: &Value) -> bool {
    match of {
        Value::Object(map) => {
            map.get("type").and_then(Value::as_str) == Some("map") || map.values().any(has_map)
        }
        Value::Array(all) => all.iter().any(has_map),
        _ => false,
    }
}
