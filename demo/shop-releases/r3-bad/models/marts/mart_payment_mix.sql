{{ config(group='finance', tags=['finance']) }}

select
    order_date,
    payment_method,
    count(distinct order_id) as orders,
    sum(line_revenue) as revenue
from {{ ref('fct_order_items') }}
where payment_method is not null
group by order_date, payment_method
