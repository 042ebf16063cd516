//! What is done to go back: pure, from what was surveyed.
//!
//! One table changes at a time, each step with its undo. What can be known before is asked before the
//! first step: that every version that shall come back is still there.

use super::action::{ABSENT, DeltaAction, Sequence, Turn, YES, subject};
use super::commit::{Empty, NONE, Restore};
use super::foreign::{self, Commit};
use super::kept::{self, Kept, KeptRelation};
use super::lake;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use unship_core::engine::{EngineError, ErrorKind, RestoreRequest, Steps};
use unship_core::ident::RelationName;
use unship_core::plan::Fact;
use unship_core::relation::{Difference, RelationState};
use unship_core::release::Version;

/// The engine's name, as in `unship.toml`.
pub const ENGINE: &str = "delta";

/// A table as planning needs to know it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Its directory below the root.
    pub path: String,
    /// Its identity.
    pub id: String,
    /// Its newest version.
    pub version: u64,
    /// What the ledger remembers of that.
    pub state: RelationState,
    /// Why it cannot be taken back, if so: a clause after its name.
    pub refused: Option<String>,
    /// Its newest commits, the newest first.
    pub commits: Vec<Commit>,
    /// Identities that it had in versions that are retained and stand in its log.
    #[serde(default)]
    pub former: BTreeSet<String>,
    /// Whether unship emptied it, so that it is no part of production though it lies there.
    #[serde(default)]
    pub aside: bool,
}

impl Found {
    /// Whether what was retained is a version of this table.
    fn has(&self, kept: &KeptRelation) -> bool {
        let id = identity(&kept.state);
        id == self.id || self.former.contains(id)
    }
}

/// What planning needs to know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Survey {
    /// Where a relation that is asked for lies, or would lie.
    pub homes: Vec<(RelationName, String)>,
    /// The tables that lie there.
    pub tables: Vec<(RelationName, Found)>,
    /// What was set aside of them.
    pub aside: Vec<(RelationName, Found)>,
    /// The restore points, the oldest first.
    pub kept: Vec<Kept>,
    /// Whether a table stays where it lies, because nothing can be renamed there.
    #[serde(default)]
    pub stays: bool,
}

/// What happens, before it is put into steps.
struct Intent<'a> {
    request: &'a RestoreRequest,
    survey: &'a Survey,
    kept: Kept,
    /// Tables that are set aside: from, to, identity.
    leave: Vec<(RelationName, String, String, String)>,
    /// Tables that are emptied where they cannot be, with how it is taken back.
    emptied: Vec<(RelationName, Empty, Restore)>,
    /// Tables that come back from where they were set aside.
    come: Vec<(RelationName, String, String, String)>,
    /// Tables that become an older version, with how it is taken back.
    moved: Vec<(RelationName, Restore, Restore)>,
    readable: Vec<Fact>,
    out: Steps,
}

/// Steps that fulfil a restore request.
pub fn restore(survey: &Survey, request: &RestoreRequest) -> Result<Steps, EngineError> {
    let mut intent = Intent {
        request,
        survey,
        kept: Kept::new(request.live),
        leave: Vec::new(),
        emptied: Vec::new(),
        come: Vec::new(),
        moved: Vec::new(),
        readable: Vec::new(),
        out: Steps::default(),
    };
    for name in &request.remove {
        intent.remove(name)?;
    }
    for (name, version) in &request.bring {
        intent.bring(name, version)?;
    }
    intent.steps()
}

fn missing(name: &RelationName, why: &str) -> EngineError {
    EngineError::new(ErrorKind::Missing, format!("{name} cannot go back: {why}"))
        .hint("`unship log` shows what is still kept; `--select` leaves this table out")
}

fn refused(name: &RelationName, why: &str) -> EngineError {
    let text = format!("{name} {why}: unship cannot take it back");
    EngineError::new(ErrorKind::Unsupported, text).hint(super::features::HINT)
}

fn unknown(name: &RelationName) -> EngineError {
    let text = format!("what {name} was is not recorded as that of a Delta table");
    EngineError::new(ErrorKind::Unsupported, text)
}

