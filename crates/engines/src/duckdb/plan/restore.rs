//! Bringing an older state back: a whole file, or chosen relations.

use super::super::doctor::WHERE_POINTS_ARE;
use super::{Builder, Draft, DuckAction, FileSurvey, Source, Survey, facts, file_of, swap};
use crate::duckdb::layout::DbFile;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use unship_core::engine::{EngineError, ErrorKind, PointMap, RestoreRequest, Steps};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::Fingerprint;
use unship_core::release::Version;

/// Steps that fulfil a restore request, file by file: the whole file where nothing else in it
/// changed, otherwise the chosen relations only.
pub fn restore(survey: &Survey, request: &RestoreRequest) -> Result<Steps, EngineError> {
    let mut prepare = Builder::default();
    let mut swaps = Vec::new();
    let mut steps = Steps::default();
    let mut methods = Vec::new();

    for at in &survey.files {
        let here = |name: &&RelationName| name.database == at.catalog;
        let touched = request
            .bring
            .keys()
            .chain(&request.remove)
            .any(|name| here(&name));
        if !touched {
            continue;
        }
        let file = file_of(at);
        match whole_file(at, request) {
            Ok(point) => {
                let (method, draft) =
                    restore_whole(at, &file, point, request, &mut prepare, &mut steps)?;
                methods.push(method);
                swaps.extend(draft);
            }
            Err(reason) => {
                let draft = restore_relations(at, &file, request, &mut prepare, &mut steps)?;
                methods.push(format!(
                    "restore the chosen relations of {}: {reason}",
                    at.catalog
                ));
                swaps.push(draft);
            }
        }
    }
    for draft in swaps {
        prepare.push(draft)?;
    }
    steps.method = methods.join("; ");
    steps.steps = prepare.steps;
    Ok(steps)
}

/// The point whose file is exactly what this file shall become, or why there is none.
fn whole_file<'a>(at: &FileSurvey, request: &'a RestoreRequest) -> Result<&'a PointMap, String> {
    let kept = request.keep.keys().find(|name| name.database == at.catalog);
    if let Some(name) = kept {
        return Err(format!("what others added to {name} is put into it"));
    }
    let mut reason = None;
    let mut candidates: Vec<_> = request
        .points
        .iter()
        .filter(|p| at.points.contains_key(&p.point.release))
        .collect();
    // An unpacked one first: it needs no more than a rename.
    candidates.sort_by_key(|p| {
        let plain = at
            .points
            .get(&p.point.release)
            .is_some_and(|s| s.plain.is_some());
        (!plain, std::cmp::Reverse(p.point.release))
    });
    for point in candidates {
        let names: BTreeSet<_> = request
            .live_map
            .keys()
            .chain(point.map.keys())
            .chain(request.bring.keys())
            .filter(|name| name.database == at.catalog)
            .collect();
        let different: Vec<_> = names
            .into_iter()
            .filter(|name| {
                let after = if request.remove.contains(*name) {
                    None
                } else {
                    present(
                        request
                            .bring
                            .get(*name)
                            .or_else(|| request.live_map.get(*name)),
                    )
                };
                after.map(|v| v.id) != point.map.get(*name).copied()
            })
            .collect();
        let others = |name: &&RelationName| {
            !request.bring.contains_key(*name) && !request.remove.contains(*name)
        };
        match different.as_slice() {
            [] => return Ok(point),
            // It holds all that is wanted, and something else would go back with it.
            [first, rest @ ..] if different.iter().all(others) => {
                reason.get_or_insert_with(|| {
                    let more = match rest.len() {
                        0 => "has".to_owned(),
                        n => format!("and {n} more have"),
                    };
                    format!(
                        "{first} {more} changed since {} and must stay as it is now",
                        point.point.release
                    )
                });
            }
            _ => {}
        }
    }
    Err(reason
        .unwrap_or_else(|| "no restore point holds just this state of the whole file".to_owned()))
}

fn present(version: Option<&Version>) -> Option<&Version> {
    version.filter(|v| v.state.is_some())
}

