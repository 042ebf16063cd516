{{ config(group='operations') }}

select s.store_id, s.store_name, s.city, s.opened_on, s.tax_rate, t.monthly_target
from {{ ref('stg_stores') }} s
left join {{ ref('store_targets') }} t using (store_id)
