select product_id, sum(cost) as unit_cost
from {{ ref('stg_supplies') }}
group by product_id
