//! What there is to know of rows before they change places: how the columns of two versions fit, what
//! the chosen rows are, and what stands in the way.

use super::super::catalog::{self, Attribute};
use super::super::error::Doing;
use super::super::swap::Name;
use super::super::undo::{self, slice::Slice as LoggedSlice};
use super::super::{fingerprint, layout, quote, retained};
use super::exchange::{Exchange, Flag};
use super::held::Kept;
use super::{away, away_full, predicate};
use postgres::{Client, GenericClient};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use unship_core::engine::{EngineError, ErrorKind, OnProgress};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::{Fingerprint, RelationState};
use unship_core::release::VersionId;
use unship_core::rows::{RowsRequest, RowsSurvey, Slice, exchanged};

/// The engine's own part of a survey of rows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Found {
    /// What is to change places, by relation.
    pub exchanges: BTreeMap<RelationName, Exchange>,
    /// What comes from an undo log.
    #[serde(default)]
    pub slices: BTreeMap<RelationName, LoggedSlice>,
}

/// Looks at everything that a request is about.
pub fn survey(
    client: &mut Client,
    request: &RowsRequest,
    on: OnProgress<'_>,
) -> Result<RowsSurvey, EngineError> {
    let mut found = Found::default();
    let mut slices = BTreeMap::new();
    let held = retained::list(client)?;
    let total = request.relations.len() as u64;
    for (n, (name, pair)) in request.relations.iter().enumerate() {
        on("reading the chosen rows", n as u64, total);
        if let Some(log) = undo::slice::logged(client, name, pair)? {
            let live = Side::load(client, &Name::new(&*name.schema, &*name.name))?;
            live.can_be_written(client)?;
            let chosen = predicate::of(client, &request.reconciling.rows, &live.full())?;
            predicate::check(client, &chosen, &[&live.own()])?;
            let slice = LoggedSlice::read(client, log, chosen, pair.then.id, request.release)?;
            let now = pair.now.state.as_ref().ok_or_else(|| {
                let text = format!("{name} is not in production");
                EngineError::new(ErrorKind::Missing, text)
            })?;
            let said = Slice {
                out: slice.out,
                back: slice.back,
                same: slice.out == 0 && slice.back == 0,
                after: slice.after(now, request.release),
                notes: Vec::new(),
            };
            slices.insert(name.clone(), said);
            found.slices.insert(name.clone(), slice);
            continue;
        }
        let there = held.iter().any(|one| {
            let same = one.version() == pair.then.id && one.kind.is_some();
            same && one.schema == name.schema && one.name == name.name
        });
        if !there {
            let text = format!("no schema holds {name} as it was in {}", pair.then.id);
            return Err(EngineError::new(ErrorKind::Missing, text)
                .hint("`unship log` shows which releases can still be restored"));
        }
        let schema = layout::retained(pair.then.id.release, &name.schema)?;
        let source = Name::new(schema, &*name.name);
        let live = Side::load(client, &Name::new(&*name.schema, &*name.name))?;
        let older = Side::load(client, &source)?;
        live.can_be_written(client)?;
        let chosen = predicate::of(client, &request.reconciling.rows, &live.full())?;
        predicate::check(client, &chosen, &[&live.own(), &older.own()])?;
        let (fit, mut notes) = fit(&live, &older, pair.then.id.release)?;
        let mut exchange = live.exchange(
            &fit,
            &chosen,
            &older.chosen(&chosen),
            away(request.release, n),
            request.release,
        );
        exchange.holds = pair.now.id;
        exchange.flag = Some(Flag {
            from: pair.then.id.release,
            why: request.reconciling.reason.clone(),
            who: request.who.clone(),
        });
        live.read(client, &fit, &mut exchange)?;
        let state = pair.now.state.clone();
        let state = state.ok_or_else(|| {
            EngineError::new(ErrorKind::Missing, format!("{name} is not in production"))
        })?;
        let after = after(client, &live, &state, &exchange)?;
        if !live.partitioned && live.has_no_index(client)? {
            notes.push("it has no index, so that all of it is read to find the rows".to_owned());
        }
        slices.insert(
            name.clone(),
            Slice {
                out: exchange.out.rows,
                back: exchange.back.rows,
                same: exchange.out == exchange.back,
                after,
                notes,
            },
        );
        found.exchanges.insert(name.clone(), exchange);
    }
    let engine = serde_json::to_value(found).map_err(|e| {
        EngineError::new(ErrorKind::Io, "the survey of rows cannot be written").because(e)
    })?;
    Ok(RowsSurvey { slices, engine })
}

