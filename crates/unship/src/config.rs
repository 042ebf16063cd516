//! `unship.toml`: what is guarded, and how long restore points are kept.

use crate::dbt_cloud::config::DbtCloud;
use crate::declared::{Check, Checks, time};
use crate::delta_config::Delta;
use crate::error::CliError;
use crate::estate_config::Estate;
use crate::iceberg_config::Iceberg;
use crate::loader;
use crate::notify::config::{self as notify, Escalation, Route};
use crate::pipeline::dbt::connection::holds_password;
use crate::pipeline::dbt::staging::{LONGEST_NAME, Naming, PREFIX};
use crate::snowflake_config::Snowflake;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use unship_core::decide::{Period, Policy};

/// The file's name; it lies in the project's root.
pub const FILE: &str = "unship.toml";

/// The version of the file's format.
pub const FORMAT: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// [`FORMAT`].
    pub format: u32,
    /// The environment that is meant when none is named.
    pub default_env: String,
    /// The dbt project, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dbt: Option<Dbt>,
    /// The account at dbt Cloud, if jobs run there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dbt_cloud: Option<DbtCloud>,
    /// The environments.
    #[serde(rename = "env")]
    pub envs: BTreeMap<String, Env>,
    /// Retention.
    #[serde(default)]
    pub keep: Keep,
    /// How releases are checked.
    #[serde(default, skip_serializing_if = "Checks::is_default")]
    pub checks: Checks,
    /// What is checked besides what is checked by itself.
    #[serde(default, rename = "check", skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<Check>,
    /// Tables in which loaders remember how far they came.
    #[serde(default, rename = "state", skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<loader::Declared>,
    /// What is done about a bad release, and who is asked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Policy,
    /// Who has which role: a role's name, and people as `allowed_signers` names them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, BTreeSet<String>>,
    /// How approvals are signed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub signatures: Signatures,
    /// Who is told, and how.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Route>,
    /// Who is told until somebody acknowledges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<Escalation>,
}

/// Whether a value need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How approvals are signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Signatures {
    /// Whose keys are allowed, relative to this file, as `ssh-keygen` reads it.
    pub allowed_signers: PathBuf,
    /// How long an approval holds unless its signer says otherwise.
    pub expire: Period,
    /// Accounts (`user@host`) that several people use: whoever works there is told apart by the
    /// name that they sign by, and by nothing else.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub shared_accounts: BTreeSet<String>,
}

impl Default for Signatures {
    fn default() -> Self {
        Self {
            allowed_signers: PathBuf::from("allowed_signers"),
            expire: Period::from_secs(24 * 3_600),
            shared_accounts: BTreeSet::new(),
        }
    }
}

/// Where the dbt project is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dbt {
    /// Its directory, relative to this file.
    pub project_dir: PathBuf,
    /// The directory of its `profiles.yml`, relative to this file, where dbt would not find it by
    /// itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiles_dir: Option<PathBuf>,
    /// The schema in which unship's dbt package keeps its table of restore points, where jobs that
    /// unship does not guard record theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_points: Option<String>,
}

/// One environment: one warehouse, or several that are released together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "engine", rename_all = "lowercase", deny_unknown_fields)]
pub enum Env {
    /// DuckDB files.
    #[serde(rename = "duckdb")]
    DuckDb(DuckDb),
    /// A PostgreSQL database.
    #[serde(rename = "postgres")]
    Postgres(Postgres),
    /// Iceberg tables behind a REST catalog.
    #[serde(rename = "iceberg")]
    Iceberg(Iceberg),
    /// Delta Lake tables below a directory.
    #[serde(rename = "delta")]
    Delta(Delta),
    /// A database of a Snowflake account.
    #[serde(rename = "snowflake")]
    Snowflake(Box<Snowflake>),
    /// Several warehouses that are released together.
    #[serde(rename = "estate")]
    Estate(Estate),
}

