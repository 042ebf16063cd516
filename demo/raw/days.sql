-- Loads the raw rows of days first_day (included) to until_day (not included), counted from
-- 2026-01-01. Every value is a function of its key, so the same day is the same rows however it
-- is loaded: in one batch with others, or alone a week later. MD5 rather than hash(), because
-- hash() may change between versions of DuckDB.
create or replace temp macro draw(key, n) as (md5_number_lower(key) % n)::integer;
create or replace temp macro on_day(d) as (timestamp '2026-01-01 00:00:00' + to_days(d::integer));
create or replace temp macro customers_on(d) as (900 + 14 * d)::integer;
create or replace temp macro pick(list, key) as list[1 + draw(key, len(list))];

create or replace temp table new_days as
select range::integer as day from range(getvariable('first_day')::bigint, getvariable('until_day')::bigint);

insert into raw.customers
select
    id,
    pick(['Ada', 'Bram', 'Chiara', 'Dmitri', 'Elif', 'Femke', 'Goran', 'Hana', 'Ines', 'Jonas', 'Katya', 'Liam'], 'given' || id)
        || ' ' || pick(['Almeida', 'Bakker', 'Conti', 'Dubois', 'Eriksen', 'Fischer', 'Garcia', 'Horvat', 'Ivanov', 'Jansen'], 'family' || id),
    'customer' || id || '@example.com',
    pick(['Porto', 'Ghent', 'Utrecht', 'Leipzig', 'Aarhus', 'Grenoble'], 'city' || id),
    'basic',
    joined_at,
    joined_at
from (
    select range::integer as id, on_day(greatest(0, ((range - 900 + 13) // 14))) + to_seconds(draw('joined' || range, 80000)) as joined_at
    from range(
        case when getvariable('first_day') = 0 then 1 else customers_on(getvariable('first_day') - 1) + 1 end::bigint,
        customers_on(getvariable('until_day') - 1)::bigint + 1
    )
);

-- About one customer in a hundred changes tier on a day; the loader overwrites the row in place,
-- which is why the project keeps a snapshot.
update raw.customers c
set loyalty_tier = change.tier, updated_at = change.at
from (
    select c.id, max_by(pick(['basic', 'silver', 'gold'], 'tier' || c.id || '/' || day), day) as tier, max(on_day(day)) + interval 20 hours as at
    from raw.customers c, new_days
    where draw('move' || c.id || '/' || day, 100) = 0 and on_day(day) > c.created_at
    group by c.id
) as change
where c.id = change.id;

create or replace temp macro price_on(base, number, d) as (base + 20 * ((d + 7 * number) // 45))::integer;
update raw.products
set
    price_cents = price_on(base_price_cents, number, getvariable('until_day') - 1),
    updated_at = on_day(greatest(0, ((getvariable('until_day') - 1 + 7 * number) // 45) * 45 - 7 * number));

create or replace temp table new_orders as
select
    (day + 1) * 100000::bigint + row_number() over (partition by day order by store_id, n) as id,
    1 + (customers_on(day) * pow(draw('who' || store_id || '/' || day || '/' || n, 1000000) / 1e6, 2))::integer % customers_on(day) as customer_id,
    store_id,
    day,
    on_day(day) + interval 7 hours + to_seconds(draw('when' || store_id || '/' || day || '/' || n, 46800)) as ordered_at,
    pick(['counter', 'counter', 'counter', 'app', 'web'], 'channel' || store_id || '/' || day || '/' || n) as channel
from (
    select
        s.id as store_id, day,
        unnest(range((s.orders_per_day
            * case when isodow(on_day(day)) >= 6 then 1.4 else 1 end
            * (0.85 + draw('busy' || s.id || '/' || day, 300) / 1000))::bigint)) as n
    from raw.stores s, new_days
    where on_day(day) >= s.opened_on
);
insert into raw.orders
select id, customer_id, store_id, ordered_at, channel, on_day(day + 1) + interval 3 hours from new_orders order by id;

create or replace temp table new_items as
select
    lines.id * 10 + line as id, lines.id as order_id, p.id as product_id, quantity,
    price_on(p.base_price_cents, p.number, day) as unit_price_cents
from (
    select
        id, day, line,
        1 + draw('what' || id || '/' || line, 12) as number,
        1 + draw('many' || id || '/' || line, 5) // 4 as quantity
    from (select id, day, unnest(range(1, 2 + draw('lines' || id, 4))) as line from new_orders)
) as lines
join raw.products p using (number);
insert into raw.order_items select * from new_items order by id;

insert into raw.payments
select
    o.id * 10 + step, o.id, pick(['card', 'card', 'card', 'app wallet', 'gift card'], 'method' || o.id),
    case step when 1 then 'authorised' else 'captured' end,
    total.cents, md5('payment' || o.id || '/' || step)::uuid, o.ordered_at + to_minutes(case step when 1 then 0 else 90 end)
from new_orders o
join (
    select i.order_id, round(sum(i.quantity * i.unit_price_cents) * (1 + any_value(s.tax_rate)))::integer as cents
    from new_items i join new_orders n on n.id = i.order_id join raw.stores s on s.id = n.store_id
    group by i.order_id
) as total on total.order_id = o.id,
(values (1), (2)) as steps (step)
order by o.id, step;

insert into raw.web_events
select
    md5('event' || id || '/' || n)::uuid, md5('session' || id || '/' || n // 4)::uuid,
    case when channel = 'counter' then null else customer_id end,
    pick(['/', '/menu', '/menu/bread', '/menu/lunch', '/basket', '/stores'], 'path' || id || '/' || n),
    pick(['Mozilla/5.0 (Linux; Android 16)', 'Mozilla/5.0 (iPhone; CPU iPhone OS 19_0)', 'Mozilla/5.0 (X11; Linux x86_64)'], 'agent' || id),
    ordered_at - to_seconds(40 * (n + 1))
from (select *, unnest(range(2 + draw('events' || id, 4))) as n from new_orders);

drop table new_items;
drop table new_orders;
drop table new_days;
