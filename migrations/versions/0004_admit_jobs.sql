-- Admits jobs in their order, each for itself: keeps it together with the most that it can cost, or not at all. One that
-- does not fit stands in nobody's way. Locks come first and in one order (jobs by id, names, balances by id), and every
-- look comes after them, in a statement of its own: a decision made on an older snapshot would sell a unit twice, or
-- deny what was admitted already under the same key.
--
-- The arrays say, one element a job (a job is its place in them; an array may be shorter, or empty, where the rest of it
-- would be nulls):
--   ids, accounts       the job's id, a UUIDv7 whose time is when it was created; and whose it is
--   sorts               the place of its kind among `kinds`, `pools` (where it would wait) and `lanes`
--   specs .. batches    the rest of its row; without labels there are none, and without `runs` it is due at once
--   refused             true: it is not to be admitted, but may have been asked before
--   keys, fingerprints  the place of its Idempotency-Key among `key_accounts`, `key_names` and the request's fingerprint
--   uniques             the place of its unique key among `unique_accounts`, `unique_names`
--   replays             the place among `failed` of the failed job that it is another go at
-- one element each meter of an account: `meter_accounts`, `meters`; and one each need, in the order of the jobs:
-- `need_jobs` and `need_meters` (places), `need_units`.
--
-- Returns, one element a job:
--   statuses   'admitted' (also one of the same id and account that is there already)
--              'replayed', 'unique', 'replay'   another job is the answer: its id is in `answers`
--              'conflict'    the key was used for another request
--              'draining'    its pool takes no new jobs
--              'refused'     as it was told, and not asked before
--              'denied'      the meter `lacking` does not have enough: `remaining` units
--              'no_balance'  the period of a meter is not open yet: then nobody is answered otherwise
-- one element each meter: how it stands now (`limits`, `spent`, `held`, `ends`; nulls where no period is open); and one
-- each threshold that was crossed: the job, the meter, the percentage.
CREATE FUNCTION admit_jobs(
    ids uuid[], accounts uuid[], sorts integer[], specs text[], labels text[], runs timestamptz[],
    start_bys timestamptz[], timeouts integer[], cancel_bys timestamptz[], webhooks text[], batches uuid[],
    refused boolean[], keys integer[], fingerprints bytea[], uniques integer[], replays integer[],
    kinds text[], pools text[], lanes text[],
    key_accounts uuid[], key_names text[], unique_accounts uuid[], unique_names text[], failed uuid[],
    meter_accounts uuid[], meters text[],
    need_jobs integer[], need_meters integer[], need_units bigint[],
    keep_keys interval,
    OUT statuses text[], OUT answers uuid[], OUT lacking integer[], OUT remaining bigint[],
    OUT limits bigint[], OUT spent bigint[], OUT held bigint[], OUT ends timestamptz[],
    OUT crossing_jobs integer[], OUT crossing_meters integer[], OUT crossing_percents integer[]
) LANGUAGE plpgsql
-- Many small look-ups by index, whatever the statistics of a young table say.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_variable
DECLARE
    many integer := cardinality(ids);
    there uuid[];
    drained text[];
    key_answers uuid[];
    key_prints bytea[];
    unique_answers uuid[];
    replay_answers uuid[];
    balances uuid[];
    warned boolean[];
    stopped boolean[];
    touched boolean[] := array_fill(false, ARRAY[cardinality(meters)]);
    fresh boolean[] := array_fill(false, ARRAY[many]);
    named integer[] := '{}';
    first integer;
    last integer := 0;
    meter integer;
    taken bigint;
