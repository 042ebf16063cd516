//! What others set of a table's properties while it is being moved: no commit can say what it expects
//! of them.

use super::catalog::Id;
use super::server::{Fault, Manner, Server};
use super::suite::{Jobs, Lake, id, name};
use serde_json::{Value, json};
use std::sync::Mutex;
use unship_core::execute::{Notice, Watch};
use unship_core::ident::ReleaseId;
use unship_core::operate::{Ask, Session};
use unship_core::testing::world::{Script, World};
use unship_core::testing::{Table, Write};

/// What a person was told.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Watch for Heard {
    fn notice(&self, notice: Notice<'_>) {
        if let Notice::Note(note) = notice {
            self.0.lock().unwrap().push(note.to_owned());
        }
    }
}

/// `R1` and `R2` of two tables, of which one got an owner since.
fn told() -> (World, Server) {
    let lake = Lake::new(Manner::default(), Jobs::InPlace);
    let server = lake.server.clone();
    let mut world = World::new(Box::new(lake)).unwrap();
    for n in [1, 2] {
        let table = Table::new(&["id", "value"], [vec![1, n]]);
        let writes = ["orders", "customers"].map(|of| Write::Replace(name(of), table.clone()));
        world.run(&Script::good(writes)).unwrap();
    }
    let orders = id(&name("orders"));
    let owned = |m: &mut Value| m["properties"]["owner"] = "bert".into();
    server.state().catalog.edit(&orders, owned);
    (world, server)
}

/// Goes back to `R1`, and gives what is said besides.
fn back(world: &mut World) -> Vec<String> {
    let heard = Heard::default();
    let ask = Ask::Rollback {
        to: Some(ReleaseId(1)),
        select: None,
    };
    let mut engine = world.harness.engine();
    let mut session = Session {
        engine: &mut *engine,
        ledger: &mut world.ledger,
        watch: &heard,
    };
    let plan = session.plan(&ask).unwrap();
    session.apply(plan, true).unwrap();
    heard.0.into_inner().unwrap()
}

fn metadata(server: &Server, of: &Id) -> Value {
    server.state().catalog.table(of).unwrap().clone()
}

#[test]
fn nothing_is_said_where_nobody_sets_anything() {
    let (mut world, server) = told();
    assert_eq!(back(&mut world), Vec::<String>::new());
    let orders = metadata(&server, &id(&name("orders")));
    assert_eq!(orders["properties"]["owner"], Value::Null);
}

#[test]
fn what_somebody_sets_besides_stays_and_is_told() {
    let (mut world, server) = told();
    let orders = id(&name("orders"));
    let fault = Fault::OthersSet(orders.clone(), "theirs", "1");
    server.fault("POST /api/v1/transactions/commit", fault);
    let heard = back(&mut world);
    assert!(
        heard.iter().any(|note| note
            == "somebody set properties of lake.s.orders while it was being moved, and they stay \
                as they are: theirs"),
        "{heard:?}"
    );
    let now = metadata(&server, &orders);
    assert_eq!(now["properties"]["theirs"], "1");
    assert_eq!(now["properties"]["owner"], Value::Null);
}

#[test]
fn what_is_overwritten_is_told_with_where_it_still_is() {
    let (mut world, server) = told();
    let orders = id(&name("orders"));
    let fault = Fault::OthersSet(orders.clone(), "owner", "cleo");
    server.fault("POST /api/v1/transactions/commit", fault);
    let heard = back(&mut world);
    let now = metadata(&server, &orders);
    assert_eq!(now["properties"]["owner"], Value::Null);
    let file = now["metadata-log"][0]["metadata-file"].as_str().unwrap();
    let before = server.state().catalog.files[file].clone();
    assert_eq!(before["properties"]["owner"], json!("cleo"));
    let note = heard.iter().find(|note| note.contains("overwritten"));
    let note = note.unwrap_or_else(|| panic!("{heard:?}"));
    assert!(
        note.contains("lake.s.orders") && note.contains("owner") && note.contains(file),
        "{note}"
    );
}
