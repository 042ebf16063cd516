select id as event_id, session_id, customer_id, path, occurred_at, occurred_at::date as event_date
from {{ source('raw', 'web_events') }}
