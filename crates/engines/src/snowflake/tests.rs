//! The engine against a double: a few schemas of tables that are only names and creation times,
//! changed by the very statements that are sent. Answers are lost on the way, and unship dies.

use super::client::double::{Asked, Double, Say};
use super::client::{Client, Credentials, Pace, Secret, Settings};
use super::plan::{self, SfAction};
use super::sql::Place;
use super::survey::{Survey, Table, There};
use super::{Snowflake, Wanted, access};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use unship_core::engine::{Engine, PublishRequest};
use unship_core::event::Event;
use unship_core::execute::{Attempt, ExecuteError, Outcome, RecordError, Recorder, execute};
use unship_core::ident::{RelationName, ReleaseId};
use unship_core::journal::Journal;
use unship_core::plan::{FORMAT, Impact, Plan};
use unship_core::relation::{RelationKind, RelationState};
use unship_core::release::{Operation, Version, VersionId};

const DATABASE: &str = "DB";
const SCHEMAS: usize = 5;

/// Tables by place, and schemas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct World {
    tables: BTreeMap<(String, String), String>,
    schemas: BTreeSet<String>,
    views: BTreeSet<(String, String)>,
    /// The full name of the table that a stream reads.
    streamed: Option<String>,
}

fn at(schema: &str) -> (String, String) {
    (schema.to_owned(), "ORDERS".to_owned())
}

fn marts(n: usize) -> String {
    format!("MARTS{n}")
}

impl World {
    /// Five schemas with a table each, and one built for each.
    fn begun() -> Self {
        let mut world = Self::default();
        for n in 0..SCHEMAS {
            let staging = format!("UNSHIP_BUILD_{}", marts(n));
            world
                .tables
                .insert(at(&marts(n)), format!("2026-01-01T00:00:0{n}"));
            world
                .tables
                .insert(at(&staging), format!("2026-02-02T00:00:0{n}"));
            world.schemas.extend([marts(n), staging]);
        }
        world
    }

    fn production(&self) -> Vec<&str> {
        let live = (0..SCHEMAS).map(|n| self.tables.get(&at(&marts(n))));
        live.map(|created| created.map_or("absent", String::as_str))
            .collect()
    }

