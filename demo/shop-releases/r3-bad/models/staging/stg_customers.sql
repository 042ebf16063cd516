-- An order also touches its customer.
select
    c.id as customer_id, c.name as customer_name, lower(c.email) as email, c.city, c.loyalty_tier, c.created_at,
    greatest(c.updated_at, max(o.ordered_at)) as updated_at
from {{ source('raw', 'customers') }} c
left join {{ source('raw', 'orders') }} o on o.customer_id = c.id
group by c.id, c.name, c.email, c.city, c.loyalty_tier, c.created_at, c.updated_at
