//! `[[notify]]` and `[escalation]` in `unship.toml`.

use crate::error::CliError;
use crate::pipeline::dbt::connection::Secret;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use unship_core::check::Severity;
use unship_core::notice::{Audience, Occasion};

/// Where a secret is. It is never in the file itself, which is meant to be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretRef {
    /// In an environment variable of this name.
    Env(String),
    /// In a file, relative to `unship.toml`; blanks around it do not count.
    File(PathBuf),
}

/// What is said of a secret that is in the file. An error that shows the line would repeat it.
pub const WRITTEN_OUT: &str = "a secret is not written in this file, which is meant to be committed: \
                               say where it is, as { env = \"NAME\" } or { file = \"path\" }";

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Place)
    }
}

struct Place;

impl<'de> Visitor<'de> for Place {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ env = \"NAME\" } or { file = \"path\" }")
    }

    fn visit_str<E: de::Error>(self, _secret: &str) -> Result<SecretRef, E> {
        Err(E::custom(WRITTEN_OUT))
    }

    fn visit_i64<E: de::Error>(self, _secret: i64) -> Result<SecretRef, E> {
        Err(E::custom(WRITTEN_OUT))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretRef, A::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Where {
            Env(String),
            File(PathBuf),
        }
        Ok(match Where::deserialize(MapAccessDeserializer::new(map))? {
            Where::Env(name) => SecretRef::Env(name),
            Where::File(path) => SecretRef::File(path),
        })
    }
}

impl SecretRef {
    /// Reads it.
    ///
    /// # Errors
    /// Where it is not there. The text names the place and never the secret.
    pub fn read(&self, root: &Path) -> Result<Secret, String> {
        let text = match self {
            Self::Env(name) => std::env::var(name)
                .map_err(|_| format!("the environment variable {name} is not set"))?,
            Self::File(path) => std::fs::read_to_string(root.join(path))
                .map_err(|e| format!("cannot read {}: {e}", path.display()))?,
        };
        match text.trim() {
            "" => Err(match self {
                Self::Env(name) => format!("the environment variable {name} is empty"),
                Self::File(path) => format!("{} is empty", path.display()),
            }),
            secret => Ok(Secret::new(secret)),
        }
    }
}

/// One way to tell somebody. Exactly one of `slack`, `webhook`, `pagerduty`, `email` and `command`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name, for escalations, the outbox and the log.
    pub name: String,
    /// For whom its messages are written.
    pub audience: Audience,
    /// The least severity that is told.
    #[serde(default = "medium")]
    pub min_severity: Severity,
    /// What is told; all, if nothing is named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub events: BTreeSet<Occasion>,
    /// The environments that it is for; all, if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub envs: Vec<String>,
    /// Only what an escalation sends over it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub escalation_only: bool,
    /// A Slack incoming webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,
    /// Any HTTP endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// PagerDuty's Events API v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagerduty: Option<PagerDuty>,
    /// Mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// A program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
}

fn medium() -> Severity {
    Severity::Medium
}

/// A Slack incoming webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// Its address, which is a secret: whoever has it can post.
    pub url: SecretRef,
}

/// Any HTTP endpoint, signed as the Standard Webhooks specification says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its address.
    pub url: String,
    /// The key of the signature, as it is or as `whsec_` and base64.
    pub secret: SecretRef,
}

/// PagerDuty's Events API v2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagerDuty {
    /// The integration's key.
    pub routing_key: SecretRef,
    /// The address, where it is not `https://events.pagerduty.com/v2/enqueue` (the service region
    /// in Europe has another).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// How a connection to a mail server is kept private.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Begun in the open and upgraded, which is required (port 587).
    #[default]
    StartTls,
    /// From the first byte (port 465).
    Implicit,
}

/// Mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The server.
    pub host: String,
    /// Its port, where it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is kept private.
    #[serde(default)]
    pub tls: Tls,
    /// A file with the certificate of a private authority, relative to `unship.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Who sends.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
    /// The login, where the server wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
}

/// Who is told until somebody acknowledges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// The least severity that escalates.
    #[serde(default = "high")]
    pub min_severity: Severity,
    /// The levels, in order.
    #[serde(rename = "level")]
    pub levels: Vec<Level>,
}

fn high() -> Severity {
    Severity::High
}

/// One level of an escalation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// How long after the incident was opened (`15m`, `1h`).
    pub after: String,
    /// Who is asked, as people call them.
    pub contact: String,
    /// The routes that reach them.
    pub routes: Vec<String>,
}

impl Level {
    /// How long after the incident was opened.
    pub fn wait(&self) -> Result<jiff::SignedDuration, String> {
        let wait: jiff::SignedDuration = self.after.parse().map_err(|e| {
            format!(
                "escalation: after = {:?} is not a time like 15m or 1h: {e}",
                self.after
            )
        })?;
        match wait.is_negative() {
            true => Err(format!(
                "escalation: after = {:?} is less than no time",
                self.after
            )),
            false => Ok(wait),
        }
    }
}

impl Route {
    /// Whether a notice about this goes over it by itself.
    pub fn takes(&self, env: &str, severity: Severity, occasion: Occasion) -> bool {
        !self.escalation_only
            && severity >= self.min_severity
            && (self.events.is_empty() || self.events.contains(&occasion))
            && (self.envs.is_empty() || self.envs.iter().any(|e| e == env))
    }

    /// Whether whoever is behind it can tell a second sending of a notice from a first: PagerDuty
    /// by the key of its alert, a webhook by the message's id, a mailbox by the mail's.
    pub fn dedupes(&self) -> bool {
        self.pagerduty.is_some() || self.webhook.is_some() || self.email.is_some()
    }

