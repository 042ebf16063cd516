use super::*;
use crate::decide::Need;
use crate::ident::RelationName;
use crate::ledger::{BlobRef, Hash};
use std::collections::{BTreeMap, BTreeSet};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn plan(digit: char) -> PlanId {
    PlanId(digit.to_string().repeat(64))
}

fn name(name: &str) -> RelationName {
    RelationName::new("shop", "marts", name)
}

fn approval(signer: &str, actor: &str) -> Approval {
    Approval {
        statement: Statement {
            project: "p".to_owned(),
            environment: "prod".to_owned(),
            subject: Subject::Plan { plan: plan('a') },
            signer: signer.to_owned(),
            expires: at("2026-03-10T12:00:00Z"),
        },
        signature: "good".to_owned(),
        actor: actor.to_owned(),
        at: at("2026-03-10T03:00:00Z"),
        env: "prod".to_owned(),
    }
}

fn path(select: &str, relations: usize) -> Approval {
    let mut approval = approval("lea@example.org", "lea@desk");
    approval.statement.subject = Subject::Path {
        path: Path {
            select: select.to_owned(),
            relations,
        },
    };
    approval
}

/// What a stand-in for ssh-keygen says: the signature's text is its own verdict.
fn prove(approval: &Approval) -> Proof {
    match approval.signature.as_str() {
        "good" => Proof::Good,
        "stranger" => Proof::UnknownKey,
        _ => Proof::Altered,
    }
}

fn ask(need: &Need, approvals: &[Approval]) -> Gate {
    ask_from("ana@laptop", Some("ana@example.org"), need, approvals)
}

/// The plan was asked for from this account, by somebody who signs so.
fn ask_from(actor: &str, signer: Option<&str>, need: &Need, approvals: &[Approval]) -> Gate {
    let request = Request {
        plan: plan('a'),
        blob: BlobRef(Hash::of(b"")),
        actor: actor.to_owned(),
        signer: signer.map(str::to_owned),
        at: at("2026-03-10T02:00:00Z"),
        env: "prod".to_owned(),
    };
    let people = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect();
    let roles: BTreeMap<String, BTreeSet<String>> = [(
        "lead".to_owned(),
        people(&["lea@example.org", "liu@example.org", "ana@example.org"]),
    )]
    .into();
    let changes = [name("orders")].into();
    let selected = [("marts".to_owned(), [name("orders"), name("days")].into())].into();
    let question = Question {
        plan: &plan('a'),
        project: "p",
        environment: "prod",
        request: &request,
        changes: &changes,
        reaches: 3,
        selected: &selected,
        roles: &roles,
        shared: &people(&["deploy@bastion"]),
        now: at("2026-03-10T04:00:00Z"),
    };
    gate(need, approvals, &question, &prove)
}

fn lead(count: u32) -> Need {
    Need {
        count,
        role: Some("lead".to_owned()),
    }
}

#[test]
fn each_reason_why_an_approval_does_not_count_has_its_own_words() {
    let good = approval("lea@example.org", "lea@desk");
    let with = |edit: fn(&mut Approval)| {
        let mut approval = good.clone();
        edit(&mut approval);
        let gate = ask(&lead(1), &[approval]);
        assert_eq!(gate.missing, 1);
        gate.refused[0].1.to_string()
    };
    let text = [
        with(|a| a.statement.subject = Subject::Plan { plan: plan('b') }),
        with(|a| a.statement.environment = "staging".to_owned()),
        with(|a| a.statement.project = "another".to_owned()),
        with(|a| a.statement.expires = at("2026-03-10T04:00:00Z")),
        with(|a| a.statement.signer = "ana@example.org".to_owned()),
        with(|a| a.actor = "ana@laptop".to_owned()),
        with(|a| a.statement.signer = "tom@example.org".to_owned()),
        with(|a| a.signature = "of something else".to_owned()),
        with(|a| a.signature = "stranger".to_owned()),
        with(|a| *a = path("core", 9)),
        with(|a| *a = path("marts", 2)),
    ]
    .join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn approvals_of_so_many_different_people_are_needed() {
    let lea = approval("lea@example.org", "lea@desk");
    let liu = approval("liu@example.org", "liu@desk");
    assert_eq!(ask(&lead(1), std::slice::from_ref(&lea)).missing, 0);
    assert_eq!(ask(&lead(2), &[lea.clone(), lea.clone()]).missing, 1);
    let two = ask(&lead(2), &[lea.clone(), liu]);
    assert_eq!((two.missing, two.counted.len()), (0, 2));
    let anybody = Need {
        count: 1,
        role: None,
    };
    assert_eq!(
        ask(&anybody, &[approval("tom@example.org", "t@x")]).missing,
        0
    );
    assert_eq!(ask(&lead(1), &[]).missing, 1);
}

#[test]
fn a_shared_account_is_nobody() {
    let from = |actor, signer, approval: &Approval| {
        let gate = ask_from(actor, signer, &lead(1), std::slice::from_ref(approval));
        gate.refused
            .into_iter()
            .next()
            .map(|(_, why)| why.to_string())
    };
    let lea = approval("lea@example.org", "deploy@bastion");
    let ana = Some("ana@example.org");
    assert_eq!(from("deploy@bastion", ana, &lea), None);
    let own = from("deploy@bastion", Some("lea@example.org"), &lea).unwrap();
    assert!(own.contains("nobody approves their own"), "{own}");
    let unknown = from("deploy@bastion", None, &lea).unwrap();
    assert!(unknown.contains("by nobody known"), "{unknown}");
}

#[test]
fn a_plan_that_keeps_to_an_approved_path_needs_no_approval_of_its_own() {
    assert_eq!(ask(&lead(1), &[path("marts", 3)]).missing, 0);
}

#[test]
fn what_is_signed_is_the_same_text_for_ever() {
    let plan = approval("lea@example.org", "lea@desk").statement;
    insta::assert_snapshot!(plan.text().unwrap(), @r"
    unship approval v1
    project: p
    environment: prod
    plan: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    signer: lea@example.org
    expires: 2026-03-10T12:00:00Z
    ");
    insta::assert_snapshot!(path("marts+", 12).statement.text().unwrap(), @r"
    unship approved path v1
    project: p
    environment: prod
    select: marts+
    relations: 12
    signer: lea@example.org
    expires: 2026-03-10T12:00:00Z
    ");
    let sly = Statement {
        environment: "dev\nplan: b".to_owned(),
        ..plan
    };
    assert!(sly.text().is_err());
}
