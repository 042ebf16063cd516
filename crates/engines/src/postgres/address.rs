//! Where a database is and who asks: libpq's words, read as libpq reads them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Keywords, the environment variable that stands for each, and the ones that hold secrets.
const KEYWORDS: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("service", "PGSERVICE"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("keepalives", ""),
    ("keepalives_idle", ""),
    ("keepalives_interval", ""),
    ("keepalives_count", ""),
    ("tcp_user_timeout", ""),
];

/// Accepted and without effect here: they tune what this driver does not have.
const IGNORED: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "krbsrvname",
    "sslcompression",
    "sslsni",
    "sslcrl",
    "load_balance_hosts",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "require_auth",
];

/// Why an address cannot be read. None of them repeats a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A keyword that libpq does not have either, or that is not supported.
    #[error("`{0}` is no connection setting that is known here")]
    Unknown(String),
    /// Text that is neither keywords nor a URI.
    #[error("the address cannot be read: {0}")]
    Syntax(&'static str),
    /// A value that its keyword cannot have.
    #[error("{keyword} cannot be `{value}`")]
    Value {
        /// The keyword.
        keyword: &'static str,
        /// What it was given.
        value: String,
    },
    /// A service that no service file has.
    #[error("there is no service `{0}` in the service files")]
    NoService(String),
    /// A file that cannot be read.
    #[error("{path} cannot be read: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Connection settings by libpq's keywords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Address {
    values: BTreeMap<&'static str, String>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.values.iter().map(|(key, value)| match *key {
            "password" => (key, "…"),
            _ => (key, value.as_str()),
        });
        f.debug_map().entries(shown).finish()
    }
}

impl fmt::Display for Address {
    /// For messages: where, which database and who; never a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |key| self.get(key).unwrap_or("?");
        write!(f, "{} at {}", part("dbname"), part("host"))?;
        if let Some(port) = self.get("port").filter(|port| *port != "5432") {
            write!(f, ":{port}")?;
        }
        write!(f, " as {}", part("user"))
    }
}

/// What an address takes its missing parts from.
pub struct Surroundings<'a> {
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// The user's name.
    pub user: String,
}

impl Address {
    /// Reads `key=value …`, or `postgresql://…`; without anything it is all defaults.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        match text
            .strip_prefix("postgresql://")
            .or_else(|| text.strip_prefix("postgres://"))
        {
            Some(rest) => uri(rest),
            None => keywords(text),
        }
    }

    /// A setting's value.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.values.get(keyword).map(String::as_str)
    }

    /// Sets a value. An empty one is as good as none, as with libpq.
    pub fn set(&mut self, keyword: &str, value: impl Into<String>) -> Result<(), AddressError> {
        let value = value.into();
        if IGNORED.contains(&keyword) {
            return Ok(());
        }
        let (key, _) = KEYWORDS
            .iter()
            .find(|(key, _)| *key == keyword)
            .ok_or_else(|| AddressError::Unknown(keyword.to_owned()))?;
        if value.is_empty() {
            self.values.remove(key);
        } else {
            self.values.insert(key, value);
        }
        Ok(())
    }

    fn fill(&mut self, keyword: &'static str, value: impl FnOnce() -> Option<String>) {
        if !self.values.contains_key(keyword)
            && let Some(value) = value().filter(|v| !v.is_empty())
        {
            self.values.insert(keyword, value);
        }
    }

    /// The same with everything that libpq would add: service file, environment, defaults, and the
    /// password file.
    pub fn complete(mut self, around: &Surroundings<'_>) -> Result<Self, AddressError> {
        self.fill("service", || (around.env)("PGSERVICE"));
        if let Some(service) = self.get("service").map(str::to_owned) {
            for (key, value) in service_settings(&service, around)? {
                if self.get(&key).is_none() {
                    self.set(&key, value)?;
                }
            }
        }
        for (keyword, variable) in KEYWORDS.iter().filter(|(_, v)| !v.is_empty()) {
            self.fill(keyword, || (around.env)(variable));
        }
        self.fill("port", || Some("5432".to_owned()));
        let port = self.get("port").unwrap_or("5432").to_owned();
        if self.get("hostaddr").is_none() {
            self.fill("host", || Some(default_host(&port)));
        }
        self.fill("user", || Some(around.user.clone()));
        let user = self.get("user").unwrap_or_default().to_owned();
        self.fill("dbname", || Some(user));
        self.fill("sslmode", || Some("prefer".to_owned()));
        self.fill("sslrootcert", || {
            dotfile(around, "root.crt").map(|path| path.display().to_string())
        });
        if self.get("password").is_none()
            && let Some(password) = self.password_from_file(around)?
        {
            self.values.insert("password", password);
        }
        Ok(self)
    }

    /// The password file's line for this address. A file that others may read is left alone, as
    /// libpq leaves it.
    fn password_from_file(
        &self,
        around: &Surroundings<'_>,
    ) -> Result<Option<String>, AddressError> {
        let path = match self.get("passfile") {
            Some(path) => PathBuf::from(path),
            None => match &around.home {
                Some(home) => home.join(".pgpass"),
                None => return Ok(None),
            },
        };
        if !path.is_file() || too_open(&path) {
            return Ok(None);
        }
        let content = read(&path)?;
        let host = match self.get("host") {
            Some(host) if DEFAULT_SOCKETS.contains(&host) => "localhost",
            Some(host) => host,
            None => self.get("hostaddr").unwrap_or("localhost"),
        };
        let wanted = [
            host,
            self.get("port").unwrap_or("5432"),
            self.get("dbname").unwrap_or_default(),
            self.get("user").unwrap_or_default(),
        ];
        Ok(content
            .lines()
            .filter(|line| !line.starts_with('#'))
            .find_map(|line| {
                let fields = passfile_fields(line);
                let [h, p, d, u, password] = fields.as_slice() else {
                    return None;
                };
                let matches = [h, p, d, u]
                    .iter()
                    .zip(wanted)
                    .all(|(field, wanted)| *field == "*" || *field == wanted);
                matches.then(|| password.clone())
            }))
    }
}

