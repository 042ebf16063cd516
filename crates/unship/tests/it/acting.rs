//! What the policy does by itself, in one command, after a while, and wherever the process dies
//! between finding and having gone back.

use crate::rig::{Oracle, Ran, World, python, rounds};

/// A check that release 4 fails, and an environment where rules act.
const POLICY: &str = r#"
[policy]
protected = ["prod"]

[[check]]
name = "no_four"
kind = "acceptance"
severity = "critical"
sql = "select * from {main.orders} where release = 4"
"#;

/// Releases 2 and 3 were good.
fn world(oracle: &Oracle, more: &str) -> Option<World> {
    let world = World::new(&python()?);
    world.begin(oracle);
    world.configure(more);
    for release in [2, 3] {
        world.run("--in-place", release, &[]).ok();
    }
    Some(world)
}

fn oracle() -> Option<Oracle> {
    Some(Oracle::start(&python()?))
}

fn release(world: &World, oracle: &Oracle) -> i64 {
    world.look(oracle)[0].as_ref().unwrap().release()
}

#[track_caller]
fn says(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran}");
    for word in words {
        assert!(ran.out.contains(word), "{word:?}: {ran}");
    }
}

#[test]
fn a_release_that_fails_a_critical_check_is_taken_back_in_the_same_command() {
    let Some(oracle) = oracle() else { return };
    let Some(world) = world(&oracle, POLICY) else {
        return;
    };
    let before = world.look(&oracle);
    let ran = world.run("--in-place", 4, &[]);
    says(
        &ran,
        76,
        &["no_four", "rolled back: R4 brings back R2", "row by row"],
    );
    assert_eq!(world.look(&oracle), before);
    world.check_healthy();
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["good"], true, "{status}");
    let ran = world.run("--in-place", 5, &[]);
    says(&ran, 0, &["published"]);

    // The fourth in a day would be too many by default; one is, here.
    let breaker = POLICY.replace("[[check]]", "automatic_per_day = 1\n\n[[check]]");
    world.configure(&breaker);
    let ran = world.run("--in-place", 4, &["--json"]);
    assert_eq!(release(&world, &oracle), 4, "{ran}");
    says(
        &ran,
        76,
        &["the circuit breaker is open", "`unship rollback` goes back"],
    );
}

#[test]
fn what_is_to_be_done_within_a_time_is_done_when_it_is_up_unless_somebody_decides() {
    let Some(oracle) = oracle() else { return };
    let rule = "\n[[policy.rule]]\nname = \"soon\"\nseverity = [\"critical\"]\n\
                action = \"roll_back_within\"\nwithin = \"1s\"\n";
    let soon = format!("{POLICY}{rule}");
    let later = soon.replace("1s", "1h");
    let Some(world) = world(&oracle, &later) else {
        return;
    };
    let ran = world.run("--in-place", 4, &[]);
    says(
        &ran,
        76,
        &[
            "decided: roll back when the time is up",
            "unship policy act",
        ],
    );
    let ran = world.unship(&["policy", "act"]);
    says(&ran, 0, &["nothing is due"]);
    assert_eq!(release(&world, &oracle), 4);
    let status = world.unship(&["status"]);
    says(&status, 0, &["the policy takes it back at", "policy keep"]);

    let kept = world.copy();
    world.configure(&soon);
    world.unship(&["rollback"]).ok();
    says(&world.run("--in-place", 4, &[]), 76, &["decided"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let ran = world.unship(&["policy", "act"]);
    says(&ran, 0, &["rolled back:", "`soon`"]);
    assert_eq!(release(&world, &oracle), 3);
    says(&world.unship(&["policy", "act"]), 0, &["nothing is due"]);

    // A person says that it is good: then nothing happens when the time is up.
    kept.configure(&soon);
    let silent = kept.unship(&["policy", "keep", "--reason", " "]);
    assert_eq!(silent.code, Some(2), "{silent}");
    let nowhere = kept.unship(&["policy", "keep", "R99", "--reason", "it is fine"]);
    assert_eq!(nowhere.code, Some(2), "{nowhere}");
    let keep = ["policy", "keep", "--reason", "four is what we wanted"];
    kept.unship(&keep).ok();
    says(&kept.unship(&["policy", "act"]), 0, &["nothing is due"]);
    assert_eq!(release(&kept, &oracle), 4);
}

/// What a person finds in a release that passed its own checks is theirs to act on: raw data may only
/// have moved on since.
#[test]
fn what_a_later_look_finds_takes_nothing_back() {
    let Some(oracle) = oracle() else { return };
    let three = POLICY.replace("release = 4", "release = 3");
    let Some(world) = world(&oracle, "") else {
        return;
    };
    world.configure(&three);
    says(&world.unship(&["check"]), 76, &["no_four"]);
    says(&world.unship(&["policy", "act"]), 0, &["nothing is due"]);
    let ran = world.run("--in-place", 5, &[]);
    says(&ran, 0, &["published"]);
    assert_eq!(release(&world, &oracle), 5);
}

/// The next `unship run` goes on where the last one died, and ends in the same place.
#[test]
fn wherever_it_dies_between_finding_and_going_back_the_next_run_carries_on() {
    let Some(oracle) = oracle() else { return };
    let Some(base) = world(&oracle, POLICY) else {
        return;
    };
    let before = base.look(&oracle);
    let attempt = |world: &World, at: usize| {
        let words = world.job("--in-place", 4, &[]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        world.dying_at(&words, at)
    };
    let (_, died, names) = attempt(&base.copy(), 10_000);
    assert!(!died);
    // Once it is in the log that the job has ended, nothing more needs a person.
    let ended = names.iter().position(|name| name == "job ended");
    let ended = ended.unwrap_or_else(|| panic!("{names:?}"));
    assert_eq!(names[ended + 1], "before the ledger");
    let stride = usize::try_from(rounds("UNSHIP_CRASH_STRIDE", 9))
        .unwrap()
        .max(1);
    for at in (ended + 3..=names.len()).step_by(stride) {
        let world = base.copy();
        let (_, died, _) = attempt(&world, at);
        assert!(died, "{at}");
        // Good rows: what it finds is what the last one left.
        let ran = world.run("--aside", 5, &[]);
        let place = format!("after {at} {:?}", names[at - 1]);
        assert_eq!(ran.code, Some(0), "{place}: {ran}");
        world.check_healthy();
        // Without a lineage release 5 is unexpected, which is enough for an approval.
        world.unship(&["undo", "--break-glass", "to look"]).ok();
        assert_eq!(world.look(&oracle), before, "{place}: {ran}");
        let log = world.json(&["log", "--json"]);
        let all = log["releases"].as_array().unwrap().iter();
        let back =
            all.filter(|r| r["operation"]["kind"] == "rollback" && r["stage"] == "published");
        assert_eq!(back.count(), 1, "{place}: {log}");
    }
}
