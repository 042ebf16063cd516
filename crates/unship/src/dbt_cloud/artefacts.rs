//! What a run left, put where a local dbt would have left it.

use super::client::{Client, CloudError};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

/// Those of which the newest counts.
const NEWEST: [&str; 3] = ["manifest.json", "sources.json", "catalog.json"];

/// Those that each step has of its own.
const RESULTS: &str = "run_results.json";

/// How much the results of one step may hold, in bytes.
const LARGEST: u64 = 1 << 30;

/// Why they could not be put there.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// They could not be had.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// They could not be written, or broke off.
    #[error("cannot bring {name} into {place}: {source}")]
    Io {
        /// Which.
        name: &'static str,
        /// Where.
        place: String,
        /// Why not.
        source: io::Error,
    },
    /// They are not what they should be.
    #[error("{RESULTS} of step {step} is not JSON: {source}")]
    NotJson {
        /// Whose.
        step: u64,
        /// Why not.
        source: serde_json::Error,
    },
}

/// Fetches what the steps of a run left into a directory. Results are put together over all steps:
/// one that comes later counts for what an earlier one did too.
///
/// # Errors
/// [`FetchError`]; what was there under a name stays until the new one is there whole.
pub fn fetch(client: &Client, run: u64, steps: &[u64], place: &Path) -> Result<(), FetchError> {
    let failed = |name: &'static str| {
        move |source: io::Error| FetchError::Io {
            name,
            place: place.display().to_string(),
            source,
        }
    };
    std::fs::create_dir_all(place).map_err(failed(RESULTS))?;
    for name in NEWEST {
        if let Some(mut body) = client.artefact(run, None, name)? {
            write(place, name, |file| io::copy(&mut body, file).map(drop)).map_err(failed(name))?;
        }
    }
    let mut together: Option<Value> = None;
    for step in steps {
        if let Some(body) = client.artefact(run, Some(*step), RESULTS)? {
            let mut text = Vec::new();
            body.take(LARGEST)
                .read_to_end(&mut text)
                .map_err(failed(RESULTS))?;
            let results = serde_json::from_slice(&text).map_err(|source| FetchError::NotJson {
                step: *step,
                source,
            })?;
            together = Some(match together {
                Some(before) => joined(before, results),
                None => results,
            });
        }
    }
    if let Some(results) = together {
        let text = results.to_string();
        let put = |file: &mut std::fs::File| file.write_all(text.as_bytes());
        write(place, RESULTS, put).map_err(failed(RESULTS))?;
    }
    Ok(())
}

/// The later file, with what only the earlier one has.
fn joined(before: Value, mut after: Value) -> Value {
    let list = |value: &Value| value["results"].as_array().cloned().unwrap_or_default();
    let id = |result: &Value| result["unique_id"].as_str().unwrap_or_default().to_owned();
    let later: BTreeMap<String, Value> = list(&after).into_iter().map(|r| (id(&r), r)).collect();
    let mut results = list(&before);
    results.retain(|result| !later.contains_key(&id(result)));
    results.extend(list(&after));
    after["results"] = results.into();
    after
}

fn write(
    place: &Path,
    name: &str,
    fill: impl FnOnce(&mut std::fs::File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(place)?;
    fill(file.as_file_mut())?;
    file.persist(place.join(name))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_later_step_did_again_counts_once() {
        let one = json!({"results": [
            {"unique_id": "model.a", "status": "error"},
            {"unique_id": "model.b", "status": "success"},
        ]});
        let two =
            json!({"metadata": 2, "results": [{"unique_id": "model.a", "status": "success"}]});
        let both = joined(one, two);
        assert_eq!(
            both,
            json!({"metadata": 2, "results": [
                {"unique_id": "model.b", "status": "success"},
                {"unique_id": "model.a", "status": "success"},
            ]})
        );
    }
}
