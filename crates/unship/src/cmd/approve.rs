//! `unship approve`, `approve-path` and `approvals`

use crate::cli::{Approvals, Approve, ApprovePath, Global, Signature};
use crate::context::{Context, actor};
use crate::deciding::picks;
use crate::error::{CliError, CliResult, exit};
use crate::permit::{self, project};
use crate::render::{json, text};
use crate::signing::{Key, Signing, signer};
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use std::collections::BTreeSet;
use unship_core::approve::{Approval, Path, Proof, Request, Statement, Subject};
use unship_core::decide::Need;
use unship_core::event::Event;
use unship_core::log::Ledger;
use unship_core::plan::Plan;

/// Signs a plan.
pub fn plan(global: &Global, args: &Approve) -> CliResult {
    let mut context = Context::find(global)?;
    let plan = super::plan::given(&context, &args.plan)?;
    if plan.env != context.env && global.env.is_none() {
        context.switch(&plan.env)?;
    }
    if plan.env != context.env {
        return Err(refused(format!(
            "this plan is for the environment `{}`, and `{}` is meant",
            plan.env, context.env
        ))
        .hint(format!("`--env {}` approves it there", plan.env)));
    }
    approve(&context, &plan, args).map_err(|e| context.told(e))
}

fn approve(context: &Context, plan: &Plan, args: &Approve) -> CliResult {
    let id = plan.id()?;
    let signing = Signing::of(context)?;
    let mut ledger = context.read()?;
    let env = &context.env;
    if !permit::stands(&ledger, plan)? {
        return Err(refused(format!(
            "the world moved since plan {} was made: it would make {} from {}",
            id.short(),
            plan.release,
            plan.from
        ))
        .hint("make a new plan with `unship plan`"));
    }
    // Before anybody is asked for a passphrase.
    let name = name(context, &args.signature)?;
    let request = match ledger.history(|h| h.request(env, &id))? {
        Some(request) => request,
        // Whoever carries it out will be the one who asked.
        None => nobody(plan)?,
    };
    let subject = Subject::Plan { plan: id.clone() };
    let need = permit::needed(context, &ledger, plan)?;
    let role = need.and_then(|need| need.role);
    let one = Need { count: 1, role };
    let judge = |ledger: &Ledger, approval: &Approval| {
        let list = std::slice::from_ref(approval);
        let gate = permit::counted(context, ledger, plan, &one, &request, list, &signing)?;
        match gate.refused.into_iter().next() {
            Some((_, why)) => Err(refused(format!("this approval would not count: {why}"))),
            None => Ok(()),
        }
    };
    let approval = sign(context, &ledger, &signing, subject, &name, &args.signature)?;
    judge(&ledger, &approval)?;
    let expires = approval.statement.expires;
    ledger.append(&[Event::Approved {
        statement: approval.statement,
        signature: approval.signature,
    }])?;
    crate::say!(
        "{name} approves plan {} until {}",
        id.short(),
        text::moment(expires)
    );
    Ok(exit::OK)
}

/// Signs a path for plans.
pub fn path(global: &Global, args: &ApprovePath) -> CliResult {
    let context = Context::find(global)?;
    approve_path(&context, args).map_err(|e| context.told(e))
}

fn approve_path(context: &Context, args: &ApprovePath) -> CliResult {
    let path = Path {
        select: args.select.clone(),
        relations: args.max_relations,
    };
    // Only to say now if it is no selection.
    let mut ledger = context.read()?;
    let live = ledger.history(|h| h.live(&context.env))?;
    let lineage = match live {
        Some(live) => crate::scope::manifest(&ledger, live.release)?,
        None => None,
    };
    let lineage = lineage.map(unship_core::lineage::Lineage::new);
    picks(&path.select, lineage.as_ref(), &BTreeSet::new())?;
    let signing = Signing::of(context)?;
    let name = name(context, &args.signature)?;
    let subject = Subject::Path { path };
    let approval = sign(context, &ledger, &signing, subject, &name, &args.signature)?;
    match signing.prove(&approval)? {
        Proof::Good => {}
        Proof::Altered | Proof::UnknownKey => {
            return Err(refused(format!(
                "this approval would not count: the key is not among the allowed ones of {name}"
            )));
        }
    }
    let (subject, expires) = (
        approval.statement.subject.clone(),
        approval.statement.expires,
    );
    ledger.append(&[Event::Approved {
        statement: approval.statement,
        signature: approval.signature,
    }])?;
    crate::say!(
        "{name} approves {subject} in {} until {}",
        context.env,
        text::moment(expires)
    );
    Ok(exit::OK)
}

fn refused(message: String) -> CliError {
    CliError::new(exit::REFUSED, message).production("nothing was changed")
}

/// The name that the signature is made under.
fn name(context: &Context, args: &Signature) -> CliResult<String> {
    let named = args.signer.clone().or_else(|| signer(&context.root));
    named.ok_or_else(|| {
        CliError::usage("nobody is named who signs")
            .hint("`--as NAME` names one as allowed_signers does; git's user.email is the default")
    })
}