/// What it takes to put rows back that gave way, for the `n`-th relation of a release.
pub fn put_back(
    client: &mut Client,
    kept: &Kept,
    release: ReleaseId,
    n: usize,
) -> Result<Exchange, EngineError> {
    let live = Side::load(client, &Name::new(&*kept.schema, &*kept.name))?;
    let rows = Side::load(client, &Name::new(layout::HOME, &*kept.rows))?;
    live.can_be_written(client)?;
    let (fit, _) = fit(&live, &rows, kept.holds().release)?;
    let mut exchange = live.exchange(
        &fit,
        &kept.predicate,
        &away_full(&kept.rows),
        away(release, n),
        release,
    );
    exchange.holds = kept.given();
    exchange.given = kept.holds();
    exchange.spent = Some(kept.clone());
    live.read(client, &fit, &mut exchange)?;
    Ok(exchange)
}

/// What a relation will be when rows of it have changed places.
pub fn afterwards(state: &RelationState, exchange: &Exchange) -> Option<RelationState> {
    let whole = state.fingerprint.as_ref()?;
    let print = exchanged(whole, &exchange.out, &exchange.back)?;
    Some(RelationState {
        rows: Some(print.rows),
        fingerprint: Some(print),
        storage: state.storage.as_deref().and_then(|s| written(s, exchange)),
        ..state.clone()
    })
}

fn after(
    client: &mut Client,
    live: &Side,
    state: &RelationState,
    exchange: &Exchange,
) -> Result<RelationState, EngineError> {
    if let Some(after) = afterwards(state, exchange) {
        return Ok(after);
    }
    // It is not known what the relation is, or it was taken by another method.
    let sql = fingerprint::query(&live.own(), &live.columns, None, live.version);
    let whole = print(
        client,
        &sql,
        &live.names(),
        fingerprint::method(live.version),
    )?;
    let known = RelationState {
        fingerprint: Some(whole),
        ..state.clone()
    };
    afterwards(&known, exchange).ok_or_else(|| {
        EngineError::new(
            ErrorKind::Query,
            format!("the rows of {} do not add up", live.name),
        )
    })
}

/// A relation's storage as the counters will have it, whatever its size will be: if nobody else
/// writes, that is enough to know that nobody did.
fn written(storage: &str, exchange: &Exchange) -> Option<String> {
    let words: Vec<&str> = storage.split(' ').collect();
    let [oid, file, _, inserted, updated, deleted] = words.as_slice() else {
        return None;
    };
    let plus = |count: &str, more: u64| count.parse::<u64>().ok()?.checked_add(more);
    Some(format!(
        "{oid} {file} {ANY_SIZE} {} {updated} {}",
        plus(inserted, exchange.back.rows)?,
        plus(deleted, exchange.out.rows)?
    ))
}

/// Stands for any size in a storage that was computed.
const ANY_SIZE: &str = "*";

/// Whether a storage that is seen is the known one.
pub fn same_storage(known: Option<&str>, seen: Option<&str>) -> bool {
    let (Some(known), Some(seen)) = (known, seen) else {
        return known == seen;
    };
    if known == seen {
        return true;
    }
    let (mut known, mut seen) = (known.split(' '), seen.split(' '));
    loop {
        match (known.next(), seen.next()) {
            (None, None) => return true,
            (Some(k), Some(s)) if k == s || k == ANY_SIZE => {}
            _ => return false,
        }
    }
}

/// What the rows are that a query of [`fingerprint::query`] reads.
pub fn print(
    client: &mut impl GenericClient,
    sql: &str,
    columns: &[String],
    method: &str,
) -> Result<Fingerprint, EngineError> {
    let what = "read the chosen rows";
    let row = client.query_one(sql, &[]).doing(what)?;
    let rows: i64 = row.try_get(0).doing(what)?;
    let sums: Vec<String> = row.try_get(1).doing(what)?;
    let mut sums = sums.into_iter();
    Ok(Fingerprint {
        method: method.to_owned(),
        rows: rows.unsigned_abs(),
        whole: sums.next().unwrap_or_default(),
        columns: columns.iter().cloned().zip(sums).collect(),
    })
}