    /// What a statement does and answers.
    fn run(&mut self, statement: &str) -> Say {
        let names = super::view::reads(statement);
        if statement.starts_with("ALTER TABLE") {
            // `"DB"."S"."T"` twice: of each, the second pair is schema and table.
            let (one, other) = (names[1].clone(), names[3].clone());
            let (Some(first), second) = (self.tables.remove(&one), self.tables.remove(&other))
            else {
                return Say::failed("002003", "does not exist");
            };
            match (statement.contains("SWAP WITH"), second) {
                (true, Some(second)) => {
                    self.tables.insert(one, second);
                    self.tables.insert(other, first);
                }
                (false, None) => drop(self.tables.insert(other, first)),
                _ => panic!("{statement}"),
            }
            return nothing();
        }
        if statement.starts_with("ALTER SCHEMA") {
            // `"DB"."A"` twice: the names are the first pair's second part, and the last pair's.
            let (one, other) = (names[0].1.clone(), names[names.len() - 1].1.clone());
            if !self.schemas.contains(&one) {
                return Say::failed("002043", "does not exist");
            }
            let swaps = statement.contains("SWAP WITH");
            assert_eq!(swaps, self.schemas.contains(&other), "{statement}");
            let renamed = |schema: &str| match schema {
                schema if schema == one => other.clone(),
                schema if schema == other => one.clone(),
                schema => schema.to_owned(),
            };
            let tables = std::mem::take(&mut self.tables).into_iter();
            self.tables = tables
                .map(|((schema, name), created)| ((renamed(&schema), name), created))
                .collect();
            let views = std::mem::take(&mut self.views).into_iter();
            self.views = views.map(|(s, name)| (renamed(&s), name)).collect();
            if !swaps {
                self.schemas.remove(&one);
                self.schemas.insert(other);
            }
            return nothing();
        }
        if statement.contains(" CLONE ") {
            let (copy, of) = (names[1].clone(), &names[3]);
            let Some(created) = self.tables.get(of) else {
                return Say::failed("002003", "does not exist");
            };
            self.tables.insert(copy, format!("copy.{created}"));
            return nothing();
        }
        if statement.starts_with("DROP TABLE") {
            self.tables.remove(&names[1]);
            return nothing();
        }
        if statement.starts_with("SHOW STREAMS") {
            let columns = ["name", "schema_name", "table_name"].map(|name| (name, "text"));
            let of = self.streamed.as_deref();
            let row = [Some("NEWS"), Some("RAW"), of];
            let rows: &[&[Option<&str>]] = if of.is_some() { &[&row] } else { &[] };
            return Say::rows(&columns, rows);
        }
        let unasked = ["SHOW ", "SELECT * FROM"];
        let empty = [
            "COLUMNS",
            "QUERY_HISTORY",
            "POLICY_REFERENCES",
            "TAG_REFERENCES",
        ];
        let empty = empty.map(|view| format!("INFORMATION_SCHEMA.{view}"));
        if unasked.iter().any(|begins| statement.starts_with(begins))
            || empty.iter().any(|view| statement.contains(view))
        {
            return Say::rows(&[("name", "text")], &[]);
        }
        if statement.starts_with("SELECT CURRENT_ROLE") {
            return Say::rows(&[("ROLE", "text")], &[&[Some("LOADER")]]);
        }
        let asked = statement.matches("SYSTEM$LAST_CHANGE_COMMIT_TIME").count();
        if asked > 0 {
            let (columns, row) = (vec![("T", "text"); asked], vec![Some("7"); asked]);
            return Say::rows(&columns, &[row.as_slice()]);
        }
        if statement.starts_with("DROP VIEW") {
            self.views.remove(&names[1]);
            return nothing();
        }
        if statement.contains("INFORMATION_SCHEMA.VIEWS") {
            let columns = ["S", "N", "D", "E"].map(|name| (name, "text"));
            let text = "CREATE VIEW x AS SELECT 'R2' AS \"RELEASE\"";
            let rows: Vec<[Option<&str>; 4]> = self
                .views
                .iter()
                .filter(|(schema, _)| statement.contains(&format!("'{schema}'")))
                .map(|(s, n)| [Some(s.as_str()), Some(n.as_str()), Some(text), Some("NO")])
                .collect();
            let rows: Vec<&[Option<&str>]> = rows.iter().map(|row| row.as_slice()).collect();
            return Say::rows(&columns, &rows);
        }
        if statement.starts_with("CREATE SCHEMA") {
            self.schemas.insert(names[0].1.clone());
            return nothing();
        }
        if statement.starts_with("CREATE OR REPLACE VIEW") {
            self.views.insert(names[1].clone());
            return nothing();
        }
        if statement.contains("INFORMATION_SCHEMA.SCHEMATA") {
            let rows: Vec<[Option<&str>; 1]> =
                self.schemas.iter().map(|s| [Some(s.as_str())]).collect();
            let rows: Vec<&[Option<&str>]> = rows.iter().map(|row| row.as_slice()).collect();
            return Say::rows(&[("SCHEMA_NAME", "text")], &rows);
        }
        if statement.contains("INFORMATION_SCHEMA.TABLES") {
            return self.listed(statement);
        }
        panic!("nobody said what to answer to {statement}");
    }

    fn listed(&self, statement: &str) -> Say {
        let columns: Vec<(String, &str)> = (0..12).map(|n| (format!("C{n}"), "text")).collect();
        let columns: Vec<(&str, &str)> = columns.iter().map(|(n, t)| (n.as_str(), *t)).collect();
        let asked = |schema: &str| statement.contains(&format!("'{schema}'"));
        let tables = self
            .tables
            .iter()
            .map(|((s, n), created)| (s, n, "BASE TABLE", created.as_str()));
        let views = self
            .views
            .iter()
            .map(|(s, n)| (s, n, "VIEW", "2026-03-03T00:00:00"));
        let rows: Vec<Vec<Option<&str>>> = tables
            .chain(views)
            .filter(|(schema, ..)| asked(schema))
            .map(|(schema, name, kind, created)| {
                let mut row = vec![None; 12];
                row[0] = Some(schema.as_str());
                row[1] = Some(name.as_str());
                row[2] = Some(kind);
                row[7] = Some(created);
                row
            })
            .collect();
        let rows: Vec<&[Option<&str>]> = rows.iter().map(Vec::as_slice).collect();
        Say::rows(&columns, &rows)
    }
}

