//! Engines as core sees them: the suite that every engine must pass.

#[cfg(test)]
#[cfg(feature = "delta")]
mod delta;
#[cfg(test)]
mod duckdb;
#[cfg(test)]
mod estate;
#[cfg(test)]
mod iceberg;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod snowflake;
#[cfg(test)]
mod sql;
