use super::*;
use crate::ident::RelationName;
use crate::ledger::SqliteLedger;
use crate::log::Ledger;
use crate::notice::{Audience, Delivery, Message, Notice, Occasion};
use crate::release::Job;
use std::collections::BTreeMap;

fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteLedger::create(&dir.path().join("ledger"), Ledger::views()).unwrap();
    (dir, Ledger::new(store, "prod", "anna"))
}

fn open(id: u64, operation: Operation, parent: Option<u64>) -> Event {
    Event::ReleaseOpened {
        release: ReleaseId(id),
        operation,
        parent: parent.map(ReleaseId),
        job: Some(Job {
            command: vec!["dbt".to_owned()],
            program: None,
            directory: ".".to_owned(),
            pipeline: None,
        }),
        code: None,
    }
}

fn publish(id: u64) -> Event {
    Event::ReleasePublished {
        release: ReleaseId(id),
        changes: BTreeMap::new(),
        mark: String::new(),
        moved: BTreeMap::new(),
    }
}

const RUN: Operation = Operation::Run {
    aside: true,
    replays: None,
};

/// R0, R1 and R2 were production one after the other.
fn two_runs(ledger: &mut Ledger) {
    ledger
        .append(&[
            open(0, Operation::Adopt, None),
            publish(0),
            open(1, RUN, Some(0)),
            publish(1),
            open(2, RUN, Some(1)),
            publish(2),
        ])
        .unwrap();
}

fn back_to(to: u64) -> Operation {
    Operation::Rollback {
        to: ReleaseId(to),
        select: None,
        rows: None,
        stage: None,
    }
}

fn release(ledger: &Ledger, id: u64) -> Release {
    ledger
        .history(|h| h.release(ReleaseId(id)))
        .unwrap()
        .unwrap()
}

fn opening(ledger: &Ledger, bad: u64, rollback: Option<u64>) -> Option<Event> {
    let bad = release(ledger, bad);
    let rollback = rollback.map(|id| release(ledger, id));
    let known = ledger.history(|h| h.incident_of(bad.id)).unwrap();
    let trigger = Trigger {
        release: &bad,
        rollback: rollback.as_ref(),
        findings: &[],
        kept: None,
    };
    opened_by(known.as_ref(), trigger)
}

#[test]
fn a_rollback_opens_one_incident_and_ends_it_for_production() {
    let (_dir, mut ledger) = ledger();
    two_runs(&mut ledger);
    assert_eq!(opening(&ledger, 2, None), None, "nothing is wrong");
    ledger
        .append(&[open(3, back_to(1), Some(2)), publish(3)])
        .unwrap();
    let event = opening(&ledger, 2, Some(3)).expect("a rollback opens one");
    ledger.append(std::slice::from_ref(&event)).unwrap();
    assert_eq!(opening(&ledger, 2, Some(3)), None, "there is one already");
    let twice = Event::IncidentOpened {
        release: ReleaseId(2),
        opening: match event {
            Event::IncidentOpened { opening, .. } => opening,
            other => panic!("{other:?}"),
        },
    };
    ledger.append(&[twice]).unwrap();
    assert_eq!(ledger.history(|h| h.incidents("prod", 9)).unwrap().len(), 1);
    let incident = ledger
        .history(|h| h.incident_of(ReleaseId(2)))
        .unwrap()
        .unwrap();
    insta::assert_snapshot!(incident.opening.summary, @"R2 was rolled back to R1");
    assert_eq!(incident.restored, release(&ledger, 3).closed);
    assert_eq!(incident.state(), "restored");
}

#[test]
fn a_bad_release_has_an_incident_until_it_is_left_and_again_when_it_returns() {
    let (_dir, mut ledger) = ledger();
    two_runs(&mut ledger);
    let bad = Event::ReleaseMarked {
        release: ReleaseId(2),
        verdict: Verdict::Bad,
        reason: "revenue doubled".to_owned(),
    };
    ledger.append(&[bad]).unwrap();
    let event = opening(&ledger, 2, None).unwrap();
    ledger.append(&[event]).unwrap();
    let restored = |ledger: &Ledger| {
        let incident = ledger.history(|h| h.incident(IncidentId(1))).unwrap();
        incident.unwrap().restored.is_some()
    };
    assert!(!restored(&ledger));
    ledger
        .append(&[open(3, back_to(1), Some(2)), publish(3)])
        .unwrap();
    assert!(restored(&ledger));
    let redo = Operation::Redo { to: ReleaseId(2) };
    ledger
        .append(&[open(4, redo, Some(3)), publish(4)])
        .unwrap();
    assert!(!restored(&ledger), "it is production again");
    let undo = Operation::Undo { to: ReleaseId(3) };
    ledger
        .append(&[open(5, undo, Some(4)), publish(5)])
        .unwrap();
    assert!(restored(&ledger), "and is not any more");
}

