//! Bringing rows of an older state back, in a clone.

use super::restore::{enough_room, missing, source_of, unpack};
use super::{Builder, Draft, DuckAction, RowsFrom, facts, file_of, swap};
use crate::duckdb::rows::Found;
use unship_core::engine::{EngineError, ErrorKind, Steps};
use unship_core::operate::count;
use unship_core::rows::{RowsRequest, RowsSurvey};

/// Steps that fulfil a request for rows, file by file.
pub(in crate::duckdb) fn rows(
    survey: &RowsSurvey,
    request: &RowsRequest,
) -> Result<Steps, EngineError> {
    let found: Found = serde_json::from_value(survey.engine.clone()).map_err(|e| {
        EngineError::new(ErrorKind::Io, "the survey of rows cannot be read").because(e)
    })?;
    let mut prepare = Builder::default();
    let mut swaps = Vec::new();
    let mut steps = Steps::default();
    for at in &found.disk.files {
        let file = file_of(at);
        let build = file.build(request.release);
        let mut guard = vec![
            facts::file(&at.path, &at.identity),
            facts::no_wal(&at.path),
            facts::exists(&build, false),
        ];
        let mut rows = Vec::new();
        let mut extra = if at.reflink { 0 } else { at.bytes };
        for (name, pair) in &request.relations {
            if name.database != at.catalog {
                continue;
            }
            let known = found.chosen.get(name).zip(survey.slices.get(name));
            let Some((chosen, slice)) = known else {
                continue;
            };
            let release = source_of(at, &request.points, name, &pair.then)?;
            let known = at.points.get(&release);
            let known = known.ok_or_else(|| missing(release, at))?;
            let path = match &known.plain {
                Some(identity) => {
                    let path = file.point(release);
                    guard.push(facts::file(&path, identity));
                    path
                }
                None => {
                    let path = file.scratch(release);
                    if rows.iter().all(|one: &RowsFrom| one.path != path) {
                        extra += known.bytes;
                        prepare.push(unpack(at, release, &path))?;
                    }
                    guard.push(facts::exists(&path, true));
                    path
                }
            };
            rows.push(RowsFrom {
                path,
                relation: name.clone(),
                chosen: chosen.clone(),
                after: slice.after.fingerprint.clone().ok_or_else(|| {
                    let text = format!("it is not known what {name} would be");
                    EngineError::new(ErrorKind::Query, text)
                })?,
            });
        }
        if rows.is_empty() {
            continue;
        }
        enough_room(at, extra)?;
        steps.bytes += extra;
        let relations: Vec<_> = rows.iter().map(|one| one.relation.clone()).collect();
        prepare.push(Draft {
            explain: format!(
                "clone {} and put rows of {} in place of others in the clone",
                at.path.display(),
                count(relations.len(), "relation")
            ),
            action: DuckAction::Exchange {
                live: at.path.clone(),
                to: build.clone(),
                rows,
            },
            relations,
            guard,
            expect: vec![
                facts::exists(&build, true),
                facts::file(&at.path, &at.identity),
            ],
            undo: false,
            production: false,
        })?;
        swaps.push(swap(at, &file, &build, None, request.live));
    }
    for draft in swaps {
        prepare.push(draft)?;
    }
    steps.method = "put the rows of the older version in place of those of now in a clone, and \
                    rename it into place"
        .to_owned();
    steps.steps = prepare.steps;
    Ok(steps)
}
