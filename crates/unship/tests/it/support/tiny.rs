//! A small dbt project.

use super::{Scratch, Tools};

/// A dbt project of two models in a directory of its own, which is not where commands start.
pub fn tiny(tools: &Tools) -> Scratch {
    let tiny = Scratch::new(tools);
    tiny.write(
        "p/dbt_project.yml",
        "name: tiny\nversion: '1.0'\nprofile: tiny\nflags: {send_anonymous_usage_stats: false}\n",
    );
    tiny.write(
        "p/models/a.sql",
        "{{ config(materialized='table') }} select {{ var('n', 1) }} as release",
    );
    tiny.write("p/models/b.sql", "select * from {{ ref('a') }}");
    tiny.write(
        "profiles/profiles.yml",
        "tiny:\n  target: prod\n  outputs:\n    prod: {type: duckdb, path: \"{{ env_var('TINY_DB') }}\", threads: 1}\n    \
         memory: {type: duckdb, path: ':memory:'}\n    duck: {type: duckdb, path: 'md:shop'}\n    \
         other: {type: duckdb, path: other.duckdb}\n    nowhere: {type: bigquery, method: oauth, project: d, schema: s}\n",
    );
    tiny
}
