//! `engine = "snowflake"` in `unship.toml`, and the way from there to an account.

use crate::config::{Env, FILE, is_default, named};
use crate::context::Context;
use crate::dbt_job::DbtJob;
use crate::error::{CliError, CliResult};
use crate::notify::config::{SecretRef, insecure};
use crate::pipeline::dbt::snowflake::{Login, SnowflakeTarget, identifier};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use unship_engines::snowflake::client::{
    Client, Credentials, KeyError, Pace, PrivateKey, Secret, Settings,
};
use unship_engines::snowflake::{Level, Snowflake as Engine, Wanted};

/// A Snowflake environment: one database. What it does not say is read from a dbt target, where it
/// names one; names are written as in SQL, so that those without double quotes are in capitals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snowflake {
    /// The dbt target that says everything that is not said here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The account's identifier, as `ORGANISATION-NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Where the account is, if not at its own address: a private endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The role that statements run as; the user's default one otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The warehouse that queries run on; the user's default one otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<String>,
    /// The database that is guarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The production schemas, where not all that jobs build in are meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<String>,
    /// Relations that jobs go on from though no model says so, as `schema.name`: they are cloned
    /// into staging before a build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clone: Vec<String>,
    /// The most that one statement exchanges.
    #[serde(default, skip_serializing_if = "is_default")]
    pub level: Level,
    /// The private key of a key pair, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<SecretRef>,
    /// What opens the private key, if it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_passphrase: Option<SecretRef>,
    /// A programmatic access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<SecretRef>,
    /// An OAuth token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_token: Option<SecretRef>,
}

impl Snowflake {
    /// What is wrong with it, if anything, and where.
    pub fn wrong(&self, env: &str) -> Option<String> {
        let logins = [&self.private_key, &self.access_token, &self.oauth_token];
        let logins = logins.into_iter().flatten().count();
        if logins > 1 {
            return Some(format!(
                "env.{env} has several of `private_key`, `access_token` and `oauth_token`; keep one \
                 of them"
            ));
        }
        if self.private_key.is_none() && self.private_key_passphrase.is_some() {
            return Some(format!(
                "env.{env} has `private_key_passphrase`, and no `private_key` that it would open"
            ));
        }
        if let Some(wrong) = self.url.as_deref().and_then(insecure) {
            return Some(format!("env.{env}.url: {wrong}"));
        }
        if self.target.is_some() {
            return None;
        }
        let missing = [("account", &self.account), ("database", &self.database)];
        if let Some((key, _)) = missing.iter().find(|(_, value)| value.is_none()) {
            return Some(format!(
                "env.{env} says neither `target` (a dbt target, which is read) nor `{key}`"
            ));
        }
        if logins == 0 {
            return Some(format!(
                "env.{env} has no login: name one of `private_key`, `access_token` and \
                 `oauth_token`, or a dbt `target`"
            ));
        }
        (self.private_key.is_some() && self.user.is_none())
            .then(|| format!("env.{env} has a `private_key`, and no `user` whose it is"))
    }

    /// The production schemas, as Snowflake spells them.
    pub fn guarded(&self) -> BTreeSet<String> {
        self.schemas.iter().map(|s| identifier(s)).collect()
    }

    /// The relations that are cloned into staging, as schema and name, as Snowflake spells them.
    ///
    /// # Errors
    /// When one is not written as `schema.name`.
    pub fn cloned(&self) -> CliResult<BTreeSet<(String, String)>> {
        let parts = named("clone", &self.clone)?;
        let spelled = |(schema, name): (String, String)| (identifier(&schema), identifier(&name));
        Ok(parts.into_iter().map(spelled).collect())
    }

    /// How the account is reached. `dbt` is the target that [`Self::target`] names.
    fn settings(&self, root: &Path, dbt: Option<&DbtJob>) -> CliResult<Settings> {
        let target = dbt.map(DbtJob::snowflake).transpose()?;
        let from = |own: &Option<String>, theirs: fn(&SnowflakeTarget) -> Option<String>| {
            own.clone().or_else(|| target.and_then(theirs))
        };
        let spelled = |name: Option<String>| name.map(|name| identifier(&name));
        Ok(Settings {
            account: from(&self.account, |t| Some(t.account.clone())).unwrap_or_default(),
            base_url: from(&self.url, |t| t.url.clone()),
            credentials: self.credentials(root, dbt, target)?,
            user: from(&self.user, |t| t.user.clone()).unwrap_or_default(),
            role: spelled(from(&self.role, |t| t.role.clone())),
            warehouse: spelled(from(&self.warehouse, |t| t.warehouse.clone())),
            database: spelled(from(&self.database, |t| Some(t.database.clone())))
                .unwrap_or_default(),
            // It may not be there before the first release.
            schema: None,
        })
    }

