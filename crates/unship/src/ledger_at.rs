//! Where an environment's ledger is: a file of the project, or the warehouse's own database.

use crate::error::{CliError, CliResult, exit, io_error};
use std::path::{Path, PathBuf};
use unship_core::ledger::{Backend, LedgerError, SqliteLedger, Store};
use unship_core::log::Ledger;
use unship_engines::postgres::connect::Connector;
use unship_engines::postgres::ledger::PostgresLedger;

/// Where an environment's ledger is.
#[derive(Debug, Clone)]
pub enum LedgerAt {
    /// In a file.
    File(PathBuf),
    /// In the warehouse, replicated into a file.
    Database {
        /// The way to the warehouse.
        connector: Box<Connector>,
        /// The file.
        replica: PathBuf,
    },
}

impl LedgerAt {
    /// The ledger, to be read.
    pub fn open(&self, env: &str) -> CliResult<Store> {
        let nothing = || {
            CliError::new(
                exit::NOTHING,
                format!("nothing has been released in `{env}` yet"),
            )
            .hint("`unship run -- <command>` guards a job and makes the first release")
        };
        match self {
            Self::File(path) if !path.exists() => Err(nothing()),
            Self::File(path) => Ok(match SqliteLedger::open(path, Ledger::views()) {
                Ok(store) => store,
                // Looking needs no right to write.
                Err(_) => SqliteLedger::open_read_only(path, Ledger::views())?,
            }
            .into()),
            Self::Database { connector, replica } => {
                match PostgresLedger::open(*connector.clone()) {
                    Ok(shared) => replicated(shared, replica),
                    Err(LedgerError::NotFound { .. }) => Err(nothing()),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// The ledger, made where it is not there yet. The file's directory must be.
    pub fn create(&self) -> CliResult<Store> {
        match self {
            Self::File(path) => Ok(SqliteLedger::create(path, Ledger::views())?.into()),
            Self::Database { connector, replica } => {
                replicated(PostgresLedger::create(*connector.clone())?, replica)
            }
        }
    }

    /// The log alone, over a connection of its own.
    pub fn log(&self) -> Result<Box<dyn Backend>, LedgerError> {
        Ok(match self {
            Self::File(path) => Box::new(SqliteLedger::open(path, Ledger::views())?),
            Self::Database { connector, .. } => Box::new(PostgresLedger::open(*connector.clone())?),
        })
    }
}

fn replicated(shared: PostgresLedger, replica: &Path) -> CliResult<Store> {
    if let Some(home) = replica.parent() {
        std::fs::create_dir_all(home).map_err(io_error("create", home))?;
    }
    let file = SqliteLedger::create(replica, Ledger::views())?;
    Store::shared(Box::new(shared), file).map_err(|error| match error {
        LedgerError::Diverged { .. } => CliError::from(error).hint(format!(
            "find out who restored or changed the database; if that was meant, remove {}",
            replica.display()
        )),
        other => other.into(),
    })
}
