-- Claims due jobs for a worker, each under a lease, in fair order.
-- KEYS[1]  arq's queue
-- ARGV     base, now in ms (0: the server's), lease in ms, how many, the worker, most running per account (0: any
--          number), one in how many turns goes to the batch lane first, 1 if aborts are heeded, ms of the last renewal
--          that the worker knows to be heard (0: none), and ms to wait for the others where Redis has forgotten that one
-- Returns  ms until it is worth looking again (-1: nothing is to be expected), the slots that operators give a worker
--          (-1: its own number), then for each claimed job: id, ms it was due, tries and losses before this one,
--          ms at which it was aborted (0: never), definition
local queue, base, now = KEYS[1], ARGV[1], clock(tonumber(ARGV[2]))
local lease, wanted, worker = tonumber(ARGV[3]), math.min(tonumber(ARGV[4]), MOST_UNPACKED), ARGV[5]
local batch_every, heed_aborts = tonumber(ARGV[7]), ARGV[8] == '1'
local leases, owners = base .. 'leases', base .. 'owners'
local MOST_LOOKED_AT = 1000

local said = redis.call('HGETALL', base .. 'control')
local control = {}
for i = 1, #said, 2 do control[said[i]] = said[i + 1] end
local slots = tonumber(control.slots or '-1')
local account_cap = tonumber(control.account_cap or ARGV[6])

local unsettled = settling(base, worker, now, lease, tonumber(ARGV[9]), tonumber(ARGV[10]))
if unsettled > 0 then return { unsettled, slots } end

-- Jobs of dead workers come back first, ahead of their account's others; that is no try of theirs.
local dead = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, MOST_LOOKED_AT)
if #dead > 0 then
    local whose = redis.call('HMGET', base .. 'who', unpack(dead))
    redis.call('ZREM', leases, unpack(dead))
    redis.call('HDEL', owners, unpack(dead))
    local changes = {}
    for i = #dead, 1, -1 do -- from the last one, so that they stand in order at the head
        local id = dead[i]
        redis.call('DEL', 'arq:in-progress:' .. id)
        local lane, kind, account = split(whose[i])
        add(changes, -1, kind, account)
        if is_forgotten(whose[i], id) then redis.call('ZREM', queue, id)
        elseif redis.call('ZSCORE', queue, id) then -- one that is not there is over
            redis.call('HINCRBY', base .. 'losses', id, 1)
            line_up(base, 'LPUSH', lane, kind, account, { id })
            redis.call('ZADD', queue, now - SHIFT, id)
        end
    end
    count(base, changes)
end
local due = redis.call('ZRANGEBYSCORE', queue, 0, now, 'WITHSCORES', 'LIMIT', 0, math.max(MOST_LOOKED_AT, wanted))
for i = 1, #due, 2 do
    local lane, kind, account = split(redis.call('HGET', base .. 'who', due[i]))
    line_up(base, 'RPUSH', lane, kind, account, { due[i] })
    redis.call('ZADD', queue, tonumber(due[i + 1]) - SHIFT, due[i])
end

local ids, scores, taken, changes, looked_at = {}, {}, {}, {}, 0

local function room(cap, name)
    if cap <= 0 then return wanted end
    return cap - tonumber(redis.call('HGET', base .. 'running', name) or 0) - (changes[name] or 0)
end