#[test]
fn a_closing_needs_a_cause_a_follow_up_and_the_reviews_that_were_asked() {
    let (_dir, mut ledger) = ledger();
    two_runs(&mut ledger);
    ledger
        .append(&[open(3, back_to(1), Some(2)), publish(3)])
        .unwrap();
    let event = opening(&ledger, 2, Some(3)).unwrap();
    let because = "nobody could approve at night".to_owned();
    let asked = Event::ReviewAsked {
        incident: IncidentId(1),
        because,
    };
    ledger.append(&[event, asked]).unwrap();
    let incident = |ledger: &Ledger| {
        ledger
            .history(|h| h.incident(IncidentId(1)))
            .unwrap()
            .unwrap()
    };
    let closing = |cause: &str, follow_up| Closing {
        root_cause: cause.to_owned(),
        prevention: None,
        follow_up,
    };
    let item = |owner: &str| {
        FollowUp::Items(vec![ActionItem {
            what: "test the join".to_owned(),
            owner: owner.to_owned(),
            due: jiff::civil::date(2026, 12, 1),
        }])
    };
    let good = closing("a wrong join", item("ada"));
    insta::assert_snapshot!(incident(&ledger).may_close(&good).unwrap_err(), @"I1 cannot be closed without a review: nobody could approve at night");
    let reviewed = Event::IncidentReviewed {
        incident: IncidentId(1),
        review: "it was right".to_owned(),
    };
    ledger.append(&[reviewed]).unwrap();
    let refused = |closing: &Closing| incident(&ledger).may_close(closing).unwrap_err();
    assert_eq!(refused(&closing(" ", item("ada"))), NotClosed::NoRootCause);
    assert_eq!(
        refused(&closing("x", FollowUp::Items(Vec::new()))),
        NotClosed::NoFollowUp
    );
    assert_eq!(
        refused(&closing("x", FollowUp::NoneBecause(String::new()))),
        NotClosed::NoFollowUp
    );
    assert_eq!(refused(&closing("x", item(""))), NotClosed::EmptyItem);
    assert_eq!(incident(&ledger).may_close(&good), Ok(()));
    let close = Event::IncidentClosed {
        incident: IncidentId(1),
        closing: Box::new(good.clone()),
    };
    ledger.append(&[close]).unwrap();
    assert_eq!(
        incident(&ledger).may_close(&good),
        Err(NotClosed::Already(IncidentId(1)))
    );
    assert!(
        ledger
            .history(|h| h.open_incidents("prod"))
            .unwrap()
            .is_empty()
    );
    assert_eq!(ledger.history(|h| h.incidents("prod", 9)).unwrap().len(), 1);
}

#[test]
fn the_timeline_of_a_release_is_its_own_entries() {
    let (_dir, mut ledger) = ledger();
    two_runs(&mut ledger);
    let verified = Event::Verified {
        release: ReleaseId(2),
        relations: 3,
        differences: BTreeMap::from([(RelationName::new("d", "s", "t"), "x".to_owned())]),
    };
    ledger.append(&[verified]).unwrap();
    let places = ledger.history(|h| h.story(ReleaseId(2))).unwrap();
    let entries = ledger.events_at(&places).unwrap();
    let lines: Vec<_> = timeline(&entries, &BTreeMap::new())
        .into_iter()
        .map(|l| l.what)
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    R2 begins: run
    R2 became production; 0 relations changed
    compared with R2 row by row: 1 relation not equal
    ");
}

fn notice(key: &str) -> Event {
    Event::NoticeQueued {
        notice: Box::new(Notice {
            key: key.to_owned(),
            route: "oncall".to_owned(),
            audience: Audience::Operator,
            occasion: Occasion::Test,
            severity: Severity::Low,
            env: "prod".to_owned(),
            incident: None,
            release: None,
            message: Message {
                title: "a trial".to_owned(),
                happened: String::new(),
                tables: Vec::new(),
                since: None,
                doing: String::new(),
                expected_milliseconds: None,
                gap: None,
                todo: String::new(),
            },
        }),
    }
}

#[test]
fn a_notice_is_queued_once_and_leaves_the_outbox_when_it_was_sent() {
    let (_dir, mut ledger) = ledger();
    ledger.append(&[notice("a"), notice("b")]).unwrap();
    let key = "a".to_owned();
    let sending = Event::NoticeSending { key: key.clone() };
    ledger.append(&[sending]).unwrap();
    let waiting = ledger.history(|h| h.unsent("prod")).unwrap();
    assert_eq!(
        waiting[0].delivery,
        Delivery::Sending,
        "in doubt until marked"
    );
    let sent = Event::NoticeSent { key, attempts: 1 };
    ledger.append(&[sent]).unwrap();
    ledger.append(&[notice("a")]).unwrap();
    let unsent = |ledger: &Ledger| -> Vec<_> {
        let all = ledger.history(|h| h.unsent("prod")).unwrap();
        all.into_iter().map(|o| o.notice.key).collect()
    };
    assert_eq!(unsent(&ledger), ["b"], "a second `a` is not sent again");
    let failed = |attempts, given_up| Event::NoticeFailed {
        key: "b".to_owned(),
        attempts,
        error: "refused".to_owned(),
        given_up,
    };
    ledger.append(&[failed(1, false)]).unwrap();
    assert_eq!(unsent(&ledger), ["b"]);
    ledger.append(&[failed(2, true)]).unwrap();
    assert_eq!(unsent(&ledger), [""; 0]);
    let all = ledger.history(|h| h.notices("prod")).unwrap();
    assert_eq!(all.len(), 2, "what could not be sent stays in the log");
}
