//! What is done about a bad release: quarantine, approvals, windows, and what the policy says.

use crate::support::shop::{self, Moment};
use crate::support::{Scratch, golden, tools};
use std::collections::{BTreeMap, BTreeSet};
use unship_core::check::{Finding, Outcome, Severity, gate};
use unship_core::event::Event;
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::ledger::{BlobRef, SqliteLedger};
use unship_core::log::Ledger;

fn adds(shop: &Scratch, name: &str, line: &str) {
    let text = format!("{}{line}\n", shop.read(name));
    shop.write(name, text);
}

/// A job of the project that builds one small model.
const SMALL: [&str; 7] = [
    "run",
    "--",
    "dbt",
    "--quiet",
    "run",
    "--select",
    "stg_customers",
];

#[test]
fn code_that_was_rolled_back_does_not_run_again_until_it_is_fixed() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    shop.ok(&["quarantine", "list"])
        .says(0, &["nothing is in quarantine"]);
    shop.ok(&["rollback"]);
    let stopped = shop.unship(&SMALL);
    stopped.says(77, &["is in quarantine", "it built R3, which R4 took back"]);
    let mut text = stopped.text();

    // A later commit that leaves what is blamed as it is.
    shop.write("README.md", "More words.\n");
    shop.commit("words");
    let stopped = shop.unship(&SMALL);
    stopped.says(77, &["comes after", "changes nothing of what"]);
    text.push_str(&stopped.text());
    // Not in the golden file: a column's width is that of a time.
    let list = shop.ok(&["quarantine", "list"]);
    list.says(0, &["BLAMED FOR", "shop.core.fct_orders", "9 more"]);
    let document = shop.json("unship.quarantine/1", &["--json", "quarantine", "list"]);
    assert_eq!(document["quarantine"][0]["release"], "R3");

    // What brings the release back lifts it, and taking it away again does not.
    shop.ok(&["redo", "--no-verify"]);
    shop.ok(&["quarantine", "list"])
        .says(0, &["nothing is in quarantine"]);
    shop.ok(&["undo", "--no-verify"]);
    shop.unship(&SMALL).says(77, &["R3, which R6 took back"]);

    // A person's word, by the commit's first digits.
    let commit = document["quarantine"][0]["commit"].as_str().unwrap();
    shop.unship(&["quarantine", "lift", "0000", "-m", "x"])
        .says(75, &["no commit that begins with `0000`"]);
    let lift = ["quarantine", "lift", &commit[..8], "-m", "looked at it"];
    text.push_str(&shop.ok(&lift).text());
    shop.ok(&SMALL);
    golden("quarantine", &text);
}

#[test]
fn a_fix_of_what_is_blamed_may_run() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    shop.ok(&["rollback", "--no-verify"]);
    adds(&shop, "models/marts/mart_customer_value.sql", "-- fixed");
    shop.ok(&SMALL);
}

/// People with keys, and a policy that wants a lead's approval for what is done in an environment.
/// All of them work from one account, so they are told apart by name.
pub fn wants_approval(scratch: &Scratch, env: &str) {
    let log = scratch.json("unship.log/1", &["--json", "log"]);
    let account = &log["releases"][0]["actor"];
    let mut signers = String::new();
    for name in ["ana", "lea", "liu"] {
        let file = format!("../{name}");
        let make = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &file];
        scratch.sh("ssh-keygen", &make);
        let public = scratch.read(&format!("../{name}.pub"));
        signers.push_str(&format!(
            "{name}@example.org namespaces=\"unship-approval\" {public}"
        ));
    }
    scratch.write("allowed_signers", signers);
    let policy = format!(
        "\n[policy]\nprotected = [\"{env}\"]\napprovals = {{ count = 1, role = \"lead\" }}\n\
         [roles]\nlead = [\"lea@example.org\", \"liu@example.org\", \"ana@example.org\"]\n\
         [signatures]\nshared_accounts = [{account}]"
    );
    adds(scratch, "unship.toml", &policy);
    scratch.sh("git", &["config", "user.email", "ana@example.org"]);
}