fn restore_whole(
    at: &FileSurvey,
    file: &DbFile,
    point: &PointMap,
    request: &RestoreRequest,
    prepare: &mut Builder,
    steps: &mut Steps,
) -> Result<(String, Option<Draft>), EngineError> {
    let release = point.point.release;
    let known = at
        .points
        .get(&release)
        .ok_or_else(|| missing(release, at))?;
    let build = file.build(request.release);
    let name = &at.catalog;
    if let Some(identity) = &known.plain {
        let kept = file.point(release);
        if at.reflink || request.pinned.contains(&release) {
            if !at.reflink {
                enough_room(at, known.bytes)?;
                steps.bytes += known.bytes;
            }
            prepare.push(clone(&kept, &build, identity))?;
            let method = format!("rename a clone of {release}'s file of {name} into place");
            return Ok((method, Some(swap(at, file, &build, None, request.live))));
        }
        let method = format!("rename {release}'s own file of {name} into place");
        return Ok((
            method,
            Some(swap(at, file, &kept, Some(identity), request.live)),
        ));
    }
    if at.free < known.bytes && at.idle {
        steps.needs.push(format!(
            "nobody has {} open: the disk is too full for a second file, so its blocks are \
             overwritten in place",
            at.path.display()
        ));
        steps.bytes += known.bytes;
        patch(at, release, request.live, prepare)?;
        return Ok((
            format!("overwrite the blocks of {name} that differ from {release}"),
            None,
        ));
    }
    enough_room(at, known.bytes)?;
    steps.bytes += known.bytes;
    prepare.push(unpack(at, release, &build))?;
    let method = format!("unpack {release}'s file of {name} and rename it into place");
    Ok((method, Some(swap(at, file, &build, None, request.live))))
}

fn patch(
    at: &FileSurvey,
    release: ReleaseId,
    live: ReleaseId,
    prepare: &mut Builder,
) -> Result<(), EngineError> {
    prepare.push(Draft {
        action: DuckAction::Pack {
            live: at.path.clone(),
            point: live,
        },
        relations: Vec::new(),
        guard: vec![facts::file(&at.path, &at.identity), facts::no_wal(&at.path)],
        expect: vec![
            facts::packed(&at.path, live),
            facts::file(&at.path, &at.identity),
        ],
        undo: false,
        production: false,
        explain: format!(
            "pack the blocks of {} as the restore point of {live}",
            at.path.display()
        ),
    })?;
    prepare.push(Draft {
        action: DuckAction::Patch {
            live: at.path.clone(),
            point: release,
        },
        relations: Vec::new(),
        guard: vec![
            facts::patchable(&at.path, &at.identity),
            facts::no_wal(&at.path),
        ],
        expect: vec![facts::blocks(&at.path, release)],
        undo: false,
        production: true,
        explain: format!(
            "write the blocks of {release} that differ over {}; until it is done, the file refuses \
             to open",
            at.path.display()
        ),
    })
}

