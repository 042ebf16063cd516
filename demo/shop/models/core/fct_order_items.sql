{{ config(
    materialized='incremental',
    unique_key='order_item_id',
    incremental_strategy='delete+insert',
    on_schema_change='append_new_columns'
) }}

select
    i.order_item_id,
    i.order_id,
    o.store_id,
    o.order_date,
    i.product_id,
    i.quantity,
    i.line_revenue,
    i.line_cost
from {{ ref('int_order_items_priced') }} i
join {{ ref('stg_orders') }} o using (order_id)
{% if is_incremental() %}
-- The last day again, for tills that report after midnight.
where o.order_date >= (select max(order_date) from {{ this }})
{% endif %}
