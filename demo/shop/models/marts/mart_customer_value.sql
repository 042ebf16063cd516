select
    c.customer_id,
    c.loyalty_tier,
    c.first_order_date,
    count(o.order_id) as orders,
    coalesce(sum(o.revenue), 0) as lifetime_value,
    case
        when sum(o.revenue) >= 1000 then 'regular'
        when sum(o.revenue) >= 200 then 'occasional'
        else 'new'
    end as segment
from {{ ref('dim_customers') }} c
left join {{ ref('fct_orders') }} o using (customer_id)
group by c.customer_id, c.loyalty_tier, c.first_order_date
