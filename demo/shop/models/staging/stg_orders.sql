select id as order_id, customer_id, store_id, ordered_at, ordered_at::date as order_date, channel
from {{ source('raw', 'orders') }}
