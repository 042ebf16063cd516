//! The templates that dbt allows in `profiles.yml` and `dbt_project.yml`.

use minijinja::{
    Environment, Error, ErrorKind, State, UndefinedBehavior, Value as Jinja,
    value::{Rest, Serde},
};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How many variables may stand for one another.
const DEEPEST_VARIABLE: usize = 8;
/// How many instructions one template may take: far more than any setting needs, and an end to a
/// loop in a loop.
const MOST_INSTRUCTIONS: u64 = 100_000;

/// Why a template has no value. No variant holds a value: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// As in dbt, a variable without a default must be there.
    #[error(
        "the environment variable {name} is not set, and the template gives no default; set it"
    )]
    EnvVarMissing {
        /// The variable.
        name: String,
    },
    /// As in dbt, a variable without a default must be given.
    #[error("the dbt variable `{name}` is not given, and the template has no default; pass --vars")]
    VarMissing {
        /// The variable.
        name: String,
    },
    /// `as_number` or `as_bool` of something else.
    #[error("the value is not a {kind}, as the template says it is")]
    WrongKind {
        /// What it should have been.
        kind: &'static str,
    },
    /// Anything else, in the template engine's words.
    #[error(
        "unship cannot evaluate the template ({problem}); `dbt debug` shows what dbt makes of it"
    )]
    Template {
        /// What the engine says.
        problem: String,
    },
}

/// Evaluates templates as dbt does with its "native" renderer: a template that is nothing but one
/// expression keeps that expression's type, any other is text.
pub(super) struct Renderer {
    native: Environment<'static>,
    text: Environment<'static>,
}

impl Renderer {
    /// `target` is what templates in `dbt_project.yml` see; a profile's templates see none.
    pub(super) fn new(
        env: &BTreeMap<String, String>,
        vars: &Map<String, Value>,
        target: Option<&Value>,
    ) -> Self {
        let env = Arc::new(env.clone());
        let vars = Arc::new(vars.clone());
        let make = |native: bool| {
            let mut jinja = Environment::new();
            jinja.set_undefined_behavior(UndefinedBehavior::Strict);
            jinja.set_fuel(Some(MOST_INSTRUCTIONS));
            jinja.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
            let env = Arc::clone(&env);
            jinja.add_function("env_var", move |name: String, default: Rest<Jinja>| match (
                env.get(&name),
                default.first(),
            ) {
                (Some(value), _) => Ok(Jinja::from(value)),
                (None, Some(default)) if !default.is_none() => Ok(default.clone()),
                _ => Err(failed(RenderError::EnvVarMissing { name })),
            });
            let vars = Arc::clone(&vars);
            let depth = AtomicUsize::new(0);
            let var = move |state: &mut State, name: String, default: Rest<Jinja>| {
                match (vars.get(&name), default.first()) {
                    // A variable may be a template; two may refer to each other for ever.
                    (Some(Value::String(text)), _) if has_template(text) => {
                        let rendered = match depth.fetch_add(1, Ordering::Relaxed) {
                            DEEPEST_VARIABLE.. => Err(failed(RenderError::Template {
                                problem: format!("the variable `{name}` refers to itself"),
                            })),
                            _ => state.env().render_str(text, ()),
                        };
                        depth.fetch_sub(1, Ordering::Relaxed);
                        rendered.map(Jinja::from)
                    }
                    (Some(value), _) => Ok(Jinja::from(Serde(value))),
                    (None, Some(default)) => Ok(default.clone()),
                    (None, None) => Err(failed(RenderError::VarMissing { name })),
                }
            };
            jinja.add_function("var", var);
            for (filter, kind) in [
                ("as_text", None),
                ("as_native", Some(Kind::Any)),
                ("as_number", Some(Kind::Number)),
                ("as_bool", Some(Kind::Bool)),
            ] {
                let kind = kind.filter(|_| native);
                jinja.add_filter(filter, move |value: Jinja| match kind {
                    Some(kind) => convert(&value, kind).map_err(failed),
                    None => Ok(value),
                });
            }
            if let Some(target) = target {
                jinja.add_global("target", Jinja::from(Serde(target)));
            }
            jinja
        };
        Self {
            native: make(true),
            text: make(false),
        }
    }

    /// The text's value; text without a template is its own.
    pub(super) fn render(&self, text: &str) -> Result<Value, RenderError> {
        if !has_template(text) {
            return Ok(Value::String(text.to_owned()));
        }
        let only = text
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"))
            .map(|inner| {
                inner
                    .trim_start_matches(['-', '+'])
                    .trim_end_matches(['-', '+'])
            })
            .and_then(|inner| self.native.compile_expression(inner).ok());
        let Some(expression) = only else {
            let rendered = self.text.render_str(text, ()).map_err(told)?;
            return Ok(Value::String(rendered));
        };
        let value = expression.eval(()).map_err(told)?;
        if value.is_undefined() {
            return Err(RenderError::Template {
                problem: "it names something that is not defined here".to_owned(),
            });
        }
        serde_json::to_value(&value).map_err(|error| RenderError::Template {
            problem: error.to_string(),
        })
    }

    /// Renders every text within a value.
    pub(super) fn render_all(&self, value: &Value) -> Result<Value, RenderError> {
        Ok(match value {
            Value::String(text) => self.render(text)?,
            Value::Array(many) => Value::Array(
                many.iter()
                    .map(|one| self.render_all(one))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, one)| Ok((key.clone(), self.render_all(one)?)))
                    .collect::<Result<_, RenderError>>()?,
            ),
            plain => plain.clone(),
        })
    }
}

/// Whether dbt would take the text for a template.
pub(super) fn has_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|open| text.contains(open))
}

