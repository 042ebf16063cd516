//! Whether a plan may be carried out now: windows, freezes, approvals, and what breaks the glass.

use crate::cli::Restore;
use crate::cmd::policy::wrong_policy;
use crate::context::{Context, Workbench, actor};
use crate::deciding::picks;
use crate::error::{CliError, CliResult, exit};
use crate::render::Terminal;
use crate::scope;
use crate::signing::{Signing, signer};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use unship_core::approve::{Approval, Gate, Proof, Question, Request, Subject, gate};
use unship_core::decide::{Action, Closed, Need, Rule};
use unship_core::event::Event;
use unship_core::execute::{Notice, Watch};
use unship_core::ident::RelationName;
use unship_core::ledger::BlobRef;
use unship_core::lineage::Lineage;
use unship_core::log::Ledger;
use unship_core::plan::{Plan, PlanId};
use unship_core::release::Operation;

/// How often somebody who waits is looked at; a clock may be set meanwhile.
const GLANCE: Duration = Duration::from_secs(30);

/// Why nothing may be done in the environment now.
pub fn closed(context: &Context) -> CliResult<Option<Closed>> {
    let calendar = context.config.policy.calendar();
    let closed = calendar.closed(&context.env, Timestamp::now());
    closed.map_err(wrong_policy)
}

/// With `--wait`, waits until a window opens or a freeze ends, and says so. Nothing is held
/// meanwhile.
pub fn wait(context: &Context, args: &Restore) -> CliResult<()> {
    let terminal = Terminal::new(context.json());
    let mut told = None;
    while let Some(closed) = closed(context)?.filter(|_| args.wait) {
        if told.as_ref() != Some(&closed) {
            terminal.notice(Notice::Note(&format!("waiting: {closed}")));
        }
        let left = closed.until().duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        std::thread::sleep(left.min(GLANCE));
        told = Some(closed);
    }
    Ok(())
}

/// The approvals that a plan needs, if any.
pub fn needed(context: &Context, ledger: &Ledger, plan: &Plan) -> CliResult<Option<Need>> {
    let policy = &context.config.policy;
    if !policy.protects(&plan.env) {
        return Ok(None);
    }
    let decided = ledger.history(|h| h.decided(plan.from))?;
    let Some(decision) = decided.map(|d| d.decision) else {
        return Ok(policy.approvals.clone());
    };
    // The rule of now counts: what was decided may be of a time when nothing was protected.
    let name = decision.rule.as_ref();
    let rule = name.and_then(|name| policy.rules.iter().find(|rule| rule.name == *name));
    // A warning makes it no harder to leave a release than nothing would: what a rule that only
    // watches has approved is the fix.
    let acts = |rule: &&Rule| rule.action >= Action::Propose;
    let asked = rule.filter(acts).and_then(|rule| rule.approvals.clone());
    // What was decided is about the way back that was looked at then, and no other.
    let as_decided = match &plan.operation {
        Operation::Rollback {
            to, select: None, ..
        } => decision.back_to == Some(*to),
        _ => false,
    };
    let now = Action::RollBackNow;
    let at_once = rule.is_some_and(|rule| rule.action == now) && decision.action == now;
    Ok(match as_decided {
        true if at_once => asked,
        true => asked.or_else(|| policy.approvals.clone()),
        false => policy.approvals.clone().or(asked),
    })
}

/// Refuses a plan that may not be carried out now. Gives what was passed over by breaking the
/// glass, each a sentence; that is recorded, and told.
pub fn permit(
    context: &Context,
    bench: &mut Workbench,
    plan: &Plan,
    args: &Restore,
) -> CliResult<Vec<String>> {
    let mut passed = Vec::new();
    if !stands(&bench.ledger, plan)? {
        // Nobody need approve it: it will be refused, with what moved.
        return Ok(passed);
    }
    let reason = args.break_glass.as_deref();
    if let Some(closed) = closed(context)? {
        if reason.is_none() {
            return Err(CliError::new(exit::HELD, format!("not now: {closed}"))
                .production("nothing was changed")
                .hint(
                    "`--wait` waits for it; `--break-glass REASON` goes on at once, for the record",
                ));
        }
        passed.push(closed.to_string());
    }
    if let Some(need) = needed(context, &bench.ledger, plan)? {
        let gate = ask(context, &mut bench.ledger, plan, &need)?;
        if gate.missing > 0 {
            match reason {
                None => return Err(missing(&plan.id()?, &need, &gate)),
                Some(_) => passed.push(format!("{need}, of which {} is missing", gate.missing)),
            }
        }
    }
    if let (Some(reason), false) = (reason, passed.is_empty()) {
        bench.ledger.append(&[Event::BreakGlass {
            release: plan.release,
            plan: plan.id()?,
            reason: reason.to_owned(),
            passed: passed.clone(),
        }])?;
        let text = format!(
            "GLASS BROKEN by {}: {reason} (passed over: {})",
            actor(),
            passed.join("; ")
        );
        bench.terminal.notice(Notice::Note(&text));
    }
    Ok(passed)
}

