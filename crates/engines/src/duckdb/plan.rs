//! Planning for DuckDB files. Pure: it sees the request and a survey, and nothing else.

mod action;
mod publish;
mod restore;
mod rows;
mod survey;

pub use action::{DuckAction, RowsFrom, Source};
pub use publish::publish;
pub use restore::restore;
pub(super) use restore::source_of;
pub(super) use rows::rows;
pub use survey::{FileSurvey, PointSurvey, Survey};

use super::facts;
use super::file::ABSENT;
use super::layout::DbFile;
use std::path::Path;
use unship_core::engine::EngineError;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::plan::{Fact, Step};

/// The engine's name in plans and configuration.
pub const ENGINE: &str = "duckdb";

/// Collects steps in order, each after all before it: files are swapped one after the other, and
/// only when everything has been prepared.
#[derive(Default)]
struct Builder {
    steps: Vec<Step>,
}

impl Builder {
    fn push(&mut self, draft: Draft) -> Result<(), EngineError> {
        let id = self.steps.len() as u32 + 1;
        self.steps.push(Step {
            id,
            after: (1..id).collect(),
            engine: ENGINE.to_owned(),
            relations: draft.relations,
            undo: draft.undo.then(|| draft.action.action()).transpose()?,
            action: draft.action.action()?,
            statements: Vec::new(),
            guard: draft.guard,
            expect: draft.expect,
            production: draft.production,
            explain: draft.explain,
        });
        Ok(())
    }
}

struct Draft {
    action: DuckAction,
    relations: Vec<RelationName>,
    guard: Vec<Fact>,
    expect: Vec<Fact>,
    undo: bool,
    production: bool,
    explain: String,
}

fn file_of(survey: &FileSurvey) -> DbFile {
    DbFile {
        catalog: survey.catalog.clone(),
        path: survey.path.clone(),
    }
}

fn swap(
    at: &FileSurvey,
    file: &DbFile,
    incoming: &Path,
    identity: Option<&str>,
    live: ReleaseId,
) -> Draft {
    let retired = file.point(live);
    let mut guard = vec![facts::file(&at.path, &at.identity), facts::no_wal(&at.path)];
    let mut expect = vec![facts::free(incoming, &at.path), facts::no_wal(&at.path)];
    match identity {
        Some(identity) => {
            guard.push(facts::file(incoming, identity));
            expect.push(facts::file(&at.path, identity));
        }
        None => {
            guard.push(facts::exists(incoming, true));
            expect.push(facts::exists(&at.path, true));
        }
    }
    if at.identity != ABSENT {
        guard.push(facts::free(&retired, &at.path));
        expect.push(facts::file(&retired, &at.identity));
    }
    Draft {
        explain: format!(
            "rename {} to {}, and keep the old file as {}",
            incoming.display(),
            at.path.display(),
            retired.display()
        ),
        action: DuckAction::Swap {
            live: at.path.clone(),
            incoming: incoming.to_owned(),
            retired,
        },
        relations: Vec::new(),
        guard,
        expect,
        undo: true,
        production: true,
    }
}