    fn credentials(
        &self,
        root: &Path,
        dbt: Option<&DbtJob>,
        target: Option<&SnowflakeTarget>,
    ) -> CliResult<Credentials> {
        let read = |from: &SecretRef| {
            let read = from.read(root);
            let read = read.map_err(|e| CliError::usage(format!("Snowflake's login: {e}")))?;
            Ok::<_, CliError>(Secret::new(read.reveal()))
        };
        if let Some(token) = &self.access_token {
            return Ok(Credentials::AccessToken(read(token)?));
        }
        if let Some(token) = &self.oauth_token {
            return Ok(Credentials::OAuth(read(token)?));
        }
        if let Some(key) = &self.private_key {
            let phrase = self.private_key_passphrase.as_ref().map(read).transpose()?;
            let key = key.read(root);
            let key = key.map_err(|e| CliError::usage(format!("Snowflake's login: {e}")))?;
            return opened(key.reveal(), phrase.as_ref());
        }
        let (Some(dbt), Some(target)) = (dbt, target) else {
            return Err(CliError::usage("no login for Snowflake is named"));
        };
        let phrase = |secret: &Option<crate::pipeline::dbt::connection::Secret>| {
            secret.as_ref().map(|secret| Secret::new(secret.reveal()))
        };
        match &target.login {
            Login::Token(token) => Ok(Credentials::OAuth(Secret::new(token.reveal()))),
            Login::Key(key, secret) => opened(key.reveal(), phrase(secret).as_ref()),
            Login::KeyFile(file, secret) => {
                let path = dbt.at.directory.join(file);
                let text = std::fs::read_to_string(&path).map_err(|e| {
                    CliError::usage(format!("cannot read the key {}: {e}", path.display()))
                })?;
                opened(&text, phrase(secret).as_ref())
            }
            Login::Unusable(what) => Err(CliError::usage(format!(
                "the target `{}` logs in with {what}, and Snowflake's SQL API, over which unship \
                 works, takes a key pair, an OAuth token or a programmatic access token",
                dbt.target()
            ))
            .hint(format!(
                "give unship a login of its own in {FILE}: `private_key = {{ file = \"…\" }}`, or \
                 `access_token = {{ env = \"…\" }}` (also where the password of the profile is such a \
                 token); dbt goes on with its own"
            ))),
        }
    }
}

fn opened(key: &str, phrase: Option<&Secret>) -> CliResult<Credentials> {
    PrivateKey::read(key, phrase)
        .map(Credentials::KeyPair)
        .map_err(|e| {
            let error = CliError::usage(e.to_string());
            match e {
                KeyError::NeedsPassphrase | KeyError::NotDecrypted => {
                    error.hint("`private_key_passphrase` says where the passphrase is")
                }
                KeyError::NotAKey | KeyError::NotRsa => error.hint(
                    "`openssl genrsa 2048 | openssl pkcs8 -topk8 -inform PEM -out key.p8` makes one",
                ),
            }
        })
}

impl Context {
    /// Whether the environment is a Snowflake database.
    pub fn is_snowflake(&self) -> CliResult<bool> {
        let (_, env) = self.config.env(Some(&self.env))?;
        Ok(matches!(env, Env::Snowflake(_)))
    }

    /// The environment's section, where only Snowflake will do.
    pub fn snowflake_config(&self) -> CliResult<&Snowflake> {
        match self.config.env(Some(&self.env))?.1 {
            Env::Snowflake(snowflake) => Ok(snowflake),
            _ => Err(CliError::usage(format!(
                "the environment `{}` is not a Snowflake database",
                self.env
            ))),
        }
    }

    /// How the environment's account is reached, and which database of it is guarded.
    pub fn snowflake(&self) -> CliResult<Settings> {
        let config = self.snowflake_config()?;
        let dbt = config.target.as_ref().map(|target| self.dbt_target(target));
        config.settings(&self.root, dbt.transpose()?.as_ref())
    }

    /// The engine of a Snowflake environment, with what a job is about to build.
    pub fn snowflake_engine(&self, build: Wanted) -> CliResult<Engine> {
        let guarded = self.snowflake_config()?.guarded();
        let client = Client::new(self.snowflake()?, Pace::default());
        let level = self.snowflake_config()?.level;
        Ok(Engine::new(client, guarded, build).at_level(level))
    }
}

#[cfg(test)]
mod tests;
