{{ config(group='finance', tags=['finance']) }}

select
    order_date,
    count(*) as orders,
    count(distinct customer_id) as customers,
    sum(revenue) as revenue,
    sum(revenue - cost) as margin,
    (sum(revenue) / count(*))::decimal(12, 2) as average_order
from {{ ref('fct_orders') }}
group by order_date
