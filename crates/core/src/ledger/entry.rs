//! Entries, and the chain that their hashes make.
//!
//! An entry's hash is BLAKE3 over [`ENTRY_DOMAIN`] followed by the RFC 8785 canonical JSON of
//! `{actor, at, env, event, prev, seq}`. The first entry's `prev` is BLAKE3 of [`GENESIS`]. Both
//! are fixed for ever, so that a log can be checked by a few lines in any language.

use super::{error::LedgerError, hash::Hash};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Stands before the canonical JSON in every entry's hash, so that no entry's hash can be the hash
/// of something else that unship hashes.
pub const ENTRY_DOMAIN: &[u8] = b"unship ledger entry v1\n";

/// The text whose hash the first entry carries as the hash of the entry before it.
pub const GENESIS: &[u8] = b"unship ledger genesis v1\n";

/// RFC 8785 writes every number as a double: a larger integer would be rounded, and two different
/// events would have one hash.
const LARGEST_INTEGER: u64 = (1 << 53) - 1;

/// JSON readers stop at 128 levels; what is written must be readable.
const DEEPEST: usize = 100;

/// What is to be appended: an entry that has no place in the chain yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// When it happened, by the clock of whoever says so. Order comes from `seq`, never from this.
    pub at: Timestamp,
    /// Who did it, in words: a person, a scheduler.
    pub actor: String,
    /// The environment it concerns.
    pub env: String,
    /// What happened: an object with a `"type"` string.
    pub event: Value,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place, from 1, without gaps.
    pub seq: u64,
    /// The hash of the entry before it.
    pub prev: Hash,
    /// Its own hash.
    pub hash: Hash,
    /// When it happened, by the clock of whoever said so.
    pub at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// The environment it concerns.
    pub env: String,
    /// What happened: an object with a `"type"` string. Numbers are as RFC 8785 writes them, so
    /// `1.0` comes back as `1`.
    pub event: Value,
}

impl Entry {
    /// The event's `"type"`.
    pub fn event_type(&self) -> &str {
        self.event["type"].as_str().unwrap_or_default()
    }

    /// The head that a log has when this is its last entry.
    pub fn head(&self) -> Head {
        Head {
            seq: self.seq,
            hash: self.hash,
        }
    }
}

/// The end of a log: how many entries it has, and the hash of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last entry's place; 0 for an empty log.
    pub seq: u64,
    /// The last entry's hash; for an empty log the hash of [`GENESIS`].
    pub hash: Hash,
}

impl Head {
    /// The head of an empty log.
    pub fn genesis() -> Self {
        Self {
            seq: 0,
            hash: Hash::of(GENESIS),
        }
    }
}

/// An entry as a backend stores it, not yet believed.
///
/// The event is kept as the very text that was hashed, so that no edit hides behind a JSON
/// reader's tolerance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place.
    pub seq: u64,
    /// The hash of the entry before it, 32 bytes if nobody touched it.
    pub prev: Vec<u8>,
    /// Its own hash, 32 bytes if nobody touched it.
    pub hash: Vec<u8>,
    /// The time, in RFC 3339 as [`Timestamp`] prints it.
    pub at: String,
    /// Who did it.
    pub actor: String,
    /// The environment.
    pub env: String,
    /// The event, canonical JSON.
    pub event: String,
}

