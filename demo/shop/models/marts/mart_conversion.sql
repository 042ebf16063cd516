{{ config(group='operations') }}

with visits as (
    select event_date, count(distinct session_id) as sessions, count(distinct customer_id) as visitors
    from {{ ref('stg_web_events') }}
    group by event_date
),

online as (
    select order_date, count(*) as orders
    from {{ ref('fct_orders') }}
    where channel <> 'counter'
    group by order_date
)

select v.event_date, v.sessions, v.visitors, coalesce(o.orders, 0) as online_orders
from visits v
left join online o on o.order_date = v.event_date
