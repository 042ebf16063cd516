//! Carrying out a step, and finding out what became of a request whose answer was lost.

use super::action::{self, IcebergAction};
use super::kept::Store;
use super::look::Scope;
use super::name::{self, text};
use super::rest::{
    Client, Commit, Doing, Identifier, Reference, Requirement, RestError, Snapshots, Update,
    ViewContent,
};
use super::sight::Sight;
use super::{commit, look, state, tags};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::fault::boundary;

/// How often a catalog is asked what became of a request.
const LOOKS: u32 = 6;

/// The first wait between two looks; each later one is twice as long.
const WAIT: Duration = Duration::from_millis(250);

/// What steps are carried out with.
pub struct Hands<'a> {
    /// The catalog.
    pub client: &'a Client,
    /// What is retained.
    pub store: &'a Store,
    /// What of the catalog is production.
    pub scope: Scope<'a>,
}

/// What is known of a request that was in doubt.
enum Became {
    /// It was done.
    Done,
    /// It was not, and cannot be any more.
    Never,
}

/// A key that is sent with one change: a version 7 UUID (RFC 9562), as the protocol asks for.
pub fn key(of: &str) -> String {
    let now = Timestamp::now();
    let hash = blake3::hash(format!("{of} {}", now.as_nanosecond()).as_bytes());
    let milliseconds = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let mut bytes = [0_u8; 16];
    bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&hash.as_bytes()[..10]);
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

impl Hands<'_> {
    /// Carries out one action.
    pub fn carry_out(&self, action: &IcebergAction) -> Result<(), EngineError> {
        match action {
            IcebergAction::Keep { kept, namespaces } => {
                let mut all = match self.store.read(kept.release)? {
                    Some(there) => there,
                    None => super::kept::Kept::new(kept.release),
                };
                for parts in namespaces {
                    self.make_namespace(parts)?;
                    boundary("namespace made");
                }
                all.add(kept.clone())?;
                self.store.write(&all)
            }
            IcebergAction::Rename { from, to, uuid } => {
                let sent = self.client.rename(from, to, &key(uuid));
                let what = format!("rename {} to {}", text(from), text(to));
                self.looked(sent, &what, || {
                    Ok(self.is_table(to, uuid)? && !self.is_table(from, uuid)?)
                })
            }
            IcebergAction::Register {
                name,
                metadata,
                uuid,
            } => {
                let sent = self.client.register(name, metadata, &key(uuid));
                let what = format!("register {} from {metadata}", text(name));
                self.looked(sent, &what, || self.is_table(name, uuid))
            }
            IcebergAction::Retag { tables } => tags::again(self.client, self.store, tables),
            IcebergAction::Forget { release, digest } => self.store.forget(*release, digest),
            IcebergAction::Unregister { name, uuid } => {
                let sent = self.client.unregister(name, &key(uuid));
                let what = format!("take {} out of the catalog", text(name));
                self.looked(sent, &what, || Ok(!self.is_table(name, uuid)?))
            }
            IcebergAction::View { name, content } => self.view(name, content.as_ref()),
            IcebergAction::Commit { commits, token } => self.commit(commits, token),
        }
    }

    fn make_namespace(&self, parts: &[String]) -> Result<(), EngineError> {
        let what = format!("make the namespace {}", name::schema(parts));
        match self.client.has_namespace(parts).doing(&what)? {
            true => Ok(()),
            false => self.client.create_namespace(parts).doing(&what),
        }
    }

    /// A change of one name. Where its answer is lost, what is there tells whether it happened; that
    /// it did not does not say that it will not.
    fn looked(
        &self,
        sent: Result<(), RestError>,
        what: &str,
        happened: impl Fn() -> Result<bool, RestError>,
    ) -> Result<(), EngineError> {
        boundary("name changed");
        let Err(error) = sent else { return Ok(()) };
        if error.certain() {
            return Err(error).doing(what);
        }
        let mut wait = WAIT;
        for _ in 0..LOOKS {
            if happened().is_ok_and(|happened| happened) {
                return Ok(());
            }
            sleep(wait);
            wait *= 2;
        }
        Err(in_doubt(what, &error))
    }

    fn is_table(&self, id: &Identifier, uuid: &str) -> Result<bool, RestError> {
        let table = self.client.table(id, Snapshots::Refs)?;
        Ok(table.is_some_and(|table| table.metadata.table_uuid == uuid))
    }

    fn view(&self, id: &Identifier, content: Option<&ViewContent>) -> Result<(), EngineError> {
        let what = format!("change the view {}", text(id));
        let now = self.client.view(id).doing(&what)?;
        let key = key(&text(id));
        let sent = match (content, &now) {
            (None, None) => return Ok(()),
            (None, Some(_)) => self.client.drop_view(id, &key),
            (Some(content), None) => {
                let content = ViewContent {
                    version: version(content, 1, 0),
                    ..content.clone()
                };
                self.client.create_view(id, &content, &key)
            }
            (Some(content), Some(now)) => {
                let commit = view_commit(id, content, &now.metadata);
                self.client.commit_view(&commit, &key)
            }
        };
        self.looked(sent, &what, || {
            let now = self.client.view(id)?;
            let now = now.and_then(|view| state::view_content(&view.metadata).ok());
            Ok(now.as_ref() == content)
        })
    }

    fn commit(&self, commits: &[Commit], token: &str) -> Result<(), EngineError> {
        let key = key(token);
        let sent = match commits {
            [] => return Ok(()),
            [one] => self.client.commit(one, &key),
            all => self.client.commit_all(all, &key),
        };
        boundary("commit sent");
        let Err(error) = sent else { return Ok(()) };
        let what = match commits {
            [one] => format!("commit to {}", text(&one.identifier)),
            all => format!("commit to {} tables", all.len()),
        };
        if error.certain() {
            return Err(error).doing(&what);
        }
        match self.became(commits, token) {
            Some(Became::Done) => Ok(()),
            Some(Became::Never) => Err(EngineError::new(
                ErrorKind::Io,
                format!("could not {what}: its answer was lost, and it was not done ({error})"),
            )
            .hint("production is as it was; try again when the catalog answers")),
            None => Err(in_doubt(&what, &error)),
        }
    }

    /// What became of a commit whose answer was lost. It may still be on its way: a commit of our
    /// own, that excludes it, makes sure that it does not happen after everybody has stopped
    /// looking. It makes the tag that the lost one requires not to be there.
    fn became(&self, commits: &[Commit], token: &str) -> Option<Became> {
        let first = commits.first()?;
        let fence = commits.iter().find_map(fence);
        let at = fence
            .as_ref()
            .map_or(&first.identifier, |(c, _)| &c.identifier);
        let mut wait = WAIT;
        for _ in 0..LOOKS {
            if let Ok(Some(table)) = self.client.table(at, Snapshots::Refs) {
                let bears = table.metadata.properties.get(name::RELEASED);
                if bears.map_or(commit::NONE, String::as_str) == token {
                    return Some(Became::Done);
                }
                if let Some((_, tag)) = &fence
                    && table.metadata.refs.contains_key(tag)
                {
                    return Some(Became::Never);
                }
            }
            if let Some((fence, tag)) = &fence {
                let sent = self.client.commit(fence, &key(tag));
                boundary("fence sent");
                if sent.is_ok() {
                    return Some(Became::Never);
                }
            }
            sleep(wait);
            wait *= 2;
        }
        None
    }
}

