//! What was measured: a table for people, `target/bench.json` for programs.

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::Path;

/// One comparison.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// What was done, and to how much.
    pub name: String,
    /// `ms`, `s`, `bytes` or `requests`.
    pub unit: String,
    /// What unship took.
    pub ours: f64,
    /// What the alternative took.
    pub other: Option<f64>,
    /// The alternative.
    pub other_name: Option<String>,
    /// How many times more the alternative took.
    pub ratio: Option<f64>,
    /// What is aimed at, in words.
    pub goal: Option<String>,
    /// Whether it is reached.
    pub holds: Option<bool>,
}

impl Row {
    /// Something without an alternative.
    pub fn alone(name: impl Into<String>, unit: &str, ours: f64) -> Self {
        Self {
            name: name.into(),
            unit: unit.to_owned(),
            ours,
            other: None,
            other_name: None,
            ratio: None,
            goal: None,
            holds: None,
        }
    }

    /// Beside what the alternative took.
    pub fn beside(mut self, other_name: &str, other: f64) -> Self {
        self.other = Some(other);
        self.other_name = Some(other_name.to_owned());
        self.ratio = (self.ours > 0.0).then(|| other / self.ours);
        self
    }

    /// The alternative must take so many times more.
    pub fn times(mut self, least: f64) -> Self {
        self.goal = Some(format!("at least {least} times"));
        self.holds = self.ratio.map(|ratio| ratio >= least);
        self
    }

    /// It must not take more than so many times what the alternative takes.
    pub fn within(mut self, most: f64) -> Self {
        self.goal = Some(format!("at most {most} times as much"));
        self.holds = self.other.map(|other| self.ours <= other * most);
        self
    }

    /// It must not take more.
    pub fn at_most(mut self, most: f64) -> Self {
        self.goal = Some(format!("at most {most} {}", self.unit));
        self.holds = Some(self.ours <= most);
        self
    }
}

/// Prints the rows of one part, and puts them into the file in the place of older ones.
pub fn publish(file: &Path, rows: &[Row]) -> Result<(), Box<dyn Error>> {
    print(rows);
    let mut all: Vec<Row> = match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    for row in rows {
        match all
            .iter_mut()
            .find(|old| old.name == row.name && old.other_name == row.other_name)
        {
            Some(old) => *old = row.clone(),
            None => all.push(row.clone()),
        }
    }
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(file, serde_json::to_vec_pretty(&all)?)?;
    Ok(())
}

fn print(rows: &[Row]) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["what", "ours", "alternative", "ratio", "aim", "holds"]);
    for row in rows {
        let other = match (row.other, &row.other_name) {
            (Some(other), Some(name)) => format!("{} ({name})", amount(other, &row.unit)),
            _ => String::new(),
        };
        let verdict = match row.holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        table.add_row([
            row.name.clone(),
            amount(row.ours, &row.unit),
            other,
            row.ratio.map(ratio).unwrap_or_default(),
            row.goal.clone().unwrap_or_default(),
            verdict.to_owned(),
        ]);
    }
    anstream::println!("{table}\n");
}

fn ratio(ratio: f64) -> String {
    if ratio < 1.0 {
        // unship takes more.
        format!("1/{:.1}", 1.0 / ratio)
    } else if ratio >= 10.0 {
        format!("{ratio:.0}x")
    } else {
        format!("{ratio:.1}x")
    }
}

fn amount(value: f64, unit: &str) -> String {
    match unit {
        "bytes" if value >= 1e6 => format!("{:.1} MB", value / 1e6),
        "bytes" => format!("{value:.0} bytes"),
        "s" if value >= 10.0 => format!("{value:.1} s"),
        "s" => format!("{value:.3} s"),
        _ if value >= 100.0 => format!("{value:.0} {unit}"),
        _ => format!("{value:.1} {unit}"),
    }
}
