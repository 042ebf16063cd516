//! The command line's grammar.

mod people;

use clap::{Args, Parser, Subcommand};
pub use people::*;
use std::path::PathBuf;

/// Production rollbacks for data warehouses.
///
/// unship guards the jobs that write to a warehouse, keeps every release restorable, and takes a
/// bad one back: atomically where the engine can, with proof, and without losing what others wrote.
#[derive(Debug, Parser)]
#[command(
    name = "unship",
    version,
    max_term_width = 100,
    subcommand_required = true
)]
#[command(
    after_help = "Releases are written R12; @ is the live one and @- the one before it.\n\
    Exit codes: 0 done, 2 wrong usage, 70 failed, 71 busy, 72 unfinished, 73 refused, 74 not proved, \
    75 nothing to do, 76 checks failed, 77 in quarantine, 78 held by the policy. `unship run` and `unship replay` pass a failed job's own exit code on."
)]
pub struct Cli {
    /// Global options.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The environment, as named in unship.toml [default: its default_env]
    #[arg(long, short, global = true, env = "UNSHIP_ENV", value_name = "NAME")]
    pub env: Option<String>,
    /// The project's directory [default: the nearest one upwards with an unship.toml]
    #[arg(
        long,
        short = 'C',
        global = true,
        env = "UNSHIP_PROJECT",
        value_name = "DIR"
    )]
    pub project: Option<PathBuf>,
    /// The Python that has duckdb, instead of the one found by itself
    #[arg(long, global = true, env = "UNSHIP_PYTHON", value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Print JSON for machines
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find the dbt project and its database, write unship.toml, say what is protected
    Init(Init),
    /// Look at everything unship depends on
    Doctor,
    /// Guard a command: build aside and publish, or in place with a restore point
    Run(Run),
    /// Run the command of an older release again, as a new guarded release
    Replay(Replay),
    /// Guard a job of dbt Cloud
    #[command(subcommand)]
    DbtCloud(DbtCloud),
    /// Is production good, since when, which release, is anything running or stuck
    Status,
    /// List the releases, the newest first
    Log(Log),
    /// One release in full
    Show(Show),
    /// Look again at what a release holds, with every check
    Check(Check),
    /// Every known change of one relation: release, writer, time, rows in and out
    Timeline(Timeline),
    /// What differs between two releases, or in one relation of them, row by row
    Diff(Diff),
    /// The exact steps of a rollback, before anything is done
    Plan(Plan),
    /// Go back to an older release, wholly or partly
    Rollback(Rollback),
    /// Carry out exactly the plan that was made
    Apply(Apply),
    /// Take back the last operation; again to go one further back
    Undo(Restore),
    /// Go forward again
    Redo(Restore),
    /// Finish what was interrupted
    Resume(Resume),
    /// Prove that production is what a release recorded
    Verify(Verify),
    /// What went wrong, who sees to it, and what was learnt
    #[command(subcommand)]
    Incident(Incident),
    /// The whole story of an incident, as Markdown and as a page
    Report(Report),
    /// Who is told, and what became of it
    #[command(subcommand)]
    Notify(Notify),
    /// How fast bad releases are noticed and taken back, and by what
    Stats(Stats),
    /// Keep a release's restore point whatever the retention says
    Pin(Pin),
    /// Let the retention decide again
    Unpin(Unpin),
    /// Pack older restore points and drop those that nothing keeps
    Gc,
    /// What would be done about a release by the policy, and why; try the policy out
    #[command(subcommand)]
    Policy(Policy),
    /// Sign a plan, so that it may be carried out
    Approve(Approve),
    /// Sign a path: plans that keep to it need no approval of their own
    ApprovePath(ApprovePath),
    /// The plans that wait for approvals, and the approvals of one
    Approvals(Approvals),
    /// The commits that `run` refuses, because what they built was rolled back
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// The tamper-evident log
    #[command(subcommand)]
    Audit(Audit),
    /// Tables whose changes are written down where they stand (PostgreSQL)
    #[command(subcommand)]
    UndoLog(UndoLog),
    /// Check what is retained, all that is packed byte by byte, and the ledger's views
    Fsck,
    /// The whole story in a scratch directory, with real data
    Demo(Demo),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Answer queries over standard input and output
    #[cfg(feature = "linked")]
    #[command(hide = true)]
    Worker,
}

