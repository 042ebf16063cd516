//! Jobs of dbt Cloud. Its place is taken by a server of the test's own that answers the documented
//! requests and runs the real dbt, on a checkout of the commit that it was told, in the schema that
//! it was told. What a real account does besides is not seen here.

use crate::support::warehouse::{Warehouse, same};
use crate::support::{Tools, tools};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

const TOKEN: &str = "dbtc_a_token_that_nothing_repeats";

/// One run, as the server knows it.
#[derive(Default)]
struct Run {
    body: Value,
    status: i64,
    steps: Vec<Step>,
}

struct Step {
    command: &'static str,
    log: String,
    target: PathBuf,
}

#[derive(Default)]
struct State {
    runs: Vec<Run>,
    /// Jobs that were made, from the number 8 on.
    made: Vec<Value>,
    /// What the next requests get instead of an answer: a status, or, as 0, nothing although they
    /// are carried out.
    faults: Vec<(&'static str, u16)>,
    asked: BTreeMap<String, usize>,
}

/// What the server runs dbt with.
struct Lab {
    dbt: PathBuf,
    env: Vec<(OsString, OsString)>,
    project: PathBuf,
    profile: String,
    place: tempfile::TempDir,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Habit {
    #[default]
    Good,
    /// They have a step that builds and one that tests.
    TwoSteps,
    /// They build in a schema that they were not told.
    Elsewhere,
    /// They never end by themselves.
    Endless,
}

#[derive(Clone)]
struct Cloud {
    state: Arc<Mutex<State>>,
    lab: Arc<Lab>,
    /// How runs behave.
    habit: Arc<Mutex<Habit>>,
    url: String,
}

impl Cloud {
    fn start(tools: &Tools, shop: &Warehouse) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let probe = shop.scratch.command("dbt");
        let set = probe.get_envs();
        let env = set.filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned())));
        let cloud = Self {
            state: Arc::default(),
            habit: Arc::default(),
            url: format!("http://{}", listener.local_addr().unwrap()),
            lab: Arc::new(Lab {
                dbt: tools.dbt.clone(),
                env: env.collect(),
                project: shop.scratch.cwd.clone(),
                profile: shop.scratch.read("profiles.yml"),
                place: tempfile::tempdir().unwrap(),
            }),
        };
        let server = cloud.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, stream) = (server.clone(), stream.unwrap());
                std::thread::spawn(move || server.answer(stream));
            }
        });
        cloud
    }

    fn fail(&self, path: &'static str, status: u16) {
        self.state.lock().unwrap().faults.push((path, status));
    }

    fn habit(&self) -> Habit {
        *self.habit.lock().unwrap()
    }

    fn steps(&self) -> &'static [&'static str] {
        match self.habit() {
            Habit::TwoSteps => &["run", "test"],
            _ => &["build"],
        }
    }

    fn behave(&self, habit: Habit) {
        *self.habit.lock().unwrap() = habit;
    }

    /// What the last run was told.
    fn last(&self) -> Value {
        let state = self.state.lock().unwrap();
        state.runs.last().unwrap().body.clone()
    }

    fn runs(&self) -> usize {
        self.state.lock().unwrap().runs.len()
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while reader.read_line(&mut head).unwrap_or(0) > 2 {}
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
        assert!(path.starts_with("/api/v2/accounts/42/"), "{path}");
        let path = path.replacen("/api/v2/accounts/42/", "", 1);
        let fault = {
            let mut state = self.state.lock().unwrap();
            *state.asked.entry(path.clone()).or_default() += 1;
            let whole = format!("{method} {path}");
            let faults = &mut state.faults.iter();
            let at = faults.position(|(p, _)| path.starts_with(p) || whole == *p);
            at.map(|at| state.faults.remove(at).1)
        };
        let (status, answer) = match fault {
            Some(status) if status != 0 => (status, br#"{"status": {}}"#.to_vec()),
            _ if !head.contains(&format!("Token {TOKEN}")) => {
                let said = json!({"status": {"user_message": "Invalid token."}});
                (401, said.to_string().into_bytes())
            }
            _ => self.carry_out(method, &path, &body),
        };
        if fault == Some(0) {
            return;
        }
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&answer);
    }

    fn carry_out(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let data = match (method, &parts[..]) {
            ("GET", ["jobs", "7"]) => {
                json!({
                    "id": 7, "name": "nightly", "execute_steps": self.steps(), "account_id": 42,
                    "project_id": 5, "environment_id": 6, "dbt_version": null,
                    "settings": {"threads": 4, "target_name": "prod"},
                    "schedule": {"cron": "0 3 * * *"},
                })
            }
            ("GET", ["jobs"]) => {
                assert!(query.contains("project_id=5"), "{query}");
                let offset = query.split("offset=").nth(1).unwrap();
                let state = self.state.lock().unwrap();
                state
                    .made
                    .iter()
                    .skip(offset.parse().unwrap())
                    .cloned()
                    .collect()
            }
            ("POST", ["jobs"] | ["jobs", "8"]) => {
                let mut job: Value = serde_json::from_slice(body).unwrap();
                let mut state = self.state.lock().unwrap();
                let new = job["id"].is_null();
                job["id"] = 8.into();
                match new {
                    true => state.made.push(job.clone()),
                    false => state.made[0] = job.clone(),
                }
                job
            }
            ("POST", ["jobs", "7", "run"]) => {
                let id = self.begin(serde_json::from_slice(body).unwrap());
                self.shown(id)
            }
            ("GET", ["runs"]) => {
                assert!(query.contains("job_definition_id=7") && query.contains("order_by=-id"));
                let mut runs: Vec<Value> = (1..=self.runs()).map(|id| self.shown(id)).collect();
                runs.reverse();
                runs.into()
            }
            ("GET", ["runs", id]) => self.shown(id.parse().unwrap()),
            ("POST", ["runs", id, "cancel"]) => {
                let id: usize = id.parse().unwrap();
                self.state.lock().unwrap().runs[id - 1].status = 30;
                self.shown(id)
            }
            ("GET", ["runs", id, "artifacts", name]) => {
                let step = query
                    .strip_prefix("step=")
                    .map(|n| n.parse::<usize>().unwrap());
                let state = self.state.lock().unwrap();
                let steps = &state.runs[id.parse::<usize>().unwrap() - 1].steps;
                let Some(step) = step.map_or(steps.last(), |step| steps.get(step - 1)) else {
                    return (404, b"{}".to_vec());
                };
                return match fs::read(step.target.join(name)) {
                    Ok(bytes) => (200, bytes),
                    Err(_) => (404, b"{}".to_vec()),
                };
            }
            _ => return (404, b"{}".to_vec()),
        };
        (
            200,
            json!({"status": {"code": 200}, "data": data})
                .to_string()
                .into_bytes(),
        )
    }

    fn shown(&self, id: usize) -> Value {
        let state = self.state.lock().unwrap();
        let run = &state.runs[id - 1];
        let step = |(n, step): (usize, &Step)| {
            let name = format!("Invoke dbt with `dbt {}`", step.command);
            json!({"index": n + 1, "name": name, "logs": step.log})
        };
        json!({
            "id": id,
            "status": run.status,
            "status_message": (run.status == 20).then_some("a step failed"),
            "href": format!("{}/runs/{id}", self.url),
            "trigger": {"cause": run.body["cause"]},
            "run_steps": run.steps.iter().enumerate().map(step).collect::<Vec<_>>(),
        })
    }

    fn begin(&self, body: Value) -> usize {
        let mut state = self.state.lock().unwrap();
        state.runs.push(Run {
            status: 3,
            body: body.clone(),
            steps: Vec::new(),
        });
        let (id, cloud) = (state.runs.len(), self.clone());
        if self.habit() != Habit::Endless {
            std::thread::spawn(move || cloud.work(id, &body));
        }
        id
    }

    fn work(&self, id: usize, body: &Value) {
        let lab = &self.lab;
        let at = lab.place.path().join("checkout");
        let text = |path: &Path| path.display().to_string();
        let program = |name: &Path| {
            let mut command = Command::new(name);
            command
                .env_clear()
                .envs(lab.env.iter().cloned())
                .stdin(Stdio::null());
            command
        };
        let git = |words: &[&str]| {
            let done = program(Path::new("git")).args(words).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        if at.exists() {
            git(&["-C", &text(&at), "fetch", "--quiet"]);
        } else {
            git(&["clone", "--quiet", &text(&lab.project), &text(&at)]);
        }
        git(&[
            "-C",
            &text(&at),
            "checkout",
            "--quiet",
            body["git_sha"].as_str().unwrap(),
        ]);
        let mut schema = body["schema_override"].as_str().unwrap_or("analytics");
        if self.habit() == Habit::Elsewhere {
            schema = "wrong";
        }
        let profile = lab
            .profile
            .replace("schema: analytics", &format!("schema: {schema}"));
        fs::write(at.join("profiles.yml"), profile).unwrap();
        let mut status = 10;
        for command in self.steps() {
            let target = at.join(format!("target-{command}"));
            let done = program(&lab.dbt)
                .args([command, "--target-path", &text(&target)])
                .current_dir(&at)
                .output()
                .unwrap();
            let mut state = self.state.lock().unwrap();
            let log = String::from_utf8_lossy(&done.stdout).into_owned();
            let step = Step {
                command,
                log,
                target,
            };
            state.runs[id - 1].steps.push(step);
            if !done.status.success() {
                status = 20;
                break;
            }
        }
        let run = &mut self.state.lock().unwrap().runs[id - 1];
        if run.status == 3 {
            run.status = status;
        }
    }
}

