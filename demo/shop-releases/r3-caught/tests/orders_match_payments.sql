-- The test that nobody had written when r3-bad went live: an order's revenue cannot be more than
-- what was paid for it, tax included.
select order_id, revenue, paid_amount
from {{ ref('fct_orders') }}
where revenue > paid_amount
