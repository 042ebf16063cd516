//! What a job leaves behind, read into unship's own words.
//!
//! A pipeline adapter knows one tool's artefacts: which relations the job built, from what, and
//! how each went. It reads them as data handed to it; finding and running the tool belongs to the
//! binary.

pub mod dbt;
