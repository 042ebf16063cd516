//! What unship knows of the job that it guards: which tool it is, which databases it will write,
//! and how to point it at a copy without an edit to its project.

pub mod dbt;
