//! `engine = "estate"` in `unship.toml`: several warehouses that are released together.

use crate::config::{Env, FILE, LedgerPlace};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::scope::MANIFEST;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use unship_core::engine::Engine;
use unship_core::estate::{self, Member};
use unship_core::lineage::Lineage;
use unship_core::log::LogError;
use unship_core::pipeline::dbt::manifest::Manifest;

/// Among how many of the newest releases the manifests of dbt projects are looked for.
const LOOKED_AT: usize = 100;

/// An environment of several warehouses. Each member is written as an environment of its engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estate {
    /// The members.
    #[serde(rename = "member")]
    pub members: BTreeMap<String, Env>,
    /// By member: the members that something in it is made from. They become production before it,
    /// and go back after it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reads: BTreeMap<String, BTreeSet<String>>,
    /// The PostgreSQL member whose database holds the ledger; it is a file of the project unless this
    /// is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
}

impl Estate {
    /// What is wrong with it, if anything, and where.
    pub fn wrong(&self, env: &str) -> Option<String> {
        for (name, member) in &self.members {
            let at = format!("{env}.member.{name}");
            if let Some(wrong) = member.wrong(&at) {
                return Some(wrong);
            }
            match member {
                Env::Estate(_) => {
                    return Some(format!(
                        "env.{at} is an estate itself: write its members as members of env.{env}"
                    ));
                }
                Env::Postgres(postgres) if postgres.ledger == LedgerPlace::File => {
                    return Some(format!(
                        "env.{at}.ledger: the members of an estate have one ledger, which is a file \
                         unless env.{env}.ledger names a member"
                    ));
                }
                _ => {}
            }
        }
        let known = |name: &&String| self.members.contains_key(*name);
        let readers = self.reads.keys();
        if let Some(unknown) = readers.chain(self.ledger.iter()).find(|name| !known(name)) {
            return Some(format!(
                "env.{env} names `{unknown}`, and there is no [env.{env}.member.{unknown}]"
            ));
        }
        let holder = self.ledger.as_ref()?;
        let postgres = matches!(self.members.get(holder), Some(Env::Postgres(_)));
        (!postgres).then(|| {
            format!("env.{env}.ledger: `{holder}` is no PostgreSQL database, and holds no ledger")
        })
    }
}

impl Context {
    /// The environment's section, if it is an estate.
    pub fn estate(&self) -> CliResult<Option<&Estate>> {
        Ok(match self.config.env(Some(&self.env))?.1 {
            Env::Estate(estate) => Some(estate),
            _ => None,
        })
    }

    /// The members of an estate, each as if it were an environment itself; none of anything else.
    pub fn members(&self) -> CliResult<BTreeMap<String, Context>> {
        let members = self.estate()?.map(|estate| &estate.members);
        let members = members.into_iter().flatten();
        let alone = |(name, member): (&String, &Env)| {
            // As messages name the section, and no environment is called.
            let env = format!("{}.member.{name}", self.env);
            Ok((name.clone(), self.with(&env, member.clone())?))
        };
        members.map(alone).collect()
    }

    /// One of them.
    pub(crate) fn member(&self, name: &str) -> CliResult<Context> {
        self.members()?.remove(name).ok_or_else(|| {
            CliError::usage(format!("env.{} of {FILE} has no member `{name}`", self.env))
        })
    }

    /// The databases of a member's relations.
    fn databases(&self) -> CliResult<BTreeSet<String>> {
        Ok(match self.config.env(Some(&self.env))?.1 {
            Env::DuckDb(_) => self.files()?.into_iter().map(|file| file.catalog).collect(),
            Env::Postgres(_) => {
                let connector = self.postgres()?.connector()?;
                BTreeSet::from([connector.database().to_owned()])
            }
            Env::Iceberg(iceberg) => BTreeSet::from([iceberg.catalog().to_owned()]),
            Env::Delta(delta) => BTreeSet::from([delta.catalog().to_owned()]),
            Env::Snowflake(_) => BTreeSet::from([self.snowflake()?.database]),
            Env::Estate(_) => BTreeSet::new(),
        })
    }

