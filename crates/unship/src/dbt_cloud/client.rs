//! The few requests of the Administrative API v2 that are needed
//! (<https://docs.getdbt.com/dbt-cloud/api-v2>).

use super::config::DbtCloud;
use crate::http;
use crate::pipeline::dbt::connection::Secret;
use backon::{BlockingRetryable, ExponentialBuilder};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long an artefact may take: a manifest of a large project has hundreds of megabytes.
const LONG: Duration = Duration::from_secs(600);

/// How much an answer may hold that is not an artefact, in bytes. Logs are in it.
const ANSWER: u64 = 256 << 20;

/// How often a request is sent before unship gives up on it. With the waits between them, which
/// double up to a minute, that is about five minutes.
const TRIES: usize = 10;

/// How many of a job's newest runs are looked through for one whose trigger was not answered.
const NEWEST: &str = "20";

/// How many jobs are asked for at once.
const PAGE: &str = "100";

/// Why dbt Cloud could not be asked. No token and no address is in it.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// No answer.
    #[error("dbt Cloud could not be reached: {0}")]
    Unreachable(String),
    /// An answer that says no.
    #[error("dbt Cloud refused {what} with HTTP status {status}{}", said(.message))]
    Refused {
        /// What was asked for.
        what: String,
        /// The status.
        status: u16,
        /// What dbt Cloud says about it; empty, if nothing.
        message: String,
    },
    /// An answer that is not one.
    #[error("dbt Cloud's answer to {what} cannot be read: {why}")]
    Nonsense {
        /// What was asked for.
        what: String,
        /// Why not.
        why: String,
    },
    /// It is not known whether a run was begun.
    #[error(
        "dbt Cloud did not answer when the job was to be started ({why}), and none of the job's runs \
         says that it is ours: whether one will begin is not known"
    )]
    InDoubt {
        /// What happened.
        why: String,
    },
}

fn said(message: &str) -> String {
    match message {
        "" => String::new(),
        message => format!(": {message}"),
    }
}

impl CloudError {
    /// Whether the same request may be answered in a while.
    fn passes(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Nonsense { .. } | Self::InDoubt { .. } => false,
        }
    }

    /// Whether the request may have been carried out all the same.
    pub(super) fn leaves_doubt(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 408 | 500..=599),
            _ => true,
        }
    }
}

/// A job, as far as it matters here.
#[derive(Debug, Deserialize)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Its commands, in order.
    #[serde(default)]
    pub execute_steps: Vec<String>,
}

/// All of a job that another one of its kind needs.
#[derive(Debug, Deserialize)]
pub struct Definition {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its account.
    pub account_id: u64,
    /// Its project.
    pub project_id: u64,
    /// The environment that it runs in.
    pub environment_id: u64,
    /// The version of dbt, where it is not the environment's.
    #[serde(default)]
    pub dbt_version: Option<String>,
    /// Its threads and target.
    #[serde(default)]
    pub settings: serde_json::Value,
    /// When it would run.
    #[serde(default)]
    pub schedule: serde_json::Value,
}

/// How a run is to differ from what its job says.
#[derive(Debug, Clone, Serialize)]
pub struct Trigger {
    /// Why it is run, which tells it apart from all others.
    pub cause: String,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_sha: Option<String>,
    /// The schema in place of the one that the environment's credentials name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_override: Option<String>,
}

/// A run.
#[derive(Debug, Deserialize)]
pub struct Run {
    /// Its number.
    pub id: u64,
    /// Where it is in its life: 1 queued, 2 starting, 3 running, 10 success, 20 error, 30 cancelled.
    pub status: i64,
    /// What went wrong, if dbt Cloud says so.
    #[serde(default)]
    pub status_message: Option<String>,
    /// Its page.
    #[serde(default)]
    pub href: Option<String>,
    /// Its steps so far.
    #[serde(default)]
    pub run_steps: Vec<Step>,
    #[serde(default)]
    trigger: Option<Why>,
}

#[derive(Debug, Deserialize)]
struct Why {
    #[serde(default)]
    cause: Option<String>,
}