impl Env {
    /// What it is, in words.
    pub fn what(&self) -> &'static str {
        match self {
            Self::DuckDb(_) => "a DuckDB database",
            Self::Postgres(_) => "a PostgreSQL database",
            Self::Iceberg(_) => "an Iceberg catalog",
            Self::Delta(_) => "a directory of Delta tables",
            Self::Snowflake(_) => "a Snowflake database",
            Self::Estate(_) => "an estate of several warehouses",
        }
    }

    /// What is wrong with it, if anything, and where.
    pub(crate) fn wrong(&self, env: &str) -> Option<String> {
        match self {
            Self::DuckDb(_) => None,
            Self::Postgres(postgres) => postgres.wrong(env),
            Self::Iceberg(iceberg) => iceberg.wrong(env),
            Self::Delta(delta) => delta.wrong(env),
            Self::Snowflake(snowflake) => snowflake.wrong(env),
            Self::Estate(estate) => estate.wrong(env),
        }
    }

    /// Whether its ledger is a file of the project.
    pub fn has_ledger_file(&self) -> bool {
        match self {
            Self::DuckDb(_) | Self::Iceberg(_) | Self::Delta(_) | Self::Snowflake(_) => true,
            Self::Postgres(postgres) => postgres.ledger == LedgerPlace::File,
            Self::Estate(estate) => estate.ledger.is_none(),
        }
    }
}

/// A DuckDB environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuckDb {
    /// The database file, relative to this file.
    pub path: PathBuf,
    /// Writable databases that jobs attach; they are guarded together with the main one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attach: Vec<Attach>,
    /// Whether others wait while a job builds aside, as they wait for dbt itself. If not, what they
    /// wrote to relations that no job owns is carried over into the build before it is published.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub freeze_writers: bool,
    /// The Python that has `duckdb`, if it is not the one of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<PathBuf>,
    /// How much memory DuckDB may use for unship's queries, as DuckDB writes it (`2GB`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<String>,
}

fn yes() -> bool {
    true
}

/// An attached database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// The name that it is attached under.
    pub alias: String,
    /// Its file, relative to this file.
    pub path: PathBuf,
}

/// A PostgreSQL environment. It says how to connect in one of two ways.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The dbt target whose connection is used, password included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A connection string as libpq reads it, without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The production schemas, where not all that jobs build in are meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<String>,
    /// Relations that jobs go on from though no model says so, as `schema.name`: tables that hooks
    /// write. They are copied into staging before a build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clone: Vec<String>,
    /// Tables that jobs and others write where they stand, as `schema.name`: what changes in them is
    /// written down, so that it can be taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo_log: Vec<String>,
    /// Where the ledger is.
    #[serde(default, skip_serializing_if = "LedgerPlace::is_database")]
    pub ledger: LedgerPlace,
}

/// Where the ledger of a PostgreSQL environment is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerPlace {
    /// In the database itself, schema `unship`: a release is recorded in the transaction that
    /// publishes it.
    #[default]
    Database,
    /// In `.unship`, as for files.
    File,
}

impl LedgerPlace {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_database(&self) -> bool {
        *self == Self::Database
    }
}

impl Postgres {
    /// What is wrong with it, if anything, and where.
    fn wrong(&self, env: &str) -> Option<String> {
        let long = |schema: &&String| Naming::Postgres.too_long(schema);
        match (&self.target, &self.connection) {
            (None, None) => Some(format!(
                "env.{env} says neither `target` (a dbt target, whose connection is used) nor \
                 `connection`"
            )),
            (Some(_), Some(_)) => Some(format!(
                "env.{env} has both `target` and `connection`; keep one of them"
            )),
            (None, Some(connection)) if holds_password(connection) => Some(format!(
                "env.{env}.connection holds a password, and this file is meant to be committed: \
                 take it out, and put it into PGPASSWORD, a password file (~/.pgpass) or a \
                 service file"
            )),
            _ => self.schemas.iter().find(long).map(|schema| {
                format!(
                    "env.{env}.schemas: `{schema}` is too long to be built aside: a schema's name \
                     has at most {LONGEST_NAME} bytes, and `{PREFIX}` comes before it"
                )
            }),
        }
    }

    /// The relations that are copied into staging, as schema and name.
    ///
    /// # Errors
    /// When one is not written as `schema.name`.
    pub fn cloned(&self) -> Result<Vec<(String, String)>, CliError> {
        named("clone", &self.clone)
    }

    /// The tables that have an undo log, as schema and name.
    ///
    /// # Errors
    /// When one is not written as `schema.name`.
    pub fn logged(&self) -> Result<Vec<(String, String)>, CliError> {
        named("undo_log", &self.undo_log)
    }
}

