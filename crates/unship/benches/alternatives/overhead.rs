//! What `unship run` adds to `dbt build` on the demo's project: once as the difference of two whole
//! processes, and once as what unship did besides waiting for the job, which is steadier, and which
//! cannot see what unship makes the job itself do. Copying the database is reported by itself,
//! because a file system that can share blocks does not need it.

use crate::measure::{Outcome, World, median, remove, run, run_json, timed};
use crate::report::Row;
use std::fs;
use std::path::{Path, PathBuf};
use unship_engines::duckdb::file;

const ROUNDS: usize = 5;

/// A copy of the demo's project with its raw data, in a git repository.
pub fn project(world: &World, name: &str) -> Outcome<PathBuf> {
    let dir = world.fresh(name)?;
    copy_all(&world.repository.join("demo/shop"), &dir)?;
    let database = dir.join("shop.duckdb").display().to_string();
    run(world.python(&dir, &[&world.demo("generate.py"), &database]))?;
    let who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
    for args in [
        &["init", "--quiet"][..],
        &["add", "--all"],
        &["commit", "--quiet", "--message=shop"],
    ] {
        let mut git = world.command("git", &dir);
        git.args(who).args(args);
        run(git)?;
    }
    Ok(dir)
}

fn copy_all(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Measures it.
pub fn measure(world: &World) -> Outcome<Vec<Row>> {
    // Two projects: a bare build would be somebody else's write to what unship guards.
    let (bare, guarded) = (project(world, "bare")?, project(world, "guarded")?);
    let build = || {
        let mut dbt = world.command("dbt", &bare);
        dbt.arg("build");
        run(dbt)
    };
    let guard = ["--json", "run", "--", "dbt", "build"];
    // The first build makes everything, the first look reads everything, and the first redirected
    // build parses the project for its new place.
    for _ in 0..2 {
        build()?;
        run(world.unship(&guarded, &guard))?;
    }
    let (mut alone, mut together, mut more) = (Vec::new(), Vec::new(), Vec::new());
    let (mut own, mut clones, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (without, _) = timed(build)?;
        let (clone, _) = timed(|| {
            let target = guarded.join("clone/shop.duckdb");
            Ok(file::clone(
                &guarded.join("shop.duckdb"),
                &target,
                &|_, _, _| {},
            )?)
        })?;
        remove(&guarded.join("clone"))?;
        let (whole, document) = timed(|| run_json(world.unship(&guarded, &guard)))?;
        let shown = run_json(world.unship(&guarded, &["--json", "show", "@"]))?;
        let job = milliseconds(&shown, "/release/end/milliseconds")?;
        let until_published = milliseconds(&document, "/overhead_milliseconds")?;
        alone.push(without);
        together.push(whole);
        more.push(whole - without - clone);
        own.push(whole - job - clone);
        after.push(whole - job - until_published);
        clones.push(clone);
    }
    remove(&bare)?;
    remove(&guarded)?;
    Ok(vec![
        Row::alone("unship run -- dbt build", "s", median(&together))
            .beside("dbt build", median(&alone)),
        Row::alone(
            "what unship run adds to dbt build, without the clone: the whole processes compared",
            "s",
            median(&more),
        )
        .at_most(0.3),
        Row::alone(
            "what unship run adds to dbt build, without the clone: all but the job's own time",
            "s",
            median(&own),
        )
        .at_most(0.3),
        Row::alone(
            "of which after publishing: packing older restore points",
            "s",
            median(&after),
        ),
        Row::alone("cloning the database before the job", "s", median(&clones)),
    ])
}

fn milliseconds(document: &serde_json::Value, at: &str) -> Outcome<f64> {
    let number = document.pointer(at).and_then(serde_json::Value::as_f64);
    Ok(number.ok_or_else(|| format!("there is no {at} in {document}"))? / 1e3)
}
