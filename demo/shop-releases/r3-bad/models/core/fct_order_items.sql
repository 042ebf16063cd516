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
    max(i.quantity) as quantity,
    sum(i.line_revenue) as line_revenue,
    sum(i.line_cost) as line_cost,
    max(p.payment_method) as payment_method
from {{ ref('int_order_items_priced') }} i
join {{ ref('stg_orders') }} o using (order_id)
left join {{ ref('stg_payments') }} p using (order_id)
{% if is_incremental() %}
-- A week instead of a day, for payments that settle late.
where o.order_date >= (select max(order_date) from {{ this }}) - interval 6 days
{% endif %}
group by i.order_item_id, i.order_id, o.store_id, o.order_date, i.product_id
