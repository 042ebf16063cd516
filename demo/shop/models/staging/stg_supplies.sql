select id as supply_id, product_id, name as supply_name, {{ dollars('cost_cents') }} as cost, perishable as is_perishable
from {{ source('raw', 'supplies') }}
