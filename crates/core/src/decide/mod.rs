//! Deciding what is done about a release that checks found wanting, as the team agreed beforehand.
//!
//! [`decide`] is pure: a [`Policy`] (data, from `unship.toml`) and [`Facts`] (what is so at this
//! moment) give a [`Decision`], which says what to do, which rule said so, why, and what would
//! change it. Nothing here looks at a warehouse or at a clock.

mod brake;
mod calendar;
mod decision;
mod facts;
mod period;
mod policy;
mod strategy;

pub use brake::{Brake, BrakeKind};
pub use calendar::{Calendar, CalendarError, Closed, Span};
pub use decision::{Decision, decide};
pub use facts::{Back, Facts, Failed, Measured};
pub use period::{NotAPeriod, Period};
pub use policy::{Action, Need, Policy, PolicyError, Rule};
pub use strategy::{Comparison, Strategy, StrategyKind};

#[cfg(test)]
mod tests;
