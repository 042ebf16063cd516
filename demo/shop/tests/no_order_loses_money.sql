{{ config(severity='warn') }}

select order_id, revenue, cost
from {{ ref('fct_orders') }}
where revenue < cost
