//! One plan of several: the steps of the members, in the order in which their warehouses change.
//! Pure.

use super::gone;
use crate::engine::{EngineError, ErrorKind, Steps};
use crate::operate::count;
use crate::plan::{Action, Fact, Step};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The action of a step that a member carries out.
const OF_MEMBER: &str = "member";

/// The action of the step in which nothing is done: all are looked at before the first changes.
const TOGETHER: &str = "together";

/// Which way production goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To what was built.
    Forward,
    /// To what was.
    Back,
}

/// What a member planned.
pub(super) struct Part {
    pub(super) member: String,
    pub(super) steps: Steps,
}

/// An action of a member's engine.
#[derive(Debug, Serialize, Deserialize)]
struct Wrapped {
    member: String,
    kind: String,
    args: Value,
}

/// What a step asks for.
pub(super) enum Asked {
    /// Nothing: its guard has said all that there is to it.
    Nothing,
    /// A step of this member.
    Of(String, Box<Step>),
}

/// Puts the parts together in the order in which they are given. All that is prepared beside
/// production is prepared first; then every member is looked at once more; then they change, each in
/// its own way. `grounds` are sentences that say where the order comes from.
pub(super) fn join(parts: Vec<Part>, way: Way, grounds: &str) -> Result<Steps, EngineError> {
    let mut joined = Steps::default();
    let mut methods = Vec::new();
    let mut changing = Vec::new();
    let mut numbers: Vec<Vec<(u32, u32)>> = Vec::new();
    let (mut early, mut late) = (Vec::new(), Vec::new());
    for (at, part) in parts.into_iter().enumerate() {
        let Part { member, steps } = part;
        let said = |text: String| format!("{member}: {text}");
        methods.push(said(steps.method));
        joined
            .irreversible
            .extend(steps.irreversible.into_iter().map(said));
        joined.notes.extend(steps.notes.into_iter().map(said));
        joined.needs.extend(steps.needs.into_iter().map(said));
        joined.bytes = joined.bytes.saturating_add(steps.bytes);
        joined.mixed.extend(steps.mixed);
        let mut relied_on = None;
        for step in steps.steps {
            if step.production && relied_on.is_none() {
                let guard = step.guard.iter().chain(&steps.relies);
                relied_on = Some(guard.cloned().collect());
            }
            let to = if relied_on.is_some() {
                &mut late
            } else {
                &mut early
            };
            to.push((at, member.clone(), step));
        }
        changing.extend(relied_on.map(|facts| (member, facts)));
        numbers.push(Vec::new());
    }
    let mut put = |steps: &mut Vec<Step>, at: usize, member: &str, step: Step, last: u32| {
        let id = number(steps)?;
        let mut after = Vec::new();
        if let Some(known) = numbers.get_mut(at) {
            let own = known.iter().filter(|(old, _)| step.after.contains(old));
            after.extend(own.map(|(_, new)| *new));
            known.push((step.id, id));
        }
        // What comes before a member's change comes before all of its change.
        if last > 0 && !after.contains(&last) {
            after.push(last);
        }
        after.sort_unstable();
        steps.push(wrap(member, Step { id, after, ..step })?);
        Ok::<_, EngineError>(())
    };
    for (at, member, step) in early {
        put(&mut joined.steps, at, &member, step, 0)?;
    }
    if changing.len() > 1 {
        let id = number(&joined.steps)?;
        joined.steps.push(together(id, &changing));
        joined.notes.push(between(&changing, way, grounds));
    }
    for (at, member, step) in late {
        let last = joined.steps.last().map_or(0, |step| step.id);
        put(&mut joined.steps, at, &member, step, last)?;
    }
    joined.method = match methods.is_empty() {
        true => "nothing differs in any member: only the ledger is written".to_owned(),
        false => methods.join("; "),
    };
    Ok(joined)
}

fn number(steps: &[Step]) -> Result<u32, EngineError> {
    let next = u32::try_from(steps.len())
        .ok()
        .and_then(|n| n.checked_add(1));
    next.ok_or_else(|| EngineError::new(ErrorKind::Unsupported, "the plan has too many steps"))
}

