//! dbt Cloud: a job there as the command that is guarded. It is triggered over the Administrative
//! API and followed to its end, its logs are printed, and what it left is fetched to where a local
//! dbt would have left it: for whoever guards it, it is a script that starts dbt.

pub mod artefacts;
pub mod client;
pub mod config;
pub mod follow;
pub mod rollback_job;