    /// The engine of an estate. Members that are to build something have theirs `made` already.
    pub fn estate_engine(
        &self,
        estate: &Estate,
        job_program: Option<&Path>,
        mut made: BTreeMap<String, Box<dyn Engine>>,
    ) -> CliResult<Box<dyn Engine>> {
        let mut members = Vec::new();
        for (name, member) in self.members()? {
            let engine = match made.remove(&name) {
                Some(engine) => engine,
                None => member.engine(job_program)?,
            };
            members.push(Member {
                databases: member.databases()?,
                reads: estate.reads.get(&name).cloned().unwrap_or_default(),
                engine,
                name,
            });
        }
        let joined = estate::Estate::new(members).map_err(|e| {
            CliError::usage(format!("the members of env.{} in {FILE}: {e}", self.env))
        })?;
        let lineages = self.lineages();
        let joined = joined.with_ledger(estate.ledger.clone());
        Ok(Box::new(joined.with_lineage(lineages)))
    }

    /// What the newest manifest of each dbt project says that jobs of this environment ran, when it
    /// is asked for.
    fn lineages(&self) -> impl FnOnce() -> Vec<Lineage> + use<> {
        let (ledger, env) = (self.read(), self.env.clone());
        move || {
            // What cannot be read any more is no reason not to go back.
            let read = || -> Result<Vec<Lineage>, LogError> {
                let Ok(ledger) = ledger else {
                    return Ok(Vec::new());
                };
                let releases = ledger.history(|h| h.releases(&env, None, LOOKED_AT))?;
                let mut projects = BTreeSet::new();
                let mut all = Vec::new();
                for release in releases {
                    let kept = release.end.as_ref().and_then(|e| e.artefacts.get(MANIFEST));
                    let (Some(kept), Some(job)) = (kept, &release.job) else {
                        continue;
                    };
                    if projects.insert(job.directory.clone()) {
                        let manifest = Manifest::parse(&ledger.get_blob(&kept.0)?);
                        all.extend(manifest.ok().map(Lineage::new));
                    }
                }
                Ok(all)
            };
            read().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Env};

    fn read(text: &str) -> Result<Config, String> {
        let lake = "[env.prod.member.lake]\nengine = \"duckdb\"\npath = \"lake.duckdb\"\n";
        Config::parse(&format!(
            "format = 1\ndefault_env = \"prod\"\n[env.prod]\nengine = \"estate\"\n{text}\n{lake}"
        ))
    }

    const MARTS: &str =
        "[env.prod.member.marts]\nengine = \"postgres\"\nconnection = \"dbname=shop\"\n";

    #[test]
    fn an_estate_is_read_with_its_members() {
        let text = format!("ledger = \"marts\"\nreads = {{ marts = [\"lake\"] }}\n{MARTS}");
        let config = read(&text).unwrap();
        let Env::Estate(estate) = &config.envs["prod"] else {
            panic!("another engine");
        };
        assert_eq!(estate.members.len(), 2);
        assert!(!config.envs["prod"].has_ledger_file());
        let again = toml::to_string(&config).unwrap();
        assert_eq!(Config::parse(&again).unwrap(), config);
        assert!(read(MARTS).unwrap().envs["prod"].has_ledger_file());
    }

    #[test]
    fn what_is_no_estate_is_refused_with_the_section() {
        for (text, says) in [
            (
                "reads = { gone = [\"lake\"] }\n",
                "there is no [env.prod.member.gone]",
            ),
            ("ledger = \"gone\"\n", "there is no [env.prod.member.gone]"),
            ("ledger = \"lake\"\n", "`lake` is no PostgreSQL database"),
            (
                "[env.prod.member.marts]\nengine = \"postgres\"\n",
                "env.prod.member.marts says neither `target`",
            ),
            (
                &format!("{MARTS}ledger = \"file\"\n"),
                "env.prod.member.marts.ledger: the members of an estate have one ledger",
            ),
            (
                "[env.prod.member.more]\nengine = \"estate\"\n\
                 [env.prod.member.more.member.deep]\nengine = \"duckdb\"\npath = \"d.duckdb\"\n",
                "env.prod.member.more is an estate itself",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
