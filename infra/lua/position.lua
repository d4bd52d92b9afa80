-- Tells how many jobs go before one that waits, when accounts take turns.
-- KEYS[1]  arq's queue
-- ARGV     base, the id
-- Returns  nothing when the job does not wait; else those before it in its lane, those before it of its own account,
--          those that wait in the other lane, how many jobs run, and of its account and of its kind, and its lane
local queue, base, id = KEYS[1], ARGV[1], ARGV[2]
local score = tonumber(redis.call('ZSCORE', queue, id) or 0)
if score >= 0 or score < -SHIFT then return {} end
local lane, kind, account = split(redis.call('HGET', base .. 'who', id))
local list = base .. lane .. ':' .. kind .. ':' .. account
-- Of a long list both ends are looked at first: a new job stands at its tail.
local own = redis.call('LPOS', list, id, 'MAXLEN', 1000) or redis.call('LPOS', list, id, 'RANK', -1, 'MAXLEN', 1000)
    or redis.call('LPOS', list, id) or redis.call('LLEN', list)

-- Each other account has had as many turns as this one, and one more where it stands before it in the ring.
local before = own
local accounts, length = ring_of(base, lane, kind)
local ahead = true
for _, other in ipairs(accounts) do
    if other == account then ahead = false
    else
        local waiting = redis.call('LLEN', base .. lane .. ':' .. kind .. ':' .. other)
        before = before + math.min(waiting, own + (ahead and 1 or 0)) * math.max(1, length / #accounts)
    end
end
local in_kind = before
for _, other in ipairs(redis.call('SMEMBERS', base .. 'rings:' .. lane)) do
    if other ~= kind then before = before + math.min(standing(base, lane, other), in_kind) end
end
local running = redis.call('HMGET', base .. 'running', 'account:' .. account, 'kind:' .. kind)
return {
    math.floor(before), own, standing(base, lane == 'batch' and 'interactive' or 'batch'),
    redis.call('ZCARD', base .. 'leases'), tonumber(running[1] or 0), tonumber(running[2] or 0), lane,
}
