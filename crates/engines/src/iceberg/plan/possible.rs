//! What a catalog must be able to do for a plan.

use super::{Intent, Return, refused};
use crate::iceberg::rest::Identifier;
use unship_core::engine::{EngineError, ErrorKind};
use unship_core::ident::RelationName;

impl Intent<'_> {
    /// Refuses what the catalog cannot do.
    pub(super) fn possible(&self) -> Result<(), EngineError> {
        let can = self.survey.can;
        let name = |all: &[(RelationName, Identifier, Identifier, String)]| {
            all.first().map(|(name, ..)| name.to_string())
        };
        let lacks = |what: &str, of: String| {
            Err(refused(
                ErrorKind::Unsupported,
                format!("the catalog cannot {what}, which {of} needs"),
            )
            .hint("`--select` leaves this one out; `unship doctor` lists what the catalog can do"))
        };
        if let (Some(first), false) = (name(&self.leave), can.rename) {
            return lacks("rename tables", first);
        }
        if let (Some(first), false) = (name(&self.leave), can.namespaces) {
            return lacks("make namespaces", first);
        }
        for (of, _, way, _) in &self.come {
            match way {
                Return::Renamed(_) if !can.rename => return lacks("rename tables", of.to_string()),
                Return::Registered(..) if !can.register => {
                    return lacks("register tables", of.to_string());
                }
                _ => {}
            }
        }
        if let (Some((first, ..)), false) = (self.views.first(), can.views) {
            return lacks("change views", first.to_string());
        }
        Ok(())
    }
}
