//! Requests that do not arrive, answers that do not come, and statements that come late.

use super::*;

/// Requests that never arrive and answers that never come, at each change: production is all old or
/// all new, unship knows which, and nothing was done twice.
#[test]
fn lost_requests_and_answers_leave_no_mixture() {
    let plan = five();
    for n in 1..=2 * SCHEMAS {
        for fault in [Fault::Unheard(n), Fault::Unanswered(n), Fault::LostOnce(n)] {
            let stage = stage(fault);
            let outcome = go(&plan, &stage.double, &mut fresh());
            let world = stage.world.lock().unwrap();
            match outcome {
                Ok(Outcome::Done { .. }) => assert_eq!(world.production(), new(), "{fault:?}"),
                Ok(Outcome::TakenBack { .. }) => assert_eq!(world.production(), old(), "{fault:?}"),
                Err(error) => panic!("{fault:?}: {error}"),
            }
            let done = world.production() == new();
            assert_eq!(done, !matches!(fault, Fault::Unheard(_)), "{fault:?}");
            whole(&world);
        }
    }
}

/// For so long an engine asks again that is to see an end.
const LONG: Duration = Duration::from_millis(100);

/// A statement whose answer never came is still at work when unship looks: it is waited for, and not
/// sent once more, which would exchange what was exchanged.
#[test]
fn a_statement_that_still_runs_is_waited_for() {
    let plan = five();
    for n in 1..=2 * SCHEMAS {
        let stage = stage(Fault::Late(n));
        let mut engine = patient(&stage.double, LONG);
        let outcome = carry_out(&mut engine, &plan, &mut fresh()).unwrap();
        assert!(matches!(outcome, Outcome::Done { .. }), "{n}: {outcome:?}");
        let world = stage.world.lock().unwrap();
        assert_eq!(world.production(), new(), "{n}");
        whole(&world);
    }
}

/// Nobody says what became of it: the release stays unfinished, and who resumes it asks again.
#[test]
fn what_may_still_happen_is_left_in_doubt() {
    let plan = five();
    for n in 1..=2 * SCHEMAS {
        let stage = stage(Fault::LateAndSilent(n));
        let mut events = fresh();
        match go(&plan, &stage.double, &mut events) {
            Err(ExecuteError::InDoubt { error, .. }) => {
                assert!(error.message.contains("internal error"), "{error}");
            }
            other => panic!("{n}: {other:?}"),
        }
        let mut engine = patient(&stage.double, LONG);
        let outcome = carry_out(&mut engine, &plan, &mut events).unwrap();
        assert!(matches!(outcome, Outcome::Done { .. }), "{n}: {outcome:?}");
        let world = stage.world.lock().unwrap();
        assert_eq!(world.production(), new(), "{n}");
        whole(&world);
    }
}