BEGIN
    statuses := array_fill(NULL::text, ARRAY[many]);
    answers := array_fill(NULL::uuid, ARRAY[many]);
    lacking := array_fill(NULL::integer, ARRAY[many]);
    remaining := array_fill(NULL::bigint, ARRAY[many]);

    -- What is locked.
    IF cardinality(failed) > 0 THEN
        WITH locked AS MATERIALIZED (
            SELECT j.id, j.replayed_as FROM jobs j WHERE j.id = ANY(failed) ORDER BY j.id FOR NO KEY UPDATE
        )
        SELECT array_agg(l.replayed_as ORDER BY f.place) INTO replay_answers
        FROM unnest(failed) WITH ORDINALITY f(id, place) LEFT JOIN locked l ON l.id = f.id;
    END IF;
    IF cardinality(key_names) + cardinality(unique_names) > 0 THEN
        PERFORM pg_advisory_xact_lock(n.name) FROM (
            SELECT DISTINCT hashtextextended(s.said, 0) AS name FROM (
                SELECT 'key ' || k.account || ' ' || k.name FROM unnest(key_accounts, key_names) k(account, name)
                UNION ALL
                SELECT 'unique ' || u.account || ' ' || u.name
                FROM unnest(unique_accounts, unique_names) u(account, name)
            ) s(said) ORDER BY 1
        ) n;
    END IF;
    IF cardinality(meters) > 0 THEN
        WITH locked AS MATERIALIZED (
            SELECT m.place, b.id, b.granted, b.held, b.used, b.period_end, b.warned_at, b.stopped_at
            FROM balances b JOIN unnest(meter_accounts, meters) WITH ORDINALITY m(account, meter, place)
                 ON b.account_id = m.account AND b.meter = m.meter
            WHERE b.period_start <= now() AND (b.period_end IS NULL OR b.period_end > now())
            ORDER BY b.id FOR NO KEY UPDATE OF b
        )
        SELECT array_agg(l.id ORDER BY p.place), array_agg(l.granted ORDER BY p.place),
               array_agg(l.used ORDER BY p.place), array_agg(l.held ORDER BY p.place),
               array_agg(l.period_end ORDER BY p.place),
               array_agg(l.warned_at IS NOT NULL ORDER BY p.place), array_agg(l.stopped_at IS NOT NULL ORDER BY p.place)
        INTO balances, limits, spent, held, ends, warned, stopped
        FROM generate_series(1, cardinality(meters)) p(place) LEFT JOIN locked l ON l.place = p.place;
        IF array_position(balances, NULL) IS NOT NULL THEN -- nobody is answered before those in front of him
            statuses := array_fill('no_balance'::text, ARRAY[many]);
            RETURN;
        END IF;
    END IF;

    -- What is there already.
    SELECT array_agg(j.id) INTO there FROM jobs j WHERE j.id = ANY(ids) AND j.account_id = ANY(accounts);
    SELECT array_agg(p.name) INTO drained FROM pools p WHERE p.draining;
    IF cardinality(key_names) > 0 THEN
        DELETE FROM idempotency_keys k USING unnest(key_accounts, key_names) n(account, name)
        WHERE k.account_id = n.account AND k.key = n.name AND k.expires_at <= now();
        SELECT array_agg(k.subject_id ORDER BY n.place), array_agg(k.fingerprint ORDER BY n.place)
        INTO key_answers, key_prints
        FROM unnest(key_accounts, key_names) WITH ORDINALITY n(account, name, place)
             LEFT JOIN idempotency_keys k ON k.account_id = n.account AND k.key = n.name;
    END IF;
    IF cardinality(unique_names) > 0 THEN
        SELECT array_agg(u.job_id ORDER BY n.place) INTO unique_answers
        FROM unnest(unique_accounts, unique_names) WITH ORDINALITY n(account, name, place)
             LEFT JOIN unique_jobs u ON u.account_id = n.account AND u.key = n.name;
    END IF;

    -- What an answer that was lost had to tell: a threshold was crossed by the call at whose moment the balance says so.
    IF cardinality(there) > 0 AND cardinality(meters) > 0 THEN
        SELECT array_agg(c.job), array_agg(c.meter), array_agg(c.percent)
        INTO crossing_jobs, crossing_meters, crossing_percents
        FROM (
            SELECT max(n.job) AS job, n.meter, m.percent
            FROM unnest(need_jobs, need_meters) n(job, meter)
                 JOIN holds h ON h.holder_id = ids[n.job] AND h.meter = meters[n.meter]
                 JOIN balances b ON b.id = h.balance_id,
                 LATERAL (VALUES (80, b.warned_at), (100, b.stopped_at)) m(percent, moment)
            WHERE ids[n.job] = ANY(there) AND m.moment = h.created_at
            GROUP BY n.meter, m.percent
        ) c;
    END IF;

    -- Who is answered how: those before one in the same call count for it.
    FOR job IN 1 .. many LOOP
        first := last + 1;
        WHILE need_jobs[last + 1] = job LOOP last := last + 1; END LOOP;
        IF ids[job] = ANY(there) THEN
            statuses[job] := 'admitted';
            CONTINUE;
        ELSIF key_answers[keys[job]] IS NOT NULL THEN
            answers[job] := key_answers[keys[job]];
            statuses[job] := CASE WHEN key_prints[keys[job]] = fingerprints[job] THEN 'replayed' ELSE 'conflict' END;
            CONTINUE;
        ELSIF unique_answers[uniques[job]] IS NOT NULL THEN
            statuses[job] := 'unique';
            answers[job] := unique_answers[uniques[job]];
        ELSIF replay_answers[replays[job]] IS NOT NULL THEN
            statuses[job] := 'replay';
            answers[job] := replay_answers[replays[job]];
        ELSIF pools[sorts[job]] = ANY(drained) THEN
            statuses[job] := 'draining';
            CONTINUE;
        ELSIF refused[job] THEN
            statuses[job] := 'refused';
            CONTINUE;
        ELSE
            statuses[job] := 'admitted';
            FOR need IN first .. last LOOP
                meter := need_meters[need];
                IF limits[meter] - spent[meter] - held[meter] < need_units[need] THEN
                    statuses[job] := 'denied';
                    lacking[job] := meter;
                    remaining[job] := limits[meter] - spent[meter] - held[meter];
                    EXIT;
                END IF;
            END LOOP;
            CONTINUE WHEN statuses[job] <> 'admitted';
            FOR need IN first .. last LOOP
                meter := need_meters[need];
                held[meter] := held[meter] + need_units[need];
                touched[meter] := true;
                taken := held[meter] + spent[meter];
                IF NOT warned[meter] AND taken * 100 >= limits[meter] * 80 THEN
                    warned[meter] := true;
                    crossing_jobs := crossing_jobs || job;
                    crossing_meters := crossing_meters || meter;
                    crossing_percents := crossing_percents || 80;
                END IF;
                IF NOT stopped[meter] AND taken >= limits[meter] THEN
                    stopped[meter] := true;
                    crossing_jobs := crossing_jobs || job;
                    crossing_meters := crossing_meters || meter;
                    crossing_percents := crossing_percents || 100;
                END IF;
            END LOOP;
            fresh[job] := true;
            answers[job] := ids[job];
            IF uniques[job] IS NOT NULL THEN unique_answers[uniques[job]] := ids[job]; END IF;
            IF replays[job] IS NOT NULL THEN replay_answers[replays[job]] := ids[job]; END IF;
        END IF;
        IF keys[job] IS NOT NULL THEN -- also of one that is answered by a job that was there before
            key_answers[keys[job]] := answers[job];
            key_prints[keys[job]] := fingerprints[job];
            named := named || job;
        END IF;
    END LOOP;

    -- What is kept.
    IF true = ANY(fresh) THEN
        INSERT INTO jobs (id, account_id, kind, spec, labels, created_at, run_at, lane, start_by, timeout_s, cancel_by,
                          webhook, batch_id, unique_key, replay_of)
        SELECT g.id, g.account, kinds[g.sort], g.spec::jsonb, coalesce(g.labels, '{}')::jsonb,
               uuid_extract_timestamp(g.id), coalesce(g.run_at, uuid_extract_timestamp(g.id)), lanes[g.sort],
               g.start_by, g.timeout_s, g.cancel_by, g.webhook, g.batch, unique_names[g.unique_place],
               failed[g.replay_place]
        FROM unnest(ids, accounts, sorts, specs, labels, runs, start_bys, timeouts, cancel_bys, webhooks, batches,
                    uniques, replays, fresh)
             g(id, account, sort, spec, labels, run_at, start_by, timeout_s, cancel_by, webhook, batch, unique_place,
               replay_place, is_fresh)
        WHERE g.is_fresh
        ON CONFLICT (id) DO NOTHING; -- one without meters and names has locked nothing, and may be asked twice at once
        INSERT INTO holds (holder_id, meter, account_id, balance_id, units)
        SELECT ids[n.job], meters[n.meter], accounts[n.job], balances[n.meter], n.units
        FROM unnest(need_jobs, need_meters, need_units) n(job, meter, units) WHERE fresh[n.job];
        INSERT INTO ledger_entries (id, account_id, balance_id, meter, kind, held, holder_id)
        SELECT uuidv7(), accounts[n.job], balances[n.meter], meters[n.meter], 'hold', n.units, ids[n.job]
        FROM unnest(need_jobs, need_meters, need_units) n(job, meter, units) WHERE fresh[n.job];
        UPDATE balances b
        SET held = n.held,
            warned_at = CASE WHEN n.warned THEN coalesce(b.warned_at, now()) END,
            stopped_at = CASE WHEN n.stopped THEN coalesce(b.stopped_at, now()) END
        FROM unnest(balances, held, warned, stopped, touched) n(id, held, warned, stopped, touched)
        WHERE n.touched AND b.id = n.id;
    END IF;
    IF cardinality(named) > 0 THEN
        INSERT INTO idempotency_keys (account_id, key, fingerprint, subject_id, expires_at)
        SELECT accounts[n.job], key_names[keys[n.job]], fingerprints[n.job], answers[n.job], now() + keep_keys
        FROM unnest(named) n(job);
    END IF;
    IF cardinality(unique_names) > 0 THEN
        INSERT INTO unique_jobs (account_id, key, job_id)
        SELECT accounts[n.job], unique_names[uniques[n.job]], ids[n.job]
        FROM generate_series(1, many) n(job) WHERE fresh[n.job] AND uniques[n.job] IS NOT NULL;
    END IF;
    IF cardinality(failed) > 0 THEN
        UPDATE jobs j SET replayed_as = ids[n.job]
        FROM generate_series(1, many) n(job)
        WHERE fresh[n.job] AND j.id = failed[replays[n.job]] AND j.id = ANY(failed);
    END IF;
END $$
