use super::*;
use crate::check::Severity;
use crate::ident::{RelationName, ReleaseId};
use jiff::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn orders() -> RelationName {
    RelationName::new("shop", "core", "orders")
}

fn failed(severity: Severity) -> Failed {
    Failed {
        check: "unique_key".to_owned(),
        relation: Some(orders()),
        severity,
    }
}

fn clear() -> Back {
    Back::Planned {
        to: ReleaseId(2),
        relations: 4,
        irreversible: Vec::new(),
        others: BTreeMap::new(),
        expected: 300,
    }
}

/// A release in production for ten minutes, with a clear way back.
fn facts(severities: &[Severity]) -> Facts {
    Facts {
        environment: "prod".to_owned(),
        release: Some(ReleaseId(3)),
        now: at("2026-03-10T03:00:00Z"),
        published: Some(at("2026-03-10T02:50:00Z")),
        failed: severities.iter().copied().map(failed).collect(),
        unknown: 0,
        selected: BTreeMap::new(),
        dependents: 3,
        exposures: 1,
        owners: ["finance".to_owned()].into(),
        back: clear(),
        automatic: 0,
        measured: Measured::default(),
        code: None,
        code_before: None,
    }
}

fn protecting() -> Policy {
    Policy {
        protected: ["prod".to_owned()].into(),
        ..Policy::default()
    }
}

const ALL: [Severity; 4] = [
    Severity::Low,
    Severity::Medium,
    Severity::High,
    Severity::Critical,
];

#[test]
fn the_default_is_the_table_that_was_agreed_on() {
    let mut text = String::new();
    for severity in ALL.iter().rev() {
        let decision = decide(&protecting(), &facts(&[*severity])).unwrap();
        text.push_str(&format!("{severity}: {}", decision.action.words()));
        if let Some(deadline) = decision.deadline {
            text.push_str(&format!(", at {deadline}"));
        }
        let by = decision
            .approvals
            .map_or("nobody".to_owned(), |n| n.to_string());
        text.push_str(&format!("; approval: {by}\n"));
    }
    insta::assert_snapshot!(text, @r"
    critical: roll back now; approval: nobody
    high: roll back when the time is up, unless somebody decides before, at 2026-03-10T04:00:00Z; approval: 1 approval by the role `lead`
    medium: propose a rollback; a person decides; approval: 1 approval
    low: watch, and fix forward; approval: 1 approval
    ");
}

#[test]
fn without_a_policy_nothing_is_automatic_and_nobody_is_asked() {
    for severity in ALL {
        let decision = decide(&Policy::default(), &facts(&[severity])).unwrap();
        assert!(!decision.action.is_automatic());
        assert_eq!(decision.approvals, None);
    }
}

#[test]
fn nothing_failed_is_nothing_to_do() {
    let decision = decide(&protecting(), &facts(&[])).unwrap();
    assert_eq!(decision.action, Action::Nothing);
    assert!(!decision.holds_back());
}

fn policy(text: &str) -> Policy {
    let policy: Policy = serde_json::from_str(text).unwrap();
    policy.check().unwrap();
    policy
}

#[test]
fn the_first_rule_that_fits_counts() {
    let mut facts = facts(&[Severity::Critical]);
    let policy = policy(
        r#"{"protected": ["prod"], "rule": [
            {"name": "finance", "select": "tag:finance", "severity": ["critical"], "action": "propose",
             "approvals": {"count": 2, "role": "cfo"}},
            {"name": "young", "live_for_at_most": "15m", "checks": ["unique*"], "action": "roll_back_now"},
            {"name": "wide", "min_dependents": 3, "action": "roll_back_within", "within": "30m"}
        ]}"#,
    );
    let fired = |facts: &Facts| {
        let decision = decide(&policy, facts).unwrap();
        (decision.rule.unwrap_or_default(), decision.action)
    };
    assert_eq!(fired(&facts), ("young".to_owned(), Action::RollBackNow));
    facts.selected = [("tag:finance".to_owned(), [orders()].into())].into();
    assert_eq!(fired(&facts), ("finance".to_owned(), Action::Propose));
    facts.selected = BTreeMap::new();
    facts.published = Some(at("2026-03-10T02:40:00Z"));
    assert_eq!(fired(&facts), ("wide".to_owned(), Action::RollBackWithin));
    facts.dependents = 2;
    assert_eq!(fired(&facts), (String::new(), Action::Propose));
}

