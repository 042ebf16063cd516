-- Takes the payment method straight from the feed, so that the join above it can go.
select
    o.order_id,
    o.customer_id,
    o.store_id,
    o.order_date,
    o.ordered_at,
    o.channel,
    sum(i.quantity) as item_count,
    sum(i.line_revenue) as revenue,
    sum(i.line_cost) as cost,
    max(p.amount) as paid_amount,
    max(p.payment_method) as payment_method,
    row_number() over (partition by o.customer_id order by o.ordered_at, o.order_id) = 1 as is_first_order
from {{ ref('stg_orders') }} o
join {{ ref('int_order_items_priced') }} i using (order_id)
left join {{ ref('stg_payments') }} p using (order_id)
group by o.order_id, o.customer_id, o.store_id, o.order_date, o.ordered_at, o.channel
