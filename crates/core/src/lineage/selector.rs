//! dbt's selection language, read into a tree.
//!
//! It follows dbt 1.11. Where dbt would quietly select nothing (an empty part, an unknown sort of
//! test) this reader refuses: a scope that is smaller than its author meant must not be rolled
//! back as if it were whole.

use crate::pipeline::dbt::manifest::ResourceType;
use std::fmt;
use winnow::{
    Parser,
    ascii::{digit0, multispace0},
    combinator::{opt, peek, preceded, repeat, separated, terminated},
    stream::LocatingSlice,
    token::{any, rest, take_while},
};

/// Which nodes: everything that `select` names (everything there is, if it names nothing), less
/// what `exclude` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    pub(super) select: Vec<Intersection>,
    pub(super) exclude: Vec<Intersection>,
}

/// Criteria that must all hold: `tag:daily,path:models/marts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intersection(pub(super) Vec<Criterion>);

/// One part of a selection, such as `2+tag:daily`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Criterion {
    pub(super) method: Method,
    pub(super) value: String,
    pub(super) childrens_parents: bool,
    pub(super) parents: Option<Depth>,
    pub(super) children: Option<Depth>,
}

/// How far to follow the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    All,
    Levels(u64),
}

impl Depth {
    pub(super) fn levels(self) -> Option<u64> {
        match self {
            Self::All => None,
            Self::Levels(levels) => Some(levels),
        }
    }
}

/// What a value is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Method {
    Fqn,
    Tag,
    Group,
    Access,
    Source,
    Path,
    File,
    Package,
    Config(Vec<String>),
    TestName,
    TestType,
    ResourceType,
    Exposure,
    Metric,
    SemanticModel,
    SavedQuery,
    UnitTest,
    Version,
}

const PLAIN_METHODS: [(Method, &str); 17] = [
    (Method::Fqn, "fqn"),
    (Method::Tag, "tag"),
    (Method::Group, "group"),
    (Method::Access, "access"),
    (Method::Source, "source"),
    (Method::Path, "path"),
    (Method::File, "file"),
    (Method::Package, "package"),
    (Method::TestName, "test_name"),
    (Method::TestType, "test_type"),
    (Method::ResourceType, "resource_type"),
    (Method::Exposure, "exposure"),
    (Method::Metric, "metric"),
    (Method::SemanticModel, "semantic_model"),
    (Method::SavedQuery, "saved_query"),
    (Method::UnitTest, "unit_test"),
    (Method::Version, "version"),
];

/// Methods that compare with an earlier run. A rollback names its release instead.
const STATEFUL_METHODS: [&str; 3] = ["state", "result", "source_status"];

/// Text that is not a selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("in the selection `{text}`, at character {position}: {problem}")]
pub struct SelectorError {
    /// The argument that was read.
    pub text: String,
    /// Where the trouble starts, counted in characters from 1.
    pub position: usize,
    /// What the trouble is, and what to do.
    pub problem: Problem,
}

/// What can be wrong with a selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A comma with nothing on one side.
    #[error("there is nothing between the commas; name a model, or take the comma away")]
    EmptyPart,
    /// Operators or a method without a value.
    #[error("there is nothing to select; name a model, as in `+orders`")]
    NoValue,
    /// A method that dbt does not have.
    #[error("`{method}` is not a way to select{}", hint(.closest))]
    UnknownMethod {
        /// What was written.
        method: String,
        /// The method that is spelled most like it.
        closest: Option<String>,
    },
    /// A method that compares with an earlier run.
    #[error(
        "`{method}:` compares with another run's artefacts, which a release does not need: \
         say `--to` with a release, and select by name, tag or path"
    )]
    Stateful {
        /// What was written.
        method: String,
    },
    /// `@model+`.
    #[error("`@` already takes the children along; leave out either the `@` or the `+` at the end")]
    AtWithChildren,
    /// `config:x`.
    #[error("`config` needs a key, as in `config.materialized:incremental`")]
    ConfigWithoutKey,
    /// A value that its method can never match.
    #[error("`{value}` is not a {what}; {expected}{}", hint(.closest))]
    BadValue {
        /// What was written.
        value: String,
        /// What it should have been.
        what: &'static str,
        /// How that is written.
        expected: String,
        /// The valid value that is spelled most like it.
        closest: Option<String>,
    },
    /// Graph operators or methods where there is no manifest to look in.
    #[error(
        "`{part}` needs dbt's manifest, and there is none for this project; \
         name relations, as in `marts.fct_*`"
    )]
    NeedsManifest {
        /// What was written.
        part: String,
    },
}

fn hint(closest: &Option<String>) -> String {
    match closest {
        Some(name) => format!("; did you mean `{name}`?"),
        None => String::new(),
    }
}

