//! `unship demo`: the whole story, played with the real program, a real dbt and a real DuckDB in a
//! directory of its own. Nothing is staged: every line under a `$` is what that command printed.

use crate::cli::{Demo, Global};
use crate::config;
use crate::context::absolute;
use crate::error::{CliError, CliResult, exit, io_error, system_error};
use crate::git;
use crate::render::text::{self, BOLD, DIM, GOOD, paint};
use include_dir::{Dir, DirEntry, include_dir};
use jiff::SignedDuration;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

static ASSETS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../demo");

/// What a build leaves in the embedded directories of a working copy.
const NOT_ASSETS: [&str; 5] = ["__pycache__", "target", "logs", "dbt_packages", ".unship"];

const DATABASE: &str = "shop.duckdb";
const GOOD_STATE: &str = "good.json";
const NOW: &str = "now.json";
const MANIFEST: &str = "good-manifest.json";

/// Plays it.
pub fn run(_: &Global, args: &Demo) -> CliResult {
    let dir = match &args.dir {
        Some(dir) => absolute(dir)?,
        None => {
            let place = std::env::temp_dir();
            tempfile::Builder::new()
                .prefix("unship-demo-")
                .tempdir_in(&place)
                .map_err(io_error("create a directory in", &place))?
                .keep()
        }
    };
    let stage = Stage::set(&dir, &args.dbt)?;
    let times = stage.play()?;
    anstream::println!("\n{}", paint(BOLD, "How long each took"));
    let mut table = text::table(["what", "time"]);
    for (what, took) in times {
        table.add_row([what.to_owned(), text::span(took)]);
    }
    text::print_table(&table);
    anstream::println!(
        "\nEverything is still in {}: look around with unship log, diff, undo.",
        stage.shop.display()
    );
    Ok(exit::OK)
}

struct Stage {
    shop: PathBuf,
    assets: PathBuf,
    dbt: PathBuf,
    python: PathBuf,
    unship: PathBuf,
}