/// A table with its columns.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) name: Name,
    pub(super) oid: u32,
    pub(super) partitioned: bool,
    pub(super) columns: Vec<Attribute>,
    pub(super) version: u32,
}

impl Side {
    pub(super) fn load(client: &mut Client, name: &Name) -> Result<Self, EngineError> {
        let what = format!("look at {name}");
        let sql =
            "SELECT c.oid, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = $1 AND c.relname = $2";
        let row = client
            .query_opt(sql, &[&name.schema, &name.name])
            .doing(&what)?;
        let row = row
            .ok_or_else(|| EngineError::new(ErrorKind::Missing, format!("{name} is not there")))?;
        let oid: u32 = row.try_get(0).doing(&what)?;
        let kind: i8 = row.try_get(1).doing(&what)?;
        let partitioned = match u8::try_from(kind).unwrap_or_default() {
            b'r' => false,
            b'p' => true,
            _ => {
                let text = format!("{name} is no table, so that no rows of it can be brought back");
                return Err(EngineError::new(ErrorKind::Refused, text)
                    .hint("leave it out, or roll all of it back"));
            }
        };
        Ok(Self {
            columns: catalog::columns_of(client, oid)?,
            version: catalog::server_version(client)?,
            name: name.clone(),
            oid,
            partitioned,
        })
    }

    fn full(&self) -> String {
        quote::relation(&self.name.schema, &self.name.name)
    }

    pub(super) fn own(&self) -> String {
        match self.partitioned {
            true => self.full(),
            false => format!("ONLY {}", self.full()),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|c| c.name.clone()).collect()
    }

    /// The chosen rows, as a query reads them.
    pub(super) fn chosen(&self, predicate: &str) -> String {
        format!(
            "(SELECT * FROM {} WHERE (\n{predicate}\n)) chosen",
            self.own()
        )
    }

    fn column(&self, name: &str) -> Option<&Attribute> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Refuses where writing to the table would write elsewhere too, or not here.
    fn can_be_written(&self, client: &mut Client) -> Result<(), EngineError> {
        let what = format!("look at what hangs on {}", self.name);
        let sql = "
            SELECT 'the foreign key ' || k.conname || ' of ' || k.conrelid::regclass || ' would delete or change rows there' AS why
              FROM pg_constraint k
             WHERE k.confrelid = $1 AND k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd')
            UNION ALL
            SELECT 'the rule ' || w.rulename || ' does something else instead'
              FROM pg_rewrite w
             WHERE w.ev_class = $1 AND w.rulename <> '_RETURN' AND w.ev_type IN ('3', '4')
             ORDER BY why LIMIT 1";
        match client.query_opt(sql, &[&self.oid]).doing(&what)? {
            None => Ok(()),
            Some(row) => {
                let why: String = row.try_get(0).doing(&what)?;
                let text = format!("rows of {} cannot be brought back: {why}", self.name);
                Err(EngineError::new(ErrorKind::Refused, text)
                    .hint("roll all of the relation back, which moves it and deletes nothing"))
            }
        }
    }

    fn has_no_index(&self, client: &mut Client) -> Result<bool, EngineError> {
        let what = format!("look at the indexes of {}", self.name);
        let sql = "SELECT NOT EXISTS (SELECT FROM pg_index WHERE indrelid = $1 AND indisvalid)";
        client
            .query_one(sql, &[&self.oid])
            .and_then(|row| row.try_get(0))
            .doing(&what)
    }