/// One command of a run.
#[derive(Debug, Deserialize)]
pub struct Step {
    /// Its place among them, from 1.
    pub index: u64,
    /// What it does.
    #[serde(default)]
    pub name: String,
    /// What it printed so far.
    #[serde(default)]
    pub logs: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All its commands did what they should.
    Well,
    /// One did not.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl Run {
    /// How it ended; `None` while it has not.
    pub fn ended(&self) -> Option<Ended> {
        match self.status {
            10 => Some(Ended::Well),
            20 => Some(Ended::Failed),
            30 => Some(Ended::Cancelled),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

/// One account.
pub struct Client {
    agent: Agent,
    base: String,
    token: Secret,
    waits: ExponentialBuilder,
}

impl Client {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// Where the token must not be sent to this address, in words.
    pub fn new(config: &DbtCloud, token: Secret) -> Result<Self, String> {
        if let Some(wrong) = crate::notify::config::insecure(&config.url) {
            return Err(format!("dbt_cloud: {wrong}"));
        }
        let url = config.url.trim_end_matches('/');
        Ok(Self {
            agent: unship_engines::http::agent(url, PATIENCE),
            base: format!("{url}/api/v2/accounts/{}", config.account),
            token,
            waits: ExponentialBuilder::default()
                .with_jitter()
                .with_max_delay(Duration::from_secs(60))
                .with_max_times(TRIES),
        })
    }

    /// A job.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn job(&self, job: u64) -> Result<Job, CloudError> {
        self.get(&format!("the job {job}"), &format!("jobs/{job}/"), &[])
    }

    /// A job, with what another one of its kind needs.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn definition(&self, job: u64) -> Result<Definition, CloudError> {
        self.get(&format!("the job {job}"), &format!("jobs/{job}/"), &[])
    }

    /// The jobs of a project.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn jobs(&self, project: u64) -> Result<Vec<Definition>, CloudError> {
        let project = project.to_string();
        let mut all = Vec::new();
        loop {
            let offset = all.len().to_string();
            let query = [
                ("project_id", project.as_str()),
                ("order_by", "id"),
                ("limit", PAGE),
                ("offset", &offset),
            ];
            let page: Vec<Definition> = self.get("the project's jobs", "jobs/", &query)?;
            let known = |one: &Definition| all.iter().any(|other: &Definition| other.id == one.id);
            // A page that brings nothing new is the end, also where the offset is not heeded.
            if page.iter().all(known) {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Makes a job. It is sent once.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn make_job(&self, body: &serde_json::Value) -> Result<Definition, CloudError> {
        self.post("to make a job", "jobs/", body)
    }

    /// Changes a job, which may be done twice.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn change_job(&self, job: u64, body: &serde_json::Value) -> Result<Definition, CloudError> {
        let post = || {
            self.post(
                &format!("to change the job {job}"),
                &format!("jobs/{job}/"),
                body,
            )
        };
        post.retry(self.waits).when(CloudError::passes).call()
    }

    /// Begins a run of a job, once, however often the answer is lost.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn trigger(&self, job: u64, trigger: &Trigger) -> Result<Run, CloudError> {
        let what = format!("to run the job {job}");
        let post = || match self.post(&what, &format!("jobs/{job}/run/"), trigger) {
            // It may have begun: the same request again would begin another.
            Err(e) if e.leaves_doubt() => Ok(Err(e)),
            other => other.map(Ok),
        };
        match post.retry(self.waits).when(CloudError::passes).call()? {
            Ok(run) => Ok(run),
            Err(e) => self.begun(job, trigger, &e),
        }
    }

    /// The run that a trigger began which was not answered.
    fn begun(&self, job: u64, trigger: &Trigger, lost: &CloudError) -> Result<Run, CloudError> {
        let job = job.to_string();
        let query = [
            ("job_definition_id", job.as_str()),
            ("order_by", "-id"),
            ("limit", NEWEST),
            ("include_related", r#"["trigger"]"#),
        ];
        let look = || {
            let runs: Vec<Run> = self.get("the job's runs", "runs/", &query)?;
            let ours = |run: &Run| {
                let cause = run.trigger.as_ref().and_then(|t| t.cause.as_deref());
                cause == Some(trigger.cause.as_str())
            };
            let ours = runs.into_iter().find(ours);
            ours.ok_or_else(|| CloudError::InDoubt {
                why: lost.to_string(),
            })
        };
        // It may take a moment until it is among them.
        let waits = self.waits.with_max_times(3);
        let missing = |e: &CloudError| matches!(e, CloudError::InDoubt { .. });
        look.retry(waits).when(missing).call()
    }

    /// A run with its steps.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn run(&self, run: u64) -> Result<Run, CloudError> {
        let steps = [("include_related", r#"["run_steps"]"#)];
        self.get(&format!("the run {run}"), &format!("runs/{run}/"), &steps)
    }

    /// Stops a run.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn cancel(&self, run: u64) -> Result<Run, CloudError> {
        let what = format!("to stop the run {run}");
        let post = || {
            self.post(
                &what,
                &format!("runs/{run}/cancel/"),
                &serde_json::json!({}),
            )
        };
        post.retry(self.waits.with_max_times(3))
            .when(CloudError::passes)
            .call()
    }

    /// What a run, or one step of it, left under a name; `None` if it left nothing.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn artefact(
        &self,
        run: u64,
        step: Option<u64>,
        name: &str,
    ) -> Result<Option<impl Read + 'static>, CloudError> {
        let what = format!("{name} of the run {run}");
        let step = step.map(|step| step.to_string());
        let query: Vec<(&str, &str)> = step.iter().map(|s| ("step", s.as_str())).collect();
        let ask = || {
            let path = format!("runs/{run}/artifacts/{name}");
            self.fetch(&what, &path, &query, LONG)
        };
        match ask.retry(self.waits).when(CloudError::passes).call() {
            Ok(answer) => {
                let body = answer.into_body();
                Ok(Some(body.into_with_config().limit(u64::MAX).reader()))
            }
            Err(CloudError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn get<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, CloudError> {
        let ask = || read(what, self.fetch(what, path, query, PATIENCE)?);
        ask.retry(self.waits).when(CloudError::passes).call()
    }

    fn fetch(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Response<Body>, CloudError> {
        let request = self
            .agent
            .get(format!("{}/{path}", self.base))
            .query_pairs(query.iter().copied())
            .header("authorization", self.authorization())
            .header("accept", "application/json")
            .config()
            .timeout_global(Some(patience))
            .build();
        answered(what, patience, request.call())
    }

    fn post<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CloudError> {
        let body = serde_json::to_vec(body).map_err(|e| CloudError::Nonsense {
            what: what.to_owned(),
            why: e.to_string(),
        })?;
        let request = self
            .agent
            .post(format!("{}/{path}", self.base))
            .header("authorization", self.authorization())
            .header("content-type", "application/json");
        read(what, answered(what, PATIENCE, request.send(&body))?)
    }

    fn authorization(&self) -> String {
        format!("Token {}", self.token.reveal())
    }
}

fn answered(
    what: &str,
    patience: Duration,
    answer: Result<Response<Body>, ureq::Error>,
) -> Result<Response<Body>, CloudError> {
    let mut answer = answer.map_err(|e| CloudError::Unreachable(http::words(&e, patience)))?;
    let status = answer.status().as_u16();
    if (200..=299).contains(&status) {
        return Ok(answer);
    }
    let text = answer.body_mut().with_config().limit(1 << 16);
    let text = text.read_to_string().unwrap_or_default();
    Err(CloudError::Refused {
        what: what.to_owned(),
        status,
        message: message_of(&text),
    })
}

fn read<T: DeserializeOwned>(what: &str, mut answer: Response<Body>) -> Result<T, CloudError> {
    let body = answer.body_mut().with_config().limit(ANSWER);
    let bytes = body
        .read_to_vec()
        .map_err(|e| CloudError::Unreachable(http::words(&e, PATIENCE)))?;
    let envelope: Envelope<T> =
        serde_json::from_slice(&bytes).map_err(|e| CloudError::Nonsense {
            what: what.to_owned(),
            why: e.to_string(),
        })?;
    Ok(envelope.data)
}

/// What dbt Cloud says in an error: `{"status": {"user_message": …}}`.
fn message_of(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let message = value["status"]["user_message"].as_str().unwrap_or_default();
    message.chars().take(300).collect()
}
