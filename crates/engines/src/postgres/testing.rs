//! A database of its own for a test, on the server that `scripts/postgres` starts.

use super::address::Address;
use super::connect::Connector;
use super::quote;
use postgres::Client;
use std::sync::atomic::{AtomicU32, Ordering};

/// A database that is dropped with this.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    /// `None`, and a word why, where no server was started.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var("UNSHIP_TEST_POSTGRES") else {
            unship_core::testing::skipped(
                "UNSHIP_TEST_POSTGRES names no server; scripts/postgres starts one",
            );
            return None;
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("unship test {} {number}", std::process::id());
        let database = Self { server, name };
        database
            .admin()
            .batch_execute(&format!("CREATE DATABASE {}", quote::name(&database.name)))
            .unwrap();
        Some(database)
    }

    fn admin(&self) -> Client {
        Connector::new(Address::parse(&self.server).unwrap())
            .unwrap()
            .connect()
            .unwrap()
    }

    pub(crate) fn connector(&self) -> Connector {
        let mut address = Address::parse(&self.server).unwrap();
        address.set("dbname", &self.name).unwrap();
        Connector::new(address).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        self.connector().connect().unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", quote::name(&self.name));
        self.admin().batch_execute(&sql).unwrap();
    }
}