/// The same, with R3 live.
fn guarded(tools: &crate::support::Tools) -> Scratch {
    let mut shop = shop::at(tools, Moment::R3);
    wants_approval(&shop, "prod");
    shop.set("UNSHIP_SIGNING_KEY", shop.path("../ana"));
    shop
}

/// Approves as somebody else.
pub fn approves(shop: &Scratch, name: &str, more: &[&str]) -> crate::support::Output {
    let key = shop.path(&format!("../{name}")).display().to_string();
    let signer = format!("{name}@example.org");
    let mut args = vec!["approve", "--key", &key, "--as", &signer];
    args.extend(more);
    shop.unship(&args)
}

/// Whether approvals can be tried here; says so if not.
pub fn has_ssh_keygen() -> bool {
    let there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|dir| dir.join("ssh-keygen").is_file());
    if !there {
        unship_core::testing::skipped("there is no ssh-keygen on the PATH");
    }
    there
}

#[test]
fn a_plan_is_carried_out_when_somebody_else_has_signed_it() {
    let Some(tools) = tools() else { return };
    if !has_ssh_keygen() {
        return;
    }
    let shop = guarded(&tools);
    let mut text = String::new();
    let refused = shop.unship(&["rollback"]);
    refused.says(
        78,
        &["needs 1 approval by the role `lead`", "`unship approve "],
    );
    text.push_str(&refused.text());
    let plan = shop.json(
        "unship.plan/1",
        &["--json", "plan", "--output", "plan.json"],
    );
    let id = plan["id"].as_str().unwrap();
    assert!(
        refused.stderr.contains(&id[..12]),
        "the same plan is planned again"
    );

    // What must not count, each with its own words.
    let stranger = shop.sh(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-f", "../tom"],
    );
    assert_eq!(stranger, "");
    for (name, more, words) in [
        ("ana", vec!["plan.json"], "nobody approves their own"),
        ("tom", vec!["plan.json"], "does not have the role `lead`"),
    ] {
        let output = approves(&shop, name, &more);
        output.says(73, &[words]);
        text.push_str(&output.text());
    }
    let key = shop.path("../tom").display().to_string();
    let output = shop.unship(&[
        "approve",
        &id[..12],
        "--key",
        &key,
        "--as",
        "lea@example.org",
    ]);
    output.says(
        73,
        &["a key that is not among the allowed ones of lea@example.org"],
    );
    text.push_str(&output.text());
    shop.write(
        "altered.json",
        shop.read("plan.json").replacen("R2", "R1", 1),
    );
    let output = approves(&shop, "lea", &["altered.json"]);
    output.says(73, &["this plan was altered"]);
    text.push_str(&output.text());
    adds(
        &shop,
        "unship.toml",
        "[env.other]\nengine = \"duckdb\"\npath = \"o.duckdb\"",
    );
    let output = approves(&shop, "lea", &["plan.json", "--env", "other"]);
    output.says(
        73,
        &["this plan is for the environment `prod`, and `other` is meant"],
    );
    text.push_str(&output.text());

    // One that has expired, and one whose key was taken off the list.
    approves(&shop, "lea", &["plan.json", "--expires", "0s"]).says(73, &["it expired at"]);
    let output = approves(&shop, "lea", &["plan.json"]);
    output.says(0, &["lea@example.org approves plan"]);
    let signers = shop.read("allowed_signers");
    let others: Vec<_> = signers.lines().filter(|l| !l.starts_with("lea")).collect();
    shop.write("allowed_signers", others.join("\n") + "\n");
    let output = shop.unship(&["apply", "plan.json"]);
    output.says(
        78,
        &[
            "that of lea@example.org does not count",
            "a key that is not among",
        ],
    );
    text.push_str(&output.text());
    shop.write("allowed_signers", &signers);
    shop.unship(&["apply", "altered.json"])
        .says(73, &["this plan was altered"]);

    // The very signature that ssh-keygen itself proves.
    let listed = shop.json("unship.approvals/1", &["--json", "approvals", id]);
    let approval = &listed["approvals"][0];
    assert_eq!(approval["counts"], true);
    shop.write("text", approval["text"].as_str().unwrap());
    shop.write("text.sig", approval["signature"].as_str().unwrap());
    shop.sh(
        "sh",
        &[
            "-c",
            "ssh-keygen -Y verify -f allowed_signers -I lea@example.org \
        -n unship-approval -s text.sig <text",
        ],
    );
    text.push_str(&shop.ok(&["approvals", &id[..12]]).text());

    // A key that only the agent has.
    let unship = env!("CARGO_BIN_EXE_unship");
    let add = "ssh-add -q ../liu && rm ../liu";
    let approve = format!("{unship} approve {id} --as liu@example.org");
    let script = format!("{add} && env -u UNSHIP_SIGNING_KEY {approve}");
    shop.sh("ssh-agent", &["sh", "-c", &script]);
    let listed = shop.json("unship.approvals/1", &["--json", "approvals", id]);
    assert_eq!(listed["approvals"][1]["counts"], true, "{listed:#}");

    let output = shop.ok(&["apply", &id[..12]]);
    output.says(0, &["R4 is production"]);
    text.push_str(&output.text());
    // The world has moved: the approval of then is of no use.
    let output = approves(&shop, "lea", &["plan.json"]);
    output.says(73, &["the world moved since plan"]);
    shop.unship(&["apply", "plan.json"])
        .says(73, &["this plan was made to make R4 from R3"]);
    golden("approvals", &text);
    shop.ok(&["audit", "verify"]);
}