/// The identity of the table that a state is of.
pub fn identity(state: &RelationState) -> &str {
    let storage = state.storage.as_deref().unwrap_or_default();
    storage.split(' ').next().unwrap_or_default()
}

fn content(state: &RelationState) -> String {
    let fingerprint = state.fingerprint.as_ref();
    fingerprint.map(|f| f.whole.clone()).unwrap_or_default()
}

impl<'a> Intent<'a> {
    fn found(&self, name: &RelationName) -> Option<&'a Found> {
        let mut all = self.survey.tables.iter();
        all.find(|(of, _)| of == name).map(|(_, found)| found)
    }

    fn home(&self, name: &RelationName) -> Result<String, EngineError> {
        let mut homes = self.survey.homes.iter();
        let home = homes.find(|(of, _)| of == name);
        home.map(|(_, path)| path.clone())
            .ok_or_else(|| unknown(name))
    }

    /// Writes down what a table is now.
    fn keep(&mut self, name: &RelationName, found: &Found) {
        let relation = KeptRelation {
            state: found.state.clone(),
            version: found.version,
        };
        self.kept.relations.insert(name.clone(), relation);
        if let (Some(versions), Some(now)) =
            (&mut self.kept.versions, self.request.live_map.get(name))
        {
            versions.insert(name.clone(), now.id);
        }
    }

    /// Sets a table aside, so that it can be had again.
    fn remove(&mut self, name: &RelationName) -> Result<(), EngineError> {
        let Some(found) = self.found(name) else {
            return Ok(());
        };
        self.keep(name, found);
        if self.survey.stays {
            return self.empty(name, found);
        }
        let home = self.home(name)?;
        let to = lake::aside(self.request.live, &home);
        self.leave.push((name.clone(), home, to, found.id.clone()));
        Ok(())
    }

    /// Takes the rows out of a table that cannot be moved out of the way.
    fn empty(&mut self, name: &RelationName, found: &Found) -> Result<(), EngineError> {
        if let Some(why) = &found.refused {
            return Err(refused(name, why));
        }
        let release = self.request.release;
        let back = self.step(name, found, found.version.saturating_add(1), None)?;
        let of = format!("{release} {} {} emptied", found.path, found.version);
        let forth = Empty {
            path: found.path.clone(),
            table: name.to_string(),
            from: found.version,
            token: format!("{release} {}", blake3::hash(of.as_bytes()).to_hex()),
            says: format!("unship {release}, set aside"),
        };
        // What can be emptied can go to where it is, too.
        self.readable.push(Fact::new(
            subject::readable(&found.path, found.version, &back.files),
            YES,
        ));
        self.emptied.push((name.clone(), forth, back));
        Ok(())
    }

    /// A commit that makes a table what was retained, or takes that back.
    fn step(
        &self,
        name: &RelationName,
        found: &Found,
        from: u64,
        then: Option<&KeptRelation>,
    ) -> Result<Restore, EngineError> {
        let release = self.request.release;
        let (to, state) = match then {
            Some(then) => (then.version, &then.state),
            None => (found.version, &found.state),
        };
        let files = state.storage.clone().unwrap_or_default();
        let of = format!("{release} {} {from} {to} {files}", found.path);
        let digest = blake3::hash(of.as_bytes()).to_hex();
        let (token, says) = match then {
            Some(_) => (format!("{release} {digest}"), format!("unship {release}")),
            None => (NONE.to_owned(), format!("unship {release}, taken back")),
        };
        Ok(Restore {
            path: self.home(name)?,
            table: name.to_string(),
            from,
            to,
            files,
            content: content(state),
            token,
            says,
            aside: then.is_none() && found.aside,
        })
    }

    fn bring(&mut self, name: &RelationName, version: &Version) -> Result<(), EngineError> {
        let wanted = version.state.as_ref().ok_or_else(|| unknown(name))?;
        let retained = kept::retained(&self.survey.kept, name, wanted);
        let is = |found: &Found| retained.iter().any(|kept| found.has(kept));
        if let Some(found) = self.found(name).filter(|found| is(found)) {
            self.keep(name, found);
            return self.change(name, found, &retained, wanted);
        }
        if retained.is_empty() {
            let text = format!("which of its versions {} was is not recorded", version.id);
            return Err(missing(name, &text));
        }
        // What stands there is another table of the same name.
        self.remove(name)?;
        let mut aside = self.survey.aside.iter();
        let aside = aside.find(|(of, found)| of == name && is(found));
        let Some((_, found)) = aside else {
            let text = "its directory was deleted, and its versions went with it";
            return Err(missing(name, text));
        };
        let home = self.home(name)?;
        let from = found.path.clone();
        if from != home {
            self.come.push((name.clone(), from, home, found.id.clone()));
        }
        self.change(name, found, &retained, wanted)
    }

    /// The same table, as it was.
    fn change(
        &mut self,
        name: &RelationName,
        found: &Found,
        retained: &[&KeptRelation],
        wanted: &RelationState,
    ) -> Result<(), EngineError> {
        // One that was emptied is no part of production even where it had no rows.
        if !found.aside && found.state.difference(wanted) == Difference::None {
            return Ok(());
        }
        if let Some(why) = &found.refused {
            return Err(refused(name, why));
        }
        let same = retained.iter().filter(|kept| found.has(kept));
        let newest = same.max_by_key(|kept| kept.version);
        let then = newest.ok_or_else(|| unknown(name))?;
        let forth = self.step(name, found, found.version, Some(then))?;
        let back = self.step(name, found, found.version.saturating_add(1), None)?;
        self.readable.push(Fact::new(
            subject::readable(&found.path, forth.to, &forth.files),
            YES,
        ));
        let drifted = |v: &Version| v.id.drift > 0;
        if self.request.live_map.get(name).is_some_and(drifted)
            || foreign::by_several(&found.commits, then.version)
        {
            let note = foreign::told(name, &found.commits, then.version);
            self.out.notes.extend(note);
        }
        self.moved.push((name.clone(), forth, back));
        Ok(())
    }

    /// Nobody shall find a table as it was before that reads another as it is to be: what reads goes
    /// before what it reads. Whether that is known of any.
    fn readers_first(&mut self) -> bool {
        let order = self.request.built_in_order.iter().enumerate();
        let place: BTreeMap<_, _> = order.map(|(n, name)| (name, n)).collect();
        let moves = self.leave.iter().map(|(name, ..)| name);
        let moves = moves.chain(self.emptied.iter().map(|(name, ..)| name));
        let moves = moves.chain(self.moved.iter().map(|(name, ..)| name));
        if !moves.into_iter().any(|name| place.contains_key(name)) {
            return false;
        }
        self.leave
            .sort_by_key(|(name, ..)| Reverse(place.get(name).copied()));
        self.emptied
            .sort_by_key(|(name, ..)| Reverse(place.get(name).copied()));
        self.moved
            .sort_by_key(|(name, ..)| Reverse(place.get(name).copied()));
        true
    }

    fn steps(mut self) -> Result<Steps, EngineError> {
        let in_order = self.readers_first();
        let mut steps = Sequence::default();
        let digest = self.kept.digest()?;
        // A try before this one may have written it down, and been taken back.
        let is_kept =
            |kept: &Kept| kept.release == self.kept.release && kept.parts.contains(&digest);
        if !self.kept.relations.is_empty() && !self.survey.kept.iter().any(is_kept) {
            let kept = subject::kept(self.kept.release, &digest);
            steps.push(
                &DeltaAction::Keep {
                    kept: self.kept.clone(),
                },
                None,
                None,
                &[(kept, "no".to_owned(), YES.to_owned())],
                Vec::new(),
                format!(
                    "write down which versions {} is, for the {} tables that change",
                    self.request.live,
                    self.kept.relations.len()
                ),
            )?;
        }
        for (name, from, to, id) in &self.leave {
            let explain = format!("set {name} aside as {to}");
            rename(&mut steps, name, (from, to, id), explain)?;
        }
        for (name, forth, back) in &self.emptied {
            let released = subject::released(&forth.path, forth.from);
            steps.push(
                &DeltaAction::Empty(forth.clone()),
                Some(&DeltaAction::Restore(back.clone())),
                Some(name),
                &[(released, NONE.to_owned(), forth.token.clone())],
                vec![format!("delete from {name}")],
                format!("set {name} aside where it lies: its rows leave it, its versions stay"),
            )?;
        }
        for (name, from, to, id) in &self.come {
            let explain = format!("bring {name} back, which is not there now");
            rename(&mut steps, name, (from, to, id), explain)?;
        }
        for (name, forth, back) in &self.moved {
            let released = subject::released(&forth.path, forth.from);
            steps.push(
                &DeltaAction::Restore(forth.clone()),
                Some(&DeltaAction::Restore(back.clone())),
                Some(name),
                &[(released, NONE.to_owned(), forth.token.clone())],
                vec![format!(
                    "restore {name} to version {}, as its version {}",
                    forth.to,
                    forth.from.saturating_add(1)
                )],
                format!("make version {} of {name} the newest one again", forth.to),
            )?;
            if let Some(step) = steps.steps.last_mut() {
                let next = forth.from.saturating_add(1);
                let files = subject::files(&forth.path, next);
                step.expect.push(Fact::new(files, forth.files.clone()));
            }
        }
        if let Some(first) = steps.steps.first_mut() {
            // Nothing begins before everything is known to be there.
            first.guard.append(&mut self.readable);
        }
        self.words(&steps, in_order);
        self.out.steps = steps.steps;
        Ok(self.out)
    }

    /// What a person is told.
    fn words(&mut self, steps: &Sequence, in_order: bool) {
        let production = steps.steps.iter().filter(|s| s.production).count();
        self.out.method = match (self.moved.len(), production) {
            (1, 1) => "one commit makes an older version the newest one: no data is copied",
            _ => {
                "one commit for each table makes an older version the newest one: no data is copied"
            }
        }
        .to_owned();
        if production > 1 {
            let order = match in_order {
                true => ", each table before those that it reads",
                false => "",
            };
            self.out.notes.push(format!(
                "not atomic between tables: {production} changes follow each other{order}; if one \
                 fails, those before it are taken back"
            ));
        }
        if !self.emptied.is_empty() {
            let names: Vec<_> = self.emptied.iter().map(|(n, ..)| n.to_string()).collect();
            self.out.notes.push(format!(
                "what the release made stays in an object store as a table without rows: {}. Drop \
                 it before a job that asks whether it is there",
                names.join(", ")
            ));
        }
        self.out.needs.push(
            "nobody vacuums these tables meanwhile: files that come back must stay".to_owned(),
        );
    }
}

