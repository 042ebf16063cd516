select p.product_id, p.product_name, p.product_type, c.category, p.price, k.unit_cost, p.price - k.unit_cost as unit_margin
from {{ ref('stg_products') }} p
join {{ ref('product_categories') }} c using (product_type)
join {{ ref('int_product_costs') }} k using (product_id)
