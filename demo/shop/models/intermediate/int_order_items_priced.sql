{{ config(materialized='view') }}

select
    i.order_item_id,
    i.order_id,
    i.product_id,
    i.quantity,
    (i.quantity * i.unit_price)::decimal(12, 2) as line_revenue,
    (i.quantity * c.unit_cost)::decimal(12, 2) as line_cost
from {{ ref('stg_order_items') }} i
join {{ ref('int_product_costs') }} c using (product_id)