#[test]
fn a_policy_that_cannot_be_meant_is_refused_with_the_rule() {
    let wrong = |rule: &str| {
        let text = format!(r#"{{"rule": [{rule}]}}"#);
        let policy: Policy = serde_json::from_str(&text).unwrap();
        policy.check().unwrap_err().to_string()
    };
    let text = [
        r#"{"name": "a", "action": "roll_back_within"}"#,
        r#"{"name": "a", "action": "watch", "within": "1h"}"#,
        r#"{"name": "a", "action": "nothing"}"#,
        r#"{"name": "a", "action": "watch"}, {"name": "a", "action": "watch"}"#,
        r#"{"name": "a", "action": "watch", "approvals": {"count": 0}}"#,
        r#"{"name": "a", "action": "watch", "select": "tag:"}"#,
    ]
    .map(wrong)
    .join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn four_strategies_are_compared_with_the_facts() {
    let mut facts = facts(&[Severity::Critical]);
    facts.measured = Measured {
        rollbacks: vec![800, 400, 500],
        jobs: vec![240_000, 180_000],
    };
    let mut text = String::new();
    let mut show = |facts: &Facts| {
        let compared = decide(&protecting(), facts).unwrap().compared;
        for s in &compared.strategies {
            let possible = if s.possible { "" } else { " (impossible)" };
            text.push_str(&format!(
                "{}{possible}\n  brings back: {}\n  loses: {}\n  takes: {}\n  needs: {}\n",
                s.kind.words(),
                s.brings_back,
                s.loses,
                s.takes,
                s.needs
            ));
        }
        let word = compared.recommended.words();
        text.push_str(&format!("=> {word}: {}\n\n", compared.reason));
    };
    show(&facts);
    facts.back = Back::None {
        why: "no release is older".to_owned(),
    };
    show(&facts);
    insta::assert_snapshot!(text);
}

fn any_severity() -> impl Strategy_<Value = Severity> {
    prop::sample::select(ALL.to_vec())
}

// The crate's own `Strategy` stands before proptest's here.
use proptest::strategy::Strategy as Strategy_;

prop_compose! {
    fn any_back()(
        planned in any::<bool>(),
        irreversible in prop::collection::vec("[a-z]{1,8}", 0..2),
        others in any::<bool>(),
    ) -> Back {
        if !planned {
            return Back::None { why: "none".to_owned() };
        }
        Back::Planned {
            to: ReleaseId(2),
            relations: 1,
            irreversible,
            others: if others { [(orders(), "3 rows".to_owned())].into() } else { BTreeMap::new() },
            expected: 10,
        }
    }
}

prop_compose! {
    fn any_facts()(
        environment in prop::sample::select(vec!["prod", "dev"]),
        severities in prop::collection::vec(any_severity(), 0..4),
        back in any_back(),
        automatic in 0_u32..5,
        live in prop::option::of(0_i64..10_000_000),
        dependents in 0_usize..5,
        exposures in 0_usize..3,
    ) -> Facts {
        let now = at("2026-03-10T03:00:00Z");
        Facts {
            environment: environment.to_owned(),
            published: live.map(|s| now - jiff::SignedDuration::from_secs(s)),
            back,
            automatic,
            dependents,
            exposures,
            ..facts(&severities)
        }
    }
}

proptest! {
    #[test]
    fn a_worse_severity_never_gives_a_weaker_action(facts in any_facts(), which in 0_usize..4) {
        let before = decide(&protecting(), &facts).unwrap().action;
        let mut worse = facts.clone();
        if let Some(failed) = worse.failed.get_mut(which) {
            failed.severity = match failed.severity {
                Severity::Low => Severity::Medium,
                Severity::Medium => Severity::High,
                _ => Severity::Critical,
            };
        } else {
            worse.failed.push(failed(Severity::Low));
        }
        prop_assert!(decide(&protecting(), &worse).unwrap().action >= before);
    }

    #[test]
    fn nothing_is_automatic_where_it_must_not_be(
        facts in any_facts(),
        freeze in any::<bool>(),
        rules in any::<bool>(),
    ) {
        let mut policy = protecting();
        if rules {
            // However eager the rules are.
            for rule in &mut policy.rules {
                rule.action = Action::RollBackNow;
                rule.within = None;
            }
        }
        if freeze {
            policy.freezes.push(Span {
                name: "month end".to_owned(),
                begins: "0 0 10 * *".to_owned(),
                lasts: "1d".parse().unwrap(),
                time_zone: "UTC".to_owned(),
                environments: Vec::new(),
            });
        }
        let decision = decide(&policy, &facts).unwrap();
        let safe = match &facts.back {
            Back::Planned { irreversible, others, .. } => irreversible.is_empty() && others.is_empty(),
            Back::None { .. } => false,
        };
        let allowed = safe
            && !freeze
            && facts.environment == "prod"
            && facts.automatic < policy.automatic_per_day
            && facts.failed.iter().any(|f| f.severity > Severity::Low);
        if decision.action.is_automatic() {
            prop_assert!(allowed);
            prop_assert!(decision.brakes.is_empty());
        } else if decision.rule_action.is_automatic() {
            prop_assert!(!allowed);
            prop_assert!(!decision.brakes.is_empty());
        }
    }

    #[test]
    fn decisions_and_policies_read_as_they_were_written(facts in any_facts()) {
        let policy = protecting();
        let decision = decide(&policy, &facts).unwrap();
        let text = serde_json::to_string(&decision).unwrap();
        prop_assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
        let text = serde_json::to_string(&policy).unwrap();
        prop_assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
    }

    #[test]
    fn periods_read_as_they_are_written(seconds in any::<u32>()) {
        let period = Period::from_secs(seconds);
        prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
    }
}

fn span(name: &str, begins: &str, lasts: &str, zone: &str) -> Span {
    Span {
        name: name.to_owned(),
        begins: begins.to_owned(),
        lasts: lasts.parse().unwrap(),
        time_zone: zone.to_owned(),
        environments: Vec::new(),
    }
}

fn closed(windows: &[Span], freezes: &[Span], now: &str) -> Option<Closed> {
    let calendar = Calendar { windows, freezes };
    calendar.closed("prod", at(now)).unwrap()
}

#[test]
fn a_window_opens_at_the_wall_clock_of_its_zone_in_summer_and_winter() {
    let windows = [span("night", "0 22 * * *", "2h", "Europe/Berlin")];
    let opens = |now| closed(&windows, &[], now).map(|c| c.until());
    assert_eq!(opens("2026-01-15T21:30:00Z"), None, "22:30 in winter");
    assert_eq!(opens("2026-07-15T20:30:00Z"), None, "22:30 in summer");
    let next = Some(at("2026-07-15T20:00:00Z"));
    assert_eq!(opens("2026-07-15T19:59:59Z"), next);
    assert_eq!(
        opens("2026-01-15T23:00:00Z"),
        Some(at("2026-01-16T21:00:00Z"))
    );
}

#[test]
fn a_window_in_the_hour_that_does_not_exist_or_comes_twice_is_open_once() {
    // Clocks go from 2:00 to 3:00 on 29 March 2026, and from 3:00 to 2:00 on 25 October.
    let windows = [span("early", "30 2 * * *", "30m", "Europe/Berlin")];
    let open = |now: Timestamp| closed(&windows, &[], &now.to_string()).is_none();
    let minutes = |day: &str| {
        let start = at(day);
        (0..24 * 60)
            .filter(|m| open(start + jiff::SignedDuration::from_mins(*m)))
            .count()
    };
    assert_eq!(minutes("2026-03-10T00:00:00Z"), 30);
    assert_eq!(minutes("2026-03-28T23:00:00Z"), 30);
    let first_after = at("2026-03-29T01:00:00Z");
    assert!(open(first_after) && !open(first_after - jiff::SignedDuration::from_secs(1)));
    assert_eq!(minutes("2026-10-24T22:00:00Z"), 30);
}

#[test]
fn a_freeze_wins_over_a_window_and_says_until_when() {
    let windows = [span("always", "0 * * * *", "1h", "UTC")];
    assert_eq!(closed(&windows, &[], "2026-03-10T03:00:00Z"), None);
    let freezes = [span("month end", "0 0 L * *", "2d", "UTC")];
    assert_eq!(closed(&windows, &freezes, "2026-03-10T03:00:00Z"), None);
    let on = closed(&windows, &freezes, "2026-04-01T12:00:00Z").unwrap();
    insta::assert_snapshot!(on, @"the freeze `month end` is on until 2026-04-02 00:00:00 UTC");
    let elsewhere = [Span {
        environments: vec!["staging".to_owned()],
        ..freezes[0].clone()
    }];
    assert_eq!(closed(&[], &elsewhere, "2026-04-01T12:00:00Z"), None);
}

#[test]
fn spans_that_follow_on_each_other_are_one() {
    let windows = [span("working hours", "0 8-11 * * MON-FRI", "1h", "UTC")];
    assert_eq!(closed(&windows, &[], "2026-03-10T10:30:00Z"), None);
    let freezes = [span("working hours", "0 8-11 * * MON-FRI", "1h", "UTC")];
    let on = closed(&[], &freezes, "2026-03-10T08:30:00Z").unwrap();
    assert_eq!(on.until(), at("2026-03-10T12:00:00Z"));
}

#[test]
fn spans_that_say_nothing_sensible_are_refused() {
    let wrong = |span: Span| span.check().unwrap_err().to_string();
    let text = [
        span("a", "0 25 * * *", "1h", "UTC"),
        span("b", "whenever", "1h", "UTC"),
        span("c", "0 1 * * *", "1h", "Europe/Berlln"),
        span("d", "0 1 * * *", "0s", "UTC"),
        span("e", "0 1 31 2 *", "1h", "UTC"),
    ]
    .map(wrong)
    .join("\n");
    insta::assert_snapshot!(text);
}
