select
    c.customer_id,
    c.customer_name,
    c.email,
    c.city,
    c.loyalty_tier,
    min(o.order_date) as first_order_date,
    max(o.order_date) as last_order_date,
    count(o.order_id) as order_count
from {{ ref('stg_customers') }} c
left join {{ ref('stg_orders') }} o using (customer_id)
group by all
