//! Asking the members: all of them, some, or each for its part of a plan.

use super::join::{self, Part, Way, unwritten};
use super::{ENGINE, Estate, Member, said};
use crate::engine::{Engine, EngineError, ErrorKind, Place, Steps};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A value of each member, by its name.
pub(super) type Each = BTreeMap<String, Value>;

impl Estate {
    pub(super) fn marks(mark: &str) -> BTreeMap<String, String> {
        // A mark that is none, as one that was left empty, says nothing of any member.
        serde_json::from_str(mark).unwrap_or_default()
    }

    pub(super) fn part<T>(
        &self,
        at: usize,
        plan: impl FnOnce(&Member) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let member = self.members.get(at).ok_or_else(|| super::gone(ENGINE))?;
        plan(member).map_err(|error| super::of_member(&member.name, error))
    }

    /// The plans of these members as one, in this order.
    pub(super) fn planned(
        &self,
        order: &[usize],
        way: Way,
        plan: impl Fn(&Member) -> Result<Steps, EngineError>,
    ) -> Result<Steps, EngineError> {
        let mut parts = Vec::new();
        for at in order {
            parts.push(self.part(*at, |member| {
                Ok(Part {
                    member: member.name.clone(),
                    steps: plan(member)?,
                })
            })?);
        }
        let names: Vec<&str> = parts.iter().map(|part| part.member.as_str()).collect();
        let grounds = said::grounds(&self.members, &self.derived, &names);
        join::join(parts, way, &grounds)
    }

    /// Asks each member that retains something of the place's release, or all where it is no restore
    /// point.
    pub(super) fn at(&mut self, place: Place) -> Result<BTreeSet<usize>, EngineError> {
        match place {
            Place::Point(release) => self.retaining(release),
            Place::Live | Place::Build(_) => Ok((0..self.members.len()).collect()),
        }
    }

    pub(super) fn every<T>(
        &mut self,
        ask: impl Fn(&mut (dyn Engine + 'static)) -> Result<T, EngineError>,
    ) -> Result<(), EngineError> {
        let mut failed = None;
        for member in &mut self.members {
            let done = member.ask(&ask);
            failed = failed.or(done.err());
        }
        failed.map_or(Ok(()), Err)
    }
}

/// A member's own part of a survey.
pub(super) fn own(each: &Each, member: &Member) -> Result<Value, EngineError> {
    each.get(&member.name).cloned().ok_or_else(|| {
        let text = "nothing was looked at for it";
        EngineError::new(ErrorKind::Missing, text)
    })
}

pub(super) fn surveyed(survey: &Value) -> Result<Each, EngineError> {
    Each::deserialize(survey).map_err(unwritten)
}