impl StoredEntry {
    /// The hash that this entry would have at place `seq`.
    pub(super) fn hash_at(&self, seq: u64) -> Hash {
        use std::fmt::Write;
        let mut prev = String::with_capacity(64);
        for byte in &self.prev {
            // Writing to a string cannot fail.
            let _ = write!(prev, "{byte:02x}");
        }
        let text = |s: &str| Value::from(s).to_string();
        // Keys in RFC 8785 order. The event's text is canonical already.
        let json = format!(
            r#"{{"actor":{},"at":{},"env":{},"event":{},"prev":"{prev}","seq":{seq}}}"#,
            text(&self.actor),
            text(&self.at),
            text(&self.env),
            self.event,
        );
        let mut hasher = blake3::Hasher::new();
        hasher.update(ENTRY_DOMAIN);
        hasher.update(json.as_bytes());
        Hash::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Whether its contents are those that its hash was made of.
    pub(super) fn is_intact(&self) -> bool {
        self.hash_at(self.seq).as_bytes().as_slice() == self.hash
    }

    /// Believes the entry, if its contents have the hash that it carries.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] with its place and what is wrong.
    pub fn check(&self) -> Result<Entry, LedgerError> {
        let corrupt = |what: &str| LedgerError::Corrupt {
            seq: self.seq,
            what: what.to_owned(),
        };
        if !self.is_intact() {
            return Err(corrupt("its contents do not have the hash it carries"));
        }
        let hash = |bytes: &[u8]| {
            <[u8; 32]>::try_from(bytes)
                .map(Hash::from_bytes)
                .map_err(|_| corrupt("a hash in it is not 32 bytes long"))
        };
        Ok(Entry {
            seq: self.seq,
            prev: hash(&self.prev)?,
            hash: hash(&self.hash)?,
            at: self
                .at
                .parse()
                .map_err(|_| corrupt("its time is not a time"))?,
            actor: self.actor.clone(),
            env: self.env.clone(),
            event: serde_json::from_str(&self.event)
                .map_err(|_| corrupt("its event is not JSON"))?,
        })
    }
}

/// Gives drafts their places behind `head`. Every backend appends exactly this.
///
/// # Errors
/// [`LedgerError::BadEvent`] for an event that cannot be logged exactly.
pub fn link(head: &Head, drafts: &[Draft]) -> Result<Vec<StoredEntry>, LedgerError> {
    let mut head = *head;
    drafts
        .iter()
        .map(|draft| {
            let mut entry = StoredEntry {
                seq: head.seq + 1,
                prev: head.hash.as_bytes().to_vec(),
                hash: Vec::new(),
                at: draft.at.to_string(),
                actor: draft.actor.clone(),
                env: draft.env.clone(),
                event: canonical_event(&draft.event)?,
            };
            let hash = entry.hash_at(entry.seq);
            entry.hash = hash.as_bytes().to_vec();
            head = Head {
                seq: entry.seq,
                hash,
            };
            Ok(entry)
        })
        .collect()
}

fn canonical_event(event: &Value) -> Result<String, LedgerError> {
    let bad = |why: &str| LedgerError::BadEvent {
        why: why.to_owned(),
    };
    if !event.get("type").is_some_and(Value::is_string) {
        return Err(bad("it is not an object with a text `type`"));
    }
    exact(event, 0).map_err(bad)?;
    serde_json_canonicalizer::to_string(event).map_err(|e| bad(&e.to_string()))
}

/// Whether canonical JSON keeps all of `value`, and a reader can read it back.
fn exact(value: &Value, depth: usize) -> Result<(), &'static str> {
    if depth > DEEPEST {
        return Err("it is nested more than 100 levels deep");
    }
    match value {
        Value::Number(n) => {
            let magnitude = n.as_u64().or_else(|| n.as_i64().map(i64::unsigned_abs));
            match magnitude {
                Some(m) if m > LARGEST_INTEGER => {
                    Err("it holds an integer beyond 2^53 - 1, which must be written as text")
                }
                _ => Ok(()),
            }
        }
        Value::Array(items) => items.iter().try_for_each(|item| exact(item, depth + 1)),
        Value::Object(map) => map.values().try_for_each(|item| exact(item, depth + 1)),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::{any_event, draft};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn hashes_are_the_documented_ones_for_ever() {
        assert_eq!(
            Head::genesis().hash.to_string(),
            blake3::hash(b"unship ledger genesis v1\n").to_string()
        );
        let stored = link(
            &Head::genesis(),
            &[draft("anna", json!({"type": "x", "n": 1.0}))],
        );
        insta::assert_snapshot!(stored.unwrap()[0].check().unwrap().hash, @"72399826bf746cc2e9b5d9b67c19e2a20fc5763068a417cb3ff9e04088bef028");
    }

    proptest! {
        #[test]
        fn an_entry_is_hashed_over_its_whole_canonical_json(actor in ".*", event in any_event()) {
            let stored = link(&Head::genesis(), &[draft(&actor, event)]).unwrap();
            let entry = stored[0].check().unwrap();
            let mut value = serde_json::to_value(&entry).unwrap();
            value.as_object_mut().unwrap().remove("hash");
            let mut bytes = ENTRY_DOMAIN.to_vec();
            bytes.extend(serde_json_canonicalizer::to_vec(&value).unwrap());
            prop_assert_eq!(Hash::of(&bytes), entry.hash);
        }
    }

    #[test]
    fn events_that_would_be_rounded_or_unreadable_are_refused() {
        let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
        for event in [
            json!([]),
            json!({}),
            json!({"type": 1}),
            json!({"type": "x", "n": 9_007_199_254_740_992_u64}),
            json!({"type": "x", "n": [-9_007_199_254_740_992_i64]}),
            json!({"type": "x", "n": u64::MAX}),
            json!({"type": "x", "deep": deep}),
        ] {
            let answer = link(&Head::genesis(), &[draft("anna", event.clone())]);
            assert!(
                matches!(answer, Err(LedgerError::BadEvent { .. })),
                "{event}"
            );
        }
    }
}