/// `unship init`
#[derive(Debug, Args)]
pub struct Init {
    /// The DuckDB file, where there is no dbt project
    #[arg(long, value_name = "FILE")]
    pub database: Option<PathBuf>,
    /// Write unship.toml anew
    #[arg(long)]
    pub force: bool,
}

/// `unship run`
#[derive(Debug, Args)]
pub struct Run {
    /// Let the command work on production itself, after taking a restore point
    #[arg(long, conflicts_with = "aside")]
    pub in_place: bool,
    /// Build aside: the command writes where UNSHIP_DATABASE, UNSHIP_SCHEMA or UNSHIP_ICEBERG_BRANCH
    /// says (dbt always does)
    #[arg(long)]
    pub aside: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `unship replay`
#[derive(Debug, Args)]
pub struct Replay {
    /// The release whose command is run
    pub release: String,
    /// Run the code that is checked out now, and not the commit that the release recorded
    #[arg(long)]
    pub fixed_code: bool,
}

/// `unship dbt-cloud`
#[derive(Debug, Subcommand)]
pub enum DbtCloud {
    /// Trigger a job there and guard it: it builds aside, and is published as `run` publishes
    Run(DbtCloudRun),
    /// Trigger a job there, print its logs and wait for its end; guarded by nothing of its own
    Trigger(DbtCloudTrigger),
    /// A job there that goes back by the dbt package: shown, or made
    RollbackJob(DbtCloudRollbackJob),
}

/// `unship dbt-cloud run`
#[derive(Debug, Args)]
pub struct DbtCloudRun {
    /// The job's number
    #[arg(long, value_name = "NUMBER")]
    pub job: u64,
    /// Let the job work on production itself, after taking a restore point
    #[arg(long)]
    pub in_place: bool,
}

/// `unship dbt-cloud trigger`
#[derive(Debug, Args)]
pub struct DbtCloudTrigger {
    /// The job's number
    #[arg(long, value_name = "NUMBER")]
    pub job: u64,
}

/// `unship dbt-cloud rollback-job`
#[derive(Debug, Args)]
pub struct DbtCloudRollbackJob {
    /// The number of the job that it goes back for
    #[arg(long, value_name = "NUMBER")]
    pub job: u64,
    /// Make it, or bring the one that is there up to date, instead of showing it
    #[arg(long)]
    pub create: bool,
}

/// `unship log`
#[derive(Debug, Args)]
pub struct Log {
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: usize,
}

/// `unship show`
#[derive(Debug, Args)]
pub struct Show {
    /// The release
    #[arg(default_value = "@")]
    pub release: String,
    /// Print what its job printed
    #[arg(long)]
    pub log: bool,
}

/// `unship check`
#[derive(Debug, Args)]
pub struct Check {
    /// The release
    #[arg(default_value = "@")]
    pub release: String,
    /// Only this part, in dbt's selector syntax
    #[arg(long, short, value_name = "SELECTOR", num_args = 1..)]
    pub select: Vec<String>,
}

/// `unship diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// The older release
    #[arg(default_value = "@-")]
    pub from: String,
    /// The newer release
    #[arg(default_value = "@")]
    pub to: String,
    /// One relation, row by row
    pub relation: Option<String>,
    /// How many example rows of each kind
    #[arg(long, default_value_t = 5)]
    pub examples: usize,
}

/// Where to go back to, and with which part.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The release to go back to [default: the newest good one before the live one]
    #[arg(long, value_name = "RELEASE")]
    pub to: Option<String>,
    /// Go back to this moment ("2026-11-20 02:55 Europe/Berlin"): by the undo log where a table has
    /// one, otherwise to the newest release of then
    #[arg(long, value_name = "TIME", conflicts_with = "to")]
    pub at: Option<String>,
    /// Take back only what this role, or this application, wrote to tables with an undo log
    #[arg(long, value_name = "NAME", conflicts_with_all = ["at", "predicate", "partition"])]
    pub writer: Option<String>,
    /// Only this part, in dbt's selector syntax (`fct_orders+`, `tag:finance`, `path:models/marts`)
    #[arg(long, short, value_name = "SELECTOR", num_args = 1..)]
    pub select: Vec<String>,
    /// Not this part
    #[arg(long, value_name = "SELECTOR", num_args = 1.., requires = "select")]
    pub exclude: Vec<String>,
    /// Go stage by stage, the smallest first: each is proved before the next, and what is not as it
    /// should be holds the rest
    #[arg(long, conflicts_with_all = ["at", "writer", "predicate", "partition"])]
    pub staged: bool,
    /// Only the rows for which this is true (`order_date = date '2026-11-20'`); the rest stays
    #[arg(long = "where", value_name = "PREDICATE", requires = "select")]
    pub predicate: Option<String>,
    /// Only the rows with this value in a column, or of this partition of a PostgreSQL table
    #[arg(
        long,
        value_name = "COLUMN=VALUE|NAME",
        requires = "select",
        conflicts_with = "predicate"
    )]
    pub partition: Option<String>,
    /// Why only these rows; it is written down beside them
    #[arg(long, short = 'm', value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `unship plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// Where to.
    #[command(flatten)]
    pub target: Target,
    /// What becomes of what others wrote to what is replaced: `keep`, `set-aside` or `drop`
    #[arg(long, value_enum, value_name = "WHAT", hide_possible_values = true)]
    pub others: Option<Others>,
    /// Write the plan to a file, for `unship apply`
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What becomes of rows that others wrote since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Others {
    /// What they added is put into the version that comes back
    Keep,
    /// It stays in the retained version, and is named
    SetAside,
    /// It is given up, and goes with the retained version
    Drop,
}

