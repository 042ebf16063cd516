//! What an estate says of itself: the weakest of what its members say, and what lies between them.

use super::lineage::{self, Derived, Edge};
use super::{ENGINE, EstateError, Member, order};
use crate::engine::{Atomicity, Capabilities, Diagnosis, Level};

/// Between which members nothing is atomic.
fn apart(members: &[Member]) -> String {
    let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
    format!(
        "the moment between two of its members ({}): each changes in its own way, one after the \
         other",
        names.join(", ")
    )
}

fn rank(atomicity: Atomicity) -> u8 {
    match atomicity {
        Atomicity::Database => 3,
        Atomicity::Schema => 2,
        Atomicity::Relations => 1,
        Atomicity::Relation => 0,
    }
}

/// What all members together can do: what the weakest can.
pub(super) fn capabilities(members: &mut [Member]) -> Capabilities {
    let all: Vec<(String, Capabilities)> = members
        .iter_mut()
        .map(|member| (member.name.clone(), member.engine.capabilities()))
        .collect();
    let each = |text: &dyn Fn(&Capabilities) -> Option<String>| -> Vec<String> {
        let said = all.iter().filter_map(|(name, c)| Some((name, text(c)?)));
        said.map(|(name, text)| format!("{name}: {text}")).collect()
    };
    let versions = each(&|c| {
        let version = c.version.as_ref()?;
        Some(format!("{} {version}", c.engine))
    });
    let relations = all.iter().find_map(|(name, c)| {
        let why = c.relations.as_ref().err()?;
        Some(format!("{name}: {why}"))
    });
    let carries = all.first().map(|(_, c)| c.carries.clone());
    let common = |what: &String| all.iter().all(|(_, c)| c.carries.contains(what));
    let mut not_protected = vec![apart(members)];
    for (name, of) in &all {
        let said = of.not_protected.iter();
        not_protected.extend(said.map(|text| format!("{name}: {text}")));
    }
    let weakest = all.iter().map(|(_, c)| c.atomicity);
    Capabilities {
        engine: ENGINE.to_owned(),
        version: (!versions.is_empty()).then(|| versions.join(", ")),
        // Of what is in one member.
        atomicity: weakest
            .min_by_key(|one| rank(*one))
            .unwrap_or(Atomicity::Relation),
        restore_point: each(&|c| Some(c.restore_point.clone())).join("; "),
        aside: all.iter().all(|(_, c)| c.aside),
        free_clone: all.iter().all(|(_, c)| c.free_clone),
        proves_identity: all.iter().all(|(_, c)| c.proves_identity),
        relations: relations.map_or(Ok(()), Err),
        carries: carries.into_iter().flatten().filter(common).collect(),
        not_protected,
    }
}

/// Where the order of these members comes from, as the end of a sentence and more of them.
pub(super) fn grounds(members: &[Member], derived: &Derived, names: &[&str]) -> String {
    let among = |name: &str| names.contains(&name);
    let mut known = Vec::new();
    for member in members.iter().filter(|member| among(&member.name)) {
        for source in member.reads.iter().filter(|source| among(source)) {
            let edge = |edge: &&Edge| edge.reader == member.name && edge.source == *source;
            known.push(match derived.added.iter().find(edge) {
                Some(edge) => lineage::said(edge),
                None => format!("{} reads {source} (`reads`)", member.name),
            });
        }
    }
    let mut text = String::new();
    if !known.is_empty() {
        text.push_str(&format!(". What reads what: {}", known.join(", ")));
    }
    let related = |pair: &[&str]| match pair {
        [one, other] => order::related(members, one, other),
        _ => true,
    };
    if !names.windows(2).all(related) {
        text.push_str(
            ". Not of all of them it is said which reads which (`reads`): among those, the order is \
             that of their names",
        );
    }
    let against = derived.against.iter();
    let against = against.filter(|edge| among(&edge.reader) && among(&edge.source));
    for edge in against {
        text.push_str(&format!(". {}", contradicts(edge)));
    }
    text
}

fn contradicts(edge: &Edge) -> String {
    format!(
        "dbt's lineage says that {}: `reads` says the opposite, and counts",
        lineage::said(edge)
    )
}

/// What there is to say of the order, and of each member.
pub(super) fn doctor(
    members: &mut [Member],
    derived: &Derived,
    circle: Option<EstateError>,
) -> Vec<Diagnosis> {
    let mut all = order_of(members, derived, circle);
    for member in members {
        let name = &member.name;
        all.extend(member.engine.doctor().into_iter().map(|one| Diagnosis {
            subject: format!("{name}: {}", one.subject),
            ..one
        }));
    }
    all
}

fn order_of(members: &[Member], derived: &Derived, circle: Option<EstateError>) -> Vec<Diagnosis> {
    let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
    let order = |level, finding: String, hint: Option<&str>| Diagnosis {
        level,
        subject: "order of members".to_owned(),
        finding,
        hint: hint.map(str::to_owned),
    };
    if let Some(circle) = circle {
        return vec![order(Level::Error, circle.to_string(), None)];
    }
    let pair = names.windows(2).find_map(|pair| match pair {
        [one, other] if !order::related(members, one, other) => Some((one, other)),
        _ => None,
    });
    let forward = format!("forward {}", names.join(", then "));
    let mut all = vec![match pair {
        None => order(Level::Ok, format!("{forward}; back the other way"), None),
        Some((one, other)) => order(
            Level::Note,
            format!("{forward}; of {one} and {other} it is not said whether one reads the other"),
            Some("where something in one is made from the other, say so: `reads = [\"…\"]`"),
        ),
    }];
    let added = derived.added.iter();
    all.extend(added.map(|edge| order(Level::Ok, lineage::said(edge), None)));
    let hint = "mend `reads`, or build the project again if its lineage is of the past";
    let against = derived.against.iter();
    all.extend(against.map(|edge| order(Level::Warning, contradicts(edge), Some(hint))));
    all
}