fn failed(error: RenderError) -> Error {
    Error::new(ErrorKind::InvalidOperation, error.to_string()).with_source(error)
}

/// Our own errors come back as they were; the engine's are told by kind only, because its details
/// may quote values.
fn told(error: Error) -> RenderError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(ours) = current.downcast_ref::<RenderError>() {
            return ours.clone();
        }
        cause = current.source();
    }
    RenderError::Template {
        problem: error.kind().to_string(),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Any,
    Number,
    Bool,
}

/// What `ast.literal_eval` makes of the value, for what occurs in profiles.
fn convert(value: &Jinja, kind: Kind) -> Result<Jinja, RenderError> {
    let literal = value
        .as_str()
        .and_then(literal)
        .unwrap_or_else(|| value.clone());
    let is_bool = literal.kind() == minijinja::value::ValueKind::Bool;
    match kind {
        Kind::Number if !literal.is_number() => Err(RenderError::WrongKind { kind: "number" }),
        Kind::Bool if !is_bool => Err(RenderError::WrongKind {
            kind: "boolean (True or False)",
        }),
        _ => Ok(literal),
    }
}

fn literal(text: &str) -> Option<Jinja> {
    let text = text.trim();
    let number = || {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return None;
        }
        // Python reads no number that starts with a zero, except zero.
        let padded = digits.len() > 1 && digits.starts_with('0');
        match text.parse::<i64>() {
            Ok(number) if !padded => Some(Jinja::from(number)),
            Ok(_) => None,
            Err(_) => text.parse::<f64>().ok().map(Jinja::from),
        }
    };
    match text {
        "True" => Some(Jinja::from(true)),
        "False" => Some(Jinja::from(false)),
        "None" => Some(Jinja::from(())),
        _ if text.starts_with(['[', '{', '(', '\'', '"']) => Environment::empty()
            .compile_expression(text)
            .and_then(|expression| expression.eval(()))
            .ok()
            .filter(|value| !value.is_undefined()),
        _ => number(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn renderer() -> Renderer {
        let env = [
            ("PORT", "5432"),
            ("ON", "True"),
            ("USER", "a.b"),
            ("ZIP", "007"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let vars =
            json!({"n": 3, "nested": "{{ env_var('PORT') }}!", "circle": "{{ var('circle') }}"});
        let target = json!({"name": "dev"});
        Renderer::new(&env.into(), vars.as_object().unwrap(), Some(&target))
    }

    #[test]
    fn templates_have_the_values_they_have_in_dbt() {
        for (text, value) in [
            ("plain", json!("plain")),
            ("5432", json!("5432")),
            ("{{ env_var('PORT') }}", json!("5432")),
            ("{{ env_var('PORT') | as_number }}", json!(5432)),
            ("{{ env_var('PORT') | int }}", json!(5432)),
            ("{{- env_var('ON') | as_bool -}}", json!(true)),
            ("{{ env_var('PORT') | as_native }}", json!(5432)),
            ("{{ env_var('ZIP') | as_native }}", json!("007")),
            (
                "{{ '[1, {\"a\": None}]' | as_native }}",
                json!([1, {"a": null}]),
            ),
            ("{{ env_var('PORT') | as_text }}", json!("5432")),
            ("{{ env_var('NOPE', 'd') }}/x", json!("d/x")),
            ("{{ env_var('NOPE', '') }}", json!("")),
            ("{{ env_var('ZIP') | as_number }}x", json!("007x")),
            (
                "dbt_{{ env_var('USER').replace('.', '_') | upper }}",
                json!("dbt_A_B"),
            ),
            ("{{ var('n') }}", json!(3)),
            ("{{ var('m', 'x') }}", json!("x")),
            ("{{ var('nested') }}", json!("5432!")),
            (
                "{% if target.name == 'dev' %}d{% else %}p{% endif %}",
                json!("d"),
            ),
            ("{{ 'a' }}{{ 'b' }}", json!("ab")),
        ] {
            assert_eq!(renderer().render(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn a_loop_in_a_loop_comes_to_an_end() {
        let body = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
        let error = renderer().render(body).unwrap_err();
        assert!(matches!(error, RenderError::Template { .. }), "{error}");
    }

    #[test]
    fn what_has_no_value_is_told_without_values() {
        let render = |text: &str| renderer().render(text).unwrap_err();
        let env = RenderError::EnvVarMissing {
            name: "NOPE".into(),
        };
        assert_eq!(render("{{ env_var('NOPE') }}"), env);
        assert_eq!(render("x{{ env_var('NOPE', none) }}"), env);
        assert_eq!(
            render("{{ var('q') }}"),
            RenderError::VarMissing { name: "q".into() }
        );
        assert!(matches!(
            render("{{ env_var('USER') | as_number }}"),
            RenderError::WrongKind { .. }
        ));
        assert!(matches!(
            render("{{ 'true' | as_bool }}"),
            RenderError::WrongKind { .. }
        ));
        for broken in [
            "{{ var('circle') }}",
            "{{ nowhere }}",
            "{{ x.y }}",
            "{{ 'a",
            "{% if %}",
            "{{ env_var() }}",
        ] {
            assert!(
                matches!(render(broken), RenderError::Template { .. }),
                "{broken}"
            );
        }
        assert!(
            !render("{{ env_var('USER') + 1 }}")
                .to_string()
                .contains("a.b")
        );
    }

    proptest! {
        #[test]
        fn arbitrary_templates_never_panic(
            text in ".*", inner in r"[a-z0-9_'()|.+*%{}\[\] -]{0,40}",
        ) {
            let _ = renderer().render(&text);
            let _ = renderer().render(&format!("{{{{{inner}}}}}"));
        }
    }
}
