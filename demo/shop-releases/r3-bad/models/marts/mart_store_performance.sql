{{ config(group='operations') }}

select
    s.store_id,
    s.store_name,
    date_trunc('month', o.order_date)::date as month,
    count(*) as orders,
    sum(o.revenue) as revenue,
    any_value(s.monthly_target) as target
from {{ ref('fct_orders') }} o
join {{ ref('dim_stores') }} s using (store_id)
group by s.store_id, s.store_name, month
