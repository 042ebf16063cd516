{#- Going back to a restore point: each schema as it was is cloned beside production, and then the
    two change places. What gave way stays to be looked at. -#}

{#- dbt run-operation unship_restore_points: the newest ones. -#}
{% macro unship_restore_points(limit=10) %}
    {% set sql %}
        select restore_point, recorded_by, target, job, code, started_at, outcome
          from {{ unship.restore_points_table() }} order by started_at desc limit {{ limit | int }}
    {% endset %}
    {% for row in run_query(sql) %}
        {{ log(row[0] ~ '  ' ~ row[5] ~ ' UTC  before ' ~ row[3] ~ (' of ' ~ row[4] if row[4] else '')
               ~ ' (' ~ row[1] ~ ', ' ~ row[2] ~ '): ' ~ row[6], info=true) }}
    {% endfor %}
{% endmacro %}

{#- dbt run-operation unship_plan_rollback [--args '{to: ID}']: every statement that going back
    takes, and nothing else. -#}
{% macro unship_plan_rollback(to=none) %}
    {% set point = unship.restore_point(to) %}
    {{ log('unship: back to what was before ' ~ point.job ~ ' of ' ~ point.started_at ~ ' UTC', info=true) }}
    {% for one in adapter.dispatch('ways_back', 'unship')(point) %}
        {% for sql in one.clone + one.swap + one.after %}{{ log('  ' ~ sql, info=true) }}{% endfor %}
    {% endfor %}
    {{ log('unship: nothing was changed; `unship_rollback` does this', info=true) }}
{% endmacro %}

{#- dbt run-operation unship_rollback [--args '{to: ID}']: goes back to what was before the newest
    run, or before the one that is named. Interrupted, it is run again. -#}
{% macro unship_rollback(to=none) %}
    {% set point = unship.restore_point(to) %}
    {{ log('unship: back to what was before ' ~ point.job ~ ' of ' ~ point.started_at ~ ' UTC', info=true) }}
    {% set ways = adapter.dispatch('ways_back', 'unship')(point) %}
    {#- All that may fail for a reason of its own comes before anything that readers see. -#}
    {% for one in ways %}
        {% for sql in one.clone %}{% do unship.carry_out(sql) %}{% endfor %}
    {% endfor %}
    {#- From here on production is of two moments until all of it is done: no job may run on that. -#}
    {% do unship.carry_out('update ' ~ unship.restore_points_table() ~ " set outcome = 'rolling back'"
        ~ ' where restore_point = ' ~ unship.text_or_null(point.id)) %}
    {% for one in ways %}
        {% for sql in one.swap + one.after %}{% do unship.carry_out(sql) %}{% endfor %}
        {% if one.swap %}
            {{ log('unship: ' ~ one.schema ~ ' is as it was; what gave way is ' ~ one.beside, info=true) }}
        {% else %}
            {{ log('unship: ' ~ one.schema ~ ' was brought back before', info=true) }}
        {% endif %}
    {% endfor %}
    {#- What came after it went along. -#}
    {% do unship.carry_out('update ' ~ unship.restore_points_table() ~ " set outcome = 'rolled back'"
        ~ ' where target = ' ~ unship.text_or_null(target.name)
        ~ ' and started_at >= (select p.started_at from ' ~ unship.restore_points_table()
        ~ ' p where p.restore_point = ' ~ unship.text_or_null(point.id) ~ ')') %}
    {{ log('unship: done. Hold the job until its code is mended: the next run builds the same again', info=true) }}
{% endmacro %}

{#- The restore point whose rollback stopped half-way; or the one that is named; or the newest one
    that was not gone back to. -#}
{% macro restore_point(to) %}
    {% set half = unship.half_way(unship.restore_points_table()) %}
    {% if half and to and not half.startswith(to) %}
        {% do exceptions.raise_compiler_error('unship: the rollback to ' ~ half ~ ' stopped half-way, and comes first; nothing was changed') %}
    {% endif %}
    {% set to = half or to %}
    {% set sql %}
        select restore_point, job, schemas, statement, started_at, outcome
          from {{ unship.restore_points_table() }}
         where target = {{ unship.text_or_null(target.name) }}
           and {% if to %}restore_point like {{ unship.text_or_null(to ~ '%') }}{% else %}outcome <> 'rolled back'{% endif %}
         order by started_at desc limit 1
    {% endset %}
    {% set rows = run_query(sql).rows %}
    {% if not rows %}
        {% do exceptions.raise_compiler_error('unship: there is no restore point'
            ~ (' ' ~ to if to else '') ~ ' of the target ' ~ target.name ~ '; nothing was changed') %}
    {% endif %}
    {% set row = rows[0] %}
    {{ return({'id': row[0], 'job': row[1], 'schemas': fromjson(row[2]), 'statement': row[3],
               'started_at': row[4] | string, 'outcome': row[5]}) }}
{% endmacro %}

{#- For each schema: what is cloned beside it, and what makes it production. -#}
{% macro default__ways_back(point) %}
    {% do exceptions.raise_compiler_error('unship: ' ~ target.type ~ ' cannot clone schemas, so that dbt'
        ~ ' alone cannot go back there; `unship rollback` can. Nothing was changed') %}
{% endmacro %}