fn nothing() -> Say {
    Say::rows(&[("status", "text")], &[&[Some("done")]])
}

/// What goes wrong with the n-th change of the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The request never arrives, however often it is sent.
    Unheard(usize),
    /// It is done, and its answers are lost, however often it is sent.
    Unanswered(usize),
    /// It is done, and its first answer is lost.
    LostOnce(usize),
    /// It is accepted and never answered, and done when it has been asked for twice.
    Late(usize),
    /// The same, and the first who asks what became of it is not answered.
    LateAndSilent(usize),
    None,
}

struct Stage {
    double: Double,
    world: Arc<Mutex<World>>,
}

/// A warehouse behind a double. As Snowflake, it does not do again what came with the same id.
fn stage(fault: Fault) -> Stage {
    let world = Arc::new(Mutex::new(World::begun()));
    let shared = Arc::clone(&world);
    let mut done: BTreeMap<String, Say> = BTreeMap::new();
    let mut changes = 0;
    let mut unlucky: BTreeMap<String, usize> = BTreeMap::new();
    let (mut late, mut looks): (Option<String>, usize) = (None, 0);
    let double = Double::new(move |asked: &Asked| {
        let id = asked.query("requestId").unwrap_or_default().to_owned();
        let statement = asked.body["statement"].as_str().unwrap_or_default();
        if statement.contains("QUERY_HISTORY") && late.is_some() {
            looks += 1;
            let silent = usize::from(matches!(fault, Fault::LateAndSilent(_)));
            if looks <= silent {
                return Say::failed("000603", "internal error");
            }
            if looks <= silent + 2 {
                return Say::rows(&[("QUERY_ID", "text")], &[&[Some("01-late")]]);
            }
            shared.lock().unwrap().run(&late.take().unwrap());
        }
        if let Some(before) = done.get(&id).cloned() {
            assert_eq!(
                asked.query("retry"),
                Some("true"),
                "sent again without saying so"
            );
            return match fault {
                Fault::Unanswered(n) if unlucky.get(&id) == Some(&n) => Say::HangUp,
                _ => before,
            };
        }
        let changing = ["ALTER ", "DROP TABLE"];
        let changing = changing.iter().any(|begins| statement.starts_with(begins));
        if changing || statement.contains(" CLONE ") {
            changes += usize::from(!unlucky.contains_key(&id));
            let n = *unlucky.entry(id.clone()).or_insert(changes);
            if fault == Fault::Unheard(n) {
                return Say::HangUp;
            }
            if fault == Fault::Late(n) || fault == Fault::LateAndSilent(n) {
                if looks == 0 {
                    late = Some(statement.to_owned());
                }
                return Say::HangUp;
            }
            let say = shared.lock().unwrap().run(statement);
            done.insert(id, say.clone());
            return match fault {
                Fault::Unanswered(m) | Fault::LostOnce(m) if m == n => Say::HangUp,
                _ => say,
            };
        }
        let say = shared.lock().unwrap().run(statement);
        done.insert(id, say.clone());
        say
    });
    Stage { double, world }
}

fn engine(double: &Double) -> Snowflake {
    patient(double, Duration::from_millis(4))
}

/// An engine that asks again for so long.
fn patient(double: &Double, patience: Duration) -> Snowflake {
    let settings = Settings {
        account: "double".to_owned(),
        base_url: Some(double.url.clone()),
        user: "ANA".to_owned(),
        credentials: Credentials::AccessToken(Secret::new("hunter2")),
        role: None,
        warehouse: None,
        database: DATABASE.to_owned(),
        schema: None,
    };
    let pace = Pace {
        first: Duration::from_millis(1),
        most: Duration::from_millis(1),
        request: Duration::from_secs(5),
        patience,
    };
    Snowflake::new(
        Client::new(settings, pace),
        BTreeSet::new(),
        Wanted::default(),
    )
}

