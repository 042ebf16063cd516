{#- The table of restore points: one row for each run that may change something. A row says what
    production was *before* that run, and how the run ended. -#}

{#- Beside the schemas that are rolled back, so that it never goes back with them. -#}
{% macro restore_points_table() %}
    {% set schema = var('unship_schema', target.schema ~ '_unship') %}
    {{ return(api.Relation.create(database=target.database, schema=schema,
                                  identifier='unship_restore_points', type='table')) }}
{% endmacro %}

{% macro restore_point_columns() %}
    {{ return([
        ('restore_point', dbt.type_string()),
        ('recorded_by', dbt.type_string()),
        ('project', dbt.type_string()),
        ('target', dbt.type_string()),
        ('job', dbt.type_string()),
        ('code', dbt.type_string()),
        ('schemas', dbt.type_string()),
        ('statement', dbt.type_string()),
        ('started_at', dbt.type_timestamp()),
        ('ended_at', dbt.type_timestamp()),
        ('outcome', dbt.type_string()),
    ]) }}
{% endmacro %}

{#- Whether this is a command of dbt that writes to production, and unship does not guard it: there it
    has restore points of its own. A job of dbt Cloud knows of that by the schema that it is given. -#}
{% macro records_this_command() %}
    {% set guarded = env_var('UNSHIP_RELEASE', '') or (target.schema | lower).startswith('unship_build_') %}
    {{ return(execute and flags.WHICH in ['run', 'build', 'seed', 'snapshot', 'retry', 'clone'] and not guarded) }}
{% endmacro %}

{% macro text_or_null(value) %}
    {{ return(dbt.string_literal(dbt.escape_single_quotes(value | string)) if value else 'null') }}
{% endmacro %}

{#- The schemas that the selected nodes are built in, in one order. -#}
{% macro selected_schemas() %}
    {% set all = [] %}
    {% for node in graph.nodes.values() %}
        {% if node.unique_id in selected_resources
              and node.resource_type in ['model', 'seed', 'snapshot']
              and node.config.materialized != 'ephemeral' %}
            {% set place = {'database': node.database, 'schema': node.schema} %}
            {% if place not in all %}{% do all.append(place) %}{% endif %}
        {% endif %}
    {% endfor %}
    {{ return(all | sort(attribute='schema') | sort(attribute='database')) }}
{% endmacro %}

{#- on-run-start: writes down what production is now. It refuses a run on top of a rollback that
    stopped half-way: production is then of two moments. -#}
{% macro begin_restore_point() %}
    {% if not unship.records_this_command() %}{{ return('') }}{% endif %}
    {% set places = unship.selected_schemas() %}
    {% if not places %}{{ return('') }}{% endif %}
    {% set table = unship.restore_points_table() %}
    {% do adapter.create_schema(table.without_identifier()) %}
    {% set columns = [] %}
    {% for name, type in unship.restore_point_columns() %}{% do columns.append(name ~ ' ' ~ type) %}{% endfor %}
    {% do unship.carry_out('create table if not exists ' ~ table ~ ' (' ~ columns | join(', ') ~ ')') %}
    {% set half = unship.half_way(table) %}
    {% if half %}
        {% do exceptions.raise_compiler_error('unship: the rollback to ' ~ half ~ ' stopped half-way. Finish it first: dbt run-operation unship_rollback') %}
    {% endif %}
    {% set handle = unship.handle() %}
    {% set job = 'dbt ' ~ flags.WHICH %}
    {% if env_var('DBT_CLOUD_RUN_ID', '') %}
        {% set job = job ~ ' (dbt Cloud job ' ~ env_var('DBT_CLOUD_JOB_ID', '?') ~ ', run '
                     ~ env_var('DBT_CLOUD_RUN_ID') ~ ')' %}
    {% endif %}
    {% set values = [
        unship.text_or_null(invocation_id),
        unship.text_or_null('dbt'),
        unship.text_or_null(project_name),
        unship.text_or_null(target.name),
        unship.text_or_null(job),
        unship.text_or_null(env_var('DBT_CLOUD_GIT_SHA', '')),
        unship.text_or_null(tojson(places)),
        unship.text_or_null(handle),
        unship.now_in_utc(),
        'null',
        unship.text_or_null('running'),
    ] %}
    {% do unship.carry_out('insert into ' ~ table ~ ' values (' ~ values | join(', ') ~ ')') %}
    {% do unship.keep_clones(invocation_id, places) %}
    {{ log('unship: restore point ' ~ invocation_id, info=true) }}
    {{ return('') }}
{% endmacro %}

{#- The restore point whose rollback stopped half-way, if one did. -#}
{% macro half_way(table) %}
    {% set rows = run_query('select restore_point from ' ~ table ~ " where outcome = 'rolling back' and target = "
        ~ unship.text_or_null(target.name)).rows %}
    {{ return(rows[0][0] if rows else none) }}
{% endmacro %}

{#- on-run-end: writes down how the run ended. -#}
{% macro end_restore_point(results) %}
    {% if not unship.records_this_command() or not unship.selected_schemas() %}{{ return('') }}{% endif %}
    {% set bad = [] %}
    {% for result in results %}
        {% if result.status | string not in ['success', 'pass', 'warn', 'no-op'] %}{% do bad.append(result) %}{% endif %}
    {% endfor %}
    {% set outcome = 'failed' if bad else 'good' %}
    {% do unship.carry_out('update ' ~ unship.restore_points_table() ~ ' set ended_at = ' ~ unship.now_in_utc()
        ~ ', outcome = ' ~ unship.text_or_null(outcome)
        ~ ' where restore_point = ' ~ unship.text_or_null(invocation_id)) %}
    {{ return('') }}
{% endmacro %}

{#- One statement that is committed by itself, whatever the adapter does with transactions. -#}
{% macro carry_out(sql) %}
    {% call statement(auto_begin=false) %}{{ sql }}{% endcall %}
{% endmacro %}

{#- What the warehouse calls this moment; empty where it has no name for it. -#}
{% macro handle() %}{{ return(adapter.dispatch('handle', 'unship')()) }}{% endmacro %}
{% macro default__handle() %}{{ return('') }}{% endmacro %}

{#- Copies the schemas where that costs nothing, so that the way back does not end with the
    warehouse's own retention. -#}
{% macro keep_clones(id, places) %}{% do adapter.dispatch('keep_clones', 'unship')(id, places) %}{% endmacro %}
{% macro default__keep_clones(id, places) %}{% endmacro %}

{% macro now_in_utc() %}{{ return(adapter.dispatch('now_in_utc', 'unship')()) }}{% endmacro %}
{% macro default__now_in_utc() %}{{ return("current_timestamp at time zone 'UTC'") }}{% endmacro %}