/// What every restoring command may be told.
#[derive(Debug, Clone, Args)]
pub struct Restore {
    /// What becomes of what others wrote to what is replaced: `keep`, `set-aside` or `drop`
    /// [default: stop and ask]
    #[arg(long, value_enum, value_name = "WHAT", hide_possible_values = true)]
    pub others: Option<Others>,
    /// Do not read every row afterwards to prove the result
    #[arg(long)]
    pub no_verify: bool,
    /// Outside of a maintenance window or in a freeze: wait until it may be done
    #[arg(long)]
    pub wait: bool,
    /// Go on without missing approvals and outside of windows; the reason is kept in the log
    #[arg(long, value_name = "REASON", conflicts_with = "wait", value_parser = said)]
    pub break_glass: Option<String>,
}

/// `unship rollback`
#[derive(Debug, Args)]
pub struct Rollback {
    /// Where to.
    #[command(flatten)]
    pub target: Target,
    /// How.
    #[command(flatten)]
    pub restore: Restore,
}

/// `unship apply`
#[derive(Debug, Args)]
pub struct Apply {
    /// A file that `unship plan --output` wrote, `-`, or the first digits of the id of a plan that
    /// waited for approvals
    pub plan: PathBuf,
    /// How.
    #[command(flatten)]
    pub restore: Restore,
}

/// `unship resume`
#[derive(Debug, Args)]
pub struct Resume {
    /// What a person found about the step that is stuck
    #[arg(long, value_enum)]
    pub assume: Option<Assume>,
}

/// What a person found.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Assume {
    /// The step happened
    Applied,
    /// The step did not happen
    Untouched,
}

/// `unship verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// The release
    #[arg(default_value = "@")]
    pub release: String,
}

/// `unship pin`
#[derive(Debug, Args)]
pub struct Pin {
    /// The release
    pub release: String,
    /// Why
    #[arg(long, short = 'm', value_name = "TEXT")]
    pub reason: Option<String>,
}

/// `unship unpin`
#[derive(Debug, Args)]
pub struct Unpin {
    /// The release
    pub release: String,
}

/// `unship timeline`
#[derive(Debug, Args)]
pub struct Timeline {
    /// The relation, by its name, or with its schema
    pub relation: String,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 50)]
    pub limit: usize,
}

/// `unship undo-log`
#[derive(Debug, Subcommand)]
pub enum UndoLog {
    /// Turn it on for the tables that unship.toml names, and off for all others
    Sync,
    /// List the tables, since when, and how far back each can go
    List,
    /// Turn it off for all tables
    Off {
        /// Drop what was written down, too: it cannot be taken back any more
        #[arg(long)]
        forget: bool,
    },
}

/// `unship audit`
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Prove that no entry of the log was changed, removed or inserted
    Verify,
    /// Print the log's head as a text that can be signed
    Head,
}

/// `unship demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Where to play it [default: a new temporary directory, kept afterwards]
    pub dir: Option<PathBuf>,
    /// The dbt to use
    #[arg(
        long,
        env = "UNSHIP_DEMO_DBT",
        default_value = "dbt",
        value_name = "PATH"
    )]
    pub dbt: PathBuf,
}

/// `unship completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// A text that says something: it is what others will read who wonder why.
fn said(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it says nothing, and others will wonder why".to_owned()),
        text => Ok(text.to_owned()),
    }
}