const PROJECT: &[(&str, &str)] = &[
    (
        "dbt_project.yml",
        "name: shop\nversion: '1.0'\nprofile: shop\nflags: {send_anonymous_usage_stats: false}\n",
    ),
    (
        "models/sources.yml",
        "sources: [{name: raw, schema: raw, tables: [{name: orders}]}]\nmodels: [{name: daily, columns: [{name: day, data_tests: [unique]}]}]\n",
    ),
    ("models/facts.sql", FACTS),
    (
        "models/daily.sql",
        "{{ config(materialized='table', schema='marts') }} select day, sum(cents) as cents from {{ ref('facts') }} group by day",
    ),
    (
        ".gitignore",
        "target/\nlogs/\n.unship/\nprofiles.yml\nunship.toml\n",
    ),
];

const FACTS: &str = "{{ config(materialized='incremental', unique_key='id') }} \
    select id, day, amount * 100 as cents from {{ source('raw', 'orders') }} \
    {% if is_incremental() %} where day > (select max(day) from {{ this }}) {% endif %}";

#[test]
fn a_job_of_dbt_cloud_builds_aside_is_published_and_comes_back() {
    let Some(tools) = tools() else { return };
    let Some(shop) = Warehouse::new(&tools, PROJECT.iter().copied()) else {
        return;
    };
    let load = |day: u32| {
        shop.sql(&format!(
            "INSERT INTO raw.orders SELECT {day} * 1000 + i, date '2026-01-01' + {day}, i FROM generate_series(1, 100) i"
        ));
    };
    shop.sql("CREATE SCHEMA raw; CREATE TABLE raw.orders (id bigint, day date, amount bigint)");
    load(1);
    let scratch = &shop.scratch;
    scratch.commit("good");
    scratch.ok(&["init"]);
    let cloud = Cloud::start(&tools, &shop);
    let config = scratch.read("unship.toml");
    let section = format!(
        "{config}\n[dbt_cloud]\naccount = 42\nurl = \"{}\"\ntoken = {{ file = \"token\" }}\n",
        cloud.url
    );
    scratch.write("unship.toml", section);
    let job = ["dbt-cloud", "run", "--job", "7"];
    scratch
        .unship(&job)
        .says(2, &["there is no token for dbt Cloud"]);
    scratch.write("token", "another token");
    let refused = scratch.unship(&job);
    refused.says(
        70,
        &["HTTP status 401: Invalid token.", "the token is not valid"],
    );
    assert!(!refused.text().contains("another token"));
    assert_eq!(cloud.runs(), 0);
    scratch.write("token", TOKEN);

    // A run that builds somewhere else is not taken for one that built nothing.
    cloud.behave(Habit::Elsewhere);
    let ran = scratch.unship(&job);
    ran.says(76, &["elsewhere", "wrong.facts"]);
    assert_eq!(
        shop.ask("SELECT count(*) FROM pg_namespace WHERE nspname = 'analytics'"),
        "0"
    );
    cloud.behave(Habit::Good);
    scratch.only_tell();

    // What is not answered, or not now, is asked again; what may have begun is not begun again.
    cloud.fail("jobs/7/run", 0);
    cloud.fail("runs/2/?", 503);
    scratch
        .unship(&job)
        .says(0, &["-- step 1: Invoke dbt with `dbt build`", "published"]);
    assert_eq!(cloud.runs(), 2);
    let told = cloud.last();
    assert_eq!(told["schema_override"], "unship_build_analytics");
    assert_eq!(
        told["git_sha"],
        scratch.sh("git", &["rev-parse", "HEAD"]).trim()
    );
    assert_eq!(
        shop.ask("SELECT sum(cents) FROM analytics_marts.daily"),
        "505000"
    );
    let good = shop.state(&["raw"]);

    // A job that fails in its second step changes nothing; that step's word counts.
    load(2);
    cloud.behave(Habit::TwoSteps);
    scratch.write("models/daily.sql", "{{ config(materialized='table', schema='marts') }} select day, cents from {{ ref('facts') }}");
    scratch.commit("no sum");
    scratch
        .unship(&job)
        .says(1, &["not published", "unique_daily_day"]);
    same(&shop.state(&["raw"]), &good);

    cloud.behave(Habit::Good);

    // A bad one is taken back, incremental rows and all, and its commit does not run again.
    let daily = PROJECT
        .iter()
        .find(|(name, _)| *name == "models/daily.sql")
        .unwrap()
        .1;
    scratch.write("models/daily.sql", daily);
    scratch.write("models/facts.sql", FACTS.replace("* 100", "* 10000"));
    scratch.commit("bad");
    scratch.unship(&job).says(0, &["published"]);
    assert_eq!(
        shop.ask("SELECT sum(cents) FROM analytics_marts.daily"),
        "51005000"
    );
    scratch.ok(&["rollback"]);
    same(&shop.state(&["raw"]), &good);
    scratch.ok(&["verify"]);
    let runs = cloud.runs();
    scratch.unship(&job).says(77, &["took back"]);
    assert_eq!(cloud.runs(), runs);

    // Whoever is told to stop stops the run, and waits until it has: until then it writes.
    cloud.behave(Habit::Endless);
    let mut command = scratch.unship_command(&["dbt-cloud", "trigger", "--job", "7"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while cloud.runs() == runs {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    scratch.sh("kill", &["-TERM", &child.id().to_string()]);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(
        String::from_utf8_lossy(&done.stderr).contains("the run was stopped"),
        "{done:?}"
    );
    assert_eq!(cloud.state.lock().unwrap().runs[runs].status, 30);

    // A job that goes back is shown first, made once although the answer is lost, and kept up to date.
    let made = || cloud.state.lock().unwrap().made.clone();
    let rollback = ["dbt-cloud", "rollback-job", "--job", "7"];
    let create = ["dbt-cloud", "rollback-job", "--job", "7", "--create"];
    let body = r#""execute_steps": [\n    "dbt run-operation unship_rollback"\n  ]"#;
    let body = body.replace("\\n", "\n");
    scratch
        .unship(&rollback)
        .says(0, &[&body, "`--create` would make this job"]);
    assert_eq!(made(), Vec::<Value>::new());
    cloud.fail("POST jobs/", 0);
    let name = "unship: roll back nightly";
    scratch.unship(&create).says(0, &["made the job 8", name]);
    cloud.fail("POST jobs/8/", 503);
    scratch
        .unship(&create)
        .says(0, &["the job 8", "is up to date"]);
    let [job] = &made()[..] else {
        panic!("one job: {:?}", made());
    };
    assert_eq!(
        (&job["name"], &job["environment_id"]),
        (&json!(name), &json!(6))
    );
    let triggers = job["triggers"].as_object().unwrap();
    assert!(triggers.values().all(|on| on == false), "{triggers:?}");
}