#[test]
fn a_path_a_broken_glass_and_a_window() {
    let Some(tools) = tools() else { return };
    if !has_ssh_keygen() {
        return;
    }
    let shop = guarded(&tools);
    let key = shop.path("../lea").display().to_string();
    let path = |select: &str, most: &str| {
        let by = ["--key", &key, "--as", "lea@example.org"];
        let args = ["approve-path", "--select", select, "--max-relations", most];
        shop.ok(&[&args[..], &by[..]].concat())
    };
    let mut text = path("mart_customer_value+", "5").text();
    shop.unship(&["rollback"])
        .says(78, &["which the approved path", "does not select"]);
    shop.ok(&["rollback", "--select", "mart_customer_value"]);

    // Nobody is there to sign, and it is a freeze as well.
    adds(
        &shop,
        "unship.toml",
        "[[policy.freeze]]\nname = \"year end\"\n\
        begins = \"0 0 1 * *\"\nlasts = \"31d\"",
    );
    let output = shop.unship(&["rollback", "--to", "R2"]);
    output.says(
        78,
        &[
            "not now: the freeze `year end` is on until",
            "--break-glass",
        ],
    );
    let output = shop.ok(&[
        "rollback",
        "--to",
        "R2",
        "--break-glass",
        "the shop is down",
    ]);
    output.says(
        0,
        &[
            "GLASS BROKEN by",
            "the shop is down",
            "the freeze `year end`",
            "1 approval",
        ],
    );
    text.push_str(&output.text());
    shop.ok(&["show"]).says(
        0,
        &["BROKEN by", "the shop is down", "passed over: the freeze"],
    );
    golden("broken_glass", &text);

    // What was passed over is looked at before it is over.
    let list = shop.json("unship.incidents/1", &["incident", "list", "--json"]);
    let id = list["incidents"][0]["id"].as_str().unwrap();
    let close = [
        "incident",
        "close",
        id,
        "--root-cause",
        "a join that fans out",
        "--none-because",
        "it is mended",
    ];
    shop.unship(&close)
        .says(73, &["review", "the shop is down"]);
    let review = ["incident", "review", id, "it was the right thing to do"];
    shop.ok(&review);
    shop.ok(&close);
}

