//! Namespaces, tables and views.

use super::encode::segment;
use super::send::Answer;
use super::{
    Client, Commit, Endpoint, Identifier, Identifiers, LOOK, LoadTable, LoadView, Namespaces,
    RestError, pages,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use ureq::http::Method;

/// Which snapshots of a table are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshots {
    /// Those that a branch or tag names.
    Refs,
    /// All that are kept.
    All,
}

/// What a view is to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewContent {
    /// Its columns.
    pub schema: Value,
    /// Its version, without a number.
    pub version: Value,
    /// Its properties.
    pub properties: super::Properties,
}

/// `POST …/transactions/commit`.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Transaction<'a> {
    table_changes: &'a [Commit],
}

impl Client {
    /// Every namespace, below these or below the root.
    pub fn namespaces(&self, parent: Option<&[String]>) -> Result<Vec<Vec<String>>, RestError> {
        pages(|token| {
            let mut query = vec!["pageSize=1000".to_owned()];
            query.extend(parent.map(|parts| {
                let parent = segment(&parts.join(&self.separator));
                format!("parent={parent}")
            }));
            // An empty token asks for pages at all.
            query.push(format!("pageToken={}", segment(token.unwrap_or_default())));
            let path = format!("{}/namespaces?{}", self.prefix, query.join("&"));
            let page: Namespaces = self.json(Method::GET, &path, None::<&()>, LOOK)?;
            Ok((page.namespaces, page.next_page_token))
        })
    }

    /// The namespaces right below these; none where the catalog has no levels, or somebody dropped
    /// this one just now.
    pub fn below(&self, parent: &[String]) -> Result<Vec<Vec<String>>, RestError> {
        match self.namespaces(Some(parent)) {
            Err(RestError::Missing(_) | RestError::Refused { .. }) => Ok(Vec::new()),
            other => other,
        }
    }