/// The candidate that is spelled most like `text`, if any is close enough to be a slip.
pub(super) fn closest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let most = (text.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

impl Selector {
    /// Reads what stands after `--select` and `--exclude`. Each text may hold several selections
    /// separated by spaces, as on dbt's command line.
    ///
    /// # Errors
    /// When a text is not a selection; the error says where and what would be one.
    pub fn parse<S: AsRef<str>>(select: &[S], exclude: &[S]) -> Result<Self, SelectorError> {
        let union = |texts: &[S]| -> Result<Vec<Intersection>, SelectorError> {
            let mut all = Vec::new();
            for text in texts {
                all.extend(parse_union(text.as_ref())?);
            }
            Ok(all)
        };
        Ok(Self {
            select: union(select)?,
            exclude: union(exclude)?,
        })
    }
}

type Input<'a> = LocatingSlice<&'a str>;
type Spanned<'a> = (&'a str, std::ops::Range<usize>);

fn parse_union(text: &str) -> Result<Vec<Intersection>, SelectorError> {
    let error = |at: usize, problem| SelectorError {
        text: text.to_owned(),
        position: text.get(..at).map_or(0, |before| before.chars().count()) + 1,
        problem,
    };
    let intersections = union
        .parse(LocatingSlice::new(text))
        .map_err(|stopped| error(stopped.offset(), Problem::NoValue))?;
    intersections
        .into_iter()
        .map(|parts| {
            let criteria = parts.into_iter().map(|(part, span)| {
                if part.is_empty() {
                    return Err(error(span.start, Problem::EmptyPart));
                }
                criterion(part).map_err(|(at, problem)| error(span.start + at, problem))
            });
            criteria.collect::<Result<_, _>>().map(Intersection)
        })
        .collect()
}

fn union<'a>(input: &mut Input<'a>) -> winnow::Result<Vec<Vec<Spanned<'a>>>> {
    preceded(multispace0, repeat(0.., word)).parse_next(input)
}

/// One selection of the union. It has at least one character, so that the repetition ends.
fn word<'a>(input: &mut Input<'a>) -> winnow::Result<Vec<Spanned<'a>>> {
    peek(any).void().parse_next(input)?;
    terminated(separated(1.., part, ','), multispace0).parse_next(input)
}

fn part<'a>(input: &mut Input<'a>) -> winnow::Result<Spanned<'a>> {
    take_while(0.., |c: char| !matches!(c, ',' | ' ' | '\t' | '\r' | '\n'))
        .with_span()
        .parse_next(input)
}

/// A part taken to pieces.
struct Pieces<'a> {
    at: bool,
    parents: Option<&'a str>,
    method: Option<Spanned<'a>>,
    body: Spanned<'a>,
}

fn pieces<'a>(input: &mut Input<'a>) -> winnow::Result<Pieces<'a>> {
    let method = take_while(1.., |c: char| c.is_alphanumeric() || c == '_' || c == '.');
    (
        opt('@').map(|at| at.is_some()),
        opt(terminated(digit0, '+')),
        opt(terminated(method.with_span(), ':')),
        rest.with_span(),
    )
        .map(|(at, parents, method, body)| Pieces {
            at,
            parents,
            method,
            body,
        })
        .parse_next(input)
}

