select id as product_id, name as product_name, type as product_type, {{ dollars('price_cents') }} as price, updated_at
from {{ source('raw', 'products') }}
