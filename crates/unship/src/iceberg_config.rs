//! `engine = "iceberg"` in `unship.toml`.

use crate::config::FILE;
use crate::error::{CliError, CliResult};
use crate::notify::config::{SecretRef, insecure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use unship_core::ident::RelationName;
use unship_engines::iceberg::rest::{self, Login};
use unship_engines::iceberg::{Iceberg as Engine, Settings, Sql, namespace};

/// What a token is asked for that shall be good for a catalog.
const SCOPE: &str = "catalog";

/// What relations begin with where nothing names the catalog.
const CATALOG: &str = "iceberg";

/// An Iceberg environment: a REST catalog, and who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Iceberg {
    /// The part of the catalog's address before `/v1`.
    pub uri: String,
    /// The warehouse, where the catalog has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<String>,
    /// The catalog's name, as relations begin with it; `iceberg` unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// The production namespaces, with those below them, where not all are meant. Parts have dots
    /// between them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// OAuth2 client credentials, as `id:secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<SecretRef>,
    /// Where tokens are had for the credentials, where that is not the catalog itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2_server_uri: Option<String>,
    /// A program, with its arguments, that carries out statements in Spark's SQL from standard input:
    /// it exchanges rows where a part of a table comes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sql: Vec<String>,
    /// What the token shall be good for; `catalog` unless it is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl Iceberg {
    /// What is wrong with it, if anything, and where.
    pub fn wrong(&self, env: &str) -> Option<String> {
        if self.token.is_some() && self.credential.is_some() {
            return Some(format!(
                "env.{env} has both `token` and `credential`; keep one of them"
            ));
        }
        let login = self.token.is_some() || self.credential.is_some();
        for (key, uri) in [
            ("uri", Some(&self.uri)),
            ("oauth2_server_uri", self.oauth2_server_uri.as_ref()),
        ] {
            let Some(uri) = uri else { continue };
            let open = uri.starts_with("http://") && !uri.contains('@');
            // Whoever does not log in gives nothing away.
            if let Some(wrong) = insecure(uri).filter(|_| login || !open) {
                return Some(format!("env.{env}.{key}: {wrong}"));
            }
        }
        let unread = self.namespaces.iter().find(|n| namespace(n).is_none())?;
        Some(format!(
            "env.{env}.namespaces: {unread:?} is no namespace: write its parts with dots between"
        ))
    }

    /// What relations begin with.
    pub fn catalog(&self) -> &str {
        self.catalog.as_deref().unwrap_or(CATALOG)
    }

    /// The engine. `root` is where `unship.toml` lies, `home` where it is written down what is
    /// retained.
    pub fn engine(&self, root: &Path, home: PathBuf) -> CliResult<Engine> {
        let namespaces = self.namespaces.iter().filter_map(|n| namespace(n));
        Ok(Engine::new(Settings {
            rest: rest::Settings {
                uri: self.uri.clone(),
                warehouse: self.warehouse.clone(),
                login: self.login(root)?,
            },
            catalog: self.catalog().to_owned(),
            namespaces: namespaces.collect(),
            home,
            sql: (!self.sql.is_empty()).then(|| Sql {
                command: self.sql.clone(),
                directory: root.to_owned(),
            }),
        }))
    }

    /// What to tell of relations that a job built where nothing is guarded, if there are any.
    pub fn unguarded(&self, built: &BTreeSet<RelationName>, env: &str) -> Option<String> {
        let guarded: Vec<_> = self
            .namespaces
            .iter()
            .filter_map(|n| namespace(n))
            .collect();
        let is_guarded = |name: &&RelationName| {
            let of = namespace(&name.schema).unwrap_or_default();
            guarded.is_empty() || guarded.iter().any(|one| of.starts_with(one))
        };
        let outside: Vec<_> = built.iter().filter(|name| !is_guarded(name)).collect();
        let first = outside.first()?;
        Some(format!(
            "{} of what was built cannot be brought back: {first} lies in no namespace that \
             [env.{env}] of {FILE} guards; add {:?} to `namespaces` there",
            outside.len(),
            first.schema
        ))
    }

    fn login(&self, root: &Path) -> CliResult<Login> {
        let read = |from: &SecretRef| {
            let wrong = |e| CliError::usage(format!("the catalog's login: {e}"));
            from.read(root).map_err(wrong)
        };
        if let Some(token) = &self.token {
            return Ok(Login::Token(read(token)?.reveal().to_owned()));
        }
        let Some(credential) = &self.credential else {
            return Ok(Login::None);
        };
        let secret = read(credential)?;
        let (id, secret) = secret.reveal().split_once(':').ok_or_else(|| {
            CliError::usage(format!(
                "what `credential` in {FILE} points to is not written as id:secret"
            ))
        })?;
        let own = || format!("{}/v1/oauth/tokens", self.uri.trim_end_matches('/'));
        Ok(Login::Credential {
            id: id.to_owned(),
            secret: secret.to_owned(),
            server: self.oauth2_server_uri.clone().unwrap_or_else(own),
            scope: self.scope.clone().unwrap_or_else(|| SCOPE.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Env};

    fn env(text: &str) -> Result<Config, String> {
        Config::parse(&format!(
            "format = 1\ndefault_env = \"prod\"\n[env.prod]\nengine = \"iceberg\"\n{text}"
        ))
    }

    #[test]
    fn a_catalog_is_read_with_where_its_login_is() {
        let config = env(
            "uri = \"https://lake.example.com/catalog\"\nwarehouse = \"sales\"\n\
             namespaces = [\"marts\", \"raw.eu\"]\ncredential = { file = \"secrets/lake\" }\n",
        );
        let config = config.unwrap();
        let Env::Iceberg(lake) = &config.envs["prod"] else {
            panic!("another engine");
        };
        assert!(config.envs["prod"].has_ledger_file());
        let none = lake.engine(std::path::Path::new("/nowhere"), "h".into());
        let none = none.map(drop).unwrap_err();
        assert!(none.message.contains("secrets/lake"), "{}", none.message);
    }

    #[test]
    fn what_would_give_a_login_away_is_refused() {
        let token = "token = { env = \"T\" }\n";
        for (text, says) in [
            (
                format!("uri = \"http://lake.example.com\"\n{token}"),
                "must begin with https",
            ),
            (
                format!("uri = \"https://me:pw@lake.example.com\"\n{token}"),
                "holds a login",
            ),
            (
                "uri = \"http://me:pw@lake.example.com\"\n".to_owned(),
                "holds a login",
            ),
            (
                format!(
                    "uri = \"https://lake.example.com\"\n{token}credential = {{ env = \"C\" }}\n"
                ),
                "keep one of them",
            ),
            (
                "uri = \"http://lake.example.com\"\nnamespaces = [\"a..b\"]\n".to_owned(),
                "is no namespace",
            ),
            (
                "uri = \"https://lake.example.com\"\ntoken = \"s3cret\"\n".to_owned(),
                "a secret is not written in this file",
            ),
        ] {
            let error = env(&text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        env(&format!("uri = \"http://localhost:8181\"\n{token}")).unwrap();
        env("uri = \"http://lake.internal:8181\"\n").unwrap();
    }
}