fn name(schema: &str) -> RelationName {
    RelationName::new(DATABASE, schema, "ORDERS")
}

fn version(release: u64) -> Version {
    Version {
        id: VersionId {
            release: ReleaseId(release),
            drift: 0,
        },
        owned: true,
        state: Some(RelationState {
            kind: RelationKind::Table,
            columns: Vec::new(),
            definition: String::new(),
            dependents: Vec::new(),
            rows: None,
            fingerprint: None,
            storage: None,
        }),
    }
}

fn there(schema: &str, created: &str) -> There {
    There {
        at: Place::new(DATABASE, schema, "ORDERS"),
        table: Some(Table {
            created: created.to_owned(),
            token: None,
            rows: None,
            transient: true,
        }),
        view: None,
        owner: Some("LOADER".to_owned()),
        access: access::Access::default(),
        refusals: Vec::new(),
        protection: BTreeSet::new(),
    }
}

/// The plan that publishes one table in each of five schemas.
fn five() -> Plan {
    planned_in(&World::begun())
}

fn planned_in(world: &World) -> Plan {
    let survey = Survey {
        role: "LOADER".to_owned(),
        schemas: world.schemas.clone(),
        there: world
            .tables
            .iter()
            .map(|((s, _), created)| there(s, created))
            .collect(),
        ..Survey::default()
    };
    let names = || (0..SCHEMAS).map(|n| name(&marts(n)));
    let request = PublishRequest {
        release: ReleaseId(2),
        live: ReleaseId(1),
        live_map: names().map(|name| (name, version(1))).collect(),
        changes: names().map(|name| (name, version(2))).collect(),
        carry: unship_core::engine::Carry::default(),
    };
    let steps = plan::publish(&survey, &request).unwrap();
    Plan {
        format: FORMAT,
        env: "prod".to_owned(),
        release: ReleaseId(2),
        operation: Operation::Run {
            aside: true,
            replays: None,
        },
        from: ReleaseId(1),
        method: steps.method,
        steps: steps.steps,
        stages: Vec::new(),
        impact: Impact::default(),
        irreversible: Vec::new(),
        notes: steps.notes,
        needs: Vec::new(),
        moved: BTreeMap::new(),
        result: BTreeMap::new(),
    }
}

/// A ledger that dies after so many events.
struct Events {
    all: Vec<Event>,
    most: usize,
}

impl Recorder for Events {
    fn record(&mut self, event: Event) -> Result<(), RecordError> {
        if self.all.len() >= self.most {
            return Err(RecordError("the power went".into()));
        }
        self.all.push(event);
        Ok(())
    }
}

fn fresh() -> Events {
    Events {
        all: Vec::new(),
        most: usize::MAX,
    }
}

fn go(plan: &Plan, double: &Double, events: &mut Events) -> Result<Outcome, ExecuteError> {
    carry_out(&mut engine(double), plan, events)
}

fn carry_out(
    engine: &mut Snowflake,
    plan: &Plan,
    events: &mut Events,
) -> Result<Outcome, ExecuteError> {
    let id = plan.id().unwrap();
    let journal = Journal::fold(&id, &events.all).unwrap();
    let attempt = Attempt {
        plan,
        id,
        journal,
        assume: None,
        closing: &[],
    };
    execute(engine, events, &(), attempt)
}

fn old() -> Vec<String> {
    (0..SCHEMAS)
        .map(|n| format!("2026-01-01T00:00:0{n}"))
        .collect()
}

fn new() -> Vec<String> {
    (0..SCHEMAS)
        .map(|n| format!("2026-02-02T00:00:0{n}"))
        .collect()
}

/// Every table is somewhere: none was lost, none is there twice.
fn whole(world: &World) {
    let now: BTreeSet<&String> = world.tables.values().collect();
    let begun = World::begun();
    assert_eq!(now, begun.tables.values().collect());
    assert_eq!(world.tables.len(), begun.tables.len());
}