/// Reads one part without spaces or commas; errors carry a byte offset into it.
fn criterion(part: &str) -> Result<Criterion, (usize, Problem)> {
    let Pieces {
        at,
        parents,
        method,
        body: (body, span),
    } = pieces
        .parse(LocatingSlice::new(part))
        .map_err(|stopped| (stopped.offset(), Problem::NoValue))?;
    let (value, children) = match body.rsplit_once('+') {
        Some((value, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            (value, Some(depth(digits)))
        }
        _ => (body, None),
    };
    if value.is_empty() {
        return Err((span.start, Problem::NoValue));
    }
    if at && children.is_some() {
        return Err((span.start + value.len(), Problem::AtWithChildren));
    }
    let method = match method {
        Some((name, at)) => named_method(name).map_err(|problem| (at.start, problem))?,
        None => implied_method(value),
    };
    check_value(&method, value).map_err(|problem| (span.start, problem))?;
    Ok(Criterion {
        method,
        value: value.to_owned(),
        childrens_parents: at,
        parents: parents.map(depth),
        children,
    })
}

/// More levels than any graph has are all levels, so a number too large is no error.
fn depth(digits: &str) -> Depth {
    match digits {
        "" => Depth::All,
        digits => Depth::Levels(digits.parse().unwrap_or(u64::MAX)),
    }
}

fn implied_method(value: &str) -> Method {
    let lower = value.to_lowercase();
    if value.contains('/') {
        Method::Path
    } else if [".sql", ".py", ".csv"]
        .iter()
        .any(|end| lower.ends_with(end))
    {
        Method::File
    } else {
        Method::Fqn
    }
}

fn named_method(name: &str) -> Result<Method, Problem> {
    if let Some((method, _)) = PLAIN_METHODS.iter().find(|(_, word)| *word == name) {
        return Ok(method.clone());
    }
    let first = name.split('.').next().unwrap_or(name);
    if STATEFUL_METHODS.contains(&first) {
        return Err(Problem::Stateful {
            method: first.to_owned(),
        });
    }
    match name.split_once('.') {
        Some(("config", keys)) if keys.split('.').all(|key| !key.is_empty()) => {
            Ok(Method::Config(keys.split('.').map(str::to_owned).collect()))
        }
        _ if first == "config" => Err(Problem::ConfigWithoutKey),
        _ => Err(Problem::UnknownMethod {
            method: name.to_owned(),
            closest: closest(
                name,
                PLAIN_METHODS
                    .iter()
                    .map(|(_, word)| *word)
                    .chain(["config"]),
            ),
        }),
    }
}

fn check_value(method: &Method, value: &str) -> Result<(), Problem> {
    let one_of = |what, words: &[&str]| match words.contains(&value) {
        true => Ok(()),
        false => Err(Problem::BadValue {
            value: value.to_owned(),
            what,
            expected: format!("it is one of {}", words.join(", ")),
            closest: closest(value, words.iter().copied()),
        }),
    };
    let at_most = |parts, what, expected: &str| match value.split('.').count() <= parts {
        true => Ok(()),
        false => Err(Problem::BadValue {
            value: value.to_owned(),
            what,
            expected: expected.to_owned(),
            closest: None,
        }),
    };
    match method {
        Method::ResourceType => one_of("resource type", &ResourceType::words().collect::<Vec<_>>()),
        Method::TestType => one_of(
            "sort of test",
            &["generic", "singular", "data", "unit", "schema"],
        ),
        Method::Version => one_of(
            "version selection",
            &["latest", "prerelease", "old", "none"],
        ),
        Method::Source => at_most(
            3,
            "source",
            "a source is written `source`, `source.table` or `package.source.table`",
        ),
        Method::Exposure
        | Method::Metric
        | Method::SemanticModel
        | Method::SavedQuery
        | Method::UnitTest => at_most(2, "name", "it is written `name` or `package.name`"),
        Method::Path if value.starts_with('/') => Err(Problem::BadValue {
            value: value.to_owned(),
            what: "path within the project",
            expected: "paths start at the project's root, as in `models/marts`".to_owned(),
            closest: None,
        }),
        _ => Ok(()),
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(keys) => write!(f, "config.{}", keys.join(".")),
            plain => PLAIN_METHODS
                .iter()
                .find(|(method, _)| method == plain)
                .map_or(Ok(()), |(_, word)| f.write_str(word)),
        }
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.childrens_parents {
            f.write_str("@")?;
        }
        match self.parents {
            Some(Depth::All) => f.write_str("+")?,
            Some(Depth::Levels(levels)) => write!(f, "{levels}+")?,
            None => {}
        }
        // The short form, where it means the same: `3+` would be a depth.
        let depth = self.children.is_some() && self.value.bytes().all(|b| b.is_ascii_digit());
        let bare = !depth
            && criterion(&self.value).is_ok_and(|read| {
                read.method == self.method && read.value == self.value && !read.has_operators()
            });
        if !bare {
            write!(f, "{}:", self.method)?;
        }
        f.write_str(&self.value)?;
        match self.children {
            Some(Depth::All) => f.write_str("+"),
            Some(Depth::Levels(levels)) => write!(f, "+{levels}"),
            None => Ok(()),
        }
    }
}

impl Criterion {
    pub(super) fn has_operators(&self) -> bool {
        self.childrens_parents || self.parents.is_some() || self.children.is_some()
    }
}

impl fmt::Display for Intersection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, &self.0, ",")
    }
}

impl fmt::Display for Selector {
    /// As one would type it after `--select`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        join(f, &self.select, " ")?;
        if !self.exclude.is_empty() {
            let space = if self.select.is_empty() { "" } else { " " };
            write!(f, "{space}--exclude ")?;
            join(f, &self.exclude, " ")?;
        }
        Ok(())
    }
}

fn join<T: fmt::Display>(f: &mut fmt::Formatter<'_>, parts: &[T], with: &str) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        let before = if i == 0 { "" } else { with };
        write!(f, "{before}{part}")?;
    }
    Ok(())
}

/// Feeds arbitrary bytes to the parser, for fuzzing.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Selector::parse(&[text], &[]).map(|selector| selector.to_string());
    }
}

#[cfg(test)]
mod tests;
