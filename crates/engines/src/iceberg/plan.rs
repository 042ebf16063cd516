//! What is done to go back: pure, from what was surveyed.
//!
//! Everything that may fail for a reason of its own comes first and can be taken back: a table under
//! another name, one registered again, a view. Last comes one commit over all tables.

mod named;
mod possible;
mod publish;
mod renamed;
mod surveyed;

pub use publish::publish;
pub use surveyed::{Can, Survey};

use super::action::{ABSENT, IcebergAction, Sequence, Turn, subject, view_digest};
use super::branch;
use super::bring::With;
use super::commit::{self, Moved};
use super::foreign;
use super::keep::Keep;
use super::kept::{Kept, KeptRelation};
use super::look;
use super::name;
use super::rest::{Identifier, LoadTable, Reference, Update, ViewContent};
use super::state::{self, TableState};
use serde::Deserialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind, RestoreRequest, Steps};
use unship_core::ident::RelationName;
use unship_core::relation::{Difference, RelationKind, RelationState};
use unship_core::release::Version;

/// The engine's name, as in `unship.toml`.
pub const ENGINE: &str = "iceberg";

/// A table that comes back under its name.
enum Return {
    /// It was set aside.
    Renamed(Identifier),
    /// It was dropped, and its metadata is still there; with the snapshot of `main` in it.
    Registered(String, Option<i64>),
}

/// What happens, before it is put into steps.
struct Intent<'a> {
    request: &'a RestoreRequest,
    survey: &'a Survey,
    /// Whether it makes production of what a job built, or of what was there before.
    publishes: bool,
    kept: Kept,
    namespaces: BTreeSet<Vec<String>>,
    leave: Vec<(RelationName, Identifier, Identifier, String)>,
    come: Vec<(RelationName, Identifier, Return, String)>,
    views: Vec<(RelationName, Identifier, Option<ViewContent>)>,
    moved: Vec<(RelationName, Moved)>,
    renamed: Vec<renamed::Renamed>,
    out: Steps,
}

/// Steps that fulfil a restore request.
pub fn restore(survey: &Survey, request: &RestoreRequest) -> Result<Steps, EngineError> {
    let mut intent = Intent::new(survey, request, false);
    for name in &request.remove {
        intent.remove(name)?;
    }
    for (name, version) in &request.bring {
        intent.bring(name, version)?;
    }
    intent.name_back()?;
    intent.possible()?;
    intent.steps()
}

fn refused(kind: ErrorKind, text: String) -> EngineError {
    EngineError::new(kind, text)
}

fn unknown(name: &RelationName) -> EngineError {
    let text = format!("what {name} was is not recorded as that of an Iceberg table or view");
    refused(ErrorKind::Unsupported, text)
}

impl<'a> Intent<'a> {
    fn new(survey: &'a Survey, request: &'a RestoreRequest, publishes: bool) -> Self {
        Self {
            request,
            survey,
            publishes,
            kept: Kept::new(request.live),
            namespaces: BTreeSet::new(),
            leave: Vec::new(),
            come: Vec::new(),
            views: Vec::new(),
            moved: Vec::new(),
            renamed: Vec::new(),
            out: Steps::default(),
        }
    }

    fn id(name: &RelationName) -> Result<Identifier, EngineError> {
        name::identifier(name).ok_or_else(|| unknown(name))
    }

    /// Writes down what a relation is now.
    fn keep(
        &mut self,
        name: &RelationName,
        tag: Option<String>,
        aside: Option<Identifier>,
    ) -> Result<(), EngineError> {
        let (state, metadata) = match (self.survey.tables.get(name), self.survey.views.get(name)) {
            (Some(table), _) => (
                look::table_state(name, table)?,
                table.metadata_location.clone(),
            ),
            (None, Some(view)) => {
                let state = state::of_view(&view.metadata).map_err(|e| {
                    EngineError::new(ErrorKind::Corrupt, format!("{name} cannot be read"))
                        .because(e)
                })?;
                (state, None)
            }
            (None, None) => return Ok(()),
        };
        let relation = KeptRelation {
            state,
            metadata,
            tag,
            aside,
        };
        self.kept.relations.insert(name.clone(), relation);
        if let (Some(versions), Some(now)) =
            (&mut self.kept.versions, self.request.live_map.get(name))
        {
            versions.insert(name.clone(), now.id);
        }
        Ok(())
    }