const DEFAULT_SOCKETS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// Where a server that was built without further thought has its socket.
fn default_host(port: &str) -> String {
    DEFAULT_SOCKETS
        .iter()
        .find(|dir| Path::new(dir).join(format!(".s.PGSQL.{port}")).exists())
        .map_or_else(|| "localhost".to_owned(), |dir| (*dir).to_owned())
}

fn dotfile(around: &Surroundings<'_>, name: &str) -> Option<PathBuf> {
    let path = around.home.as_ref()?.join(".postgresql").join(name);
    path.is_file().then_some(path)
}

fn too_open(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).map_or(true, |m| m.permissions().mode() & 0o077 != 0)
}

fn read(path: &Path) -> Result<String, AddressError> {
    std::fs::read_to_string(path).map_err(|e| AddressError::File {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

/// `host:port:database:user:password`, a backslash before a colon or a backslash that is meant.
fn passfile_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => push(&mut fields, chars.next().unwrap_or('\\')),
            ':' if fields.len() < 5 => fields.push(String::new()),
            c => push(&mut fields, c),
        }
    }
    fields
}

fn push(fields: &mut [String], c: char) {
    if let Some(last) = fields.last_mut() {
        last.push(c);
    }
}

/// The settings of a service, from the user's file or else the system's.
fn service_settings(
    service: &str,
    around: &Surroundings<'_>,
) -> Result<Vec<(String, String)>, AddressError> {
    let own = (around.env)("PGSERVICEFILE")
        .map(PathBuf::from)
        .or_else(|| Some(around.home.as_ref()?.join(".pg_service.conf")));
    let dir = (around.env)("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".to_owned());
    let system = Path::new(&dir).join("pg_service.conf");
    for path in own.into_iter().chain([system]).filter(|p| p.is_file()) {
        let mut inside = false;
        let mut found = Vec::new();
        let mut known = false;
        for line in read(&path)?.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                inside = name == service;
                known |= inside;
            } else if inside && let Some((key, value)) = line.split_once('=') {
                found.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        if known {
            return Ok(found);
        }
    }
    Err(AddressError::NoService(service.to_owned()))
}

/// `key = value`, the value in single quotes where it has spaces; a backslash takes the next
/// character as it is.
fn keywords(text: &str) -> Result<Address, AddressError> {
    let mut address = Address::default();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(address);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            return Err(AddressError::Syntax("a keyword has no `=` after it"));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next()),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return Err(AddressError::Syntax("a quote is not closed")),
                None => break,
            }
        }
        address.set(&key, value)?;
    }
}

/// `user:password@host:port,host:port/dbname?key=value`, everything percent-encoded where needed.
fn uri(rest: &str) -> Result<Address, AddressError> {
    let mut address = Address::default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    let (who, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    address.set("user", decode(user)?)?;
    address.set("password", decode(password)?)?;
    address.set("dbname", decode(dbname)?)?;
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(v6) => {
                let (name, after) = v6.split_once(']').ok_or(AddressError::Syntax(
                    "an IPv6 address has no closing bracket",
                ))?;
                (name, after.strip_prefix(':').unwrap_or_default())
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decode(name)?);
        ports.push(port);
    }
    address.set("host", names.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        let ports: Vec<_> = ports
            .iter()
            .map(|port| if port.is_empty() { "5432" } else { port })
            .collect();
        address.set("port", ports.join(","))?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or(AddressError::Syntax("a parameter has no `=`"))?;
        let (key, value) = (decode(key)?, decode(value)?);
        match key.as_str() {
            "ssl" if value == "true" => address.set("sslmode", "require")?,
            _ => address.set(&key, value)?,
        }
    }
    Ok(address)
}

fn decode(text: &str) -> Result<String, AddressError> {
    const BAD: AddressError = AddressError::Syntax("a `%` is not followed by two digits of text");
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().ok_or(BAD)?, rest.next().ok_or(BAD)?];
        let digits = std::str::from_utf8(&digits).map_err(|_| BAD)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| BAD)?);
    }
    String::from_utf8(bytes).map_err(|_| BAD)
}

#[cfg(test)]
mod tests;
