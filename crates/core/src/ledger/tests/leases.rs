use super::*;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn me(command: &str) -> Holder {
    Holder::current("anna", command)
}

fn event() -> [Draft; 1] {
    [draft("anna", json!({"type": "x"}))]
}

#[test]
fn a_second_holder_is_refused_and_told_who_has_it() {
    let scratch = Scratch::new();
    let (mut a, mut b) = (scratch.open(), scratch.open());
    let lease = a.take_lease("prod", &me("unship run"), LONG).unwrap();
    match b.take_lease("prod", &me("unship rollback"), LONG) {
        Err(LedgerError::Held(held)) => assert_eq!(*held, lease),
        other => panic!("{other:?}"),
    }
    assert_eq!(b.lease("prod").unwrap(), Some(lease.clone()));
    // Another environment is another matter.
    assert_eq!(b.take_lease("dev", &me("x"), LONG).unwrap().number, 1);

    a.release_lease(&lease).unwrap();
    assert_eq!(b.lease("prod").unwrap(), None);
    let next = b.take_lease("prod", &me("unship rollback"), LONG).unwrap();
    assert!(next.number > lease.number);
    // Giving back what is somebody else's by now does not take it away.
    a.release_lease(&lease).unwrap();
    assert_eq!(b.lease("prod").unwrap(), Some(next));
}

#[test]
fn whoever_slept_through_the_end_of_a_lease_writes_nothing_more() {
    let scratch = Scratch::new();
    let (mut asleep, mut awake) = (scratch.open(), scratch.open());
    let old = asleep
        .take_lease("prod", &me("slow"), Duration::ZERO)
        .unwrap();
    assert_eq!(old.state(Timestamp::now()), LeaseState::Expired);

    // Expired, and nobody else came: it may go on.
    let head = asleep
        .append(&Head::genesis(), &event(), Some(&old.fence()))
        .unwrap()[0]
        .head();
    let old = asleep.renew_lease(&old, LONG).unwrap();
    assert_eq!(old.state(Timestamp::now()), LeaseState::Held);
    let old = asleep.renew_lease(&old, Duration::ZERO).unwrap();

    let new = awake.take_lease("prod", &me("quick"), LONG).unwrap();
    for answer in [
        asleep
            .append(&head, &event(), Some(&old.fence()))
            .map(|_| ()),
        asleep.renew_lease(&old, LONG).map(|_| ()),
    ] {
        match answer {
            Err(LedgerError::Fenced { env, by: Some(by) }) => {
                assert_eq!((env.as_str(), *by), ("prod", new.clone()))
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(asleep.head().unwrap(), head);
    awake.append(&head, &event(), Some(&new.fence())).unwrap();

    awake.release_lease(&new).unwrap();
    let head = awake.head().unwrap();
    assert!(matches!(
        awake.append(&head, &event(), Some(&new.fence())),
        Err(LedgerError::Fenced { by: None, .. })
    ));
}

#[test]
#[cfg(target_os = "linux")]
fn a_dead_holder_on_this_host_is_not_waited_for() {
    let scratch = Scratch::new();
    let mut ledger = scratch.open();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    // The child's start time, as the child itself would have recorded it.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let started = stat.rsplit(' ').nth(52 - 22).unwrap().parse().unwrap();
    let theirs = Holder {
        pid: child.id(),
        started: Some(started),
        ..me("theirs")
    };
    let lease = ledger.take_lease("prod", &theirs, LONG).unwrap();
    assert_eq!(lease.state(Timestamp::now()), LeaseState::Held);
    assert!(ledger.take_lease("prod", &me("mine"), LONG).is_err());

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        ledger
            .lease("prod")
            .unwrap()
            .unwrap()
            .state(Timestamp::now()),
        LeaseState::HolderDied
    );
    let mine = ledger.take_lease("prod", &me("mine"), LONG).unwrap();
    assert!(mine.number > lease.number);
}

#[test]
fn of_many_who_try_one_gets_the_lease() {
    let scratch = Scratch::new();
    let got: Vec<bool> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..6)
            .map(|_| {
                let mut ledger = scratch.open();
                scope.spawn(move || ledger.take_lease("prod", &me("x"), LONG).is_ok())
            })
            .collect();
        tasks.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(got.iter().filter(|got| **got).count(), 1);
}

#[test]
fn a_lease_can_last_for_ever() {
    let scratch = Scratch::new();
    let lease = scratch
        .open()
        .take_lease("prod", &me("x"), Duration::MAX)
        .unwrap();
    assert_eq!(lease.expires_at, Timestamp::MAX);
}
