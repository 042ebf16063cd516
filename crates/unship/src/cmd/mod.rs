//! The commands, one file each.

mod approve;
mod audit;
mod back;
mod check;
mod completions;
mod dbt_cloud;
pub(crate) mod diff;
mod doctor;
mod fsck;
mod gc;
pub(crate) mod incident;
pub(crate) mod init;
mod log;
mod notify;
mod pin;
pub mod plan;
pub mod policy;
mod quarantine;
mod replay;
mod report;
mod resume;
mod run;
mod show;
pub mod stages;
mod stats;
mod status;
mod timeline;
mod undo_log;
pub mod verify;

use crate::cli::{Cli, Command, DbtCloud, Policy};
use crate::context::NOT_TOUCHED;
use crate::error::{CliResult, exit};

/// Carries a command out and gives its exit code.
pub fn dispatch(cli: Cli) -> CliResult {
    let follows = has_aftermath(&cli.command).then(|| cli.global.clone());
    let result = carry_out(cli);
    if let Some(global) = follows {
        crate::aftermath::of_command(&global);
    }
    result
}

/// Whether a command may leave something that people are to be told.
fn has_aftermath(command: &Command) -> bool {
    matches!(
        command,
        Command::Run(_)
            | Command::Replay(_)
            | Command::DbtCloud(DbtCloud::Run(_))
            | Command::Rollback(_)
            | Command::Apply(_)
            | Command::Undo(_)
            | Command::Redo(_)
            | Command::Resume(_)
            | Command::Policy(Policy::Act)
    )
}

fn carry_out(cli: Cli) -> CliResult {
    let global = &cli.global;
    match cli.command {
        Command::Init(args) => init::run(global, &args),
        Command::Doctor => doctor::run(global),
        Command::Run(args) => untouched(run::run(global, &args)),
        Command::Replay(args) => untouched(replay::run(global, &args)),
        Command::DbtCloud(DbtCloud::Run(args)) => untouched(dbt_cloud::run(global, &args)),
        Command::DbtCloud(DbtCloud::Trigger(args)) => dbt_cloud::trigger(global, &args),
        Command::DbtCloud(DbtCloud::RollbackJob(args)) => dbt_cloud::rollback_job(global, &args),
        Command::Status => status::run(global),
        Command::Log(args) => log::run(global, &args),
        Command::Show(args) => show::run(global, &args),
        Command::Check(args) => check::run(global, &args),
        Command::Timeline(args) => timeline::run(global, &args),
        Command::UndoLog(args) => undo_log::run(global, &args),
        Command::Diff(args) => diff::run(global, &args),
        Command::Plan(args) => plan::run(global, &args),
        Command::Rollback(args) => untouched(back::rollback(global, &args)),
        Command::Apply(args) => untouched(back::apply(global, &args)),
        Command::Undo(args) => untouched(back::undo(global, &args)),
        Command::Redo(args) => untouched(back::redo(global, &args)),
        Command::Resume(args) => untouched(resume::run(global, &args)),
        Command::Verify(args) => verify::run(global, &args),
        Command::Incident(args) => incident::run(global, &args),
        Command::Report(args) => report::run(global, &args),
        Command::Notify(args) => notify::run(global, &args),
        Command::Stats(args) => stats::run(global, &args),
        Command::Pin(args) => pin::pin(global, &args),
        Command::Unpin(args) => pin::unpin(global, &args),
        Command::Gc => untouched(gc::run(global)),
        Command::Policy(args) => policy::run(global, &args),
        Command::Approve(args) => approve::plan(global, &args),
        Command::ApprovePath(args) => approve::path(global, &args),
        Command::Approvals(args) => approve::list(global, &args),
        Command::Quarantine(args) => quarantine::run(global, &args),
        Command::Audit(args) => audit::run(global, &args),
        Command::Fsck => fsck::run(global),
        Command::Demo(args) => crate::demo::run(global, &args),
        Command::Completions(args) => completions::run(&args),
        #[cfg(feature = "linked")]
        Command::Worker => {
            unship_engines::duckdb::worker::serve(std::io::stdin(), std::io::stdout())
                .map_err(crate::error::system_error("answer unship"))?;
            Ok(crate::error::exit::OK)
        }
    }
}

/// A command that may change production, and failed before there was a project to ask what
/// production is.
fn untouched(result: CliResult) -> CliResult {
    result.map_err(|error| match error.code {
        exit::NOTHING => error,
        _ => error.standing(NOT_TOUCHED.to_owned(), None),
    })
}
