//! In which order members become production.

use super::{EstateError, Member};
use std::collections::BTreeSet;

/// The members, each after those that it reads; by name where nothing else decides.
pub(super) fn sources_first(mut members: Vec<Member>) -> Result<Vec<Member>, EstateError> {
    if members.is_empty() {
        return Err(EstateError::Empty);
    }
    let names: BTreeSet<String> = members.iter().map(|m| m.name.clone()).collect();
    for member in &members {
        let known = |name: &&String| **name != member.name && names.contains(*name);
        if let Some(reads) = member.reads.iter().find(|name| !known(name)) {
            return Err(EstateError::Unknown {
                member: member.name.clone(),
                reads: reads.clone(),
            });
        }
    }
    members.sort_by(|one, other| one.name.cmp(&other.name));
    let mut ordered: Vec<Member> = Vec::with_capacity(members.len());
    while !members.is_empty() {
        let placed = |name: &String| ordered.iter().any(|m| m.name == *name);
        let next = members.iter().position(|m| m.reads.iter().all(placed));
        let Some(next) = next else {
            let left = members.into_iter().map(|m| m.name);
            return Err(EstateError::Circle(left.collect()));
        };
        ordered.push(members.remove(next));
    }
    Ok(ordered)
}

/// Whether one of these members reads the other, itself or through others.
pub(super) fn related(members: &[Member], one: &str, other: &str) -> bool {
    reads(members, one, other) || reads(members, other, one)
}

/// Whether a member reads another, itself or through others.
pub(super) fn reads(members: &[Member], reader: &str, source: &str) -> bool {
    let mut open = vec![reader];
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if name == source {
            return true;
        }
        if seen.insert(name) {
            let member = members.iter().find(|m| m.name == name);
            open.extend(
                member
                    .into_iter()
                    .flat_map(|m| m.reads.iter().map(String::as_str)),
            );
        }
    }
    false
}
