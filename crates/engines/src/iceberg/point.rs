//! Restore points: taken, proved, dropped.

use super::act::{Hands, key};
use super::action::IcebergAction;
use super::kept::{Kept, KeptRelation, Store};
use super::look::{self, Seen};
use super::name;
use super::rest::{
    Client, Commit, Doing, Endpoint, Identifier, LoadTable, Reference, Requirement, RestError,
    Snapshots, Update,
};
use super::state::TableState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;
use unship_core::engine::{
    Diagnosis, EngineError, ErrorKind, Housekeeping, Level, Observation, OnProgress, Retention,
};
use unship_core::fault::boundary;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::relation::{Difference, RelationKind, RelationState};

/// The most tables that are tagged in one request.
const TOGETHER: usize = 200;

/// How often tags are sent that the catalog does not take because others commit at the same time.
const TRIES: u32 = 6;

/// The first wait in between; each later one is twice as long.
const WAIT: Duration = Duration::from_millis(100);

/// Tags everything that production is, and writes down what it was. A snapshot that a tag of
/// unship's keeps already needs no other.
///
/// `known` is what the ledger knows of production. Where somebody committed since, that is what is
/// retained, and not what they have just made. Gives the relations that got a tag.
pub fn take(
    hands: &Hands<'_>,
    live: ReleaseId,
    seen: &Seen,
    known: Option<&Observation>,
    on: OnProgress<'_>,
) -> Result<BTreeSet<RelationName>, EngineError> {
    let mut kept = Kept {
        versions: None,
        ..Kept::new(live)
    };
    let mut commits = Vec::new();
    let mut new = BTreeSet::new();
    let now;
    let known = match known {
        Some(known) => known,
        None => {
            now = seen.states()?;
            &now
        }
    };
    for (relation, state) in known {
        let table = seen.tables.get(relation);
        let was = TableState::read(state);
        let same = |table: &&Arc<LoadTable>| {
            let uuid = was.as_ref().map(|was| was.uuid.as_str());
            uuid == Some(table.metadata.table_uuid.as_str())
        };
        let there = match state.kind {
            RelationKind::View => seen.views.contains_key(relation),
            _ => table.is_some_and(|table| same(&table)),
        };
        if !there {
            return Err(EngineError::new(
                ErrorKind::Busy,
                format!("{relation} was dropped or made anew just now"),
            )
            .hint("try again: the restore point is then taken of what is there"));
        }
        let (tag, commit) = match (table, was.and_then(|was| was.snapshot)) {
            (Some(table), Some(snapshot)) => tagged(relation, table, snapshot, live),
            _ => (None, None),
        };
        if commit.is_some() {
            new.insert(relation.clone());
        }
        commits.extend(commit);
        let one = KeptRelation {
            state: state.clone(),
            metadata: table
                .map(|t| location(relation, t, state))
                .transpose()?
                .flatten(),
            tag,
            aside: None,
        };
        kept.relations.insert(relation.clone(), one);
    }
    boundary("restore point begun");
    let client = hands.client;
    let together = client.offers(Endpoint::Transaction);
    let groups: Vec<_> = commits
        .chunks(if together { TOGETHER } else { 1 })
        .collect();
    let sent = look::each(&groups, "tags", on, |group| send(client, group));
    sent.doing("tag what production is")?;
    boundary("tags made");
    hands.store.write(&kept)?;
    Ok(new)
}

/// Where the metadata of a table lies that is in this state: the file of what others made of it since
/// would bring that back.
fn location(
    relation: &RelationName,
    table: &LoadTable,
    state: &RelationState,
) -> Result<Option<String>, EngineError> {
    let now = look::table_state(relation, table)?;
    let same = now.storage == state.storage && now.difference(state) == Difference::None;
    Ok(table.metadata_location.clone().filter(|_| same))
}