    /// What is to change places; what the rows are is not known yet.
    fn exchange(
        &self,
        fit: &[Fit],
        predicate: &str,
        source: &str,
        away: String,
        release: ReleaseId,
    ) -> Exchange {
        let nothing = || Fingerprint {
            method: fingerprint::method(self.version).to_owned(),
            rows: 0,
            whole: "0".to_owned(),
            columns: BTreeMap::new(),
        };
        let id = VersionId { release, drift: 0 };
        let written = fit.iter().filter(|one| one.written);
        Exchange {
            name: self.name.clone(),
            oid: self.oid,
            partitioned: self.partitioned,
            columns: self.names(),
            written: written
                .map(|one| (one.column.clone(), one.cell.clone()))
                .collect(),
            predicate: predicate.to_owned(),
            source: source.to_owned(),
            print: fingerprint::query(&self.chosen(predicate), &self.columns, None, self.version),
            out: nothing(),
            back: nothing(),
            away,
            holds: id,
            given: id,
            release,
            spent: None,
            flag: None,
        }
    }

    /// Finds out what the rows are that change places.
    fn read(
        &self,
        client: &mut Client,
        fit: &[Fit],
        exchange: &mut Exchange,
    ) -> Result<(), EngineError> {
        let method = fingerprint::method(self.version);
        let names = self.names();
        exchange.out = print(client, &exchange.print, &names, method)?;
        let cells = fit
            .iter()
            .map(|one| format!("{} AS {}", one.cell, quote::name(&one.column)));
        let cells: Vec<_> = cells.collect();
        let coming = format!(
            "(SELECT {} FROM {}) coming",
            cells.join(", "),
            exchange.source
        );
        let sql = fingerprint::query(&coming, &self.columns, None, self.version);
        exchange.back = print(client, &sql, &names, method)?;
        Ok(())
    }
}

/// What a column gets from a row of an older version.
pub(super) struct Fit {
    pub(super) column: String,
    pub(super) cell: String,
    pub(super) written: bool,
}

/// Columns by name. What the older version did not have gets its default where that is a constant;
/// what production does not have stays where it is retained.
pub(super) fn fit(
    live: &Side,
    older: &Side,
    from: ReleaseId,
) -> Result<(Vec<Fit>, Vec<String>), EngineError> {
    let mut fits = Vec::new();
    let mut notes = Vec::new();
    let refused = |text: String| {
        Err(EngineError::new(ErrorKind::Refused, text)
            .hint("roll all of the relation back: its columns come back with it"))
    };
    for column in &live.columns {
        let name = quote::name(&column.name);
        let generated = !column.generated.is_empty();
        let cell = match older.column(&column.name) {
            Some(then) if then.data_type == column.data_type => name,
            Some(then) if !generated && is_wider(then, column) => {
                format!("{name}::{}", column.data_type)
            }
            Some(then) => {
                return refused(format!(
                    "the column {} of {} is {} and was {} in {from}",
                    column.name, live.name, column.data_type, then.data_type
                ));
            }
            None if generated => {
                return refused(format!(
                    "the column {} of {} is computed, and {from} does not have it",
                    column.name, live.name
                ));
            }
            None => {
                let constant = column.default.as_deref().filter(|text| !text.contains('('));
                if constant.is_none() && column.not_null {
                    return refused(format!(
                        "the column {} of {} must not be empty, and {from} does not have it",
                        column.name, live.name
                    ));
                }
                let value = constant.unwrap_or("NULL");
                notes.push(format!(
                    "{from} has no column {}: it is {value} in the rows that come back",
                    column.name
                ));
                format!("({value})::{}", column.data_type)
            }
        };
        fits.push(Fit {
            column: column.name.clone(),
            cell,
            written: !generated,
        });
    }
    for column in &older.columns {
        if live.column(&column.name).is_none() {
            notes.push(format!(
                "production has no column {} any more: what it was stays in {}",
                column.name,
                older.full()
            ));
        }
    }
    Ok((fits, notes))
}

/// Whether every value of one type is the same value of another.
fn is_wider(then: &Attribute, now: &Attribute) -> bool {
    let base = |column: &Attribute| column.base.clone().unwrap_or_default();
    let (then_base, now_base) = (base(then), base(now));
    match (then_base.as_str(), now_base.as_str()) {
        ("int2", "int4" | "int8") | ("int4", "int8") => true,
        ("int2" | "int4" | "int8", "numeric") => now.data_type == "numeric",
        ("varchar", "text") => true,
        ("varchar", "varchar") => now.data_type == "character varying",
        ("numeric", "numeric") => now.data_type == "numeric",
        ("float4", "float8") => true,
        _ => false,
    }
}
