//! Some rows of an older version in place of others.
//!
//! unship reads and writes no rows of a lake; an engine does that speaks Spark's SQL. It works on a
//! branch that begins where production is, and that no reader looks at: what it makes is looked at
//! before it is planned, and becomes production by the same commit over all tables as any other
//! version. What an engine leaves half done is never production.

use super::act::Hands;
use super::branch::Branch;
use super::look;
use super::name;
use super::plan::{self, Survey};
use super::rest::{LoadTable, TableMetadata};
use super::state::{self, TableState};
use super::survey;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use unship_core::engine::{EngineError, ErrorKind, OnProgress, RestoreRequest, Steps};
use unship_core::fault::boundary;
use unship_core::ident::RelationName;
use unship_core::release::{Version, VersionId};
use unship_core::rows::{Pair, Rows, RowsRequest, RowsSurvey, Slice};

/// The most commits that an engine may need for it: one takes rows away, one puts others in.
const COMMITS: usize = 2;

/// How many lines of a program's complaint are passed on.
const TOLD: usize = 5;

/// A program that carries out statements in Spark's SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sql {
    /// The program and its arguments. It reads statements from standard input, each ended by a
    /// semicolon at a line's end, and fails where one of them fails.
    pub command: Vec<String>,
    /// Where it is started.
    pub directory: PathBuf,
}

fn unsupported(text: impl Into<String>) -> EngineError {
    EngineError::new(ErrorKind::Unsupported, text)
}

fn refused(text: String) -> EngineError {
    EngineError::new(ErrorKind::Refused, text)
}

/// Lets the rows change places on a branch of each table, and looks at what came of it.
pub fn survey(
    hands: &Hands<'_>,
    sql: Option<&Sql>,
    request: &RowsRequest,
    on: OnProgress<'_>,
) -> Result<RowsSurvey, EngineError> {
    let sql = sql.ok_or_else(|| {
        unsupported(
            "rows of Iceberg tables are exchanged by an engine that writes them, and none is \
             configured",
        )
        .hint(
            "add a program that carries out Spark SQL to the environment, as in \
             `sql = [\"spark-sql\", \"-f\", \"/dev/stdin\"]`; or leave the choice of rows out",
        )
    })?;
    let (column, value) = chosen(request)?;
    let names = request.relations.keys().cloned().collect();
    let before = survey::whole(hands, &names)?;
    let mut works = Vec::new();
    for (relation, pair) in &request.relations {
        let table = before.tables.get(relation).ok_or_else(|| {
            let text = format!("{relation} is no table in the catalog now");
            EngineError::new(ErrorKind::Missing, text)
        })?;
        works.push(Work::of(relation, table, pair, column)?);
    }
    let mut statements = Vec::new();
    for work in &works {
        work.branch.begin(hands, &work.table.metadata, work.base)?;
        statements.extend(work.statements(column, value)?);
    }
    boundary("branches for rows made");
    on("exchanging rows", 0, statements.len() as u64);
    let ran = sql.run(&statements, "exchange the rows");
    boundary("rows exchanged");
    let made = ran.and_then(|()| {
        let after = survey::whole(hands, &names)?;
        let slices = works.iter().map(|work| {
            let table = after.tables.get(work.relation).ok_or_else(|| work.gone())?;
            Ok((work.relation.clone(), work.slice(table)?))
        });
        let slices = slices.collect::<Result<BTreeMap<_, _>, EngineError>>()?;
        let engine = serde_json::to_value(&after).map_err(|e| {
            EngineError::new(ErrorKind::Io, "the survey of rows cannot be written").because(e)
        })?;
        Ok(RowsSurvey { slices, engine })
    });
    let used = |work: &&Work<'_>| match &made {
        Ok(made) => made.slices.get(work.relation).is_some_and(|s| !s.same),
        Err(_) => false,
    };
    for work in works.iter().filter(|work| !used(work)) {
        // One that stays is removed by the next exchange, and is in nobody's way until then.
        let _ = work.branch.remove(hands);
    }
    made
}

