//! A dbt-snowflake target: which account, as whom, and what proves it.
//!
//! <https://docs.getdbt.com/docs/core/connect-data-platform/snowflake-setup>

use super::connection::Secret;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The keys of a target that say how to connect. They are evaluated for dbt-snowflake only. The
/// password is none of them: the SQL API takes no password.
pub(super) const KEYS: [&str; 16] = [
    "account",
    "user",
    "role",
    "warehouse",
    "database",
    "schema",
    "host",
    "port",
    "protocol",
    "authenticator",
    "token",
    "oauth_client_id",
    "oauth_client_secret",
    "private_key",
    "private_key_path",
    "private_key_passphrase",
];

/// How a target of dbt-snowflake connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnowflakeTarget {
    /// The account's identifier.
    pub account: String,
    /// Where the account is, if not at its own address: a private endpoint.
    pub url: Option<String>,
    /// The login; an OAuth token says by itself whose it is.
    pub user: Option<String>,
    /// The role, as the profile writes it.
    pub role: Option<String>,
    /// The warehouse, as the profile writes it.
    pub warehouse: Option<String>,
    /// The database, as the profile writes it.
    pub database: String,
    /// The schema, as the profile writes it.
    pub schema: String,
    /// What proves who it is.
    pub login: Login,
}

/// What a target proves its user with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A key in a file, and the passphrase that opens it.
    KeyFile(PathBuf, Option<Secret>),
    /// A key in the profile, and the passphrase that opens it.
    Key(Secret, Option<Secret>),
    /// An OAuth token.
    Token(Secret),
    /// Something that the SQL API does not take, in words.
    Unusable(String),
}

impl SnowflakeTarget {
    /// Which database of which account this is, for people.
    pub fn place(&self) -> String {
        format!("{} in account {}", identifier(&self.database), self.account)
    }

    /// Reads a rendered target.
    ///
    /// # Errors
    /// The key that dbt-snowflake would refuse, and what it should hold.
    pub(super) fn read(output: &Map<String, Value>) -> Result<Self, (String, &'static str)> {
        let text = |key: &str| match output.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err((key.to_owned(), "text")),
        };
        let needed = |key: &str, what| text(key)?.ok_or_else(|| (key.to_owned(), what));
        let url = match (text("host")?, text("port")?, text("protocol")?) {
            (None, _, _) => None,
            (Some(host), port, protocol) => {
                let protocol = protocol.unwrap_or_else(|| "https".to_owned());
                let port = port.map_or_else(String::new, |port| format!(":{port}"));
                Some(format!("{protocol}://{host}{port}"))
            }
        };
        let words = ["authenticator", "token", "private_key", "private_key_path"].map(text);
        let [authenticator, token, key, file] = words;
        let phrase = text("private_key_passphrase")?.map(Secret::new);
        let refreshed = text("oauth_client_id")?.or(text("oauth_client_secret")?);
        let authenticator = authenticator?.unwrap_or_default();
        let login = match (authenticator.to_lowercase().as_str(), token?) {
            ("oauth", _) if refreshed.is_some() => Login::Unusable(
                "an OAuth refresh token, which dbt exchanges at every start".to_owned(),
            ),
            ("oauth" | "jwt", Some(token)) => Login::Token(Secret::new(token)),
            ("oauth" | "jwt", None) => return Err(("token".to_owned(), "an OAuth token")),
            ("" | "snowflake" | "snowflake_jwt", _) => match (key?, file?) {
                (Some(_), Some(_)) => {
                    return Err(("private_key".to_owned(), "left out beside private_key_path"));
                }
                (Some(key), None) => Login::Key(Secret::new(key), phrase),
                (None, Some(file)) => Login::KeyFile(PathBuf::from(file), phrase),
                (None, None) => Login::Unusable("a password".to_owned()),
            },
            (other, _) => Login::Unusable(format!("the authenticator `{other}`")),
        };
        Ok(Self {
            account: needed("account", "the account's identifier")?,
            url,
            user: text("user")?,
            role: text("role")?,
            warehouse: text("warehouse")?,
            database: needed("database", "the database's name")?,
            schema: needed("schema", "the schema's name")?,
            login,
        })
    }
}

/// A name as Snowflake reads it where it is written: in capitals, unless it is in double quotes.
/// <https://docs.snowflake.com/en/sql-reference/identifiers-syntax>
pub fn identifier(written: &str) -> String {
    let written = written.trim();
    match written.strip_prefix('"').and_then(|w| w.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => written.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(more: Value) -> Result<SnowflakeTarget, (String, &'static str)> {
        let mut output = json!({
            "account": "org-acct", "user": "ana", "database": "shop", "schema": "marts",
        });
        let all = output.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        SnowflakeTarget::read(all)
    }

    #[test]
    fn each_login_of_dbt_is_read_or_named() {
        let secret = |text: &str| Secret::new(text);
        for (more, login) in [
            (
                json!({"private_key_path": "/k.p8", "private_key_passphrase": "hush"}),
                Login::KeyFile("/k.p8".into(), Some(secret("hush"))),
            ),
            (
                json!({"private_key": "MIIE"}),
                Login::Key(secret("MIIE"), None),
            ),
            (
                json!({"authenticator": "oauth", "token": "t"}),
                Login::Token(secret("t")),
            ),
            (
                json!({"authenticator": "jwt", "token": "t"}),
                Login::Token(secret("t")),
            ),
            (
                json!({"password": "hunter2"}),
                Login::Unusable("a password".to_owned()),
            ),
            (
                json!({"authenticator": "externalbrowser"}),
                Login::Unusable("the authenticator `externalbrowser`".to_owned()),
            ),
            (
                json!({"authenticator": "username_password_mfa", "password": "x"}),
                Login::Unusable("the authenticator `username_password_mfa`".to_owned()),
            ),
            (
                json!({"authenticator": "oauth", "token": "t", "oauth_client_id": "i",
                       "oauth_client_secret": "s"}),
                Login::Unusable(
                    "an OAuth refresh token, which dbt exchanges at every start".to_owned(),
                ),
            ),
        ] {
            let target = read(more.clone()).unwrap();
            assert_eq!(target.login, login, "{more}");
            let shown = format!("{target:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("hush"),
                "{shown}"
            );
            assert!(!shown.contains("MIIE"), "{shown}");
        }
        for (more, key) in [
            (json!({"account": null}), "account"),
            (json!({"authenticator": "oauth"}), "token"),
            (
                json!({"private_key": "k", "private_key_path": "f"}),
                "private_key",
            ),
            (json!({"role": ["r"]}), "role"),
        ] {
            assert_eq!(read(more).unwrap_err().0, key);
        }
    }

    #[test]
    fn an_endpoint_and_names_are_as_the_connector_takes_them() {
        let url = |more| read(more).unwrap().url;
        assert_eq!(url(json!({})), None);
        let private = "org-acct.privatelink.snowflakecomputing.com";
        assert_eq!(
            url(json!({"host": private})),
            Some(format!("https://{private}"))
        );
        let local = json!({"host": "127.0.0.1", "port": 8000, "protocol": "http"});
        assert_eq!(url(local).as_deref(), Some("http://127.0.0.1:8000"));
        for (written, read) in [
            ("shop", "SHOP"),
            (" \"Shop\" ", "Shop"),
            ("\"a\"\"b\"", "a\"b"),
        ] {
            assert_eq!(identifier(written), read);
        }
    }
}
