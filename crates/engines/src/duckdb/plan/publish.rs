//! Making what a job built production.

use super::{Builder, Draft, DuckAction, FileSurvey, Source, Survey, facts, file_of, swap};
use crate::duckdb::file::ABSENT;
use crate::duckdb::layout::DbFile;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use unship_core::engine::{Carry, EngineError, ErrorKind, Steps};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::count;

/// Steps that make every built file production. What others wrote meanwhile (`carry`) is brought
/// into the build first.
pub fn publish(
    survey: &Survey,
    release: ReleaseId,
    live: ReleaseId,
    carry: &Carry,
) -> Result<Steps, EngineError> {
    let mut prepare = Builder::default();
    let mut swaps = Vec::new();
    let mut steps = Steps::default();
    for at in &survey.files {
        let file = file_of(at);
        let build = file.build(release);
        if at.build == ABSENT {
            if at.identity == ABSENT {
                continue;
            }
            return Err(EngineError::new(
                ErrorKind::Missing,
                format!("the job left no database at {}", build.display()),
            ));
        }
        match carried(at, &file, &build, carry) {
            Some((draft, to)) => {
                steps.bytes += if at.reflink { 0 } else { at.bytes };
                prepare.push(draft)?;
                swaps.push(swap(at, &file, &to, None, live));
            }
            None => swaps.push(swap(at, &file, &build, Some(&at.build), live)),
        }
    }
    let files = swaps.len();
    for draft in swaps {
        prepare.push(draft)?;
    }
    steps.steps = prepare.steps;
    steps.method = if files == 1 {
        "rename the file that was built into place; the old file becomes the restore point"
            .to_owned()
    } else {
        format!(
            "rename {files} files into place, one after the other; each is atomic, all together \
             are journaled"
        )
    };
    Ok(steps)
}

/// The step that brings what others wrote while the job ran into the build, and where to.
fn carried(
    at: &FileSurvey,
    file: &DbFile,
    build: &Path,
    carry: &Carry,
) -> Option<(Draft, PathBuf)> {
    let here = |name: &&RelationName| name.database == at.catalog;
    let bring: BTreeMap<_, _> = carry
        .bring
        .iter()
        .filter(here)
        .map(|n| (n.clone(), None))
        .collect();
    let remove: BTreeSet<_> = carry.remove.iter().filter(here).cloned().collect();
    if bring.is_empty() && remove.is_empty() {
        return None;
    }
    let to = build
        .parent()
        .unwrap_or(build)
        .join("carried")
        .join(file.basename());
    let relations: Vec<_> = bring.keys().chain(&remove).cloned().collect();
    let draft = Draft {
        explain: format!(
            "bring {} that others wrote while the job ran into what it built",
            count(relations.len(), "relation")
        ),
        action: DuckAction::Assemble {
            keep: BTreeMap::new(),
            live: at.path.clone(),
            base: build.to_owned(),
            to: to.clone(),
            sources: vec![Source {
                path: at.path.clone(),
                relations: bring,
            }],
            remove,
        },
        relations,
        guard: vec![
            facts::file(&at.path, &at.identity),
            facts::no_wal(&at.path),
            facts::file(build, &at.build),
            facts::exists(&to, false),
        ],
        expect: vec![
            facts::exists(&to, true),
            facts::file(&at.path, &at.identity),
        ],
        undo: false,
        production: false,
    };
    Some((draft, to))
}
