SELECT inhrelid, inhparent::int8::text FROM pg_inherits
WHERE inhrelid = ANY($1) ORDER BY inhrelid, inhseqno
