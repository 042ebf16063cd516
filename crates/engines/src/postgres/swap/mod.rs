//! Moving relations between schemas in one transaction, losing nothing that hangs on them.
//!
//! [`survey`] reads the catalog without a lock, [`plan()`] decides from what was read and nothing
//! else, and [`run`] does it under locks that nobody waits for long. Publishing and going back are
//! the same thing with other names.

mod access;
mod carry;
mod closure;
mod dependents;
mod keys;
mod model;
mod names;
pub mod oracle;
mod plan;
mod request;
mod run;
mod statements;
mod survey;

pub use closure::{Rebuild, build as build_closure, plan as plan_closure};
pub use model::{Grant, Name, Relation, Survey};
pub use plan::plan;
pub use request::{
    Access, LeftKey, Move, Obstacle, Refusal, Request, Rights, Scope, SwapPlan, Withdrawn,
};
pub use run::{Blocked, Event, committed, run};
pub use survey::survey;
