//! Planning for DuckDB files. Pure: it sees the request and a survey, and nothing else.

use super::file::ABSENT;
use super::layout::DbFile;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use unship_core::engine::{Carry, EngineError, ErrorKind, PointMap, RestoreRequest, Steps};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::operate::count;
use unship_core::plan::{Action, Fact, Step};
use unship_core::relation::Fingerprint;
use unship_core::release::Version;

/// The engine's name in plans and configuration.
pub const ENGINE: &str = "duckdb";

/// What planning needs to know of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The guarded files.
    pub files: Vec<FileSurvey>,
}

/// What planning needs to know of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSurvey {
    /// The catalog's name.
    pub catalog: String,
    /// The production file.
    pub path: PathBuf,
    /// Its identity, or [`ABSENT`].
    pub identity: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The identity of the release's build, or [`ABSENT`].
    pub build: String,
    /// Free bytes on its file system, for this user.
    pub free: u64,
    /// Whether cloning shares blocks.
    pub reflink: bool,
    /// Whether nobody has the file open, as far as locks tell.
    pub idle: bool,
    /// The retained states of this file.
    pub points: BTreeMap<ReleaseId, PointSurvey>,
}

/// What planning needs to know of a retained state of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointSurvey {
    /// Identity of the unpacked file, if it is unpacked.
    pub plain: Option<String>,
    /// Size when unpacked, in bytes.
    pub bytes: u64,
}

/// What a step does. Serialised into [`Action`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "args", rename_all = "snake_case")]
pub enum DuckAction {
    /// Writes a packed point to a new file.
    Unpack {
        /// Whose store.
        file: PathBuf,
        /// Which point.
        point: ReleaseId,
        /// The new file.
        to: PathBuf,
    },
    /// Clones a file to a new one.
    Clone {
        /// The original.
        from: PathBuf,
        /// The new file.
        to: PathBuf,
    },
    /// Clones a file and brings chosen relations into the clone, in one transaction a source.
    Assemble {
        /// The production file that it is about.
        live: PathBuf,
        /// What is cloned: production, or a build.
        base: PathBuf,
        /// The new file.
        to: PathBuf,
        /// What to bring from which file, with the fingerprints it must have afterwards.
        sources: Vec<Source>,
        /// What to remove.
        remove: BTreeSet<RelationName>,
    },
    /// Makes a file production and retains the old one.
    Swap {
        /// The production file.
        live: PathBuf,
        /// What becomes production.
        incoming: PathBuf,
        /// Where the old one is kept.
        retired: PathBuf,
    },
    /// Packs production into the store as a release's point.
    Pack {
        /// The production file.
        live: PathBuf,
        /// The release that is live.
        point: ReleaseId,
    },
    /// Writes a packed point's differing blocks over production.
    Patch {
        /// The production file.
        live: PathBuf,
        /// Which point.
        point: ReleaseId,
    },
}

/// A file that relations are brought from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The relations, with the fingerprint that was recorded of each, where one was.
    pub relations: BTreeMap<RelationName, Option<Fingerprint>>,
}

impl DuckAction {
    fn action(&self) -> Result<Action, EngineError> {
        let value = serde_json::to_value(self).map_err(|e| internal(&e))?;
        serde_json::from_value(value).map_err(|e| internal(&e))
    }

    /// Reads an action back from a plan.
    pub fn of(action: &Action) -> Result<Self, EngineError> {
        serde_json::to_value(action)
            .and_then(serde_json::from_value)
            .map_err(|e| {
                EngineError::new(
                    ErrorKind::Unsupported,
                    "the plan has a step that is not known here",
                )
                .because(e)
                .hint("it may come from a newer unship")
            })
    }
}

fn internal(error: &serde_json::Error) -> EngineError {
    EngineError::new(
        ErrorKind::Io,
        format!("a step could not be written down: {error}"),
    )
}

/// Facts, by what they look at.
pub mod facts {
    use super::*;

    /// The identity of a file.
    pub fn file(path: &Path, is: &str) -> Fact {
        Fact::new(format!("file {}", path.display()), is)
    }

    /// Whether there is a file.
    pub fn exists(path: &Path, is: bool) -> Fact {
        Fact::new(
            format!("exists {}", path.display()),
            if is { "yes" } else { "no" },
        )
    }

    /// Whether a file has a write-ahead log.
    pub fn no_wal(path: &Path) -> Fact {
        Fact::new(format!("wal {}", path.display()), "none")
    }

    /// Whether a place is free: nothing there, or a second name of `live`, as a swap that was
    /// interrupted, or interrupted while it was taken back, leaves it.
    pub fn free(place: &Path, live: &Path) -> Fact {
        let subject = serde_json::json!([place, live]);
        Fact::new(format!("place {subject}"), "free")
    }

    /// Whether a file is as it was, or half-way through being patched.
    pub fn patchable(live: &Path, identity: &str) -> Fact {
        let subject = serde_json::json!([live, identity]);
        Fact::new(format!("patchable {subject}"), "yes")
    }

    /// Whether a file's blocks are those of a packed point.
    pub fn blocks(live: &Path, point: ReleaseId) -> Fact {
        let subject = serde_json::json!([live, point]);
        Fact::new(format!("blocks {subject}"), "equal")
    }

    /// Whether a point of a file is in the store.
    pub fn packed(live: &Path, point: ReleaseId) -> Fact {
        let subject = serde_json::json!([live, point]);
        Fact::new(format!("packed {subject}"), "yes")
    }
}

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
                after.map(|v| v.id) != present(point.map.get(*name)).map(|v| v.id)
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
        let source = source_of(at, request, name, wanted)?;
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
    steps.irreversible.push(format!(
        "sequences of {} are not rewound: numbers that were given out are not given out again",
        at.catalog
    ));
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

fn source_of(
    at: &FileSurvey,
    request: &RestoreRequest,
    name: &RelationName,
    wanted: &Version,
) -> Result<ReleaseId, EngineError> {
    request
        .points
        .iter()
        .filter(|p| at.points.contains_key(&p.point.release))
        .filter(|p| present(p.map.get(name)).is_some_and(|v| v.id == wanted.id))
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

fn unpack(at: &FileSurvey, point: ReleaseId, to: &Path) -> Draft {
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

fn enough_room(at: &FileSurvey, bytes: u64) -> Result<(), EngineError> {
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

fn missing(release: ReleaseId, at: &FileSurvey) -> EngineError {
    EngineError::new(
        ErrorKind::Missing,
        format!("{release} has no restore point for {}", at.path.display()),
    )
}
