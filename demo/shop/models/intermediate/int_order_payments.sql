-- One row per order. Every order has two rows in the feed, authorised and captured: only the
-- second one is money.
select order_id, payment_method, amount as paid_amount, paid_at
from {{ ref('stg_payments') }}
where payment_state = 'captured'
