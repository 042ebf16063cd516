//! Some rows of a table with an undo log, as they were at a moment: found out by the same statements
//! that bring them back, in a transaction that is taken back.

use super::back::{Scope, Target, looks, statements};
use super::facts;
use super::known::{Known, known};
use super::position::Position;
use crate::postgres::error::Doing;
use crate::postgres::plan::{ENGINE, PgAction};
use crate::postgres::quote;
use crate::postgres::rows::RECONCILED;
use crate::postgres::swap::Name;
use postgres::{Client, IsolationLevel};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::count;
use unship_core::plan::{Fact, Step};
use unship_core::relation::RelationState;
use unship_core::release::VersionId;
use unship_core::rows::{Pair, RowsRequest};

/// Rows of a table that come from a moment of its undo log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slice {
    /// The table.
    table: Known,
    /// The moment.
    to: Position,
    /// Which rows.
    predicate: String,
    /// How many go.
    pub out: u64,
    /// How many come.
    pub back: u64,
    /// The release that the moment is said to be of.
    from: ReleaseId,
}

/// The table, if a wanted version of it is a moment of its undo log.
///
/// # Errors
/// [`ErrorKind::Refused`] if the log does not reach back so far.
pub fn logged(
    client: &mut Client,
    name: &RelationName,
    pair: &Pair,
) -> Result<Option<(Known, Position)>, EngineError> {
    let storage = |state: &Option<RelationState>| state.as_ref()?.storage.clone();
    let Some(storage) = storage(&pair.then.state) else {
        return Ok(None);
    };
    let Some(to) = Position::read(&storage) else {
        return Ok(None);
    };
    let wanted = BTreeSet::from([Name::new(&*name.schema, &*name.name)]);
    let table = known(client, &wanted)?.pop();
    let same = |table: &Known| storage == to.storage(table.relation);
    let Some(table) = table.filter(same) else {
        return Ok(None);
    };
    match table.out_of_reach(&to) {
        None => Ok(Some((table, to))),
        Some(why) => Err(EngineError::new(
            ErrorKind::Refused,
            format!(
                "rows of {name} cannot go back to {}: it {why}",
                pair.then.id
            ),
        )
        .hint("choose a later release or moment")),
    }
}

impl Slice {
    /// Finds out how many rows of a table go and come.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if others have rows where some would come.
    pub fn read(
        client: &mut Client,
        (table, to): (Known, Position),
        predicate: String,
        from: VersionId,
        release: ReleaseId,
    ) -> Result<Self, EngineError> {
        const WHAT: &str = "read the chosen rows";
        let mut slice = Self {
            table,
            to,
            predicate,
            out: 0,
            back: 0,
            from: from.release,
        };
        // All of it as of one moment: nobody is kept from writing.
        let mut transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .start()
            .doing(WHAT)?;
        let (all, counted) = looks(&slice.target(release)?);
        for statement in all {
            transaction.batch_execute(&statement).doing(WHAT)?;
        }
        let row = transaction.query_one(&counted, &[]).doing(WHAT)?;
        let number = |i: usize| row.try_get::<_, i64>(i).map(i64::unsigned_abs).doing(WHAT);
        (slice.out, slice.back) = (number(0)?, number(1)?);
        transaction.rollback().doing(WHAT)?;
        Ok(slice)
    }

    fn target(&self, release: ReleaseId) -> Result<Target<'_>, EngineError> {
        let moment = self.table.moment(&self.to).ok_or_else(|| {
            let text = format!("nothing is known of {} at {}", self.table.name, self.to);
            EngineError::new(ErrorKind::Missing, text)
        })?;
        Ok(Target {
            table: &self.table,
            moment,
            scope: Scope {
                rows: Some(self.predicate.clone()),
                ..Scope::default()
            },
            stands: self.stands(release),
            // Of these rows it is made sure by their number.
            take_all: true,
            expected: Some((self.out, self.back)),
        })
    }

    fn stands(&self, release: ReleaseId) -> String {
        format!("@{release}")
    }

    /// What the table is afterwards.
    pub fn after(&self, now: &RelationState, release: ReleaseId) -> RelationState {
        let position = Position {
            guard: self.table.guard,
            at: self.stands(release),
        };
        RelationState {
            storage: Some(position.storage(self.table.relation)),
            rows: None,
            fingerprint: None,
            ..now.clone()
        }
    }

    /// What is written down of it for people.
    fn record(&self, request: &RowsRequest) -> String {
        let why = request.reconciling.reason.as_ref();
        format!(
            "INSERT INTO unship.reconciled (release, schema, name, predicate, from_release, rows_out, \
             rows_back, why, who) VALUES ({}, {}, {}, {}, {}, {}, {}, {}, {})",
            request.release.0,
            quote::text(&self.table.name.schema),
            quote::text(&self.table.name.name),
            quote::text(&self.predicate),
            self.from.0,
            self.out,
            self.back,
            why.map_or("NULL".to_owned(), |why| quote::text(why)),
            quote::text(&request.who),
        )
    }
}

/// The step that brings rows of tables back by their undo logs.
pub fn step(
    id: u32,
    slices: &[(&RelationName, &Slice)],
    request: &RowsRequest,
) -> Result<Step, EngineError> {
    let release = request.release;
    let targets = slices.iter().map(|(_, slice)| slice.target(release));
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
    let mut all = statements(&targets, release);
    all.work.push(RECONCILED.to_owned());
    all.work
        .extend(slices.iter().map(|(_, one)| one.record(request)));
    let (mut guard, mut expect): (Vec<Fact>, Vec<Fact>) = (Vec::new(), Vec::new());
    for (_, slice) in slices {
        let table = &slice.table;
        guard.push(facts::guarded(&table.name, table.relation, table.guard));
        guard.push(facts::back(table.guard, release, false));
        expect.push(facts::back(table.guard, release, true));
    }
    Ok(Step {
        id,
        after: (1..id).collect(),
        engine: ENGINE.to_owned(),
        explain: format!(
            "take back what changed in the chosen rows of {}, in one transaction",
            count(slices.len(), "table")
        ),
        relations: slices.iter().map(|(name, _)| (*name).clone()).collect(),
        statements: std::iter::once(&all.lock)
            .chain(&all.work)
            .cloned()
            .collect(),
        guard,
        expect,
        undo: None,
        production: true,
        action: PgAction::Undo { statements: all }.action()?,
    })
}