    /// Whether a namespace is there.
    pub fn has_namespace(&self, parts: &[String]) -> Result<bool, RestError> {
        match self.send(
            Method::GET,
            &self.in_namespace(parts),
            None::<&()>,
            LOOK,
            None,
        ) {
            Ok(_) => Ok(true),
            Err(RestError::Missing(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a namespace. That it is there is no error.
    pub fn create_namespace(&self, parts: &[String]) -> Result<(), RestError> {
        let path = format!("{}/namespaces", self.prefix);
        let body = json!({ "namespace": parts, "properties": {} });
        match self.send(Method::POST, &path, Some(&body), LOOK, None) {
            Ok(_) | Err(RestError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Drops a namespace, which the catalog does only with an empty one. That it is not there is no
    /// error.
    pub fn drop_namespace(&self, parts: &[String]) -> Result<(), RestError> {
        let path = self.in_namespace(parts);
        match self.send(Method::DELETE, &path, None::<&()>, LOOK, None) {
            Ok(_) | Err(RestError::Missing(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn list(&self, namespace: &[String], what: &str) -> Result<Vec<Identifier>, RestError> {
        pages(|token| {
            let path = format!(
                "{}/{what}?pageSize=1000&pageToken={}",
                self.in_namespace(namespace),
                segment(token.unwrap_or_default())
            );
            let page: Identifiers = self.json(Method::GET, &path, None::<&()>, LOOK)?;
            Ok((page.identifiers, page.next_page_token))
        })
    }

    /// The tables of a namespace; none of one that is not there.
    pub fn tables(&self, namespace: &[String]) -> Result<Vec<Identifier>, RestError> {
        none_if_missing(self.list(namespace, "tables")).map(Option::unwrap_or_default)
    }

    /// The views of a namespace; none where the catalog has no views.
    pub fn views(&self, namespace: &[String]) -> Result<Vec<Identifier>, RestError> {
        if !self.offers(Endpoint::Views) {
            return Ok(Vec::new());
        }
        none_if_missing(self.list(namespace, "views")).map(Option::unwrap_or_default)
    }

    fn table_path(&self, of: &Identifier) -> String {
        format!(
            "{}/tables/{}",
            self.in_namespace(&of.namespace),
            segment(&of.name)
        )
    }

    fn view_path(&self, of: &Identifier) -> String {
        format!(
            "{}/views/{}",
            self.in_namespace(&of.namespace),
            segment(&of.name)
        )
    }

    /// A table, if it is there. What was read before, without its history, is read again only where
    /// the catalog says that it changed since.
    pub fn table(
        &self,
        of: &Identifier,
        snapshots: Snapshots,
    ) -> Result<Option<Arc<LoadTable>>, RestError> {
        let path = self.table_path(of);
        none_if_missing(match snapshots {
            Snapshots::Refs => self.fresh(&format!("{path}?snapshots=refs")),
            // A long history is not worth its room.
            Snapshots::All => self.whole(&path),
        })
    }

    /// A view, if it is there.
    pub fn view(&self, of: &Identifier) -> Result<Option<LoadView>, RestError> {
        none_if_missing(self.json(Method::GET, &self.view_path(of), None::<&()>, LOOK))
    }

    /// Changes one table.
    pub fn commit(&self, commit: &Commit, key: &str) -> Result<(), RestError> {
        let path = self.table_path(&commit.identifier);
        self.send(Method::POST, &path, Some(commit), Some(key), None)
            .map(drop)
    }

    /// Changes several tables, all or none of them.
    pub fn commit_all(&self, commits: &[Commit], key: &str) -> Result<(), RestError> {
        let path = format!("{}/transactions/commit", self.prefix);
        let body = Transaction {
            table_changes: commits,
        };
        self.send(Method::POST, &path, Some(&body), Some(key), None)
            .map(drop)
    }

    /// Gives a table another name.
    pub fn rename(&self, from: &Identifier, to: &Identifier, key: &str) -> Result<(), RestError> {
        let path = format!("{}/tables/rename", self.prefix);
        let body = json!({ "source": from, "destination": to });
        self.send(Method::POST, &path, Some(&body), Some(key), None)
            .map(drop)
    }

    /// Makes a table of a metadata file that is there.
    pub fn register(&self, name: &Identifier, metadata: &str, key: &str) -> Result<(), RestError> {
        let path = format!("{}/register", self.in_namespace(&name.namespace));
        let body = json!({ "name": name.name, "metadata-location": metadata });
        self.send(Method::POST, &path, Some(&body), Some(key), None)
            .map(drop)
    }

    /// Takes a table out of the catalog and leaves its files where they are.
    pub fn unregister(&self, name: &Identifier, key: &str) -> Result<(), RestError> {
        let path = format!("{}?purgeRequested=false", self.table_path(name));
        self.send(Method::DELETE, &path, None::<&()>, Some(key), None)
            .map(drop)
    }

    /// Makes a view.
    pub fn create_view(
        &self,
        name: &Identifier,
        content: &ViewContent,
        key: &str,
    ) -> Result<(), RestError> {
        let path = format!("{}/views", self.in_namespace(&name.namespace));
        let body = json!({
            "name": name.name,
            "schema": content.schema,
            "view-version": content.version,
            "properties": content.properties,
        });
        self.send(Method::POST, &path, Some(&body), Some(key), None)
            .map(drop)
    }

    /// Changes a view.
    pub fn commit_view(&self, commit: &Commit, key: &str) -> Result<(), RestError> {
        let path = self.view_path(&commit.identifier);
        self.send(Method::POST, &path, Some(commit), Some(key), None)
            .map(drop)
    }

    /// Drops a view.
    pub fn drop_view(&self, name: &Identifier, key: &str) -> Result<(), RestError> {
        let gone: Result<Answer, _> = self.send(
            Method::DELETE,
            &self.view_path(name),
            None::<&()>,
            Some(key),
            None,
        );
        gone.map(drop)
    }
}

fn none_if_missing<T>(got: Result<T, RestError>) -> Result<Option<T>, RestError> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(RestError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