/// The look at all members, by the facts that the first change of each begins with, and by what all of
/// its changes rely on.
fn together(id: u32, changing: &[(String, Vec<Fact>)]) -> Step {
    let guard = changing.iter();
    let guard = guard.flat_map(|(member, guard)| guard.iter().map(|fact| of(member, fact)));
    Step {
        id,
        after: (1..id).collect(),
        engine: super::ENGINE.to_owned(),
        relations: Vec::new(),
        action: Action {
            kind: TOGETHER.to_owned(),
            args: Value::Null,
        },
        statements: Vec::new(),
        guard: guard.collect(),
        expect: Vec::new(),
        undo: None,
        production: false,
        explain: format!(
            "look at {} once more, before the first of them changes",
            count(changing.len(), "member")
        ),
    }
}

/// What is not atomic, in a person's words.
fn between(changing: &[(String, Vec<Fact>)], way: Way, grounds: &str) -> String {
    let names: Vec<&str> = changing.iter().map(|(name, _)| name.as_str()).collect();
    let order = names.join(", then ");
    let (doing, why) = match way {
        Way::Forward => (
            "become production one after the other",
            "sources before what reads them",
        ),
        Way::Back => (
            "go back one after the other",
            "what reads before what it reads",
        ),
    };
    format!(
        "not atomic between members: they {doing}, {order} ({why}). Whoever reads in between finds \
         the first as it will be and the others as they still are: something may lag behind what \
         it is made from, and nothing is ahead of it{grounds}"
    )
}

/// A fact of a member.
fn of(member: &str, fact: &Fact) -> Fact {
    Fact::new(subject(member, &fact.subject), fact.is.clone())
}

/// A fact's subject, with the member that it is of.
pub(super) fn subject(member: &str, subject: &str) -> String {
    format!("{member}: {subject}")
}

/// The member, and what it is to look at.
pub(super) fn whose(subject: &str) -> Result<(&str, &str), EngineError> {
    subject.split_once(": ").ok_or_else(|| {
        let text = format!("the plan asks for {subject:?}, which is of no member");
        EngineError::new(ErrorKind::Unsupported, text).hint("it may come from a newer unship")
    })
}

fn wrap(member: &str, step: Step) -> Result<Step, EngineError> {
    let wrapped = |action: Action| {
        let args = serde_json::to_value(Wrapped {
            member: member.to_owned(),
            kind: action.kind,
            args: action.args,
        });
        let kind = OF_MEMBER.to_owned();
        args.map(|args| Action { kind, args }).map_err(unwritten)
    };
    Ok(Step {
        action: wrapped(step.action)?,
        undo: step.undo.map(wrapped).transpose()?,
        guard: step.guard.iter().map(|fact| of(member, fact)).collect(),
        expect: step.expect.iter().map(|fact| of(member, fact)).collect(),
        explain: format!("{member}: {}", step.explain),
        ..step
    })
}

/// The member whose step it is, if it is one's.
pub(super) fn member(step: &Step) -> Option<String> {
    let wrapped = (step.action.kind == OF_MEMBER).then(|| Wrapped::deserialize(&step.action.args));
    wrapped?.ok().map(|wrapped| wrapped.member)
}

/// The step as the member's engine planned it.
pub(super) fn unwrap(step: &Step) -> Result<Asked, EngineError> {
    if step.action.kind == TOGETHER {
        return Ok(Asked::Nothing);
    }
    let unwrapped = |action: &Action| {
        if action.kind != OF_MEMBER {
            return Err(gone(&step.engine));
        }
        Wrapped::deserialize(&action.args).map_err(unwritten)
    };
    let inner = |wrapped: Wrapped| Action {
        kind: wrapped.kind,
        args: wrapped.args,
    };
    let action = unwrapped(&step.action)?;
    let member = action.member.clone();
    let own = |facts: &[Fact]| -> Result<Vec<Fact>, EngineError> {
        let all = facts.iter();
        all.map(|fact| Ok(Fact::new(whose(&fact.subject)?.1, fact.is.clone())))
            .collect()
    };
    let undo = step.undo.as_ref().map(unwrapped).transpose()?;
    let prefix = format!("{member}: ");
    let explain = step.explain.strip_prefix(&prefix).unwrap_or(&step.explain);
    let step = Step {
        action: inner(action),
        undo: undo.map(inner),
        guard: own(&step.guard)?,
        expect: own(&step.expect)?,
        explain: explain.to_owned(),
        ..step.clone()
    };
    Ok(Asked::Of(member, Box::new(step)))
}

/// What could not be written as JSON, or read from it.
pub(super) fn unwritten(error: serde_json::Error) -> EngineError {
    let text = "a member's part of a plan cannot be written or read";
    EngineError::new(ErrorKind::Io, text).because(error)
}
