//! What a manifest says that only a redirect needs: code, hooks, and where macros are.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The code of a project. It is read only where it is needed, because it is most of a manifest.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Code {
    /// By `unique_id`.
    #[serde(default)]
    pub nodes: BTreeMap<String, NodeCode>,
    /// By `unique_id`.
    #[serde(default)]
    pub macros: BTreeMap<String, Macro>,
}

/// A node's code.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct NodeCode {
    #[serde(default)]
    raw_code: Option<String>,
    #[serde(default)]
    compiled_code: Option<String>,
    #[serde(default)]
    config: Hooks,
    #[serde(default)]
    columns: BTreeMap<String, Constrained>,
    #[serde(flatten)]
    whole: Constrained,
}

/// A column, or a whole model.
#[derive(Debug, Clone, Default, Deserialize)]
struct Constrained {
    #[serde(default)]
    constraints: Vec<Constraint>,
}

#[derive(Debug, Clone, Deserialize)]
struct Constraint {
    #[serde(default)]
    to: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Hooks {
    #[serde(default, rename = "pre-hook")]
    pre: Value,
    #[serde(default, rename = "post-hook")]
    post: Value,
}

/// Where a macro is.
#[derive(Debug, Clone, Deserialize)]
pub struct Macro {
    /// Its name.
    pub name: String,
    /// The package that has it.
    pub package_name: String,
    /// Its file, from the package's root.
    #[serde(default)]
    pub original_file_path: String,
}

impl Code {
    /// Reads the code of a manifest.
    ///
    /// # Errors
    /// When the bytes are not a manifest.
    pub fn parse(manifest: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(manifest)
    }
}

impl NodeCode {
    /// As the project's author wrote it.
    pub fn raw(&self) -> &str {
        self.raw_code.as_deref().unwrap_or_default()
    }

    /// As it was sent to the server; empty if it was not.
    pub fn compiled(&self) -> &str {
        self.compiled_code.as_deref().unwrap_or_default()
    }

    /// SQL that runs before the node is built.
    pub fn before(&self) -> impl Iterator<Item = &str> {
        texts(&self.config.pre)
    }

    /// Whether a foreign key of it names what it refers to by `ref` or `source`.
    pub fn refers(&self) -> bool {
        let all = self.columns.values().chain([&self.whole]);
        all.flat_map(|one| &one.constraints)
            .any(|constraint| constraint.to.is_some())
    }

    /// SQL that runs before or after the node is built.
    pub fn hooks(&self) -> impl Iterator<Item = &str> {
        self.before().chain(texts(&self.config.post))
    }
}

fn texts(hooks: &Value) -> impl Iterator<Item = &str> {
    let listed = hooks.as_array().into_iter().flatten();
    listed.filter_map(|hook| hook.get("sql").unwrap_or(hook).as_str())
}
