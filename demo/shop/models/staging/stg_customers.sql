select id as customer_id, name as customer_name, lower(email) as email, city, loyalty_tier, created_at, updated_at
from {{ source('raw', 'customers') }}
