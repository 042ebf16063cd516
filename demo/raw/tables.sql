-- The tables that the shop's loaders fill. They live in the warehouse's own file, next to what
-- dbt builds, and belong to nobody's release: going back must never take their rows along.
create schema if not exists raw;

create table raw.stores (
    id integer primary key, name varchar not null, city varchar not null,
    opened_on date not null, tax_rate decimal(5, 4) not null, orders_per_day integer not null
);
insert into raw.stores values
    (1, 'Harbour Street', 'Porto',    date '2026-01-01', 0.0600, 70),
    (2, 'Old Station',    'Ghent',    date '2026-01-01', 0.0600, 110),
    (3, 'Canal House',    'Utrecht',  date '2026-01-01', 0.0900, 90),
    (4, 'Market Hall',    'Leipzig',  date '2026-01-01', 0.0700, 130),
    (5, 'Mill Lane',      'Aarhus',   date '2026-02-02', 0.0800, 60),
    (6, 'University',     'Grenoble', date '2026-03-16', 0.0550, 80);

create table raw.products (
    id varchar primary key, number integer not null, name varchar not null, type varchar not null,
    base_price_cents integer not null, price_cents integer not null, updated_at timestamp not null
);
insert into raw.products
select id, row_number() over (order by id), name, type, price, price, timestamp '2026-01-01 00:00:00'
from (values
    ('BRD-001', 'Country loaf',        'bread',  520), ('BRD-002', 'Rye with caraway',   'bread',  580),
    ('BRD-003', 'Seeded baguette',     'bread',  310), ('CAK-001', 'Almond slice',       'cake',   390),
    ('CAK-002', 'Lemon drizzle',       'cake',   420), ('CAK-003', 'Plum crumble',       'cake',   460),
    ('DRK-001', 'Flat white',          'drink',  340), ('DRK-002', 'Pot of tea',         'drink',  290),
    ('DRK-003', 'Pressed apple juice', 'drink',  370), ('LUN-001', 'Soup of the day',    'lunch',  690),
    ('LUN-002', 'Grilled sandwich',    'lunch',  840), ('LUN-003', 'Lentil salad',       'lunch',  910)
) as menu (id, name, type, price);

create table raw.supplies (
    id integer primary key, product_id varchar not null, name varchar not null,
    cost_cents integer not null, perishable boolean not null
);
insert into raw.supplies
select row_number() over (order by p.id, part), p.id, part, greatest(2, p.base_price_cents * share // 100), part = 'ingredients'
from raw.products p, (values ('ingredients', 24), ('packaging', 4), ('energy', 6)) as parts (part, share);

create table raw.customers (
    id integer primary key, name varchar not null, email varchar not null, city varchar not null,
    loyalty_tier varchar not null, created_at timestamp not null, updated_at timestamp not null
);
create table raw.orders (
    id bigint primary key, customer_id integer not null, store_id integer not null,
    ordered_at timestamp not null, channel varchar not null, loaded_at timestamp not null
);
create table raw.order_items (
    id bigint not null, order_id bigint not null, product_id varchar not null,
    quantity integer not null, unit_price_cents integer not null
);
-- Two rows for every order: the card is authorised when the order is placed and captured later.
create table raw.payments (
    id bigint not null, order_id bigint not null, method varchar not null, state varchar not null,
    amount_cents integer not null, provider_reference uuid not null, paid_at timestamp not null
);
create table raw.web_events (
    id uuid not null, session_id uuid not null, customer_id integer, path varchar not null,
    user_agent varchar not null, occurred_at timestamp not null
);

comment on table raw.orders is 'One row per order, appended by the till loader every night';
comment on table raw.payments is 'One row per change of state, from the payment provider';
