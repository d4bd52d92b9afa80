-- Tells of many jobs how many go before each that waits, when accounts take turns.
-- KEYS[1]  arq's queue
-- ARGV     base, then the ids
-- Returns  MessagePack of one element each: false when the job does not wait; else those before it in its lane, those
--          before it of its own account, those that wait in the other lane, how many jobs run, and of its account and of
--          its kind, and its lane
-- What several jobs need of a lane, a ring or a list is looked at once.
local queue, base = KEYS[1], ARGV[1]
local ids = { unpack(ARGV, 2) }
local scores, said = redis.call('ZMSCORE', queue, unpack(ids)), redis.call('HMGET', base .. 'who', unpack(ids))

local function once(make)
    local known = {}
    return function(name, ...)
        if known[name] == nil then known[name] = make(name, ...) end
        return known[name]
    end
end

-- How many jobs stand in the lists of a lane.
local lane_of = once(function(lane) return standing(base, lane) end)
local kind_of = once(function(_, lane, kind) return standing(base, lane, kind) end)
local kinds_of = once(function(lane) return redis.call('SMEMBERS', base .. 'rings:' .. lane) end)
local running_of = once(function(name) return tonumber(redis.call('HGET', base .. 'running', name) or 0) end)
local leases = redis.call('ZCARD', base .. 'leases')

-- The ring of a lane and kind: how many jobs each account in it has, where each account stands, and how many accounts
-- each of those that were looked at speaks for.
local ring_at = once(function(_, lane, kind)
    local accounts, length = ring_of(base, lane, kind)
    local counts, places = {}, {}
    for i, account in ipairs(accounts) do
        counts[i], places[account] = redis.call('LLEN', base .. lane .. ':' .. kind .. ':' .. account), i
    end
    return { counts = counts, places = places, share = math.max(1, length / math.max(1, #accounts)), turns = {} }
end)

-- After so many turns of every account: the jobs that have gone, and up to each account those that have one more.
local function turns_of(ring, many)
    local turns = ring.turns[many]
    if not turns then
        local gone, more, sum = 0, {}, 0
        for i, count in ipairs(ring.counts) do
            gone = gone + math.min(count, many)
            if count > many then sum = sum + 1 end
            more[i] = sum
        end
        turns = { gone = gone, more = more, all = sum }
        ring.turns[many] = turns
    end
    return turns
end

-- New jobs stand at the tail of their list: of one that is asked for often, the tail is read at once.
local asked, of = {}, {}
for i, id in ipairs(ids) do
    local score = tonumber(scores[i] or 0)
    if score < 0 and score >= -SHIFT then
        local lane, kind, account = split(said[i])
        local list = base .. lane .. ':' .. kind .. ':' .. account
        of[i] = { lane = lane, kind = kind, account = account, list = list }
        asked[list] = (asked[list] or 0) + 1
    end
end
local tail_of = once(function(list)
    local places, length = {}, redis.call('LLEN', list)
    if asked[list] > 2 then
        local tail = redis.call('LRANGE', list, -4 * asked[list] - 50, -1)
        for i, id in ipairs(tail) do places[id] = length - #tail + i - 1 end
    end
    return { places = places, length = length }
end)

-- Of a long list both ends are looked at first.
local function own_of(list, id)
    local tail = tail_of(list)
    return tail.places[id] or redis.call('LPOS', list, id, 'RANK', -1, 'MAXLEN', 1000)
        or redis.call('LPOS', list, id, 'MAXLEN', 1000) or redis.call('LPOS', list, id) or tail.length
end

local told = {}
for i, id in ipairs(ids) do
    local job = of[i]
    told[i] = false
    if job then
        local own, name = own_of(job.list, id), job.lane .. ' ' .. job.kind
        -- Each other account has had as many turns as this one, and one more where it stands before it in the ring.
        local ring = ring_at(name, job.lane, job.kind)
        local turns, place = turns_of(ring, own), ring.places[job.account]
        local others = turns.gone + (place and turns.more[place] or turns.all)
        if place then
            local count = ring.counts[place]
            others = others - math.min(count, own) - (count > own and 1 or 0)
        end
        local before = own + others * ring.share
        local in_kind = before
        for _, other in ipairs(kinds_of(job.lane)) do
            if other ~= job.kind then
                before = before + math.min(kind_of(job.lane .. ' ' .. other, job.lane, other), in_kind)
            end
        end
        told[i] = {
            math.floor(before), own, lane_of(job.lane == 'batch' and 'interactive' or 'batch'), leases,
            running_of('account:' .. job.account), running_of('kind:' .. job.kind), job.lane,
        }
    end
end
return cmsgpack.pack(told)