    /// Takes a relation away, so that it can be had again.
    fn remove(&mut self, name: &RelationName) -> Result<(), EngineError> {
        let id = Self::id(name)?;
        if self.survey.views.contains_key(name) {
            self.keep(name, None, None)?;
            self.views.push((name.clone(), id, None));
        } else if let Some(table) = self.survey.tables.get(name) {
            let to = name::aside(self.request.live, &id);
            let uuid = table.metadata.table_uuid.clone();
            self.keep(name, None, Some(to.clone()))?;
            self.namespaces.insert(to.namespace.clone());
            self.leave.push((name.clone(), id, to, uuid));
        }
        Ok(())
    }

    fn bring(&mut self, name: &RelationName, version: &Version) -> Result<(), EngineError> {
        let wanted = version.state.as_ref().ok_or_else(|| unknown(name))?;
        let id = Self::id(name)?;
        if wanted.kind == RelationKind::View {
            let content = state::read_view(wanted).ok_or_else(|| unknown(name))?;
            if self.survey.tables.contains_key(name) {
                self.remove(name)?;
            } else {
                self.keep(name, None, None)?;
            }
            self.views.push((name.clone(), id, Some(content)));
            return Ok(());
        }
        let table = TableState::read(wanted).ok_or_else(|| unknown(name))?;
        let now = self.survey.tables.get(name);
        match now.filter(|now| now.metadata.table_uuid == table.uuid) {
            Some(now) => self.change(name, &id, now, &table, wanted),
            None => {
                // What stands there is another table of the same name.
                self.remove(name)?;
                match self.under_another_name(&table) {
                    Some(there) => self.gets_its_name_back(name, &id, there, &table, wanted),
                    None => self.come_back(name, id, version, wanted, table.uuid),
                }
            }
        }
    }

    /// The same table, as it was.
    fn change(
        &mut self,
        name: &RelationName,
        id: &Identifier,
        now: &LoadTable,
        table: &TableState,
        wanted: &RelationState,
    ) -> Result<(), EngineError> {
        let moved = self.moving(name, id, now, table, wanted)?;
        self.keep(name, moved.tag.clone(), None)?;
        self.moved.push((name.clone(), moved));
        Ok(())
    }

    /// What makes a table be as it was, under this name.
    fn moving(
        &mut self,
        name: &RelationName,
        id: &Identifier,
        now: &LoadTable,
        table: &TableState,
        wanted: &RelationState,
    ) -> Result<Moved, EngineError> {
        let metadata = &now.metadata;
        let there = |id: &i64| metadata.snapshots.iter().any(|s| s.snapshot_id == *id);
        if let Some(gone) = table.snapshot.filter(|id| !there(id)) {
            return Err(refused(
                ErrorKind::Missing,
                format!("{name} cannot go back: its snapshot {gone} was expired"),
            )
            .hint("`unship log` shows what is still kept; `--select` leaves this table out"));
        }
        let brought = self.brought(name)?;
        let proof = self.tag_of(name, wanted).filter(|tag| {
            let held = metadata.refs.get(tag).map(|held| held.snapshot_id);
            held.is_some() && held == table.snapshot
        });
        let live = self.request.live;
        let mut table = table.clone();
        let mut moved = match brought {
            None => commit::to(id, metadata, &table, live, proof.as_deref()),
            Some(with) => {
                table.snapshot = Some(with.head);
                let onto = (&*with.branch, &*with.says);
                self.out.mixed.insert(name.clone(), with.after.clone());
                self.out.notes.push(format!(
                    "{name}: what others wrote was brought over on the branch {}",
                    with.branch
                ));
                commit::with_others(id, metadata, &table, live, onto)
            }
        };
        // What an engine worked on is production then.
        let used = |to: &Reference| Some(to.snapshot_id) == table.snapshot;
        let branches = metadata.refs.iter();
        let branches = branches.filter(|(name, to)| branch::is_own(name) && used(to));
        moved
            .updates
            .extend(branches.map(|(name, _)| branch::removal(name)));
        let drifted = |v: &Version| v.id.drift > 0;
        if self.request.live_map.get(name).is_some_and(drifted)
            || foreign::by_several(metadata, table.snapshot)
        {
            let note = foreign::told(name, metadata, table.snapshot);
            self.out.notes.extend(note);
        }
        Ok(moved)
    }

