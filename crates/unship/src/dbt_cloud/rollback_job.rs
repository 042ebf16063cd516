//! A job of dbt Cloud that goes back by the dbt package, for whoever is on call and has nothing else.

use super::client::{Client, CloudError, Definition};
use serde_json::{Value, json};

/// What such a job does.
const STEP: &str = "dbt run-operation unship_rollback";

/// A job to make, or to bring up to date.
#[derive(Debug)]
pub struct RollbackJob {
    /// The job that is there already under its name.
    pub there: Option<u64>,
    /// Its name.
    pub name: String,
    /// What is sent.
    pub body: Value,
}

impl RollbackJob {
    /// One for a job: in the same project and environment, with the same settings, and started by
    /// nobody but people.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn of(client: &Client, job: u64) -> Result<Self, CloudError> {
        let of = client.definition(job)?;
        let name = format!("unship: roll back {}", of.name);
        let there = client.jobs(of.project_id)?;
        let there = there.into_iter().find(|one| one.name == name);
        Ok(Self {
            there: there.map(|one| one.id),
            body: body(&of, &name),
            name,
        })
    }

    /// Makes it, or brings the one that is there up to date; its number. Where the answer is lost, it
    /// is looked for by its name and not made twice.
    ///
    /// # Errors
    /// [`CloudError`].
    pub fn make(&self, client: &Client) -> Result<u64, CloudError> {
        let mut body = self.body.clone();
        if let Some(there) = self.there {
            body["id"] = json!(there);
            return Ok(client.change_job(there, &body)?.id);
        }
        let project = self.body["project_id"].as_u64().unwrap_or_default();
        match client.make_job(&body) {
            Err(lost) if lost.leaves_doubt() => {
                let there = client.jobs(project)?;
                let made = there.into_iter().find(|one| one.name == self.name);
                made.map(|one| one.id).ok_or(lost)
            }
            made => Ok(made?.id),
        }
    }
}

/// As <https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Create%20Job> describes it.
fn body(of: &Definition, name: &str) -> Value {
    json!({
        "id": null,
        "account_id": of.account_id,
        "project_id": of.project_id,
        "environment_id": of.environment_id,
        "name": name,
        "description": format!("Goes back to what production was before the newest run of {}.", of.name),
        "dbt_version": of.dbt_version,
        "execute_steps": [STEP],
        "settings": of.settings,
        "triggers": {
            "github_webhook": false,
            "git_provider_webhook": false,
            "schedule": false,
            "on_merge": false,
        },
        // It has to have one, which the triggers keep from ever being used.
        "schedule": of.schedule,
        "generate_docs": false,
        "run_generate_sources": false,
        "job_type": "other",
        "state": 1,
    })
}