/// Sends tags until the catalog takes them. They depend on nothing that others change.
pub fn send(client: &Client, group: &[Commit]) -> Result<(), RestError> {
    let mut wait = WAIT;
    let mut tried = 0;
    loop {
        tried += 1;
        let key = key("tags");
        let sent = match group {
            [one] => client.commit(one, &key),
            all => client.commit_all(all, &key),
        };
        match sent {
            // Whether the tags are there is seen when the point is proved.
            Ok(()) | Err(RestError::Unknown(_)) => return Ok(()),
            Err(RestError::Conflict(_)) if tried < TRIES => {
                sleep(wait);
                wait *= 2;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The tag of a table's snapshot, and what makes it.
fn tagged(
    relation: &RelationName,
    table: &LoadTable,
    snapshot: i64,
    live: ReleaseId,
) -> (Option<String>, Option<Commit>) {
    let metadata = &table.metadata;
    let mut refs = metadata.refs.iter();
    let has = refs.find(|(tag, to)| {
        name::is_tag(tag) && to.snapshot_id == snapshot && to.max_ref_age_ms == Some(i64::MAX)
    });
    if let Some((tag, _)) = has {
        return (Some(tag.clone()), None);
    }
    let tag = name::tag(live, |name| metadata.refs.contains_key(name));
    let commit = name::identifier(relation).map(|identifier| Commit {
        identifier,
        requirements: vec![Requirement::AssertTableUuid {
            uuid: metadata.table_uuid.clone(),
        }],
        updates: vec![Update::point(&tag, &Reference::tag(snapshot))],
    });
    (Some(tag), commit)
}

/// Where a retained relation lies.
fn place(name: &RelationName, kept: &KeptRelation) -> Option<Identifier> {
    kept.aside.clone().or_else(|| name::identifier(name))
}

/// A restore point that was just taken.
#[derive(Debug)]
pub struct Taken {
    /// Whose.
    pub live: ReleaseId,
    /// What was there before.
    pub seen: Seen,
    /// What got a tag.
    pub tagged: BTreeSet<RelationName>,
}

/// Proves that what is retained of a release can be read. What was just taken is looked at again
/// only where it got a tag: the others' tags were seen.
pub fn prove(
    hands: &Hands<'_>,
    release: ReleaseId,
    taken: Option<Taken>,
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    let Some(kept) = hands.store.read(release)? else {
        return Err(EngineError::new(
            ErrorKind::Missing,
            format!("there is no restore point of {release}"),
        ));
    };
    let known = |name: &RelationName| {
        let taken = taken.as_ref()?;
        let table = taken.seen.tables.get(name)?;
        (!taken.tagged.contains(name)).then(|| Arc::clone(table))
    };
    let faults = faults(hands.client, &kept, known, on)?;
    match faults.into_iter().next() {
        None => Ok(()),
        Some((_, error)) => Err(error),
    }
}

/// What of a restore point cannot be read, by relation. What of it is `known` is not looked at.
fn faults(
    client: &Client,
    kept: &Kept,
    known: impl Fn(&RelationName) -> Option<Arc<LoadTable>> + Sync,
    on: OnProgress<'_>,
) -> Result<Vec<(RelationName, EngineError)>, EngineError> {
    let tables: Vec<_> = kept
        .relations
        .iter()
        .filter(|(_, one)| one.state.kind == RelationKind::Table)
        .filter_map(|(name, one)| Some((name, one, place(name, one)?)))
        .collect();
    let seen = look::each(&tables, "restore point", on, |(name, one, at)| {
        if let Some(table) = known(name).filter(|_| one.aside.is_none()) {
            return Ok(Some(table));
        }
        // What was to be set aside and never was lies where it did.
        let at_home = || name::identifier(name).map(|id| client.table(&id, Snapshots::Refs));
        match client.table(at, Snapshots::Refs)? {
            None if one.aside.is_some() => at_home().transpose().map(Option::flatten),
            table => Ok(table),
        }
    });
    let seen = seen.doing("prove a restore point")?;
    let mut out = Vec::new();
    for ((name, one, _), table) in tables.iter().zip(seen) {
        if let Err(error) = proved(name, one, table.as_deref()) {
            out.push(((*name).clone(), error));
        }
    }
    Ok(out)
}

fn proved(
    name: &RelationName,
    kept: &KeptRelation,
    table: Option<&LoadTable>,
) -> Result<(), EngineError> {
    let was = TableState::read(&kept.state);
    let same = table.filter(|t| {
        was.as_ref()
            .is_some_and(|was| was.uuid == t.metadata.table_uuid)
    });
    let Some(table) = same else {
        // It was dropped since: it can be registered again as long as its metadata is there.
        let Some(metadata) = &kept.metadata else {
            return Err(EngineError::new(
                ErrorKind::Missing,
                format!("{name} was dropped, and where its metadata lay is not recorded"),
            )
            .hint("it comes back from a file that you name to the catalog yourself, if at all"));
        };
        return match look::local(metadata).filter(|path| !path.is_file()) {
            None => Ok(()),
            Some(path) => Err(EngineError::new(
                ErrorKind::Missing,
                format!("{name} was dropped, and {} is not there", path.display()),
            )),
        };
    };
    if let (Some(tag), Some(snapshot)) = (&kept.tag, was.and_then(|was| was.snapshot)) {
        let held = table.metadata.refs.get(tag).map(|held| held.snapshot_id);
        if held != Some(snapshot) {
            return Err(EngineError::new(
                ErrorKind::Missing,
                format!("{name} does not have the tag {tag} that keeps its snapshot {snapshot}"),
            )
            .hint(format!(
                "nothing is lost as long as the snapshot is there, and expiry may take it at any \
                 time: make the tag again, in Spark `ALTER TABLE {}.{} CREATE TAG {tag} AS OF \
                 VERSION {snapshot} RETAIN 36500 DAYS`",
                name.schema, name.name
            )));
        }
        look::snapshot_readable(&name.to_string(), &table.metadata, snapshot)?;
    }
    Ok(())
}

/// Drops the restore points that nobody keeps: their tags and the tables that were set aside for
/// them, and nothing else of anybody's.
pub fn housekeep(
    hands: &Hands<'_>,
    keep: &Retention,
    on: OnProgress<'_>,
) -> Result<Housekeeping, EngineError> {
    let (client, store) = (hands.client, hands.store);
    let all = store.all()?;
    let (stay, go): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|kept| keep.keep.contains(&kept.release));
    if go.is_empty() {
        return Ok(Housekeeping::default());
    }
    let tags = |all: &[Kept]| -> BTreeSet<(RelationName, String)> {
        let relations = all.iter().flat_map(|kept| &kept.relations);
        relations
            .filter_map(|(name, one)| Some((name.clone(), one.tag.clone()?)))
            .collect()
    };
    let mut gone: BTreeMap<RelationName, BTreeSet<String>> = BTreeMap::new();
    for (name, tag) in tags(&go).difference(&tags(&stay)) {
        gone.entry(name.clone()).or_default().insert(tag.clone());
    }
    let gone: Vec<_> = gone.into_iter().collect();
    let removed = look::each(&gone, "tags", on, |(name, tags)| untag(client, name, tags));
    removed.doing("remove tags that nobody keeps")?;
    boundary("tags removed");
    drop_aside(hands, &stay, &go, on)?;
    let mut done = Housekeeping::default();
    for kept in go {
        store.remove(kept.release)?;
        done.dropped.push(kept.release);
    }
    Ok(done)
}

/// Takes tables out of the catalog that were set aside for what goes, and the namespaces that this
/// leaves empty. Their files stay: a table may name files that others use as well.
fn drop_aside(
    hands: &Hands<'_>,
    stay: &[Kept],
    go: &[Kept],
    on: OnProgress<'_>,
) -> Result<(), EngineError> {
    let aside = |all: &[Kept]| -> BTreeSet<(Identifier, String)> {
        let relations = all.iter().flat_map(|kept| kept.relations.values());
        relations
            .filter_map(|one| Some((one.aside.clone()?, TableState::read(&one.state)?.uuid)))
            .filter(|(at, _)| name::is_own(&at.namespace))
            .collect()
    };
    let needed = aside(stay);
    let gone: Vec<_> = aside(go).difference(&needed).cloned().collect();
    let there = look::each(&gone, "tables set aside", on, |(at, uuid)| {
        let table = hands.client.table(at, Snapshots::Refs)?;
        Ok(table.is_some_and(|table| table.metadata.table_uuid == *uuid))
    });
    let there = there.doing("look at what was set aside")?;
    // Another table of that name is not what was set aside.
    for ((at, uuid), _) in gone.iter().zip(there).filter(|(_, there)| *there) {
        hands.carry_out(&IcebergAction::Unregister {
            name: at.clone(),
            uuid: uuid.clone(),
        })?;
        boundary("table set aside dropped");
    }
    let namespaces: BTreeSet<_> = gone.iter().map(|(at, _)| &at.namespace).collect();
    let used = |parts: &Vec<String>| needed.iter().any(|(at, _)| at.namespace == *parts);
    for parts in namespaces.into_iter().filter(|parts| !used(parts)) {
        match hands.client.drop_namespace(parts) {
            // Something of others' lies in it, or it may not be dropped: an empty one hurts nobody.
            Ok(()) | Err(RestError::Conflict(_) | RestError::Forbidden(_)) => {}
            Err(RestError::Refused { .. } | RestError::Unsupported(_)) => {}
            Err(error) => return Err(error).doing("drop a namespace of what was set aside"),
        }
    }
    Ok(())
}

/// Removes a table's tags, as far as they are there.
fn untag(
    client: &Client,
    relation: &RelationName,
    tags: &BTreeSet<String>,
) -> Result<(), RestError> {
    let Some(identifier) = name::identifier(relation) else {
        return Ok(());
    };
    let Some(table) = client.table(&identifier, Snapshots::Refs)? else {
        return Ok(());
    };
    let there: Vec<_> = tags
        .iter()
        .filter(|tag| name::is_tag(tag))
        .filter_map(|tag| Some((tag, table.metadata.refs.get(tag)?)))
        .filter(|(_, to)| to.r#type == "tag")
        .collect();
    if there.is_empty() {
        return Ok(());
    }
    let mut requirements = vec![Requirement::AssertTableUuid {
        uuid: table.metadata.table_uuid.clone(),
    }];
    requirements.extend(
        there
            .iter()
            .map(|(tag, to)| Requirement::AssertRefSnapshotId {
                r#ref: (*tag).clone(),
                snapshot_id: Some(to.snapshot_id),
            }),
    );
    let updates = there.iter().map(|(tag, _)| Update::RemoveSnapshotRef {
        ref_name: (*tag).clone(),
    });
    let commit = Commit {
        identifier,
        requirements,
        updates: updates.collect(),
    };
    match client.commit(&commit, &key(&relation.to_string())) {
        // A tag that stays hurts nobody: it is only of no use any more.
        Ok(()) | Err(RestError::Conflict(_) | RestError::Unknown(_) | RestError::Missing(_)) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Looks at everything that is retained.
pub fn fsck(
    client: &Client,
    store: &Store,
    on: OnProgress<'_>,
) -> Result<Vec<Diagnosis>, EngineError> {
    let mut out = Vec::new();
    for kept in store.all()? {
        let subject = format!("restore point of {}", kept.release);
        let faults = faults(client, &kept, |_| None, on)?;
        if faults.is_empty() {
            out.push(Diagnosis {
                level: Level::Ok,
                subject: subject.clone(),
                finding: format!("{} relations", kept.relations.len()),
                hint: None,
            });
        }
        for (_, error) in faults {
            out.push(Diagnosis {
                level: Level::Error,
                subject: subject.clone(),
                finding: error.message,
                hint: error.hint,
            });
        }
    }
    Ok(out)
}
