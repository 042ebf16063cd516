//! A dbt-postgres target: where it connects, and as whom.

use serde_json::{Map, Value};
use std::fmt;

/// The keys of a target that say how to connect. They are evaluated for dbt-postgres only.
pub(super) const KEYS: [&str; 15] = [
    "host",
    "port",
    "user",
    "password",
    "pass",
    "dbname",
    "database",
    "role",
    "search_path",
    "connect_timeout",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "keepalives_idle",
];

/// What goes into a connection string as it stands.
const PLAIN: [&str; 6] = [
    "connect_timeout",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "keepalives_idle",
];

/// Text that is never shown, by `Debug` neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text to itself.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever connects with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// How a target of dbt-postgres connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresTarget {
    /// The server: a name, an address, or the directory of its socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The login.
    pub user: String,
    /// The database.
    pub dbname: String,
    /// The role that dbt takes on after it has connected: what it builds belongs to that role.
    pub role: Option<String>,
    /// Where the job's unqualified names are looked for.
    pub search_path: Option<String>,
    /// The password; `None` where the profile has an empty one, because something else proves who
    /// the user is.
    pub password: Option<Secret>,
    settings: Vec<(&'static str, String)>,
}

impl PostgresTarget {
    /// How to connect, as libpq writes it. The password is not in it.
    pub fn keywords(&self) -> String {
        let port = self.port.to_string();
        let own = [
            ("host", &self.host),
            ("port", &port),
            ("user", &self.user),
            ("dbname", &self.dbname),
        ];
        let more = self.settings.iter().map(|(key, value)| (*key, value));
        let words: Vec<String> = own
            .into_iter()
            .chain(more)
            .map(|(key, value)| format!("{key}={}", quoted(value)))
            .collect();
        words.join(" ")
    }

    /// Which database this is, for people and for comparison.
    pub fn place(&self) -> String {
        format!("{} on {}:{}", self.dbname, self.host, self.port)
    }

    /// Reads a rendered target.
    ///
    /// # Errors
    /// The key that dbt-postgres would refuse, and what it should hold.
    pub(super) fn read(output: &Map<String, Value>) -> Result<Self, (String, &'static str)> {
        let text = |key: &str| match output.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err((key.to_owned(), "text")),
        };
        let first = |one: &str, other: &str| Ok(text(one)?.or(text(other)?));
        let needed = |key: &str, value: Option<String>, what| match value {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err((key.to_owned(), what)),
        };
        let port = needed("port", text("port")?, "a port number")?;
        let mut settings = Vec::new();
        for key in PLAIN {
            // dbt takes an interval of zero for the system's own.
            let unset =
                |value: &str| value.is_empty() || (key == "keepalives_idle" && value == "0");
            settings.extend(
                text(key)?
                    .filter(|value| !unset(value))
                    .map(|value| (key, value)),
            );
        }
        Ok(Self {
            host: needed(
                "host",
                text("host")?,
                "the server's name, or its socket's directory",
            )?,
            port: port
                .trim()
                .parse()
                .map_err(|_| ("port".to_owned(), "a port number"))?,
            user: needed("user", text("user")?, "the login's name")?,
            dbname: needed(
                "dbname",
                first("dbname", "database")?,
                "the database's name",
            )?,
            role: text("role")?.filter(|role| !role.is_empty()),
            search_path: text("search_path")?.filter(|path| !path.trim().is_empty()),
            password: first("password", "pass")?
                .filter(|password| !password.is_empty())
                .map(Secret),
            settings,
        })
    }
}

/// A value of a connection string, quoted where libpq wants it.
fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && c != '\'' && c != '\\';
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Whether a connection string holds a password, which must not be in a file that is committed:
/// as a keyword, or in an address.
pub fn holds_password(connection: &str) -> bool {
    let text = connection.trim();
    let keyword = text
        .to_ascii_lowercase()
        .split(|c: char| c.is_whitespace() || c == '?' || c == '&')
        .any(|word| {
            word.strip_prefix("password")
                .is_some_and(|rest| rest.trim_start().starts_with('=') || rest.is_empty())
        });
    let address = text
        .split_once("://")
        .and_then(|(_, rest)| rest.split(['/', '?']).next()?.rsplit_once('@'))
        .is_some_and(|(who, _)| who.contains(':'));
    keyword || address
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(output: Value) -> Result<PostgresTarget, (String, &'static str)> {
        PostgresTarget::read(output.as_object().unwrap())
    }

    #[test]
    fn a_target_is_a_connection_string_without_its_password() {
        let target = read(json!({
            "host": "db.example", "port": "5433", "user": "o'neil", "pass": "hunter2", "dbname": "w h",
            "sslmode": "verify-full", "sslrootcert": "/c\\a.pem", "keepalives_idle": 0,
            "connect_timeout": 5, "role": "builder", "search_path": " ",
        }))
        .unwrap();
        assert_eq!(
            target.keywords(),
            "host=db.example port=5433 user='o\\'neil' dbname='w h' connect_timeout=5 \
             sslmode=verify-full sslrootcert='/c\\\\a.pem'"
        );
        assert_eq!(target.place(), "w h on db.example:5433");
        assert_eq!(target.role.as_deref(), Some("builder"));
        assert_eq!(target.search_path, None);
        assert_eq!(target.password.as_ref().unwrap().reveal(), "hunter2");
        assert!(!format!("{target:?}").contains("hunter2"));
        let empty = read(json!({
            "host": "/tmp", "port": 5432, "user": "u", "password": "", "database": "d",
        }));
        assert_eq!(empty.unwrap().password, None);
    }

    #[test]
    fn what_dbt_refuses_is_refused() {
        let good = json!({"host": "h", "port": 5432, "user": "u", "pass": "p", "dbname": "d"});
        assert!(read(good.clone()).is_ok());
        for (key, value) in [
            ("host", Value::Null),
            ("port", json!("none")),
            ("port", json!(70000)),
            ("user", json!("")),
            ("dbname", json!(["d"])),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            assert_eq!(read(bad).unwrap_err().0, key);
        }
    }

    #[test]
    fn passwords_are_seen_in_either_spelling() {
        for with in [
            "host=h password=x",
            "PASSWORD = 'x y' host=h",
            "postgresql://ana:x@h/d",
            "postgres://h/d?user=ana&password=x",
        ] {
            assert!(holds_password(with), "{with}");
        }
        for without in [
            "host=h user=ana dbname=d passfile=/home/ana/.pgpass",
            "postgresql://ana@h:5432/d?sslmode=verify-full",
            "service=warehouse",
        ] {
            assert!(!holds_password(without), "{without}");
        }
    }
}
