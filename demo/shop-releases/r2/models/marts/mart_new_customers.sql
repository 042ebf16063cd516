{{ config(group='finance') }}

select
    date_trunc('month', order_date)::date as month,
    store_id,
    count(*) filter (is_first_order) as new_customers,
    sum(revenue) filter (is_first_order) as revenue_from_new,
    sum(revenue) as revenue
from {{ ref('fct_orders') }}
group by month, store_id
