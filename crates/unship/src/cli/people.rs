//! The commands by which people agree, decide and are told.

use super::said;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use unship_core::decide::Period;

/// How an approval is signed.
#[derive(Debug, Clone, Args)]
pub struct Signature {
    /// The SSH key [default: the one that git signs with, one in ~/.ssh, or the agent's first]
    #[arg(long, env = "UNSHIP_SIGNING_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Whose name it is signed by, as allowed_signers has it [default: git's user.email]
    #[arg(long = "as", value_name = "NAME")]
    pub signer: Option<String>,
    /// How long it holds (`2h`, `7d`) [default: signatures.expire in unship.toml]
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Period>,
}

/// `unship approve`
#[derive(Debug, Args)]
pub struct Approve {
    /// The first digits of the plan's id, or a file that `unship plan --output` wrote
    pub plan: PathBuf,
    /// How it is signed.
    #[command(flatten)]
    pub signature: Signature,
}

/// `unship approve-path`
#[derive(Debug, Args)]
pub struct ApprovePath {
    /// What a plan may change, in dbt's selector syntax
    #[arg(long, short, value_name = "SELECTOR")]
    pub select: String,
    /// How many relations it may change or reach through lineage
    #[arg(long, value_name = "N")]
    pub max_relations: usize,
    /// How it is signed.
    #[command(flatten)]
    pub signature: Signature,
}

/// `unship approvals`
#[derive(Debug, Args)]
pub struct Approvals {
    /// The first digits of a plan's id, or a file that `unship plan --output` wrote
    pub plan: Option<PathBuf>,
}

/// `unship policy`
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// What the policy says of a release, by what checks found: which rule fired, and why
    Explain(Explain),
    /// Run the cases in policy-tests/*.toml beside unship.toml
    Test(PolicyTest),
    /// Do what is due: decide on what was checked, roll back where the time is up. For cron
    Act,
    /// Say that a release is good after all: no rule takes it back any more
    Keep(KeepRelease),
}

/// `unship policy keep`
#[derive(Debug, Args)]
pub struct KeepRelease {
    /// The release
    #[arg(default_value = "@")]
    pub release: String,
    /// Why
    #[arg(long, short = 'm', value_name = "TEXT", value_parser = said)]
    pub reason: String,
}

/// `unship policy explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// The release
    #[arg(default_value = "@")]
    pub release: String,
}

/// `unship policy test`
#[derive(Debug, Args)]
pub struct PolicyTest {
    /// Files with cases [default: policy-tests/*.toml]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `unship quarantine`
#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// List them
    List,
    /// Let a commit run again
    Lift(Lift),
}

/// `unship quarantine lift`
#[derive(Debug, Args)]
pub struct Lift {
    /// The commit, or its first digits
    pub commit: String,
    /// Why it may run again
    #[arg(long, short = 'm', value_name = "TEXT", value_parser = said)]
    pub reason: String,
}

/// `unship incident`
#[derive(Debug, Subcommand)]
pub enum Incident {
    /// List the incidents, the newest first
    List(IncidentList),
    /// One incident with its timeline
    Show(IncidentShow),
    /// Say that you see to it: escalation stops
    Ack(IncidentShow),
    /// Write down what you saw or did
    Note(IncidentNote),
    /// Say what a review of it came to
    Review(IncidentNote),
    /// End it, with its root cause and what follows
    Close(IncidentClose),
}

/// `unship incident list`
#[derive(Debug, Args)]
pub struct IncidentList {
    /// Closed ones too
    #[arg(long)]
    pub all: bool,
}

/// `unship incident show` and `ack`
#[derive(Debug, Args)]
pub struct IncidentShow {
    /// The incident [default: the newest that is not closed]
    pub incident: Option<String>,
}

/// `unship incident note` and `review`
#[derive(Debug, Args)]
pub struct IncidentNote {
    /// The incident
    pub incident: String,
    /// The text
    #[arg(value_parser = said)]
    pub text: String,
}

/// `unship incident close`
#[derive(Debug, Args)]
pub struct IncidentClose {
    /// The incident
    pub incident: String,
    /// What was at the root of it
    #[arg(long, value_name = "TEXT", value_parser = said)]
    pub root_cause: String,
    /// What will keep it from happening again
    #[arg(long, value_name = "TEXT")]
    pub prevention: Option<String>,
    /// What follows, by whom and until when; may be given several times
    #[arg(long, value_name = "OWNER:DATE:TEXT", conflicts_with = "none_because")]
    pub action: Vec<String>,
    /// Nothing follows, for this reason
    #[arg(long, value_name = "TEXT", value_parser = said)]
    pub none_because: Option<String>,
}

/// `unship report`
#[derive(Debug, Args)]
pub struct Report {
    /// The incident, or a release that has one [default: the newest incident]
    #[arg(value_name = "INCIDENT|RELEASE")]
    pub about: Option<String>,
    /// Print the page and not Markdown
    #[arg(long)]
    pub html: bool,
    /// Write to a file
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How many example rows of each kind; 0 reads no rows
    #[arg(long, default_value_t = 3)]
    pub examples: usize,
}

/// `unship notify`
#[derive(Debug, Subcommand)]
pub enum Notify {
    /// List what was told, or is to be
    List,
    /// Send a trial over each route
    Test(NotifyTest),
    /// Tell the next level of each incident that nobody acknowledged in time; for a scheduler
    Escalate,
}

/// `unship notify test`
#[derive(Debug, Args)]
pub struct NotifyTest {
    /// Only over these routes
    pub route: Vec<String>,
}

/// `unship stats`
#[derive(Debug, Args)]
pub struct Stats {
    /// So many months, the current one included
    #[arg(long, default_value_t = 12)]
    pub months: u32,
}
