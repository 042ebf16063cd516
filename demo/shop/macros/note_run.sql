{# A state table that belongs to the job, though no model declares it: what each run had booked. #}
{% macro note_run() %}
    {% if execute and flags.WHICH in ('build', 'run') %}
        {% set ops = generate_schema_name('ops', none) %}
        {% set booked = adapter.get_relation(target.database, generate_schema_name('core', none), 'revenue_booked') %}
        {% if booked is not none %}
            create schema if not exists {{ ops }};
            create table if not exists {{ ops }}.runs (
                invocation varchar not null, booked_until date, days bigint, revenue decimal(38, 2)
            );
            insert into {{ ops }}.runs
            select '{{ invocation_id }}', max(order_date), count(distinct order_date), sum(revenue) from {{ booked }}
        {% endif %}
    {% endif %}
{% endmacro %}