/// Lets the log say that checks found this of R3.
fn found(shop: &Scratch, check: &str, relation: &str, severity: Severity) {
    let path = shop.path(".unship/ledger.sqlite");
    let store = SqliteLedger::open(&path, Ledger::views()).unwrap();
    let mut ledger = Ledger::new(store, "prod", "checks");
    let findings = [Finding {
        check: check.to_owned(),
        relation: Some(RelationName::new("shop", "core", relation)),
        column: None,
        outcome: Outcome::Fail,
        severity,
        observed: "12".to_owned(),
        expected: "0".to_owned(),
        examples: None,
        sql: None,
    }];
    let bytes = serde_json::to_vec(&findings).unwrap();
    let tally = gate::Tally::of(&findings);
    let findings = BlobRef(ledger.put_blob(&bytes, "findings").unwrap());
    let release = ReleaseId(3);
    ledger
        .append(&[Event::Checked {
            release,
            findings,
            tally,
            profiles: None,
            profiled: BTreeSet::new(),
            answered: BTreeMap::new(),
        }])
        .unwrap();
}

/// Only what may call for a rollback makes one need an approval.
#[test]
fn a_warning_makes_a_release_no_harder_to_leave() {
    let Some(tools) = tools() else { return };
    for (severity, says, code) in [
        (Severity::Medium, "1 approval, for a rollback", 78),
        (Severity::Low, "none for a rollback", 0),
    ] {
        let shop = shop::at(&tools, Moment::R3);
        adds(&shop, "unship.toml", "\n[policy]\nprotected = [\"prod\"]");
        found(&shop, "odd", "fct_orders", severity);
        let explained = shop.json("unship.decision/1", &["--json", "policy", "explain"]);
        let path = shop.path(".unship/ledger.sqlite");
        let store = SqliteLedger::open(&path, Ledger::views()).unwrap();
        let decided = Event::Decided {
            release: ReleaseId(3),
            decision: serde_json::from_value(explained["decision"].clone()).unwrap(),
        };
        let mut ledger = Ledger::new(store, "prod", "checks");
        ledger.append(&[decided]).unwrap();
        shop.ok(&["policy", "explain"]).says(0, &[says]);
        shop.unship(&["rollback"]).says(code, &[]);
    }
}

#[test]
fn the_policy_says_what_it_would_do_and_why() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R3);
    shop.unship(&["policy", "explain", "R0"])
        .says(75, &["no check has looked at R0"]);
    shop.unship(&["policy", "test"])
        .says(75, &["there are no cases"]);
    found(&shop, "unique_key", "fct_orders", Severity::Critical);
    let mut text = shop.ok(&["policy", "explain"]).text();
    adds(&shop, "unship.toml", "\n[policy]\nprotected = [\"prod\"]");
    let decided = shop.json("unship.decision/1", &["--json", "policy", "explain"]);
    assert_eq!(
        decided["decision"]["action"], "roll_back_now",
        "{decided:#}"
    );
    assert_eq!(decided["decision"]["back_to"], "R2");
    let reached = decided["facts"]["dependents"].as_u64().unwrap();
    assert!(reached > 3, "its marts read it: {reached}");
    adds(
        &shop,
        "unship.toml",
        "[[policy.rule]]\nname = \"orders\"\nselect = \"fct_orders\"\n\
        action = \"roll_back_within\"\nwithin = \"1h\"\n\
        approvals = { count = 1, role = \"lead\" }",
    );
    text.push_str(&shop.ok(&["policy", "explain", "R3"]).text());

    let case = |name: &str, expect: &str| {
        format!(
            "[[case]]\nname = \"{name}\"\nenvironment = \"prod\"\nexpect = {{ action = \"{expect}\" }}\n\
         failed = [{{ check = \"rows\", severity = \"low\", relation = \"core.fct_orders\",\n\
         selected_by = [\"fct_orders\"] }}]\n"
        )
    };
    shop.write(
        "policy-tests/warnings.toml",
        case("warnings never roll back", "watch"),
    );
    text.push_str(&shop.ok(&["policy", "test"]).text());
    shop.write("policy-tests/wrong.toml", case("wrong", "roll_back_now"));
    let output = shop.unship(&["policy", "test"]);
    output.says(
        70,
        &["not as expected: wrong", "2 cases, 1 not as expected"],
    );
    text.push_str(&output.text());
    golden("policy", &text);
}