/// A commit that makes nothing but the tag which this one requires not to be there.
fn fence(of: &Commit) -> Option<(Commit, String)> {
    let (tag, snapshot) = of.updates.iter().find_map(|update| match update {
        Update::SetSnapshotRef {
            ref_name,
            snapshot_id,
            ..
        } if name::is_tag(ref_name) => Some((ref_name.clone(), *snapshot_id)),
        _ => None,
    })?;
    let absent = Requirement::AssertRefSnapshotId {
        r#ref: tag.clone(),
        snapshot_id: None,
    };
    if !of.requirements.contains(&absent) {
        return None;
    }
    let same = |r: &&Requirement| matches!(r, Requirement::AssertTableUuid { .. });
    let mut requirements: Vec<_> = of.requirements.iter().filter(same).cloned().collect();
    requirements.push(absent);
    let commit = Commit {
        identifier: of.identifier.clone(),
        requirements,
        updates: vec![Update::point(&tag, &Reference::tag(snapshot))],
    };
    Some((commit, tag))
}

/// A view's version, complete: its meaning, a number, the number of its schema, and when.
fn version(content: &ViewContent, number: i64, schema: i64) -> serde_json::Value {
    let mut version = content.version.clone();
    if let Some(map) = version.as_object_mut() {
        map.insert("version-id".to_owned(), number.into());
        map.insert("schema-id".to_owned(), schema.into());
        map.insert(
            "timestamp-ms".to_owned(),
            Timestamp::now().as_millisecond().into(),
        );
        map.insert("summary".to_owned(), json!({ "engine-name": "unship" }));
    }
    version
}

/// What makes a view say something else: a version that it has had, or a new one.
fn view_commit(id: &Identifier, content: &ViewContent, now: &super::rest::ViewMetadata) -> Commit {
    const LAST: i64 = -1;
    let number = |of: &serde_json::Value, key: &str| of.get(key)?.as_i64();
    let schema = state::number_of(&now.schemas, "schema-id", &content.schema);
    let had = now.versions.iter().find(|version| {
        let schema_id = number(version, "schema-id");
        state::meaning(version) == content.version && schema.is_some() && schema_id == schema
    });
    let mut updates = Vec::new();
    match had.and_then(|version| number(version, "version-id")) {
        Some(view_version_id) => updates.push(Update::SetCurrentViewVersion { view_version_id }),
        None => {
            if schema.is_none() {
                let mut new = content.schema.clone();
                if let Some(map) = new.as_object_mut() {
                    let free = state::free_number(&now.schemas, "schema-id");
                    map.insert("schema-id".to_owned(), free.into());
                }
                updates.push(Update::AddSchema { schema: new });
            }
            let free = state::free_number(&now.versions, "version-id");
            updates.push(Update::AddViewVersion {
                view_version: version(content, free, schema.unwrap_or(LAST)),
            });
            updates.push(Update::SetCurrentViewVersion {
                view_version_id: LAST,
            });
        }
    }
    commit::properties(&now.properties, &content.properties, &mut updates);
    Commit {
        identifier: id.clone(),
        requirements: vec![Requirement::AssertViewUuid {
            uuid: now.view_uuid.clone(),
        }],
        updates,
    }
}

