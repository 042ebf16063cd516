select id as store_id, name as store_name, city, opened_on, tax_rate
from {{ source('raw', 'stores') }}