#[test]
fn tables_of_five_schemas_are_exchanged_and_kept() {
    let stage = stage(Fault::None);
    let plan = five();
    let mut events = fresh();
    let done = go(&plan, &stage.double, &mut events).unwrap();
    assert!(matches!(done, Outcome::Done { .. }), "{done:?}");
    let world = stage.world.lock().unwrap();
    assert_eq!(world.production(), new());
    for (n, created) in old().iter().enumerate() {
        assert_eq!(
            world.tables.get(&at(&format!("UNSHIP_R1_{}", marts(n)))),
            Some(created)
        );
    }
    whole(&world);
    assert!(
        plan.notes.iter().any(|note| note.contains("not atomic")),
        "{:?}",
        plan.notes
    );
    let tags: BTreeSet<String> = stage
        .double
        .asked()
        .iter()
        .filter(|asked| {
            asked.body["statement"]
                .as_str()
                .unwrap()
                .contains("SWAP WITH")
        })
        .map(|asked| {
            asked.body["parameters"]["query_tag"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        tags.len(),
        SCHEMAS,
        "each swap says which step it is: {tags:?}"
    );
    assert!(tags.contains("unship R2 step 2"), "{tags:?}");
}

/// unship dies at every event of its ledger and is resumed by a new process.
#[test]
fn a_crash_at_every_event_is_resumed() {
    let plan = five();
    for n in 0.. {
        let stage = stage(Fault::None);
        let mut events = Events {
            all: Vec::new(),
            most: n,
        };
        let first = go(&plan, &stage.double, &mut events);
        let died = matches!(first, Err(ExecuteError::Record(_)));
        events.most = usize::MAX;
        let outcome = match first {
            Err(ExecuteError::Record(_)) => go(&plan, &stage.double, &mut events).unwrap(),
            other => other.unwrap(),
        };
        assert!(matches!(outcome, Outcome::Done { .. }), "{n}: {outcome:?}");
        let world = stage.world.lock().unwrap();
        assert_eq!(world.production(), new(), "{n}");
        whole(&world);
        if !died {
            assert!(n > 2 * 2 * SCHEMAS, "every step has two events");
            return;
        }
    }
}

/// Two environments in one database may build releases of the same number.
#[test]
fn a_build_of_another_environment_is_left_alone() {
    let double = Double::new(|asked| {
        let statement = asked.body["statement"].as_str().unwrap_or_default();
        if statement.contains("INFORMATION_SCHEMA.VIEWS") {
            let columns = ["S", "N", "D", "E"].map(|name| (name, "text"));
            let row = |schema| {
                let text = Some("CREATE VIEW x AS SELECT 'R2' AS \"RELEASE\"");
                [Some(schema), Some("UNSHIP_BUILD"), text, Some("NO")]
            };
            let (ours, theirs) = (row("UNSHIP_BUILD_MARTS"), row("UNSHIP_BUILD_OTHER"));
            return Say::rows(&columns, &[&ours, &theirs]);
        }
        let mut world = World::default();
        for schema in ["UNSHIP_BUILD_MARTS", "UNSHIP_BUILD_OTHER"] {
            let mark = (schema.to_owned(), "UNSHIP_BUILD".to_owned());
            world.views.insert(mark);
        }
        world.run(statement)
    });
    let engine = engine(&double);
    let all = ["UNSHIP_BUILD_MARTS", "UNSHIP_BUILD_OTHER"].map(str::to_owned);
    let of = |only: &[&str], release| {
        let only = only.iter().map(|schema| (*schema).to_owned()).collect();
        super::catalog::staging(&engine.session, &all, &only, ReleaseId(release)).unwrap()
    };
    assert_eq!(of(&["MARTS"], 2), BTreeSet::from([all[0].clone()]));
    assert_eq!(of(&[], 2).len(), 2);
    assert!(of(&[], 22).is_empty(), "another release's");
}

mod hang;
mod lost;
mod point;
mod refused;
mod whole;
