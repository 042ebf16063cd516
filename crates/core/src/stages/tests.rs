use super::*;
use crate::ident::ReleaseId;
use crate::release::{Version, VersionId};
use proptest::prelude::*;

fn name(name: &str) -> RelationName {
    RelationName::new("shop", "marts", name)
}

fn version(kind: RelationKind, rows: Option<u64>, definition: &str) -> Version {
    Version {
        id: VersionId {
            release: ReleaseId(1),
            drift: 0,
        },
        owned: true,
        state: Some(RelationState {
            kind,
            columns: Vec::new(),
            definition: definition.to_owned(),
            dependents: Vec::new(),
            rows,
            fingerprint: None,
            storage: None,
        }),
    }
}

fn table(rows: u64) -> Version {
    version(RelationKind::Table, Some(rows), "")
}

fn reads(ties: &mut Ties, reader: &str, source: &str) {
    let readers = ties.readers.entry(name(source)).or_default();
    readers.insert(name(reader));
}

/// The stages, each as its relations' names.
fn told(stages: &[Stage]) -> Vec<String> {
    let one = |stage: &Stage| {
        let names: Vec<_> = stage.relations.iter().map(|n| n.name.clone()).collect();
        names.join("+")
    };
    stages.iter().map(one).collect()
}

#[test]
fn consumers_go_first_and_the_smallest_of_them_before_the_others() {
    let result = Map::from([
        (name("orders"), table(10)),
        (name("items"), table(5)),
        (name("revenue"), table(100)),
        (name("customers"), table(50)),
        (name("alone"), table(20)),
    ]);
    let mut ties = Ties::default();
    reads(&mut ties, "revenue", "orders");
    // Through a relation that stays.
    reads(&mut ties, "between", "items");
    reads(&mut ties, "customers", "between");
    let mut live = result.clone();
    live.insert(name("between"), table(3));
    let stages = divide(&result, &live, &ties);
    assert_eq!(
        told(&stages),
        ["alone", "customers", "items", "revenue", "orders"]
    );
    assert_eq!(
        stages[2].readers,
        [name("between"), name("customers")].into()
    );
    assert_eq!(stages[3].rows, 100);
}

#[test]
fn what_cannot_go_apart_is_one_stage() {
    let mut orders = table(10);
    orders.state.as_mut().unwrap().dependents = vec![name("orders_view"), name("strangers_view")];
    let lines = "CREATE TABLE marts.lines (order_id bigint)\nALTER TABLE marts.lines ADD FOREIGN KEY \
                 (order_id) REFERENCES marts.orders (id)";
    let result = Map::from([
        (name("orders"), orders),
        (
            name("orders_view"),
            version(RelationKind::View, None, "SELECT"),
        ),
        (name("lines"), version(RelationKind::Table, Some(7), lines)),
        (name("border"), table(1)),
        (
            name("numbers"),
            version(RelationKind::Sequence, None, "CREATE SEQUENCE"),
        ),
        (
            name("counted"),
            version(
                RelationKind::Table,
                Some(3),
                "DEFAULT nextval('marts.numbers')",
            ),
        ),
        (name("one"), table(4)),
        (name("cursor"), table(1)),
    ]);
    let mut ties = Ties::default();
    ties.together.push((
        [name("one"), name("cursor"), name("not_in_the_plan")].into(),
        "a loader's state".to_owned(),
    ));
    let stages = divide(&result, &result, &ties);
    assert_eq!(
        told(&stages),
        [
            "border",
            "counted+numbers",
            "cursor+one",
            "lines+orders+orders_view"
        ]
    );
    assert_eq!(
        stages[3].because,
        [
            "a key of shop.marts.lines refers to shop.marts.orders",
            "shop.marts.orders_view is defined on shop.marts.orders"
        ]
    );
}

#[test]
fn a_key_that_only_the_older_version_has_binds_too() {
    let live = Map::from([(name("a"), table(1)), (name("b"), table(1))]);
    let mut result = live.clone();
    let key = "ALTER TABLE a ADD FOREIGN KEY (x) references \"b\"(id)";
    result.insert(name("a"), version(RelationKind::Table, Some(1), key));
    assert_eq!(told(&divide(&result, &live, &Ties::default())), ["a+b"]);
}

#[test]
fn what_reads_each_other_once_bound_goes_together() {
    let names = ["a", "b", "c"];
    let result: Map = names.iter().map(|n| (name(n), table(1))).collect();
    let mut ties = Ties::default();
    reads(&mut ties, "a", "b");
    reads(&mut ties, "b", "c");
    ties.together
        .push(([name("a"), name("c")].into(), "state".to_owned()));
    let stages = divide(&result, &result, &ties);
    assert_eq!(told(&stages), ["a+b+c"]);
    assert_eq!(stages[0].because.len(), 2);
}

type Pairs = Vec<(usize, usize)>;

/// Relations with sizes, who reads whom (only later ones, so that there is no circle), and what is
/// bound.
fn projects() -> impl Strategy<Value = (Vec<u64>, Pairs, Pairs)> {
    (1..12_usize).prop_flat_map(|n| {
        (
            prop::collection::vec(0..5_u64, n),
            prop::collection::vec((0..n, 0..n), 0..2 * n),
            prop::collection::vec((0..n, 0..n), 0..3),
        )
    })
}

proptest! {
    #[test]
    fn every_division_keeps_order_and_what_is_bound((sizes, edges, bound) in projects()) {
        let at = |i: usize| name(&format!("t{i:02}"));
        let result: Map = sizes.iter().enumerate().map(|(i, rows)| (at(i), table(*rows))).collect();
        let mut ties = Ties::default();
        for (a, b) in edges.iter().filter(|(a, b)| a != b) {
            let readers = ties.readers.entry(at(*a.min(b))).or_default();
            readers.insert(at(*a.max(b)));
        }
        for (a, b) in &bound {
            ties.together.push(([at(*a), at(*b)].into(), "bound".to_owned()));
        }
        let stages = divide(&result, &result, &ties);

        let all: Vec<_> = stages.iter().flat_map(|s| s.relations.iter().cloned()).collect();
        let once: BTreeSet<_> = all.iter().cloned().collect();
        prop_assert_eq!(all.len(), once.len(), "twice");
        prop_assert_eq!(once, result.keys().cloned().collect::<BTreeSet<_>>());
        let stage = |name: &RelationName| stages.iter().position(|s| s.relations.contains(name));
        for (source, readers) in &ties.readers {
            for reader in readers {
                prop_assert!(stage(reader) <= stage(source), "{reader} after {source}");
            }
        }
        for (a, b) in &bound {
            prop_assert_eq!(stage(&at(*a)), stage(&at(*b)));
        }
        for (i, one) in stages.iter().enumerate() {
            prop_assert_eq!(one.number as usize, i + 1);
            // Whatever comes later and is smaller had to wait for something.
            for later in &stages[i + 1..] {
                let waits = stages[i..].iter().filter(|s| s.number < later.number).any(|before| {
                    later.relations.iter().any(|source| {
                        let readers = ties.readers.get(source);
                        readers.is_some_and(|all| !all.is_disjoint(&before.relations))
                    })
                });
                prop_assert!(waits || (one.rows, &one.relations) <= (later.rows, &later.relations));
            }
        }
    }
}
