{{ config(materialized='incremental', incremental_strategy='append') }}

-- What finance was told, day by day. A booked day is never booked again: this history cannot be
-- rebuilt from the sources, which is why the model has no key and a full refresh is forbidden.
{{ config(full_refresh=false) }}

select order_date, store_id, count(*) as orders, sum(revenue) as revenue
from {{ ref('fct_orders') }}
{% if is_incremental() %}
where order_date > (select max(order_date) from {{ this }})
{% endif %}
group by order_date, store_id
