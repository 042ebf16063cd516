SELECT format('%s (%s%s) for %s s: %s', a.pid, coalesce(nullif(a.application_name, ''), a.backend_type),
    coalesce(', ' || a.usename, ''), extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.query_start))::int,
    CASE WHEN a.state = 'idle in transaction' THEN 'idle in transaction' ELSE left(a.query, 60) END)
FROM pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.pid IN (
    SELECT pid FROM pg_locks WHERE relation = ANY($1) AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY a.xact_start
LIMIT 5