fn in_doubt(what: &str, error: &RestError) -> EngineError {
    EngineError::new(
        ErrorKind::InDoubt,
        format!("nobody can tell yet whether the catalog did {what}: {error}"),
    )
    .hint("when the catalog answers again, `unship resume` looks what is true and goes on")
}

/// What a fact is of: a namespace, a name, and a branch of it.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Of {
    Branch(Vec<String>, String, String),
    Name(Vec<String>, String),
}

/// What is true now of each subject; several are looked at at once.
/// Which commit a table has seen last need not be asked where it was just seen: the next commit says
/// itself what it expects. Names say nothing of what they expect.
pub fn facts(
    hands: &Hands<'_>,
    sight: &mut Sight,
    subjects: &[&str],
) -> Result<Vec<String>, EngineError> {
    let unique: Vec<&str> = subjects
        .iter()
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut asked = Vec::new();
    let mut answers = std::collections::BTreeMap::new();
    for subject in unique {
        let unknown = || {
            let text = format!("the plan asks for {subject:?}");
            EngineError::new(ErrorKind::Unsupported, text).hint("it may come from a newer unship")
        };
        let (word, of) = subject.split_once(' ').ok_or_else(unknown)?;
        if word == "kept" {
            let (release, digest) = of.split_once(' ').ok_or_else(unknown)?;
            let release = release.parse().map_err(|_| unknown())?;
            let there = hands.store.has_part(release, digest)?;
            answers.insert(subject, if there { "yes" } else { "no" }.to_owned());
            continue;
        }
        let of: Of = serde_json::from_str(of).map_err(|_| unknown())?;
        let (namespace, name, branch) = match of {
            Of::Branch(namespace, name, branch) if word == "head" => {
                (namespace, name, Some(branch))
            }
            Of::Name(namespace, name) if matches!(word, "released" | "table" | "tags" | "view") => {
                (namespace, name, None)
            }
            _ => return Err(unknown()),
        };
        asked.push((subject, word, Identifier { namespace, name }, branch));
    }
    let client = hands.client;
    let scope = &hands.scope;
    let counted = match asked.iter().any(|(_, word, ..)| *word == "tags") {
        true => hands.store.all()?,
        false => Vec::new(),
    };
    let released = asked.iter().filter(|(_, word, ..)| *word == "released");
    let ids: Vec<_> = released.map(|(_, _, id, _)| id.clone()).collect();
    sight.settle(client, scope, &ids)?;
    let table = |word: &str, id: &Identifier| match sight.table(scope, id) {
        Some(known) if word == "released" => Ok(known),
        _ => client.table(id, Snapshots::Refs),
    };
    let seen = look::each(
        &asked,
        "tables",
        &|_, _, _| (),
        |(_, word, id, branch)| match *word {
            "view" => match client.view(id)? {
                None => Ok(Some(action::ABSENT.to_owned())),
                Some(view) => Ok(state::view_content(&view.metadata)
                    .ok()
                    .and_then(|content| action::view_digest(&content).ok())),
            },
            "tags" => Ok(Some(match client.table(id, Snapshots::All)? {
                None => action::ABSENT.to_owned(),
                Some(table) => tags::fact(&tags::missing(&counted, id, &table.metadata)),
            })),
            word => Ok(Some(match table(word, id)? {
                None => action::ABSENT.to_owned(),
                Some(table) if word == "table" => table.metadata.table_uuid.clone(),
                Some(table) if word == "head" => {
                    let branch = branch.as_deref().unwrap_or_default();
                    let head = match branch {
                        commit::MAIN => state::current(&table.metadata),
                        branch => table.metadata.refs.get(branch).map(|head| head.snapshot_id),
                    };
                    head.map_or(action::ABSENT.to_owned(), |head| head.to_string())
                }
                Some(table) => {
                    let mark = table.metadata.properties.get(name::RELEASED);
                    mark.map_or(commit::NONE, String::as_str).to_owned()
                }
            })),
        },
    );
    for ((subject, _, id, _), answer) in asked.iter().zip(seen.doing("look at the catalog")?) {
        let answer = answer.ok_or_else(|| {
            EngineError::new(ErrorKind::Corrupt, format!("{} cannot be read", text(id)))
        })?;
        answers.insert(subject, answer);
    }
    Ok(subjects
        .iter()
        .map(|subject| answers.get(subject).cloned().unwrap_or_default())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_version_7_uuid_and_none_is_like_another() {
        let (one, two) = (key("a"), key("a"));
        assert_ne!(one, two);
        let parts: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(one[14..].starts_with('7'), "{one}");
        assert!("89ab".contains(&one[19..20]), "{one}");
    }
}
