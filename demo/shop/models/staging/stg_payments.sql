select id as payment_id, order_id, method as payment_method, state as payment_state, {{ dollars('amount_cents') }} as amount, paid_at
from {{ source('raw', 'payments') }}
