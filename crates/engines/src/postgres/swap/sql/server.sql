SELECT current_setting('server_version_num')::int8,
    current_user::text,
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
    (SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_roles WHERE pg_has_role(oid, 'MEMBER')),
    current_setting('max_locks_per_transaction')::int8
        * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8),
    (SELECT count(*) FROM pg_locks WHERE NOT coalesce(fastpath, false)),
    (SELECT coalesce(array_agg(evtname::text ORDER BY evtname), '{}') FROM pg_event_trigger
     WHERE evtenabled <> 'D' AND evtname <> 'unship_undo_keep' AND evtevent IN ('ddl_command_start', 'ddl_command_end', 'sql_drop'))
