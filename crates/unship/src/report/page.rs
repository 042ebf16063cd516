//! A report as Markdown, and as one page that needs nothing else.

use super::Report;
use crate::error::{CliError, CliResult};
use crate::render::text;
use jiff::{SignedDuration, Timestamp};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment};
use serde_json::{Value as Json, json};
use unship_core::check::Finding;
use unship_core::diff::{Cells, Change};
use unship_core::value::Value;

const MARKDOWN: &str = include_str!("templates/report.md");
const PAGE: &str = include_str!("templates/report.html");

/// The report as Markdown.
pub fn markdown(report: &Report) -> CliResult<String> {
    render("report.md", MARKDOWN, report)
}

/// The report as a page: no script, nothing loaded from elsewhere.
pub fn html(report: &Report) -> CliResult<String> {
    render("report.html", PAGE, report)
}

fn render(name: &str, template: &str, report: &Report) -> CliResult<String> {
    let broken =
        |e: minijinja::Error| CliError::failed(format!("the report cannot be written: {e}"));
    let mut data = serde_json::to_value(report).map_err(|e| CliError::failed(e.to_string()))?;
    data["rows"] = rows(report).into();
    data["failed"] = failed(report).into();
    data["state"] = report.incident.state().into();
    data["opened_because"] = report.incident.opening.cause.words().into();
    tame(&mut data);
    let mut env = Environment::new();
    env.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    env.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(broken)?,
    );
    env.add_filter("md", |text: String| md(&text));
    env.add_filter("code", |text: String| code(&text));
    env.add_filter("fence", |text: String, language: String| {
        fence(&text, &language)
    });
    env.add_filter("lines", |text: String| {
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    env.add_filter("at", |text: String| moment(&text));
    env.add_filter("took", |ms: Option<u64>| ms.map_or_else(String::new, span));
    env.add_filter("number", |n: Option<u64>| {
        n.map_or_else(|| "–".to_owned(), text::number)
    });
    env.add_template(name, template).map_err(broken)?;
    let template = env.get_template(name).map_err(broken)?;
    template
        .render(minijinja::value::Serde(&data))
        .map_err(broken)
}

/// Takes from every text what would let it pass for something else: control characters, and those
/// that turn the direction of what follows. Line feeds stay, for code.
fn tame(value: &mut Json) {
    match value {
        Json::String(text) => {
            let bad = |c: char| {
                (c.is_control() && c != '\n')
                    || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            if text.contains(bad) {
                *text = text.replace('\t', "    ").replace(bad, "\u{fffd}");
            }
        }
        Json::Array(items) => items.iter_mut().for_each(tame),
        Json::Object(map) => map.values_mut().for_each(tame),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// Text that means nothing in Markdown, in one line.
fn md(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(' '),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    // An address in plain text becomes a link by itself in many readers.
    out.replace("://", ":&#47;/").replace("www.", "www&#46;")
}

/// Text as a code span, in one line and in a table: with more ticks around it than it has itself.
fn code(text: &str) -> String {
    let text = text.replace('\n', " ").replace('|', "\\|");
    let ticks = "`".repeat(longest_run(&text) + 1);
    let blank = match text.starts_with('`') || text.ends_with('`') || text.trim().is_empty() {
        true => " ",
        false => "",
    };
    format!("{ticks}{blank}{text}{blank}{ticks}")
}

fn fence(text: &str, language: &str) -> String {
    let ticks = "`".repeat((longest_run(text) + 1).max(3));
    format!(
        "{ticks}{language}\n{}\n{ticks}",
        text.trim_end_matches('\n')
    )
}

fn longest_run(text: &str) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// A moment that readers in several time zones agree on.
fn moment(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => text.to_owned(),
    }
}

fn span(ms: u64) -> String {
    text::span(SignedDuration::from_millis(
        i64::try_from(ms).unwrap_or(i64::MAX),
    ))
}

/// Rows before and after, a line each.
fn rows(report: &Report) -> Vec<Json> {
    let diff = report.comparison.as_ref().and_then(|c| c.rows.as_ref());
    let line = |cells: &Cells| {
        let one = |(name, value): &(String, Value)| format!("{name}={value}");
        cells.iter().map(one).collect::<Vec<_>>().join("  ")
    };
    diff.map_or(&[][..], |d| &d.examples)
        .iter()
        .map(|example| {
            let (change, text) = match example.change {
                Change::Added => ("only in the bad one", line(&example.new)),
                Change::Removed => ("only in the good one", line(&example.old)),
                Change::Changed => {
                    let changed = example.old.iter().filter_map(|(name, old)| {
                        let (_, new) = example.new.iter().find(|(n, _)| n == name)?;
                        (old != new).then(|| format!("{name}: {old} → {new}"))
                    });
                    let changed: Vec<_> = changed.collect();
                    (
                        "changed",
                        format!("{}  {}", line(&example.key), changed.join(", ")),
                    )
                }
            };
            json!({"change": change, "text": text})
        })
        .collect()
}

/// The checks that failed, as they are read.
fn failed(report: &Report) -> Vec<Json> {
    let place = |f: &Finding| {
        let relation = f
            .relation
            .as_ref()
            .map(|r| format!("{}.{}", r.schema, r.name));
        match (relation, &f.column) {
            (Some(relation), Some(column)) => format!("{relation}.{column}"),
            (relation, column) => relation.or_else(|| column.clone()).unwrap_or_default(),
        }
    };
    report
        .findings
        .iter()
        .map(|f| {
            json!({
                "severity": f.severity, "place": place(f), "check": f.check,
                "observed": f.observed, "expected": f.expected,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
