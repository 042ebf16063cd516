//! The story of the demo's shop: two good releases, a bad one, and back.

use crate::support::oracle::State;
use crate::support::shop::{self, Moment, RAW};
use crate::support::{Scratch, golden, tools};

const BUILD: [&str; 5] = ["run", "--", "dbt", "--quiet", "build"];

fn state(shop: &Scratch, name: &str) -> State {
    State::of(shop, &shop.path("shop.duckdb"), name)
}

fn number(shop: &Scratch, database: &str, sql: &str) -> String {
    let script = "import duckdb, sys\n\
        print(duckdb.connect(sys.argv[1], read_only=True).execute(sys.argv[2]).fetchone()[0])";
    let out = shop.sh("python", &["-c", script, database, sql]);
    out.trim().to_owned()
}

/// The whole of it, command by command, as a person would see it.
#[test]
fn the_whole_story() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R1);
    let mut seen = String::new();
    let mut tell = |args: &[&str]| {
        let output = shop.unship(args);
        seen.push_str(&output.text());
        seen.push('\n');
        output
    };

    shop::load_day(&shop);
    shop::overlay(&shop, "r2");
    assert_eq!(tell(&BUILD).code, 0);
    tell(&["status"]);
    let r2 = state(&shop, "r2");
    // The same code over the same rows gives the same release, but for the job's own diary.
    shop::state_at(&tools, Moment::R2).differs_only_in(&shop, &r2, &["ops.runs"]);
    shop::overlay(&shop, "r3-bad");
    assert_eq!(tell(&BUILD).code, 0);
    let r3 = state(&shop, "r3");

    // The loaders go on, as they do every night.
    shop::load_day(&shop);
    let loaded = state(&shop, "loaded");
    r3.differs_only_in(&shop, &loaded, &RAW);

    tell(&["status"]);
    tell(&["diff", "R2", "R3"]);
    tell(&["diff", "R2", "R3", "fct_orders", "--examples", "2"]);
    tell(&["plan"]);
    assert_eq!(tell(&["rollback"]).code, 0);
    tell(&["verify"]);
    tell(&["log"]);
    tell(&["show", "R3"]);

    // Every relation of the project is R2's; every raw row is still there.
    let back = state(&shop, "back");
    r2.differs_only_in(&shop, &back, &RAW);
    let raw: Vec<_> = loaded
        .differences(&shop, &back, &[])
        .into_iter()
        .filter(|line| line.starts_with("raw."))
        .collect();
    assert_eq!(raw, [""; 0], "what the loaders wrote stays");

    // The bad data stays readable, by name, while production is good.
    let bad = ".unship/points/R3/shop.duckdb";
    let revenue = "select sum(revenue) from core.fct_orders";
    let (now, then): (f64, f64) = (
        number(&shop, "shop.duckdb", revenue).parse().unwrap(),
        number(&shop, bad, revenue).parse().unwrap(),
    );
    assert!((then - 2.0 * now).abs() < 0.01, "{then} is not twice {now}");

    // Forward again, and back again: a stack, and each is a new release.
    assert_eq!(tell(&["redo"]).code, 0);
    let forward = state(&shop, "forward");
    assert_eq!(loaded.differences(&shop, &forward, &[]), [""; 0]);
    assert_eq!(tell(&["redo"]).code, 75);
    assert_eq!(tell(&["undo"]).code, 0);
    let undone = state(&shop, "undone");
    assert_eq!(back.differences(&shop, &undone, &[]), [""; 0]);
    tell(&["log"]);
    tell(&["audit", "verify"]);
    tell(&["fsck"]);
    tell(&["gc"]);
    golden("story", &seen);
}

/// dbt parses a whole project again, for seconds, when its database lies elsewhere than before, and
/// every release is built elsewhere.
#[test]
fn the_next_guarded_build_finds_the_project_parsed() {
    let Some(tools) = tools() else { return };
    let shop = shop::at(&tools, Moment::R1);
    let build = ["run", "--", "dbt", "build", "--select", "stg_stores"];
    let parses_all = |output: String| output.contains("Unable to do partial parsing");
    let first = shop.ok(&build).text();
    assert!(parses_all(first), "the project was copied here");
    let second = shop.ok(&build).text();
    assert!(!parses_all(second.clone()), "{second}");
}
