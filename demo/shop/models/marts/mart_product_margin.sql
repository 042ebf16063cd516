{{ config(group='finance', tags=['finance']) }}

select
    p.product_id,
    p.product_name,
    p.category,
    sum(i.quantity) as units,
    sum(i.line_revenue) as revenue,
    sum(i.line_revenue - i.line_cost) as margin
from {{ ref('fct_order_items') }} i
join {{ ref('dim_products') }} p using (product_id)
group by p.product_id, p.product_name, p.category