/// The steps that make production of what lies on the branches.
pub fn plan(survey: &RowsSurvey, request: &RowsRequest) -> Result<Steps, EngineError> {
    let seen = Survey::deserialize(&survey.engine)
        .map_err(|e| EngineError::new(ErrorKind::Io, "the survey cannot be read").because(e))?;
    let version = |state: &_| Version {
        id: VersionId {
            release: request.release,
            drift: 0,
        },
        owned: true,
        state: Some(Clone::clone(state)),
    };
    let live = request.relations.iter();
    let bring = survey.slices.iter();
    let restore = RestoreRequest {
        release: request.release,
        live: request.live,
        live_map: live
            .map(|(n, pair)| (n.clone(), pair.now.clone()))
            .collect(),
        bring: bring.map(|(n, s)| (n.clone(), version(&s.after))).collect(),
        remove: Default::default(),
        points: request.points.clone(),
        pinned: Default::default(),
        keep: BTreeMap::new(),
        writer: None,
        built_in_order: Vec::new(),
        spells: BTreeMap::new(),
    };
    let steps = plan::restore(&seen, &restore)?;
    Ok(Steps {
        method: "the chosen rows were exchanged on a branch, which becomes production by a commit"
            .to_owned(),
        ..steps
    })
}

/// The column and the value that say which rows are meant.
fn chosen(request: &RowsRequest) -> Result<(&str, &str), EngineError> {
    let hint = "`--partition COLUMN=VALUE` chooses the rows with a value in a column";
    if request.reconciling.at.is_some() {
        return Err(
            unsupported("Iceberg tables have no undo log to find a moment in")
                .hint("`--to` names the release that the rows come from"),
        );
    }
    match &request.reconciling.rows {
        Rows::Value { column, value } => {
            // Spark reads a backslash in a text in one of two ways, by a setting of the session.
            match value.contains(['\'', '\\', ';']) || value.contains(char::is_control) {
                true => Err(unsupported(format!(
                    "a value with quotation marks, backslashes or semicolons cannot be given to \
                     Spark safely: {value:?}"
                ))),
                false => Ok((column, value)),
            }
        }
        Rows::Where(_) => Err(unsupported(
            "unship cannot tell which rows a predicate of Spark's SQL means",
        )
        .hint(hint)),
        Rows::Partition(_) => {
            Err(unsupported("partitions of Iceberg tables have no names").hint(hint))
        }
    }
}

/// What is done to one table.
struct Work<'a> {
    relation: &'a RelationName,
    table: &'a Arc<LoadTable>,
    /// The snapshot that production is.
    base: i64,
    /// The one that the rows come from.
    then: i64,
    branch: Branch<'a>,
}

impl<'a> Work<'a> {
    fn of(
        relation: &'a RelationName,
        table: &'a Arc<LoadTable>,
        pair: &Pair,
        column: &str,
    ) -> Result<Self, EngineError> {
        let metadata = &table.metadata;
        let read = |version: &Version| version.state.as_ref().and_then(TableState::read);
        let unknown = || {
            unsupported(format!(
                "what {relation} was is not known as a table's state"
            ))
        };
        let (now, then) = (
            read(&pair.now).ok_or_else(unknown)?,
            read(&pair.then).ok_or_else(unknown)?,
        );
        if then.uuid != metadata.table_uuid {
            return Err(refused(format!(
                "{relation} of {} was another table of the same name: it comes back as a whole only",
                pair.then.id
            )));
        }
        let current = state::current(metadata);
        if now.uuid != metadata.table_uuid || now.snapshot != current {
            let text = format!("somebody committed to {relation} just now");
            return Err(EngineError::new(ErrorKind::Busy, text).hint("try again"));
        }
        if then.schema != now.schema {
            return Err(refused(format!(
                "{relation} had other columns in {} than it has now: its rows do not fit",
                pair.then.id
            ))
            .hint("leave the choice of rows out: then the columns come back too"));
        }
        let fields = now.schema.get("fields").and_then(|f| f.as_array());
        let named =
            |field: &&serde_json::Value| field.get("name").and_then(|n| n.as_str()) == Some(column);
        if fields.into_iter().flatten().find(named).is_none() {
            return Err(refused(format!("{relation} has no column {column}")));
        }
        let (Some(base), Some(then)) = (current, then.snapshot) else {
            return Err(refused(format!(
                "{relation} is empty in one of the two versions: it comes back as a whole only"
            )));
        };
        look::snapshot_readable(&relation.to_string(), metadata, then)?;
        Ok(Self {
            relation,
            base,
            then,
            branch: Branch::new(relation, metadata),
            table,
        })
    }

    /// What the engine does, as Spark writes it
    /// (<https://iceberg.apache.org/docs/latest/branching/>).
    fn statements(&self, column: &str, value: &str) -> Result<[String; 2], EngineError> {
        let table = table(self.relation).ok_or_else(|| self.gone())?;
        let branch = on_branch(&table, &self.branch.name);
        let rows = format!("{} = '{value}'", quoted(column));
        Ok([
            format!("DELETE FROM {branch} WHERE {rows}"),
            format!(
                "INSERT INTO {branch} SELECT * FROM {table} VERSION AS OF {} WHERE {rows}",
                self.then
            ),
        ])
    }