type Times = Vec<(&'static str, SignedDuration)>;

impl Stage {
    /// Lays out the project and finds dbt, and the Python behind it, which has DuckDB.
    fn set(dir: &Path, dbt: &Path) -> CliResult<Self> {
        let shop = dir.join("shop");
        if shop.exists() {
            return Err(
                CliError::usage(format!("{} exists already", shop.display()))
                    .hint("name a directory that is empty or not there"),
            );
        }
        let dbt = which::which(dbt).map_err(|e| {
            CliError::usage(format!(
                "the demo needs dbt, and {} was not found: {e}",
                dbt.display()
            ))
            .hint("pip install 'dbt-core<1.12' 'dbt-duckdb==1.11.1', or name it with --dbt")
        })?;
        // Not the path behind the links: a virtual environment is known by where it seems to be.
        let python = dbt.with_file_name("python");
        if !python.exists() {
            return Err(
                CliError::usage(format!("there is no {} beside dbt", python.display()))
                    .hint("the demo wants a dbt that lies in a virtual environment"),
            );
        }
        let assets = dir.join("assets");
        extract(&ASSETS, &assets)?;
        let stage = Self {
            shop,
            assets,
            dbt,
            python,
            unship: std::env::current_exe().map_err(system_error("find this program"))?,
        };
        stage.overlay("shop")?;
        Ok(stage)
    }

    fn play(&self) -> CliResult<Times> {
        let mut times = Times::new();
        self.scene("A dbt project over a DuckDB file that a loader fills every day");
        self.python(&["generate.py", DATABASE])?;
        self.commit("a shop's numbers")?;
        self.unship(&["init"], 0)?;
        self.only_tell()?;

        self.scene("It goes live under guard: dbt builds in a clone, and a rename publishes it");
        times.push(("first guarded dbt build (R1)", self.guarded(0)?));

        self.scene("A day later, a good change: R2");
        self.overlay("shop-releases/r2")?;
        self.commit("new customers, attainment")?;
        self.python(&["load_day.py", DATABASE])?;
        times.push(("second guarded dbt build (R2)", self.guarded(0)?));
        let good = self.revenue(&self.shop.join(DATABASE))?;
        self.save_good()?;

        self.scene(
            "Then a bad one: a wrong join. dbt and all its tests are happy. unship's own checks tell, \
             and hold nothing here: R3",
        );
        self.overlay("shop-releases/r3-bad")?;
        self.commit("revenue by payment method")?;
        times.push(("the bad dbt build (R3)", self.guarded(0)?));
        self.unship(&["diff", "R2", "R3"], 0)?;
        let bad = self.revenue(&self.shop.join(DATABASE))?;
        anstream::println!(
            "\nRevenue was {good} and is {} now. Meanwhile the loader goes on:",
            paint(text::BAD, &bad)
        );
        self.python(&["load_day.py", DATABASE])?;

        self.scene("What would going back do? The new raw rows belong to the loader, and stay");
        self.unship(&["plan"], 0)?;
        times.push(("rollback, proof included", self.unship(&["rollback"], 0)?));
        self.same_as_good()?;
        anstream::println!(
            "Revenue is {} again.",
            paint(GOOD, self.revenue(&self.shop.join(DATABASE))?)
        );

        self.scene("The bad data stays readable, under its release's name");
        let kept = self.shop.join(".unship/points/R3").join(DATABASE);
        anstream::println!("revenue in {}: {}", kept.display(), self.revenue(&kept)?);
        self.unship(&["diff", "R4", "R3", "fct_orders", "--examples", "2"], 0)?;

        self.scene("Forward again, and back again: every operation can be undone");
        times.push(("redo, proof included", self.unship(&["redo"], 0)?));
        times.push(("undo, proof included", self.unship(&["undo"], 0)?));
        self.same_as_good()?;

        // Without git nobody knows which code it was.
        let bad = git::code(&self.shop).map(|code| code.commit);
        if bad.is_some() {
            self.scene("The code that made it does not run again as it is");
            self.guarded(i32::from(exit::QUARANTINED))?;
        }

        self.scene("A build whose tests fail never becomes production");
        self.overlay("shop-releases/r3-caught")?;
        self.commit("a test that would have caught it")?;
        if let Some(bad) = bad {
            let reason = ["--reason", "a test watches it now"];
            self.unship(
                &[&["quarantine", "lift", &bad][..], &reason[..]].concat(),
                0,
            )?;
        }
        self.guarded(1)?;

        self.scene("And all of it is in a log that cannot be changed unnoticed");
        times.push(("status", self.unship(&["status"], 0)?));
        self.unship(&["log"], 0)?;
        self.unship(&["audit", "verify"], 0)?;
        Ok(times)
    }

    /// Lets checks hold nothing: the story is of a release that went live.
    fn only_tell(&self) -> CliResult<()> {
        let path = self.shop.join(config::FILE);
        let text = std::fs::read_to_string(&path).map_err(io_error("read", &path))?;
        let more = "\n# The demo shows the way back from a bad release that went live.\n\
                    [checks]\nhold = \"never\"\n";
        std::fs::write(&path, text + more).map_err(io_error("write", &path))
    }

    fn scene(&self, title: &str) {
        anstream::println!("\n{}\n", paint(BOLD, format!("── {title}")));
    }

    fn guarded(&self, code: i32) -> CliResult<SignedDuration> {
        let dbt = self.dbt.display().to_string();
        let args = ["run", "--", &dbt, "--quiet", "build"];
        self.tell("unship run -- dbt --quiet build");
        self.time(Command::new(&self.unship).args(args), code)
    }

    fn unship(&self, args: &[&str], code: i32) -> CliResult<SignedDuration> {
        self.tell(&format!("unship {}", args.join(" ")));
        self.time(Command::new(&self.unship).args(args), code)
    }

    fn python(&self, args: &[&str]) -> CliResult<()> {
        self.tell(&format!("python {}", args.join(" ")));
        let (script, rest) = args.split_first().map_or(("", &[][..]), |(s, r)| (*s, r));
        let mut command = Command::new(&self.python);
        self.time(command.arg(self.assets.join(script)).args(rest), 0)
            .map(drop)
    }

    /// Keeps what every relation holds, by means that share no code with unship.
    fn save(&self, name: &str) -> CliResult<()> {
        self.verifier(&["save", DATABASE, name])
    }

    /// What the project built when it was good: the later code builds more.
    fn save_good(&self) -> CliResult<()> {
        let manifest = self.shop.join("target/manifest.json");
        std::fs::copy(&manifest, self.shop.join(MANIFEST)).map_err(io_error("copy", &manifest))?;
        self.save(GOOD_STATE)
    }

    /// Asks the same means whether all that the project builds is what it was.
    fn same_as_good(&self) -> CliResult<()> {
        self.save(NOW)?;
        self.verifier(&["compare", GOOD_STATE, NOW, "--only-models", MANIFEST])?;
        anstream::println!(
            "{}",
            paint(
                GOOD,
                "checked from Python, without unship: every model is what it was"
            )
        );
        Ok(())
    }

    fn verifier(&self, args: &[&str]) -> CliResult<()> {
        let mut command = Command::new(&self.python);
        let output = self
            .ready(command.arg(self.assets.join("verify.py")).args(args))
            .output()
            .map_err(io_error("start", &self.python))?;
        checked(&output, "verify.py")
    }

    fn revenue(&self, database: &Path) -> CliResult<String> {
        let script = "import duckdb, sys\n\
            c = duckdb.connect(sys.argv[1], read_only=True)\n\
            print(f\"{c.sql('select sum(revenue) from core.fct_orders').fetchone()[0]:,.2f}\")";
        let mut command = Command::new(&self.python);
        let output = self
            .ready(command.arg("-c").arg(script).arg(database))
            .output()
            .map_err(io_error("start", &self.python))?;
        checked(&output, "the revenue query")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn overlay(&self, from: &str) -> CliResult<()> {
        copy(&self.assets.join(from), &self.shop)
    }

    /// Commits, where git is there: releases then know their commit.
    fn commit(&self, message: &str) -> CliResult<()> {
        if which::which("git").is_err() {
            return Ok(());
        }
        let git = |args: &[&str]| -> CliResult<()> {
            let mut command = Command::new("git");
            let name = ["-c", "user.name=demo", "-c", "user.email=demo@example.com"];
            let output = self.ready(command.args(name).args(args)).output();
            checked(&output.map_err(system_error("start git"))?, "git")
        };
        if !self.shop.join(".git").exists() {
            let ignore = self.shop.join(".gitignore");
            let ignored = ".unship/\ntarget/\nlogs/\n*.duckdb*\n*.json\n";
            std::fs::write(&ignore, ignored).map_err(io_error("write", &ignore))?;
            git(&["init", "--quiet"])?;
        }
        git(&["add", "--all"])?;
        git(&["commit", "--quiet", "--message", message])
    }

    fn tell(&self, command: &str) {
        anstream::println!("{}", paint(DIM, format!("$ {command}")));
    }

    fn ready<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir(&self.shop)
            .env("SHOP_DB", DATABASE)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("UNSHIP_ENV")
            .env_remove("UNSHIP_PROJECT")
            .env_remove("DBT_PROFILES_DIR")
    }

    fn time(&self, command: &mut Command, code: i32) -> CliResult<SignedDuration> {
        let started = Instant::now();
        let status = self
            .ready(command)
            .status()
            .map_err(system_error("start a command of the demo"))?;
        if status.code() != Some(code) {
            return Err(CliError::failed(format!(
                "this ended with {status}, and the story wants exit code {code}"
            ))
            .hint(format!("everything is still in {}", self.shop.display())));
        }
        Ok(SignedDuration::try_from(started.elapsed()).unwrap_or_default())
    }
}

fn checked(output: &Output, what: &str) -> CliResult<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    Err(CliError::failed(format!(
        "{what} failed: {}",
        String::from_utf8_lossy(&said).trim()
    )))
}

fn extract(dir: &Dir<'_>, to: &Path) -> CliResult<()> {
    std::fs::create_dir_all(to).map_err(io_error("create", to))?;
    for entry in dir.entries() {
        let name = entry.path().file_name().unwrap_or_default();
        match entry {
            DirEntry::Dir(_) if NOT_ASSETS.iter().any(|n| *n == name) => {}
            DirEntry::Dir(inner) => extract(inner, &to.join(name))?,
            DirEntry::File(file) => {
                let path = to.join(name);
                std::fs::write(&path, file.contents()).map_err(io_error("write", &path))?;
            }
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> CliResult<()> {
    std::fs::create_dir_all(to).map_err(io_error("create", to))?;
    for entry in std::fs::read_dir(from).map_err(io_error("list", from))? {
        let entry = entry.map_err(io_error("list", from))?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).map_err(io_error("write", &target))?;
        }
    }
    Ok(())
}