fn sign(
    context: &Context,
    ledger: &Ledger,
    signing: &Signing,
    subject: Subject,
    name: &str,
    args: &Signature,
) -> CliResult<Approval> {
    let now = Timestamp::now();
    let lasts = args.expires.unwrap_or(context.config.signatures.expire);
    let expires = now.checked_add(lasts.duration());
    // A signed text needs no nanoseconds, and an approval holds no longer than was said.
    let second = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Trunc);
    let expires = expires.and_then(|at| at.round(second));
    let expires = expires.map_err(|_| CliError::usage("--expires is too far away"))?;
    let statement = Statement {
        project: project(ledger)?,
        environment: context.env.clone(),
        subject,
        signer: name.to_owned(),
        expires,
    };
    let text = statement
        .text()
        .map_err(|e| CliError::usage(e.to_string()))?;
    let key = Key::find(args.key.as_deref(), &context.root)?;
    Ok(Approval {
        signature: signing.sign(&key, &text)?,
        statement,
        actor: actor(),
        at: now,
        env: context.env.clone(),
    })
}

/// Stands for a request where there is none yet.
fn nobody(plan: &Plan) -> CliResult<Request> {
    Ok(Request {
        plan: plan.id()?,
        blob: unship_core::ledger::BlobRef(unship_core::ledger::Hash::of(b"")),
        actor: String::new(),
        signer: None,
        at: Timestamp::now(),
        env: plan.env.clone(),
    })
}

/// Lists what was asked for and approved.
pub fn list(global: &Global, args: &Approvals) -> CliResult {
    let context = Context::find(global)?;
    match &args.plan {
        Some(plan) => of_plan(global, context, plan),
        None => all(global, &context),
    }
}

fn of_plan(global: &Global, mut context: Context, given: &std::path::Path) -> CliResult {
    let plan = super::plan::given(&context, given)?;
    if global.env.is_none() {
        context.switch(&plan.env)?;
    }
    let id = plan.id()?;
    let ledger = context.read()?;
    let need = permit::needed(&context, &ledger, &plan)?;
    let approvals = permit::approvals(&ledger, &plan)?;
    let request = match ledger.history(|h| h.request(&plan.env, &id))? {
        Some(request) => request,
        // Looking asks for nothing.
        None => nobody(&plan)?,
    };
    let asked = need.clone().unwrap_or(Need {
        count: 0,
        role: None,
    });
    let mut states = Vec::new();
    if !approvals.is_empty() {
        let signing = Signing::of(&context)?;
        for approval in &approvals {
            let list = std::slice::from_ref(approval);
            let gate = permit::counted(&context, &ledger, &plan, &asked, &request, list, &signing)?;
            let why = gate
                .refused
                .into_iter()
                .next()
                .map(|(_, why)| why.to_string());
            states.push((approval, why));
        }
    }
    if global.json {
        let list: Vec<_> = states.iter().map(|(a, why)| document(a, why)).collect();
        let document = serde_json::json!({
            "plan": id, "env": plan.env, "asked_by": request.actor, "needs": need,
            "approvals": list,
        });
        json("unship.approvals/1", &document)?;
        return Ok(exit::OK);
    }
    match &need {
        Some(need) => crate::say!("plan {} needs {need}", id.short()),
        None => crate::say!("plan {} needs no approval", id.short()),
    }
    if !request.actor.is_empty() {
        let ago = text::ago(request.at, Timestamp::now());
        crate::say!("  asked for by {} {ago}", request.actor);
    }
    for (approval, why) in &states {
        let statement = &approval.statement;
        let counts = match why {
            None => "counts".to_owned(),
            Some(why) => format!("does not count: {why}"),
        };
        crate::say!(
            "  {} approves {} until {}: {counts}",
            statement.signer,
            statement.subject,
            text::moment(statement.expires)
        );
    }
    Ok(exit::OK)
}

/// An approval with all that proves it elsewhere: `ssh-keygen -Y verify` takes text and signature.
fn document(approval: &Approval, why: &Option<String>) -> serde_json::Value {
    serde_json::json!({
        "statement": approval.statement, "text": approval.statement.text().ok(),
        "signature": approval.signature, "by": approval.actor, "at": approval.at,
        "counts": why.is_none(), "why_not": why,
    })
}

fn all(global: &Global, context: &Context) -> CliResult {
    let ledger = context.read()?;
    let requests = ledger.history(|h| h.requests(&context.env, 20))?;
    let paths = ledger.history(|h| h.paths(&context.env))?;
    if global.json {
        let document = serde_json::json!({
            "env": context.env, "asked": requests, "paths": paths,
        });
        json("unship.approval-list/1", &document)?;
        return Ok(exit::OK);
    }
    if requests.is_empty() && paths.is_empty() {
        crate::say!("nobody asked for an approval in {}", context.env);
        return Ok(exit::OK);
    }
    let now = Timestamp::now();
    for request in &requests {
        let given = ledger.history(|h| h.approvals(&request.plan))?;
        crate::say!(
            "plan {} asked for by {} {}: {} given",
            request.plan.short(),
            request.actor,
            text::ago(request.at, now),
            unship_core::operate::count(given.len(), "approval")
        );
    }
    for path in &paths {
        let statement = &path.statement;
        let over = match statement.expires > now {
            true => "",
            false => " (over)",
        };
        crate::say!(
            "{} approves {} until {}{over}",
            statement.signer,
            statement.subject,
            text::moment(statement.expires)
        );
    }
    Ok(exit::OK)
}
