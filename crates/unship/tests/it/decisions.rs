//! What is done about a bad release: quarantine, approvals, windows, and what the policy says.

use crate::support::shop::{self, Moment};
use crate::support::{Scratch, golden, tools};

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
    stopped.says(76, &["is in quarantine", "it built R3, which R4 took back"]);
    let mut text = stopped.text();

    // A later commit that leaves what is blamed as it is.
    shop.write("README.md", "More words.\n");
    shop.commit("words");
    let stopped = shop.unship(&SMALL);
    stopped.says(76, &["comes after", "changes nothing of what"]);
    text.push_str(&stopped.text());
    text.push_str(&shop.ok(&["quarantine", "list"]).text());
    let document = shop.json("unship.quarantine/1", &["--json", "quarantine", "list"]);
    assert_eq!(document["quarantine"][0]["release"], "R3");

    // What brings the release back lifts it, and taking it away again does not.
    shop.ok(&["redo", "--no-verify"]);
    shop.ok(&["quarantine", "list"])
        .says(0, &["nothing is in quarantine"]);
    shop.ok(&["undo", "--no-verify"]);
    shop.unship(&SMALL).says(76, &["R3, which R6 took back"]);

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
