//! Connections: opened as libpq would open them, and set up so that text means the same everywhere.

use super::address::{Address, AddressError, Surroundings};
use super::error::{Doing, engine_error};
use super::{quote, tls};
use postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};
use postgres::{Client, Config};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres_rustls::MakeRustlsConnect;
use unship_core::engine::{EngineError, ErrorKind};

/// How a session is set up. Text of values must not depend on who asks (fingerprints), names must
/// be qualified whatever the role's search path is (definitions), and rows that a policy hides must
/// be an error and not missing.
const SETUP: &str = "
    SET standard_conforming_strings = on;
    SET client_min_messages = warning;
    SET TimeZone = 'UTC';
    SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = 'postgres';
    SET extra_float_digits = 1;
    SET bytea_output = 'hex';
    SET lc_monetary = 'C';
    SET xmlbinary = 'base64';
    SET quote_all_identifiers = off;
    SET row_security = off;
    SET jit = off;
    SET statement_timeout = 0;
    SET default_transaction_isolation = 'read committed';
    SET lock_timeout = '15s';
    SET idle_in_transaction_session_timeout = '10min';
    SELECT pg_catalog.set_config('search_path', '', false);
    SELECT pg_catalog.set_config(name, '10s', false) FROM pg_catalog.pg_settings
     WHERE name = 'client_connection_check_interval'";

/// Opens connections to one database.
#[derive(Clone)]
pub struct Connector {
    address: Address,
    config: Config,
    tls: MakeRustlsConnect,
    role: Option<String>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("address", &self.address)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// From an address as a person wrote it; what it leaves out is taken from where libpq takes it.
    pub fn new(address: Address) -> Result<Self, EngineError> {
        let around = Surroundings {
            env: &|name| std::env::var(name).ok(),
            home: std::env::var_os("HOME").map(PathBuf::from),
            user: whoami::username().unwrap_or_default(),
        };
        let address = address.complete(&around)?;
        Ok(Self {
            config: config(&address)?,
            tls: tls::connector(&address)?,
            address,
            role: None,
        })
    }

    /// Works with another role's rights.
    #[must_use]
    pub fn as_role(mut self, role: Option<String>) -> Self {
        self.role = role;
        self
    }

    /// Where it connects to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        self.address.get("dbname").unwrap_or_default()
    }

    /// A connection that is ready to be worked with.
    pub fn connect(&self) -> Result<Client, EngineError> {
        let what = format!("connect to {}", self.address);
        let mut client = self.config.connect(self.tls.clone()).map_err(|error| {
            let out = engine_error(&error, &what);
            match error.code() {
                None if out.hint.is_none() => {
                    out.hint("is the server running, and does it listen there?")
                }
                _ => out,
            }
        })?;
        client.batch_execute(SETUP).doing("set up a session")?;
        if let Some(role) = &self.role {
            client
                .batch_execute(&format!("SET ROLE {}", quote::name(role)))
                .doing(&format!("become {role}"))?;
        }
        Ok(client)
    }
}

fn config(address: &Address) -> Result<Config, AddressError> {
    let mut config = Config::new();
    for host in list(address.get("host")) {
        config.host(host);
    }
    for host in list(address.get("hostaddr")) {
        config.hostaddr(number("hostaddr", host)?);
    }
    for port in list(address.get("port")) {
        config.port(number("port", port)?);
    }
    let text = |key| address.get(key);
    if let Some(user) = text("user") {
        config.user(user);
    }
    if let Some(password) = text("password") {
        config.password(password);
    }
    if let Some(dbname) = text("dbname") {
        config.dbname(dbname);
    }
    if let Some(options) = text("options") {
        config.options(options);
    }
    config.application_name(text("application_name").unwrap_or("unship"));
    config.ssl_mode(match text("sslmode").unwrap_or("prefer") {
        "disable" => SslMode::Disable,
        "allow" | "prefer" => SslMode::Prefer,
        "require" | "verify-ca" | "verify-full" => SslMode::Require,
        other => return Err(wrong("sslmode", other)),
    });
    config.channel_binding(match text("channel_binding").unwrap_or("prefer") {
        "disable" => ChannelBinding::Disable,
        "prefer" => ChannelBinding::Prefer,
        "require" => ChannelBinding::Require,
        other => return Err(wrong("channel_binding", other)),
    });
    config.target_session_attrs(match text("target_session_attrs").unwrap_or("any") {
        // A release can only be made where one can write.
        "any" | "read-write" | "primary" => TargetSessionAttrs::ReadWrite,
        other => return Err(wrong("target_session_attrs", other)),
    });
    let seconds = |key, default: u64| -> Result<Duration, AddressError> {
        let given = text(key).map(|v| number(key, v)).transpose()?;
        Ok(Duration::from_secs(given.unwrap_or(default)))
    };
    config.connect_timeout(seconds("connect_timeout", 15)?);
    config.keepalives(text("keepalives") != Some("0"));
    config.keepalives_idle(seconds("keepalives_idle", 30)?);
    config.keepalives_interval(seconds("keepalives_interval", 10)?);
    config.keepalives_retries(match text("keepalives_count") {
        Some(count) => number("keepalives_count", count)?,
        None => 3,
    });
    // In milliseconds, unlike the others.
    config.tcp_user_timeout(Duration::from_millis(match text("tcp_user_timeout") {
        Some(time) => number("tcp_user_timeout", time)?,
        None => 60_000,
    }));
    Ok(config)
}

fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.into_iter()
        .flat_map(|text| text.split(','))
        .filter(|part| !part.is_empty())
}

fn number<T: FromStr>(keyword: &'static str, text: &str) -> Result<T, AddressError> {
    text.parse().map_err(|_| wrong(keyword, text))
}

fn wrong(keyword: &'static str, value: &str) -> AddressError {
    AddressError::Value {
        keyword,
        value: value.to_owned(),
    }
}

impl From<AddressError> for EngineError {
    fn from(error: AddressError) -> Self {
        let kind = match error {
            AddressError::File { .. } | AddressError::NoService(_) => ErrorKind::Missing,
            _ => ErrorKind::Unsupported,
        };
        Self::new(kind, error.to_string())
    }
}