/// Whether a plan still is about what is live, and makes the next release.
pub fn stands(ledger: &Ledger, plan: &Plan) -> CliResult<bool> {
    let live = ledger.history(|h| h.live(&plan.env))?;
    let next = ledger.history(|h| h.next_id())?;
    Ok(live.map(|live| live.release) == Some(plan.from) && plan.release == next)
}

fn missing(id: &PlanId, need: &Need, gate: &Gate) -> CliError {
    let mut message = format!(
        "plan {} needs {need}, and {} is missing",
        id.short(),
        gate.missing
    );
    for (signer, why) in &gate.refused {
        message.push_str(&format!("; that of {signer} does not count: {why}"));
    }
    let id = id.short();
    CliError::new(exit::HELD, message)
        .production("nothing was changed")
        .hint(format!(
            "somebody else runs `unship approve {id}`, then `unship apply {id}` carries it out; \
             `--break-glass REASON` goes on at once, for the record"
        ))
}

/// Notes who asks for a plan, if nobody did before, and counts its approvals.
fn ask(context: &Context, ledger: &mut Ledger, plan: &Plan, need: &Need) -> CliResult<Gate> {
    let request = requested(context, ledger, plan)?;
    let approvals = approvals(ledger, plan)?;
    if approvals.is_empty() {
        return Ok(Gate {
            missing: need.count,
            ..Gate::default()
        });
    }
    let signing = Signing::of(context)?;
    counted(context, ledger, plan, need, &request, &approvals, &signing)
}

/// Whatever might count for a plan.
pub fn approvals(ledger: &Ledger, plan: &Plan) -> CliResult<Vec<Approval>> {
    let id = plan.id()?;
    let mut approvals = ledger.history(|h| h.approvals(&id))?;
    // A path that ended says nothing about a plan that nobody had thought of then.
    let now = Timestamp::now();
    let paths = ledger.history(|h| h.paths(&plan.env))?;
    approvals.extend(paths.into_iter().filter(|p| p.statement.expires > now));
    Ok(approvals)
}

/// Counts approvals of a plan.
pub fn counted(
    context: &Context,
    ledger: &Ledger,
    plan: &Plan,
    need: &Need,
    request: &Request,
    approvals: &[Approval],
    signing: &Signing,
) -> CliResult<Gate> {
    let mut proofs = Vec::new();
    for approval in approvals {
        proofs.push((approval, signing.prove(approval)?));
    }
    let prove = |approval: &Approval| {
        let found = proofs.iter().find(|(a, _)| *a == approval);
        found.map_or(Proof::Altered, |(_, proof)| proof.clone())
    };
    let (changes, reaches, lineage) = reach(ledger, plan)?;
    let mut selected = BTreeMap::new();
    for approval in approvals {
        if let Subject::Path { path } = &approval.statement.subject {
            let picked = picks(&path.select, lineage.as_ref(), &changes)?;
            selected.insert(path.select.clone(), picked);
        }
    }
    let id = plan.id()?;
    let question = Question {
        plan: &id,
        project: &project(ledger)?,
        environment: &plan.env,
        request,
        changes: &changes,
        reaches,
        selected: &selected,
        roles: &context.config.roles,
        shared: &context.config.signatures.shared_accounts,
        now: Timestamp::now(),
    };
    Ok(gate(need, approvals, &question, &prove))
}

/// What a plan changes, how many relations it changes or reaches, and the lineage that says so.
fn reach(
    ledger: &Ledger,
    plan: &Plan,
) -> CliResult<(BTreeSet<RelationName>, usize, Option<Lineage>)> {
    let changes: BTreeSet<_> = plan.result.keys().cloned().collect();
    let lineage = scope::manifest(ledger, plan.from)?.map(Lineage::new);
    let beyond = lineage.as_ref().map(|l| l.blast_radius(&changes).relations);
    let reaches = changes.len() + beyond.map_or(0, |beyond| beyond.len());
    Ok((changes, reaches, lineage))
}

/// The project, as approvals name it: the hash of its log's first entry.
pub fn project(ledger: &Ledger) -> CliResult<String> {
    let first = ledger.events_from(1, 1)?;
    let first = first.first().map(|(entry, _)| entry.hash.to_string());
    first.ok_or_else(|| CliError::new(exit::NOTHING, "nothing has been released yet"))
}

/// Who asked for a plan first: whoever does now, if nobody did.
pub fn requested(context: &Context, ledger: &mut Ledger, plan: &Plan) -> CliResult<Request> {
    let id = plan.id()?;
    let known = |ledger: &Ledger| ledger.history(|h| h.request(&plan.env, &id));
    if let Some(request) = known(ledger)? {
        return Ok(request);
    }
    let blob = BlobRef(ledger.put_blob(&plan.canonical()?, "plan")?);
    ledger.append(&[Event::ApprovalAsked {
        plan: id.clone(),
        blob,
        signer: signer(&context.root),
    }])?;
    known(ledger)?.ok_or_else(|| CliError::failed("the log does not have what was just written"))
}
