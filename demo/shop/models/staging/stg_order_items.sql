select id as order_item_id, order_id, product_id, quantity, {{ dollars('unit_price_cents') }} as unit_price
from {{ source('raw', 'order_items') }}
