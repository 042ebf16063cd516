//! What an estate says of itself: the weakest of what its members say, and what lies between them.

use super::{ENGINE, Member, order};
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

/// What there is to say of the order, and of each member.
pub(super) fn doctor(members: &mut [Member]) -> Vec<Diagnosis> {
    let names: Vec<String> = members.iter().map(|m| m.name.clone()).collect();
    let pair = names.windows(2).find_map(|pair| match pair {
        [one, other] if !order::related(members, one, other) => Some((one, other)),
        _ => None,
    });
    let mut all = vec![match pair {
        None => Diagnosis {
            level: Level::Ok,
            subject: "order of members".to_owned(),
            finding: format!("forward {}; back the other way", names.join(", then ")),
            hint: None,
        },
        Some((one, other)) => Diagnosis {
            level: Level::Note,
            subject: "order of members".to_owned(),
            finding: format!(
                "forward {}; of {one} and {other} it is not said whether one reads the other",
                names.join(", then ")
            ),
            hint: Some(
                "where something in one is made from the other, say so: `reads = [\"…\"]`"
                    .to_owned(),
            ),
        },
    }];
    for member in members {
        let name = &member.name;
        all.extend(member.engine.doctor().into_iter().map(|one| Diagnosis {
            subject: format!("{name}: {}", one.subject),
            ..one
        }));
    }
    all
}