    /// What rows of others were brought over to, where that was asked for.
    fn brought(&self, name: &RelationName) -> Result<Option<&'a With>, EngineError> {
        let asked = self.request.keep.get(name);
        let asked = asked.and_then(|keep| Keep::deserialize(keep).ok());
        let mut all = self.survey.brought.iter();
        let with = all.find(|(of, _)| of == name).map(|(_, with)| with);
        match (asked.is_some_and(|keep| !keep.runs.is_empty()), with) {
            (false, _) => Ok(None),
            (true, Some(with)) => Ok(Some(with)),
            (true, None) => Err(refused(
                ErrorKind::Unsupported,
                format!("what others wrote to {name} was not brought over"),
            )),
        }
    }

    /// The tag that holds a relation as it was, by what was written down.
    fn tag_of(&self, name: &RelationName, wanted: &RelationState) -> Option<String> {
        let kept = self.survey.kept.iter().rev();
        kept.filter_map(|kept| kept.relations.get(name))
            .filter(|kept| kept.state.difference(wanted) == Difference::None)
            .find_map(|kept| kept.tag.clone())
    }

    /// A table that is not there any more.
    fn come_back(
        &mut self,
        name: &RelationName,
        id: Identifier,
        version: &Version,
        wanted: &RelationState,
        uuid: String,
    ) -> Result<(), EngineError> {
        let kept = self.survey.kept.iter().rev();
        let all: Vec<_> = kept
            .filter_map(|kept| kept.relations.get(name))
            .filter(|kept| kept.state.difference(wanted) == Difference::None)
            .collect();
        let aside = all
            .iter()
            .filter_map(|kept| kept.aside.as_ref())
            .find(|at| {
                let lies = self.survey.aside.iter().find(|(there, _)| there == *at);
                lies.is_some_and(|(_, there)| *there == uuid)
            });
        let metadata = all.iter().find_map(|kept| {
            let was = TableState::read(&kept.state)?;
            Some((kept.metadata.clone()?, was.snapshot))
        });
        let way = match (aside, metadata) {
            (Some(at), _) => Return::Renamed(at.clone()),
            (None, Some((metadata, main))) => Return::Registered(metadata, main),
            (None, None) => {
                return Err(refused(
                    ErrorKind::Missing,
                    format!(
                        "{name} was dropped, and where its metadata of {} lay is not recorded",
                        version.id
                    ),
                )
                .hint("`--select` leaves this table out"));
            }
        };
        self.come.push((name.clone(), id, way, uuid));
        Ok(())
    }

    fn steps(mut self) -> Result<Steps, EngineError> {
        let mut steps = Sequence { steps: Vec::new() };
        if !self.kept.relations.is_empty() || !self.namespaces.is_empty() {
            let digest = self.kept.digest()?;
            let count = self.kept.relations.len();
            // An attempt that was taken back may have written the same down before.
            let mut of_live = self.survey.kept.iter();
            let of_live = of_live.find(|kept| kept.release == self.kept.release);
            let before = match of_live.is_some_and(|kept| kept.parts.contains(&digest)) {
                true => "yes",
                false => "no",
            };
            let turn = (
                subject::kept(self.kept.release, &digest),
                before.to_owned(),
                "yes".to_owned(),
            );
            let made = self.namespaces.iter();
            let made = made.map(|parts| format!("make the namespace {}", name::schema(parts)));
            steps.push(
                &IcebergAction::Keep {
                    kept: self.kept.clone(),
                    namespaces: self.namespaces.clone(),
                },
                Some(&IcebergAction::Forget {
                    release: self.kept.release,
                    digest,
                }),
                Vec::new(),
                &[turn],
                made.collect(),
                format!(
                    "write down what {} is, for the {count} that change",
                    self.request.live
                ),
            )?;
        }
        self.leaving(&mut steps)?;
        // A name that is taken by a view is free only when that is gone.
        self.viewing(&mut steps, |content| content.is_none())?;
        self.coming(&mut steps)?;
        self.tagging(&mut steps)?;
        self.viewing(&mut steps, |content| content.is_some())?;
        let in_order = self.readers_first();
        self.committing(&mut steps)?;
        // What gets its name only now is not there before.
        let comes = |name: &RelationName| self.come.iter().any(|(of, ..)| of == name);
        let there = self.moved.iter().filter(|(name, _)| !comes(name));
        self.out.relies = there.map(|(_, moved)| moved.relies()).collect();
        self.words(&steps, in_order);
        self.out.steps = steps.steps;
        Ok(self.out)
    }

    fn viewing(
        &self,
        steps: &mut Sequence,
        which: impl Fn(&Option<ViewContent>) -> bool,
    ) -> Result<(), EngineError> {
        let digest = |content: Option<&ViewContent>| match content {
            None => Ok(ABSENT.to_owned()),
            Some(content) => view_digest(content),
        };
        for (relation, id, content) in self.views.iter().filter(|(.., content)| which(content)) {
            let now = self.survey.views.get(relation);
            let now = now.and_then(|view| state::view_content(&view.metadata).ok());
            let turn = (
                subject::view(id),
                digest(now.as_ref())?,
                digest(content.as_ref())?,
            );
            let what = match (&now, content) {
                (_, None) => "drop",
                (None, Some(_)) => "make",
                (Some(_), Some(_)) => "change",
            };
            let view = |content: &Option<ViewContent>| IcebergAction::View {
                name: id.clone(),
                content: content.clone(),
            };
            steps.push(
                &view(content),
                Some(&view(&now)),
                vec![relation.clone()],
                &[turn],
                vec![format!("{what} the view {relation}")],
                format!("{what} the view {relation} as it was"),
            )?;
        }
        Ok(())
    }

    /// Where tables go back one after the other, nobody shall find one as it was before that reads
    /// another as it is to be: what reads goes before what it reads. Whether that is known of any.
    fn readers_first(&mut self) -> bool {
        let order = &self.request.built_in_order;
        let place: BTreeMap<_, _> = order
            .iter()
            .enumerate()
            .map(|(n, name)| (name, n))
            .collect();
        if self.survey.can.transaction || !self.moved.iter().any(|(n, _)| place.contains_key(n)) {
            return false;
        }
        self.moved.sort_by_key(|(name, _)| Reverse(place.get(name)));
        true
    }

    fn committing(&self, steps: &mut Sequence) -> Result<(), EngineError> {
        let together = self.survey.can.transaction;
        let groups: Vec<&[(RelationName, Moved)]> = match together {
            true if self.moved.is_empty() => Vec::new(),
            true => vec![&self.moved],
            false => self.moved.chunks(1).collect(),
        };
        for group in groups {
            let token = commit::token(self.request.release, group.iter().map(|(_, m)| m))?;
            let forth: Vec<_> = group.iter().map(|(_, m)| m.forth(&token)).collect();
            let back: Vec<_> = group.iter().map(|(_, m)| m.back()).collect();
            // All of it happens or none: one table tells of all.
            let mut turns: Vec<Turn> = group
                .iter()
                .take(1)
                .map(|(_, m)| (subject::released(m.id()), m.before(), token.clone()))
                .collect();
            turns.extend(group.iter().find_map(|(_, m)| {
                let (branch, at) = m.branch()?;
                let subject = subject::head(m.id(), branch);
                Some((subject, at.to_string(), ABSENT.to_owned()))
            }));
            let undo_token = group.first().map(|(_, m)| m.before()).unwrap_or_default();
            let whereto = match self.publishes {
                true => "at what was built",
                false => "back",
            };
            let explain = match group {
                [(one, _)] => format!("point {one} {whereto}"),
                all => format!("point {} tables {whereto}, in one commit", all.len()),
            };
            steps.push(
                &IcebergAction::Commit {
                    commits: forth,
                    token,
                },
                Some(&IcebergAction::Commit {
                    commits: back,
                    token: undo_token,
                }),
                group.iter().map(|(name, _)| name.clone()).collect(),
                &turns,
                group.iter().map(|(name, m)| m.statement(name)).collect(),
                explain,
            )?;
        }
        Ok(())
    }

    /// What a person is told.
    fn words(&mut self, steps: &Sequence, in_order: bool) {
        let production = steps.steps.iter().filter(|s| s.production).count();
        let tables = self.moved.len();
        let whereto = match self.publishes {
            true => "to what was built",
            false => "back",
        };
        let copied = match self.survey.brought.is_empty() {
            true => "no data is copied",
            false => "only what others added is written again",
        };
        self.out.method = match (production, tables) {
            (1, 1) => format!("one commit of one table moves it {whereto}: {copied}"),
            (1, n) if n > 1 => format!("one commit moves {n} tables {whereto} at once: {copied}"),
            _ => format!("snapshots, names and definitions are moved {whereto}: {copied}"),
        };
        if production > 1 {
            let why = match self.survey.can.transaction {
                true => "names and views are no part of a commit",
                false => "this catalog commits one table at a time",
            };
            let order = match in_order {
                true => ", each table before those that it reads",
                false => "",
            };
            self.out.notes.push(format!(
                "not atomic here: {why}, so that {production} changes follow each other{order}; if \
                 one fails, those before it are taken back"
            ));
        }
        let dropped = self.views.iter().filter(|(_, _, c)| c.is_none()).count();
        if dropped > 0 {
            self.out.irreversible.push(format!(
                "{dropped} views are dropped: they can be made again, without their older versions \
                 and without what the catalog granted on them"
            ));
        }
        let added = self.moved.iter().flat_map(|(_, m)| &m.updates);
        if added.clone().any(|u| matches!(u, Update::AddSchema { .. })) {
            self.out.notes.push(
                "a schema that had been removed is added again, under another number".to_owned(),
            );
        }
    }
}
