{#- What Snowflake has of its own. A schema's clone copies no rows, and an exchange of two schemas is
    one statement: https://docs.snowflake.com/en/sql-reference/sql/create-clone,
    https://docs.snowflake.com/en/sql-reference/sql/alter-schema. Each commits by itself, so that
    several schemas follow each other. -#}

{% macro snowflake__now_in_utc() %}{{ return("convert_timezone('UTC', current_timestamp())::timestamp_ntz") }}{% endmacro %}

{#- A statement's id names a moment exactly: https://docs.snowflake.com/en/sql-reference/constructs/at-before -#}
{% macro snowflake__handle() %}
    {% do run_query('select 1') %}
    {{ return(run_query('select last_query_id()').rows[0][0]) }}
{% endmacro %}

{#- A schema as statements name it, and as the catalog does; `name` is another one in its database. -#}
{% macro schema_named(place, name=none) %}
    {% set name = name or place.schema %}
    {% set full = api.Relation.create(database=place.database, schema=name).without_identifier() | string %}
    {% set quoted = '"' in full %}
    {{ return({'sql': full, 'plain': name if quoted else name | upper,
               'catalog': api.Relation.create(database=place.database, schema='information_schema').without_identifier() | string}) }}
{% endmacro %}

{#- Beside a schema: before the exchange it holds what comes back, and after it what gave way. -#}
{% macro beside(id, place) %}
    {{ return(unship.schema_named(place, 'UNSHIP_' ~ id[:8] | upper ~ '_' ~ place.schema)) }}
{% endmacro %}

{#- What the catalog knows of a schema; `none` if it is not there. -#}
{% macro schema_known(named) %}
    {% set sql %}
        select schema_owner, is_transient, is_managed_access, comment
          from {{ named.catalog }}.schemata where schema_name = {{ unship.text_or_null(named.plain) }}
    {% endset %}
    {% for row in run_query(sql).rows %}
        {{ return({'owner': row[0], 'transient': row[1] == 'YES', 'managed': row[2] == 'YES', 'comment': row[3] or ''}) }}
    {% endfor %}
    {{ return(none) }}
{% endmacro %}

{#- What a clone says of itself; it goes along with it when names are exchanged. -#}
{% macro mark_of(id) %}{{ return('unship: what was before ' ~ id) }}{% endmacro %}

{% macro clone_of(id, now, known, to, moment='') %}
    {{ return('create ' ~ ('transient ' if known.transient else '') ~ 'schema if not exists ' ~ to.sql
              ~ ' clone ' ~ now.sql ~ moment ~ (' with managed access' if known.managed else '')
              ~ ' comment = ' ~ unship.text_or_null(unship.mark_of(id))) }}
{% endmacro %}

{#- As many restore points as `unship_clones` says are kept as clones, for tables whose Time Travel
    is shorter than the time until a bad run is noticed: dbt's are transient, with a day at most. -#}
{% macro snowflake__keep_clones(id, places) %}
    {% set kept = var('unship_clones', 0) | int %}
    {% if not kept %}{{ return('') }}{% endif %}
    {% for place in places %}
        {% set now = unship.schema_named(place) %}
        {% set known = unship.schema_known(now) %}
        {% if known %}{% do unship.carry_out(unship.clone_of(id, now, known, unship.beside(id, place))) %}{% endif %}
    {% endfor %}
    {% set sql %}
        select restore_point from {{ unship.restore_points_table() }}
         where target = {{ unship.text_or_null(target.name) }} and recorded_by = 'dbt' and outcome <> 'rolled back'
         order by started_at desc limit 1000 offset {{ kept }}
    {% endset %}
    {% set old = [] %}
    {% for row in run_query(sql).rows %}{% do old.append(unship.mark_of(row[0])) %}{% endfor %}
    {% set looked = [] %}
    {% for place in places if place.database not in looked %}
        {% do looked.append(place.database) %}
        {% set sql %}
            select schema_name, comment from {{ unship.schema_named(place).catalog }}.schemata
             where comment like {{ unship.text_or_null(unship.mark_of('%')) }}
        {% endset %}
        {#- Only what still is a clone has the mark; and of other targets none is ours to drop. -#}
        {% for row in run_query(sql).rows if row[1] in old %}
            {% set gone = api.Relation.create(database=place.database, schema=row[0], quote_policy={'schema': true}) %}
            {% do unship.carry_out('drop schema if exists ' ~ gone.without_identifier() ~ ' restrict') %}
        {% endfor %}
    {% endfor %}
{% endmacro %}

{% macro snowflake__ways_back(point) %}
    {% set ways = [] %}
    {% for place in point.schemas %}{% do ways.append(unship.way_back(point, place)) %}{% endfor %}
    {{ return(ways) }}
{% endmacro %}

{#- The statements for one schema. An exchange that is done twice is undone: whether it has happened
    is told by which of the two bears the clone's mark. -#}
{% macro way_back(point, place) %}
    {% set now = unship.schema_named(place) %}
    {% set to = unship.beside(point.id, place) %}
    {% set known = unship.schema_known(now) %}
    {% set cloned = unship.schema_known(to) %}
    {% set mark = unship.mark_of(point.id) %}
    {% if not known %}{% do unship.refuse(now.sql ~ ' is not there') %}{% endif %}
    {% if cloned and cloned.comment != mark %}
        {#- It was production once since, and what is there now may be anything. -#}
        {% if point.outcome != 'rolling back' %}
            {% do unship.refuse(point.id ~ ' was gone back to before, and ' ~ to.sql
                ~ ' holds what gave way then. Rename that schema to go back to ' ~ point.id ~ ' by Time Travel') %}
        {% endif %}
        {{ return({'schema': now.sql, 'beside': to.sql, 'clone': [], 'swap': [],
                   'after': [unship.comment_on(now, cloned.comment)] if known.comment == mark else []}) }}
    {% endif %}
    {% do unship.stays_whole(point, place, now, known) %}
    {% set clone = [] %}
    {% if not cloned %}
        {#- A release of unship's is known by the time alone. -#}
        {% set moment = ' before (statement => ' ~ unship.text_or_null(point.statement) ~ ')' if point.statement
            else ' at (timestamp => to_timestamp_tz(' ~ unship.text_or_null(point.started_at ~ ' +0000') ~ '))' %}
        {% do clone.append(unship.clone_of(point.id, now, known, to, moment)) %}
    {% endif %}
    {#- What may be done with a schema itself does not come along with a clone of it. -#}
    {% for grant in run_query('show grants on schema ' ~ now.sql) %}
        {% if grant['privilege'] != 'OWNERSHIP' %}
            {% do clone.append('grant ' ~ grant['privilege'] ~ ' on schema ' ~ to.sql ~ unship.to_whom(grant['granted_to'], grant['grantee_name'], grant['grant_option'])) %}
        {% endif %}
    {% endfor %}
    {% for grant in run_query('show future grants in schema ' ~ now.sql) %}
        {% do clone.append('grant ' ~ grant['privilege'] ~ ' on future ' ~ unship.plural(grant['grant_on']) ~ ' in schema ' ~ to.sql
            ~ unship.to_whom(grant['grant_to'], grant['grantee_name'], grant['grant_option'])) %}
    {% endfor %}
    {{ return({'schema': now.sql, 'beside': to.sql, 'clone': clone,
               'swap': ['alter schema ' ~ now.sql ~ ' swap with ' ~ to.sql],
               'after': [unship.comment_on(now, known.comment)]}) }}
{% endmacro %}

{% macro comment_on(schema, comment) %}
    {{ return('comment on schema ' ~ schema.sql ~ ' is ' ~ dbt.string_literal(dbt.escape_single_quotes(comment))) }}
{% endmacro %}

{% macro to_whom(sort, name, option) %}
    {{ return(' to ' ~ sort | replace('_', ' ') ~ ' ' ~ adapter.quote(name)
              ~ (' with grant option' if option | string | lower == 'true' else '')) }}
{% endmacro %}

{% macro plural(kind) %}
    {% set kind = kind | replace('_', ' ') %}
    {{ return(kind[:-1] ~ 'IES' if kind[-1:] == 'Y' else kind ~ 'S') }}
{% endmacro %}

{#- Refuses what an exchange of schemas would lose, or take from others. -#}
{% macro stays_whole(point, place, now, known) %}
    {% set role = run_query('select current_role()').rows[0][0] %}
    {% if known.owner != role %}
        {% do unship.refuse(now.sql ~ ' belongs to the role ' ~ known.owner ~ ', and dbt works as ' ~ role
            ~ ': its owner would change') %}
    {% endif %}
    {% for kind in ['streams', 'pipes', 'tasks', 'dynamic tables', 'stages'] %}
        {% set found = run_query('show ' ~ kind ~ ' in schema ' ~ now.sql) %}
        {% if found.rows %}
            {% set names = [] %}
            {% for row in found %}{% do names.append(row['name']) %}{% endfor %}
            {% do unship.refuse('a clone of ' ~ now.sql ~ ' would not have its ' ~ kind ~ ' as they are: '
                ~ names | join(', ') ~ '. Move them to another schema, or go back with `unship rollback`') %}
        {% endif %}
    {% endfor %}
    {% set ours = [] %}
    {% for node in graph.nodes.values() %}
        {% if node.schema | lower == place.schema | lower and node.resource_type in ['model', 'seed', 'snapshot'] %}
            {% do ours.append((node.alias or node.name) | upper) %}
        {% endif %}
    {% endfor %}
    {% set sql %}
        select table_name from {{ now.catalog }}.tables
         where table_schema = {{ unship.text_or_null(now.plain) }}
           and convert_timezone('UTC', last_altered)::timestamp_ntz > {{ unship.text_or_null(point.started_at) }}::timestamp_ntz
         order by 1
    {% endset %}
    {% set theirs = [] %}
    {% for row in run_query(sql).rows %}
        {% if row[0] | upper not in ours %}{% do theirs.append(row[0]) %}{% endif %}
    {% endfor %}
    {% if theirs %}
        {% do unship.refuse('others wrote to ' ~ now.sql ~ ' since, and would lose it: ' ~ theirs | join(', ')
            ~ '. `unship rollback` goes back table by table') %}
    {% endif %}
{% endmacro %}

{% macro refuse(why) %}
    {% do exceptions.raise_compiler_error('unship: ' ~ why ~ '. Nothing was changed by this call') %}
{% endmacro %}
