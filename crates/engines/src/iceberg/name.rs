//! Names: a namespace of several parts is a schema, and what unship sets aside has its own.

use super::rest::Identifier;
use unship_core::ident::{RelationName, ReleaseId};

/// What the names begin with of everything that unship makes.
pub const OWN: &str = "unship_r";

/// The property that says which commit of unship's a table has seen last.
pub const RELEASED: &str = "unship.release";

/// The property that says which of a table's snapshots hold rows that others had written to what
/// was live before, and were brought over.
pub const KEPT: &str = "unship.kept";

/// Whether a property is one that unship gives a table, and that is no part of what it is.
pub fn is_mark(property: &str) -> bool {
    property == RELEASED || property == KEPT
}

/// A namespace as the schema of a relation: its parts with dots between, a part in quotation marks
/// where it would be ambiguous.
pub fn schema(parts: &[String]) -> String {
    let text = |part: &String| match part.is_empty() || part.contains(['.', '"']) {
        true => format!("\"{}\"", part.replace('"', "\"\"")),
        false => part.clone(),
    };
    parts.iter().map(text).collect::<Vec<_>>().join(".")
}

/// The parts of a schema; `None` if it is none that `schema` writes.
pub fn parts(schema: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut rest = schema;
    loop {
        let after = match rest.strip_prefix('"') {
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let (part, after) = rest.split_at(end);
                if part.is_empty() || part.contains('"') {
                    return None;
                }
                out.push(part.to_owned());
                after
            }
            Some(quoted) => {
                let mut part = String::new();
                let mut chars = quoted.char_indices().peekable();
                let end = loop {
                    match chars.next()? {
                        (_, '"') if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                            part.push('"');
                            chars.next();
                        }
                        (at, '"') => break at + 1,
                        (_, c) => part.push(c),
                    }
                };
                out.push(part);
                quoted.get(end..)?
            }
        };
        match after.strip_prefix('.') {
            Some(more) => rest = more,
            None if after.is_empty() => return Some(out),
            None => return None,
        }
    }
}

/// A relation's name.
pub fn relation(catalog: &str, of: &Identifier) -> RelationName {
    RelationName::new(catalog, schema(&of.namespace), &*of.name)
}

/// A table's or view's name for a person.
pub fn text(of: &Identifier) -> String {
    format!("{}.{}", schema(&of.namespace), of.name)
}

/// The catalog's name for a relation; `None` if no catalog can have it.
pub fn identifier(of: &RelationName) -> Option<Identifier> {
    Some(Identifier {
        namespace: parts(&of.schema)?,
        name: of.name.clone(),
    })
}

/// Whether unship set aside what lies in a namespace.
pub fn is_own(namespace: &[String]) -> bool {
    let last = namespace.last().and_then(|part| part.strip_prefix(OWN));
    last.and_then(|rest| rest.split_once('_'))
        .is_some_and(|(number, of)| {
            !of.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        })
}

/// Where a table is set aside that was part of a release, and where one is made that shall become
/// part of it: beside its own namespace.
pub fn aside(release: ReleaseId, of: &Identifier) -> Identifier {
    Identifier {
        namespace: beside(release, &of.namespace),
        name: of.name.clone(),
    }
}

/// What the last part of a namespace is preceded by in a release's own namespaces.
pub fn prefix(release: ReleaseId) -> String {
    format!("{OWN}{}_", release.0)
}

/// A release's own namespace beside this one.
pub fn beside(release: ReleaseId, namespace: &[String]) -> Vec<String> {
    let mut own = namespace.to_vec();
    let last = own.pop().unwrap_or_default();
    own.push(format!("{}{last}", prefix(release)));
    own
}

/// The branch on which a release is built. No tag has such a name.
pub fn branch(release: ReleaseId) -> String {
    format!("{}build", prefix(release))
}

/// Whether a branch has a name as unship gives it to those that jobs build on.
pub fn is_branch(name: &str) -> bool {
    let number = name
        .strip_prefix(OWN)
        .and_then(|n| n.strip_suffix("_build"));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The tag of what a table was in a release: the first name that is free.
pub fn tag(release: ReleaseId, taken: impl Fn(&str) -> bool) -> String {
    let first = format!("{OWN}{}", release.0);
    let others = (2_u64..).map(|n| format!("{first}_{n}"));
    let mut names = std::iter::once(first.clone()).chain(others);
    names.find(|name| !taken(name)).unwrap_or(first)
}

/// Whether a branch or tag has a name as unship gives it.
pub fn is_tag(name: &str) -> bool {
    let rest = name.strip_prefix(OWN);
    rest.is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_set_aside_is_told_by_its_name() {
        let orders = Identifier {
            namespace: vec!["sales".to_owned(), "eu".to_owned()],
            name: "orders".to_owned(),
        };
        let set = aside(ReleaseId(12), &orders);
        assert_eq!(set.namespace, ["sales", "unship_r12_eu"]);
        assert!(is_own(&set.namespace));
        for other in [
            "eu",
            "unship_r_eu",
            "unship_rx_eu",
            "unship_r12_",
            "unship_r12",
        ] {
            assert!(!is_own(&[other.to_owned()]), "{other}");
        }
    }

    #[test]
    fn a_tag_takes_the_first_name_that_is_free() {
        assert_eq!(tag(ReleaseId(3), |_| false), "unship_r3");
        assert_eq!(tag(ReleaseId(3), |name| name == "unship_r3"), "unship_r3_2");
        assert!(is_tag("unship_r3") && is_tag("unship_r3_2"));
        assert!(!is_tag("unship_rx") && !is_tag("main") && !is_tag("unship_r"));
    }

    #[test]
    fn a_branch_is_no_tag() {
        let name = branch(ReleaseId(12));
        assert_eq!(name, "unship_r12_build");
        assert!(is_branch(&name) && !is_tag(&name));
        for other in ["unship_r12", "unship_r12_2", "unship_r_build", "main"] {
            assert!(!is_branch(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_namespace_comes_back(all in proptest::collection::vec("[a.\"é]{0,4}", 1..4)) {
            prop_assert_eq!(parts(&schema(&all)), Some(all));
        }

        #[test]
        fn any_schema_is_read_or_refused(text in "[a.\"]{0,8}") {
            if let Some(all) = parts(&text) {
                prop_assert_eq!(parts(&schema(&all)), Some(all));
            }
        }
    }
}