/// Relations of a list in the file, as schema and name.
pub(crate) fn named(key: &str, list: &[String]) -> Result<Vec<(String, String)>, CliError> {
    let parts = |text: &String| match text.split_once('.') {
        Some((schema, name)) if !schema.is_empty() && !name.is_empty() => {
            Ok((schema.to_owned(), name.to_owned()))
        }
        _ => Err(CliError::usage(format!(
            "in {FILE}, {key} = [{text:?}] is not a relation with its schema"
        ))
        .hint(format!("write it like {key} = [\"ops.runs\"]"))),
    };
    list.iter().map(parts).collect()
}

/// Retention. A restore point that any rule keeps stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The newest so many restore points.
    pub last: usize,
    /// Those of releases that were live within this time (`30d`, `12h`).
    #[serde(rename = "for")]
    pub within: String,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            last: 30,
            within: "30d".to_owned(),
        }
    }
}

impl Keep {
    /// The same, as the retention wants it.
    pub fn parse(&self) -> Result<unship_core::operate::Keep, CliError> {
        let within = time("keep.for", &self.within)?;
        Ok(unship_core::operate::Keep {
            last: self.last,
            within,
        })
    }
}

/// What is wrong with the file, with the line where it is, unless that holds a secret.
fn told(error: &toml::de::Error, text: &str) -> String {
    if !error.message().contains(notify::WRITTEN_OUT) {
        return error.to_string().trim_end().to_owned();
    }
    let before = error.span().and_then(|span| text.get(..span.start));
    match before.map(|before| before.matches('\n').count() + 1) {
        Some(line) => format!("line {line}: {}", error.message()),
        None => error.message().to_owned(),
    }
}

impl Config {
    /// Reads the file of a project.
    pub fn read(root: &Path) -> Result<Self, CliError> {
        let path = root.join(FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| CliError::failed(format!("cannot read {}: {e}", path.display())))?;
        Self::parse(&text).map_err(|e| {
            CliError::usage(format!("{}: {e}", path.display()))
                .hint("`unship init` writes a correct one; the book lists every key")
        })
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Probe {
            #[serde(default)]
            format: u32,
        }
        let probe: Probe = toml::from_str(text).map_err(|e| told(&e, text))?;
        if probe.format > FORMAT {
            return Err(format!(
                "this file has format {}, and this unship reads formats up to {FORMAT}",
                probe.format
            ));
        }
        let config: Self = toml::from_str(text).map_err(|e| told(&e, text))?;
        let wrong = config.envs.iter().find_map(|(name, env)| env.wrong(name));
        let wrong = wrong.or_else(|| {
            let mut names = BTreeSet::new();
            let mut twice = config.declared.iter().map(Check::name);
            let name = twice.find(|name| !names.insert(*name))?;
            Some(format!("two checks have the name {name:?}"))
        });
        let wrong = wrong.or_else(|| {
            let known = |env: &str| config.envs.contains_key(env);
            config.declared.iter().find_map(|check| check.wrong(known))
        });
        let wrong = wrong.or_else(|| config.wrong_policy());
        let wrong = wrong.or_else(|| notify::wrong(&config.notify, config.escalation.as_ref()));
        wrong.map_or(Ok(config), Err)
    }

    /// What is wrong with the policy, if anything.
    fn wrong_policy(&self) -> Option<String> {
        if let Err(error) = self.policy.check() {
            return Some(format!("policy: {error}"));
        }
        let spans = self.policy.windows.iter().chain(&self.policy.freezes);
        let mut named = (self.policy.protected.iter()).chain(spans.flat_map(|s| &s.environments));
        let unknown = named.find(|env| !self.envs.contains_key(*env))?;
        Some(format!(
            "policy names `{unknown}`, and there is no [env.{unknown}]"
        ))
    }

    /// The environment of a name, or the default one.
    pub fn env(&self, name: Option<&str>) -> Result<(&str, &Env), CliError> {
        let name = name.unwrap_or(&self.default_env);
        self.envs
            .get_key_value(name)
            .map(|(k, v)| (k.as_str(), v))
            .ok_or_else(|| {
                let known: Vec<_> = self.envs.keys().map(String::as_str).collect();
                CliError::usage(format!("{FILE} has no environment `{name}`"))
                    .hint(format!("it has: {}", known.join(", ")))
            })
    }
}

/// The nearest directory from `start` upwards that has an `unship.toml`.
pub fn find_root(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .find(|dir| dir.join(FILE).is_file())
        .map(Path::to_owned)
}