    /// The word for how it tells.
    pub fn kind(&self) -> &'static str {
        match self {
            Self { slack: Some(_), .. } => "slack",
            Self {
                webhook: Some(_), ..
            } => "webhook",
            Self {
                pagerduty: Some(_), ..
            } => "pagerduty",
            Self { email: Some(_), .. } => "email",
            _ => "command",
        }
    }

    fn wrong(&self) -> Option<String> {
        let ways = [
            self.slack.is_some(),
            self.webhook.is_some(),
            self.pagerduty.is_some(),
            self.email.is_some(),
            self.command.is_some(),
        ];
        let name = &self.name;
        if name.is_empty() || name.contains(char::is_control) || name.contains('/') {
            return Some(format!("notify: {name:?} is no name for a route"));
        }
        if ways.iter().filter(|way| **way).count() != 1 {
            return Some(format!(
                "notify `{name}` needs exactly one of slack, webhook, pagerduty, email and command"
            ));
        }
        if self.command.as_ref().is_some_and(Vec::is_empty) {
            return Some(format!("notify `{name}`: the command is empty"));
        }
        let urls = [
            self.webhook.as_ref().map(|w| w.url.as_str()),
            self.pagerduty.as_ref().and_then(|p| p.url.as_deref()),
        ];
        if let Some(wrong) = urls.into_iter().flatten().find_map(insecure) {
            return Some(format!("notify `{name}`: {wrong}"));
        }
        self.email.as_ref().and_then(|email| {
            let half = email.user.is_some() != email.password.is_some();
            match (half, email.to.is_empty()) {
                (true, _) => Some(format!(
                    "notify `{name}`: a login needs both `user` and `password`"
                )),
                (_, true) => Some(format!("notify `{name}`: `to` names nobody")),
                _ => None,
            }
        })
    }
}

/// Why an address is not fit to send to, if it is not: what is told is nobody else's business.
pub fn insecure(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Some(
            "the address holds a login, and this file is meant to be committed".to_owned(),
        );
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let here = ["localhost", "127.0.0.1", "[::1]"].contains(&name);
    match scheme {
        "https" => None,
        "http" if here => None,
        _ => Some("the address must begin with https://".to_owned()),
    }
}

/// What is wrong with the routes and the escalation, if anything.
pub fn wrong(routes: &[Route], escalation: Option<&Escalation>) -> Option<String> {
    let mut names = BTreeSet::new();
    for route in routes {
        if let Some(wrong) = route.wrong() {
            return Some(wrong);
        }
        if !names.insert(route.name.as_str()) {
            return Some(format!(
                "two routes of [[notify]] are named `{}`",
                route.name
            ));
        }
    }
    for level in escalation.map_or(&[][..], |e| &e.levels) {
        if let Err(wrong) = level.wait() {
            return Some(wrong);
        }
        if let Some(unknown) = level.routes.iter().find(|r| !names.contains(r.as_str())) {
            return Some(format!(
                "escalation: no [[notify]] has the name `{unknown}`"
            ));
        }
    }
    None
}

/// The route of a name.
pub fn route<'a>(routes: &'a [Route], name: &str) -> Result<&'a Route, CliError> {
    routes.iter().find(|r| r.name == name).ok_or_else(|| {
        let known: Vec<_> = routes.iter().map(|r| r.name.as_str()).collect();
        let e = CliError::usage(format!("no [[notify]] has the name `{name}`"));
        match known.is_empty() {
            true => e.hint("unship.toml has no [[notify]] yet"),
            false => e.hint(format!("there are: {}", known.join(", "))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::WRITTEN_OUT;
    use crate::config::Config;

    fn problem(text: &str) -> String {
        let file = format!(
            "format = 1\ndefault_env = \"prod\"\n[env.prod]\nengine = \"duckdb\"\npath = \"x\"\n{text}"
        );
        Config::parse(&file).unwrap_err()
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let route =
            |rest: &str| format!("[[notify]]\nname = \"a\"\naudience = \"operator\"\n{rest}");
        let hook = |url: &str| {
            route(&format!(
                "webhook = {{ url = \"{url}\", secret = {{ env = \"S\" }} }}"
            ))
        };
        let mut seen = Vec::new();
        for text in [
            route(""),
            route("command = []"),
            route("command = [\"x\"]\nslack = { url = { env = \"X\" } }"),
            hook("http://example.org/x"),
            hook("https://me:pw@example.org/x"),
            route("email = { host = \"h\", from = \"a@b\", to = [\"c@d\"], user = \"u\" }"),
            format!("{0}{0}", route("command = [\"x\"]\n")),
            route(
                "command = [\"x\"]\n[[escalation.level]]\nafter = \"15m\"\ncontact = \"Ada\"\nroutes = [\"b\"]",
            ),
            route(
                "command = [\"x\"]\n[[escalation.level]]\nafter = \"soon\"\ncontact = \"Ada\"\nroutes = [\"a\"]",
            ),
        ] {
            seen.push(problem(&text).lines().next().unwrap_or_default().to_owned());
        }
        insta::assert_snapshot!(seen.join("\n"));
        // A secret as it is has no place here, and what is said does not repeat it.
        let secret = problem(&route(
            "slack = { url = \"https://hooks.slack.com/services/T0/B0/x\" }",
        ));
        assert!(secret.contains(WRITTEN_OUT), "{secret}");
        assert!(!secret.contains("services"), "{secret}");
    }
}