-- Keeps those of the next jobs that still wait: one that was taken off the queue is skipped.
local function take(kind, next, accounts)
    if #next == 0 then return end
    local found = redis.call('ZMSCORE', queue, unpack(next))
    for i, id in ipairs(next) do
        local score = tonumber(found[i] or 1)
        if score < 0 and score >= -SHIFT and not taken[id] then
            taken[id] = true
            ids[#ids + 1] = id
            scores[#scores + 1] = score
            add(changes, 1, kind, accounts[i])
        end
    end
end

-- Keeps those of the accounts whose lists have more. In a backlog all have: then one call tells it.
local function with_more(lists, accounts)
    local names, more = {}, {}
    for i, account in ipairs(accounts) do names[i] = lists .. account end
    if #names == 0 or redis.call('EXISTS', unpack(names)) == #names then return accounts end
    for i, account in ipairs(accounts) do
        if redis.call('EXISTS', names[i]) == 1 then more[#more + 1] = account end
    end
    return more
end

-- Gives each account of a ring its turn until `most` jobs are claimed, or no account has one that may run.
local function serve_ring(lane, kind, most)
    local ring, before, passed = base .. 'ring:' .. lane .. ':' .. kind, #ids, 0
    local lists = base .. lane .. ':' .. kind .. ':'
    most = math.min(most, room(tonumber(control['kind:' .. kind] or '0'), 'kind:' .. kind))
    while #ids - before < most and looked_at < MOST_LOOKED_AT do
        local length = redis.call('LLEN', ring)
        if length == 0 or passed >= length then break end
        local left = most - (#ids - before)
        local accounts, back = redis.call('LPOP', ring, math.min(length, left)), {}
        local share, next, whose = math.max(1, math.floor(left / #accounts)), {}, {}
        for _, account in ipairs(accounts) do
            looked_at = looked_at + 1
            local turn = share
            if account_cap > 0 then turn = math.min(share, room(account_cap, 'account:' .. account)) end
            if turn <= 0 then
                back[#back + 1] = account -- full: its turn passes, nobody waits behind it
                passed = passed + 1
            else
                passed = 0
                local its = redis.call('LPOP', lists .. account, turn) or {}
                for _, id in ipairs(its) do
                    next[#next + 1] = id
                    whose[#next] = account
                end
                if #its == turn then back[#back + 1] = account end
            end
        end
        take(kind, next, whose)
        back = with_more(lists, back)
        if #back > 0 then redis.call('RPUSH', ring, unpack(back)) end
    end
    if redis.call('EXISTS', ring) == 0 then redis.call('SREM', base .. 'rings:' .. lane, kind) end
    return #ids - before
end

-- How many turns there were, in all and in each lane. A lane's kinds take theirs by its own count: by that of all, the
-- turns that are the batch lane's could always be the same kind's.
local turns = { all = 0, interactive = 0, batch = 0 }

-- Shares `most` turns of a lane among its kinds, and gives what one cannot use to the others.
local function serve(lane, most)
    local kinds, got, turn = redis.call('SMEMBERS', base .. 'rings:' .. lane), 0, turns[lane]
    table.sort(kinds)
    for round = 1, 2 do
        for i = 1, #kinds do
            local kind = kinds[(i + turn) % #kinds + 1]
            local left = most - got
            if left > 0 then
                local share = round == 2 and left or math.ceil(left / (#kinds - i + 1))
                got = got + serve_ring(lane, kind, share)
            end
        end
    end
    turns.all, turns[lane] = turns.all + got, turn + got
    return got
end

local wait = -1
if control.paused ~= '1' then
    local said = redis.call('HMGET', base .. 'turns', 'all', 'interactive', 'batch')
    turns.all, turns.interactive, turns.batch = tonumber(said[1] or 0), tonumber(said[2] or 0), tonumber(said[3] or 0)
    local left, turn = wanted, turns.all
    local for_batch = math.floor((turn + wanted) / batch_every) - math.floor(turn / batch_every)
    if for_batch > 0 then left = left - serve('batch', for_batch) end
    if left > 0 then left = left - serve('interactive', left) end
    if left > 0 then left = left - serve('batch', left) end
    if #ids > 0 then
        for name, n in pairs(turns) do turns[name] = n % (batch_every * 100000) end
        redis.call('HSET', base .. 'turns', 'all', turns.all, 'interactive', turns.interactive, 'batch', turns.batch)
    end
    if looked_at >= MOST_LOOKED_AT then wait = 20 end
end

local claimed = {}
if #ids > 0 then
    local running, expiries, owned, definitions, tries = {}, {}, {}, {}, {}
    for i, id in ipairs(ids) do
        running[2 * i - 1], running[2 * i] = scores[i] - SHIFT, id
        expiries[2 * i - 1], expiries[2 * i] = now + lease, id
        owned[2 * i - 1], owned[2 * i] = id, worker
        definitions[i], tries[i] = 'arq:job:' .. id, 'arq:retry:' .. id
        redis.call('SET', 'arq:in-progress:' .. id, worker, 'PX', lease)
    end
    redis.call('ZADD', queue, unpack(running))
    redis.call('ZADD', leases, unpack(expiries))
    redis.call('HSET', owners, unpack(owned))
    count(base, changes)
    definitions, tries = redis.call('MGET', unpack(definitions)), redis.call('MGET', unpack(tries))
    local losses = redis.call('HMGET', base .. 'losses', unpack(ids))
    local aborts = heed_aborts and redis.call('ZMSCORE', 'arq:abort', unpack(ids)) or {}
    for i, id in ipairs(ids) do
        local at = 6 * (i - 1)
        claimed[at + 1], claimed[at + 2] = id, scores[i] + SHIFT
        claimed[at + 3], claimed[at + 4] = tonumber(tries[i] or 0), tonumber(losses[i] or 0)
        claimed[at + 5], claimed[at + 6] = tonumber(aborts[i] or 0), definitions[i] or ''
    end
    -- There may be more than this worker had room for: let the next idle one look too.
    if #ids >= wanted and redis.call('EXISTS', base .. 'rings:interactive', base .. 'rings:batch') > 0 then wake(base) end
end

local function sooner(at)
    if at and (wait < 0 or at - now < wait) then wait = math.max(0, at - now) end
end
if #ids < wanted then
    sooner(tonumber(redis.call('ZRANGEBYSCORE', queue, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]))
    sooner(tonumber(redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]))
end
return { wait, slots, unpack(claimed) }