    fn gone(&self) -> EngineError {
        let text = format!(
            "{} was dropped while its rows were exchanged",
            self.relation
        );
        EngineError::new(ErrorKind::Busy, text)
    }

    /// What the engine made of it.
    fn slice(&self, table: &Arc<LoadTable>) -> Result<Slice, EngineError> {
        let metadata = &table.metadata;
        let head = metadata
            .refs
            .get(&self.branch.name)
            .map(|head| head.snapshot_id);
        let head = head.ok_or_else(|| {
            refused(format!(
                "the branch {} of {} was removed while its rows were exchanged",
                self.branch.name, self.relation
            ))
        })?;
        let (out, back) = self.exchanged(metadata, head)?;
        let mut after = LoadTable::clone(table);
        if let Some(main) = after.metadata.refs.get_mut("main") {
            main.snapshot_id = head;
        }
        after.metadata.current_snapshot_id = Some(head);
        Ok(Slice {
            out,
            back,
            same: out == 0 && back == 0,
            after: look::table_state(self.relation, &after)?,
            notes: vec![format!(
                "its rows were exchanged on the branch {}",
                self.branch.name
            )],
        })
    }

    /// How many rows went and how many came, by what the commits on the branch say of themselves.
    fn exchanged(&self, metadata: &TableMetadata, head: i64) -> Result<(u64, u64), EngineError> {
        let (mut out, mut back) = (0, 0);
        let mut at = head;
        for _ in 0..=COMMITS {
            if at == self.base {
                return Ok((out, back));
            }
            let snapshot = metadata.snapshots.iter().find(|s| s.snapshot_id == at);
            let Some((snapshot, parent)) = snapshot.and_then(|s| Some((s, s.parent_snapshot_id?)))
            else {
                break;
            };
            let number = |key: &str| -> i64 {
                let said = snapshot.summary.get(key);
                said.and_then(|text| text.parse().ok()).unwrap_or(0)
            };
            // A file that is written again without some of its rows counts on both sides, and so do
            // rows that were deleted in it before.
            let added = number("added-records") - number("added-position-deletes");
            let removed = number("deleted-records") - number("removed-position-deletes");
            match u64::try_from(added - removed) {
                Ok(more) => back += more,
                Err(_) => out += (added - removed).unsigned_abs(),
            }
            at = parent;
        }
        Err(refused(format!(
            "the branch {} of {} does not lead back to what production is in {COMMITS} commits: \
             somebody else wrote to it",
            self.branch.name, self.relation
        )))
    }
}

/// A name as Spark reads it.
pub fn quoted(part: &str) -> String {
    format!("`{}`", part.replace('`', "``"))
}

/// A table's whole name as Spark reads it; `None` if no catalog can have it.
pub fn table(relation: &RelationName) -> Option<String> {
    let namespace = name::parts(&relation.schema)?;
    let parts = std::iter::once(&relation.database)
        .chain(&namespace)
        .chain(std::iter::once(&relation.name));
    let parts: Vec<_> = parts.map(|part| quoted(part)).collect();
    Some(parts.join("."))
}

/// What Spark writes to a branch of a table by.
pub fn on_branch(table: &str, branch: &str) -> String {
    format!("{table}.{}", quoted(&format!("branch_{branch}")))
}

impl Sql {
    /// Carries them out. `what` is what they do, for a person (`exchange the rows`).
    pub fn run(&self, statements: &[String], what: &str) -> Result<(), EngineError> {
        let failed = |text: String| EngineError::new(ErrorKind::Query, text);
        let [program, arguments @ ..] = &*self.command else {
            return Err(unsupported("`sql` names no program"));
        };
        let text: String = statements.iter().map(|one| format!("{one};\n")).collect();
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| {
                failed(format!("cannot start {program}, which is to {what}")).because(e)
            })?;
        let mut stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // It may print before it has read everything.
            scope.spawn(move || {
                // Whether it read all of it shows in how it ends.
                let _ = stdin.as_mut().map(|stdin| stdin.write_all(text.as_bytes()));
            });
            child.wait_with_output()
        });
        let output = output.map_err(|e| failed(format!("cannot wait for {program}")).because(e))?;
        if output.status.success() {
            return Ok(());
        }
        let said = match output.stderr.iter().all(u8::is_ascii_whitespace) {
            true => output.stdout,
            false => output.stderr,
        };
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = lines
            .get(lines.len().saturating_sub(TOLD)..)
            .unwrap_or_default();
        Err(failed(format!(
            "{program} did not {what} ({}): {}",
            output.status,
            last.join(" / ")
        ))
        .hint("production is as it was: the program works on a branch"))
    }
}