fn restore_relations(
    at: &FileSurvey,
    file: &DbFile,
    request: &RestoreRequest,
    prepare: &mut Builder,
    steps: &mut Steps,
) -> Result<Draft, EngineError> {
    let mut by_source: BTreeMap<ReleaseId, BTreeMap<RelationName, Option<Fingerprint>>> =
        BTreeMap::new();
    for (name, wanted) in request
        .bring
        .iter()
        .filter(|(name, _)| name.database == at.catalog)
    {
        let source = source_of(at, &request.points, name, wanted)?;
        let fingerprint = wanted.state.as_ref().and_then(|s| s.fingerprint.clone());
        by_source
            .entry(source)
            .or_default()
            .insert(name.clone(), fingerprint);
    }
    let mut sources = Vec::new();
    let mut guard = vec![facts::file(&at.path, &at.identity), facts::no_wal(&at.path)];
    let mut extra = if at.reflink { 0 } else { at.bytes };
    for (release, relations) in by_source {
        let known = at
            .points
            .get(&release)
            .ok_or_else(|| missing(release, at))?;
        let path = if let Some(identity) = &known.plain {
            let path = file.point(release);
            guard.push(facts::file(&path, identity));
            path
        } else {
            let path = file.scratch(release);
            extra += known.bytes;
            prepare.push(unpack(at, release, &path))?;
            guard.push(facts::exists(&path, true));
            path
        };
        sources.push(Source { path, relations });
    }
    enough_room(at, extra)?;
    steps.bytes += extra;
    steps
        .needs
        .push("a Python with duckdb, or a build of unship with DuckDB in it".to_owned());
    steps.notes.push(format!(
        "sequences of {} are not rewound: numbers that were given out are not given out again",
        at.catalog
    ));
    let mut keep = BTreeMap::new();
    for (name, of) in &request.keep {
        if name.database == at.catalog {
            let added = serde_json::from_value(of.clone()).map_err(|e| {
                let text = format!("what is to be kept of {name} cannot be read");
                EngineError::new(ErrorKind::Io, text).because(e)
            })?;
            keep.insert(name.clone(), added);
        }
    }
    let build = file.build(request.release);
    guard.push(facts::exists(&build, false));
    let remove: BTreeSet<_> = request
        .remove
        .iter()
        .filter(|name| name.database == at.catalog)
        .cloned()
        .collect();
    let relations: Vec<_> = sources
        .iter()
        .flat_map(|s| s.relations.keys())
        .chain(&remove)
        .cloned()
        .collect();
    prepare.push(Draft {
        explain: format!(
            "clone {} and restore {} relations in the clone, in one transaction",
            at.path.display(),
            relations.len()
        ),
        action: DuckAction::Assemble {
            keep,
            live: at.path.clone(),
            base: at.path.clone(),
            to: build.clone(),
            sources,
            remove,
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
    Ok(swap(at, file, &build, None, request.live))
}

/// The point that holds a version of a relation; an unpacked one, if there is.
pub(in crate::duckdb) fn source_of(
    at: &FileSurvey,
    points: &[PointMap],
    name: &RelationName,
    wanted: &Version,
) -> Result<ReleaseId, EngineError> {
    points
        .iter()
        .filter(|p| at.points.contains_key(&p.point.release))
        .filter(|p| p.map.get(name) == Some(&wanted.id))
        .max_by_key(|p| {
            let plain = at
                .points
                .get(&p.point.release)
                .is_some_and(|s| s.plain.is_some());
            (plain, p.point.release)
        })
        .map(|p| p.point.release)
        .ok_or_else(|| {
            EngineError::new(
                ErrorKind::Missing,
                format!("no restore point holds {name} as it was in {}", wanted.id),
            )
            .hint("`unship log` shows which releases can still be restored")
        })
}

pub(super) fn unpack(at: &FileSurvey, point: ReleaseId, to: &Path) -> Draft {
    Draft {
        action: DuckAction::Unpack {
            file: at.path.clone(),
            point,
            to: to.to_owned(),
        },
        relations: Vec::new(),
        guard: vec![facts::packed(&at.path, point)],
        expect: vec![facts::exists(to, true)],
        undo: false,
        production: false,
        explain: format!("unpack the restore point of {point} to {}", to.display()),
    }
}

fn clone(from: &Path, to: &Path, identity: &str) -> Draft {
    Draft {
        action: DuckAction::Clone {
            from: from.to_owned(),
            to: to.to_owned(),
        },
        relations: Vec::new(),
        guard: vec![facts::file(from, identity), facts::exists(to, false)],
        expect: vec![facts::exists(to, true)],
        undo: false,
        production: false,
        explain: format!("clone {} to {}", from.display(), to.display()),
    }
}

pub(super) fn enough_room(at: &FileSurvey, bytes: u64) -> Result<(), EngineError> {
    if bytes <= at.free {
        return Ok(());
    }
    Err(EngineError::new(
        ErrorKind::DiskFull,
        format!(
            "this needs {} MB beside {}, and {} MB are free",
            bytes >> 20,
            at.path.display(),
            at.free >> 20
        ),
    )
    .hint("free some space; `unship gc` drops restore points that the retention does not ask for"))
}

pub(super) fn missing(release: ReleaseId, at: &FileSurvey) -> EngineError {
    EngineError::new(
        ErrorKind::Missing,
        format!("{release} has no restore point for {}", at.path.display()),
    )
    .hint(WHERE_POINTS_ARE)
}
