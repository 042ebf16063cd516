select customer_id
from {{ ref('customers_history') }}
where dbt_valid_to is null
group by customer_id
having count(*) > 1
