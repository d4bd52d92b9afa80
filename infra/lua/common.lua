-- What the queue's scripts share; it stands before each of them.
--
-- A job is a member of arq's queue (a sorted set) until it is over, and its score tells where it is:
--   due              not in a list: it is not due, or arq itself enqueued it and nobody has looked since
--   due - SHIFT      it stands in the list of its lane, kind and account
--   due - 2 * SHIFT  it runs under a lease
-- So arq reads "deferred", "queued" and "still there" as ever, and each of the three is one range of scores: a claim
-- looks at what has become due, never at what runs. An account with waiting jobs stands once in the ring of their lane
-- and kind, and a kind with such accounts is a member of its lane's rings.
-- Commands are called for many jobs at once wherever they can be: a call from Lua costs as much as its work.
local SHIFT = 4398046511104 -- 2^42 ms, the year 2109
local MOST_UNPACKED = 1000 -- Lua passes some 8000 arguments at most
local BEGUN_S = 88400 -- how long arq remembers the tries of a job

-- What time it is, in ms, by the server's own clock: those of the workers' machines need not agree with each other. Who
-- says a time (a simulation) is believed.
local function clock(told)
    if told > 0 then return told end
    local at = redis.call('TIME')
    return at[1] * 1000 + math.floor(at[2] / 1000)
end

-- For how many ms nobody may claim. A server that has forgotten what a worker knows it heard came back empty or old; one
-- that has heard nobody for half a lease was away, or hung. What it says of leases is not so then, until every living
-- worker has renewed, and so taken again what it runs. Whoever comes first says so, be it to claim or to renew.
local function settling(base, worker, now, lease, heard, settle)
    local left = redis.call('PTTL', base .. 'settling')
    if left > 0 then return left end
    local known = tonumber(redis.call('ZSCORE', base .. 'alive', worker) or 0)
    local newest = tonumber(redis.call('ZRANGE', base .. 'alive', -1, -1, 'WITHSCORES')[2] or now)
    if known >= heard and now - newest < lease / 2 then return 0 end
    redis.call('SET', base .. 'settling', worker, 'PX', settle)
    return settle
end

local function split(said)
    if not said then return 'interactive', '', '' end -- enqueued by arq itself
    return string.match(said, '^(%S+) (%S*) (.*)$')
end

-- Whether Redis came back empty or old, and only the worker of a job knew of it: what is to be called is not known here
-- any more. It may run to its end; otherwise the tender puts it on the queue anew.
local function is_forgotten(said, id)
    return not said and redis.call('EXISTS', 'arq:job:' .. id) == 0
end

-- Adds a value to one of several lists.
local function gather(groups, name, value)
    local group = groups[name]
    if group then group[#group + 1] = value else groups[name] = { value } end
end

-- Puts the ids of one account at the end (RPUSH) or the head (LPUSH) of its list.
local function line_up(base, push, lane, kind, account, ids)
    local ring = base .. 'ring:' .. lane .. ':' .. kind
    if redis.call(push, base .. lane .. ':' .. kind .. ':' .. account, unpack(ids)) == #ids then
        if redis.call('RPUSH', ring, account) == 1 then redis.call('SADD', base .. 'rings:' .. lane, kind) end
    end
end

-- Counts the running jobs of kinds and accounts, for their caps. Whoever takes a lease or ends one says so here, in the
-- same call; and the tender counts the leases anew (recount.lua), so that nothing can stay wrong.
local function count_some(base, changes, names)
    local before = redis.call('HMGET', base .. 'running', unpack(names))
    local now, none = {}, {}
    for i, name in ipairs(names) do
        local n = tonumber(before[i] or 0) + changes[name]
        if n > 0 then
            now[#now + 1] = name
            now[#now + 1] = n
        elseif before[i] then none[#none + 1] = name end
    end
    if #now > 0 then redis.call('HSET', base .. 'running', unpack(now)) end
    if #none > 0 then redis.call('HDEL', base .. 'running', unpack(none)) end
end

local function count(base, changes)
    local names = {}
    for name in pairs(changes) do
        names[#names + 1] = name
        if #names == MOST_UNPACKED then
            count_some(base, changes, names)
            names = {}
        end
    end
    if #names > 0 then count_some(base, changes, names) end
end

local function add(changes, by, kind, account)
    kind, account = 'kind:' .. kind, 'account:' .. account
    changes[kind] = (changes[kind] or 0) + by
    changes[account] = (changes[account] or 0) + by
end

-- One token wakes one idle worker; whoever claims and leaves something wakes the next.
local function wake(base)
    if redis.call('LLEN', base .. 'wake') == 0 then redis.call('LPUSH', base .. 'wake', 1) end
end

