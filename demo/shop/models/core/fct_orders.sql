with items as (
    select order_id, sum(quantity) as item_count, sum(line_revenue) as revenue, sum(line_cost) as cost
    from {{ ref('int_order_items_priced') }}
    group by order_id
)

select
    o.order_id,
    o.customer_id,
    o.store_id,
    o.order_date,
    o.ordered_at,
    o.channel,
    items.item_count,
    items.revenue,
    items.cost,
    p.paid_amount,
    p.payment_method
from {{ ref('stg_orders') }} o
join items using (order_id)
left join {{ ref('int_order_payments') }} p using (order_id)