fn rename(
    steps: &mut Sequence,
    name: &RelationName,
    (from, to, id): (&str, &str, &str),
    explain: String,
) -> Result<(), EngineError> {
    let action = |from: &str, to: &str| DeltaAction::Rename {
        from: from.to_owned(),
        to: to.to_owned(),
        id: id.to_owned(),
    };
    let turns: [Turn; 2] = [
        (subject::table(from), id.to_owned(), ABSENT.to_owned()),
        (subject::table(to), ABSENT.to_owned(), id.to_owned()),
    ];
    let statement = format!("rename {from} to {to}");
    let undo = action(to, from);
    steps.push(
        &action(from, to),
        Some(&undo),
        Some(name),
        &turns,
        vec![statement],
        explain,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use unship_core::ident::ReleaseId;
    use unship_core::relation::{Fingerprint, RelationKind};
    use unship_core::release::VersionId;

    fn name(of: &str) -> RelationName {
        RelationName::new("lake", "s", of)
    }

    fn state(of: &str, files: u64) -> RelationState {
        RelationState {
            kind: RelationKind::Table,
            columns: Vec::new(),
            definition: String::new(),
            dependents: Vec::new(),
            rows: Some(files),
            fingerprint: Some(Fingerprint {
                method: super::super::state::METHOD.to_owned(),
                rows: files,
                whole: format!("{of} {files}"),
                columns: BTreeMap::new(),
            }),
            storage: Some(format!("{of} {files}")),
        }
    }

    fn version(of: &str, release: u64, files: u64) -> Version {
        Version {
            id: VersionId {
                release: ReleaseId(release),
                drift: 0,
            },
            owned: true,
            state: Some(state(of, files)),
        }
    }

    /// Each of these tables had one file in `R1` at version 4, and has two now, at version 7.
    fn asked(of: &[&str], in_order: &[&str]) -> (Survey, RestoreRequest) {
        let mut survey = Survey::default();
        let mut kept = Kept::new(ReleaseId(1));
        let mut request = RestoreRequest {
            release: ReleaseId(3),
            live: ReleaseId(2),
            live_map: BTreeMap::new(),
            bring: BTreeMap::new(),
            remove: BTreeSet::new(),
            points: Vec::new(),
            pinned: BTreeSet::new(),
            keep: BTreeMap::new(),
            writer: None,
            built_in_order: in_order.iter().map(|of| name(of)).collect(),
            spells: BTreeMap::new(),
        };
        for of in of {
            let found = Found {
                path: format!("s/{of}"),
                id: (*of).to_owned(),
                version: 7,
                state: state(of, 2),
                refused: None,
                commits: Vec::new(),
                former: BTreeSet::new(),
                aside: false,
            };
            survey.homes.push((name(of), found.path.clone()));
            survey.tables.push((name(of), found));
            let retained = KeptRelation {
                state: state(of, 1),
                version: 4,
            };
            kept.relations.insert(name(of), retained);
            request.bring.insert(name(of), version(of, 1, 1));
            request.live_map.insert(name(of), version(of, 2, 2));
        }
        survey.kept.push(kept);
        (survey, request)
    }

    fn order(steps: &Steps) -> Vec<String> {
        let changes = steps.steps.iter().filter(|step| step.production);
        changes.map(|step| step.relations[0].name.clone()).collect()
    }

    #[test]
    fn what_reads_goes_back_before_what_it_reads() {
        let (survey, request) = asked(&["a", "b", "c", "z"], &["a", "c", "b"]);
        let steps = restore(&survey, &request).unwrap();
        assert_eq!(order(&steps), ["b", "c", "a", "z"]);
        assert!(steps.notes[0].contains("each table before those that it reads"));
        let (survey, request) = asked(&["b", "a"], &[]);
        let steps = restore(&survey, &request).unwrap();
        assert_eq!(order(&steps), ["a", "b"]);
        assert!(!steps.notes[0].contains("reads"), "{:?}", steps.notes);
    }

    /// Before the first step everything is asked for that a later one needs.
    #[test]
    fn nothing_begins_before_every_version_is_known_to_be_there() {
        let (survey, request) = asked(&["a", "b"], &[]);
        let steps = restore(&survey, &request).unwrap().steps;
        let asks: Vec<_> = steps[0]
            .guard
            .iter()
            .map(|fact| fact.subject.as_str())
            .collect();
        assert_eq!(
            asks[1..],
            [
                "readable [\"s/a\",4,\"a 1\"]",
                "readable [\"s/b\",4,\"b 1\"]",
            ]
        );
        assert!(!steps[0].production);
        for step in &steps[1..] {
            let undo = step.undo.as_ref().unwrap();
            assert_eq!(
                (&undo.args["from"], &undo.args["to"]),
                (&8.into(), &7.into())
            );
        }
    }

    #[test]
    fn a_table_that_is_refused_is_named_with_the_way_out() {
        let (mut survey, request) = asked(&["a"], &[]);
        survey.tables[0].1.refused = Some("tracks its rows".to_owned());
        let error = restore(&survey, &request).unwrap_err();
        assert!(
            error.message.starts_with("lake.s.a tracks its rows"),
            "{error}"
        );
        assert!(error.hint.unwrap().contains("--select"));
    }
}
