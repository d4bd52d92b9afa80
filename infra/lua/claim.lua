-- Claims due jobs for a worker, each under a lease, in fair order.
-- KEYS[1]  arq's queue
-- ARGV     base, now in ms, lease in ms, how many, the worker, most running per account (0: any), one in how many
--          turns goes to the batch lane first
-- Returns  ms until the next job is due (-1: none waits), then for each claimed job: id, ms it was due, try, definition
local queue, base, now = KEYS[1], ARGV[1], tonumber(ARGV[2])
local lease, wanted, worker = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local cap, batch_every = tonumber(ARGV[6]), tonumber(ARGV[7])
local leases, owners = base .. 'leases', base .. 'owners'

-- Jobs of dead workers come back first, ahead of their account's others.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1000)) do
    local _, account = whose(base, id)
    redis.call('ZREM', leases, id)
    redis.call('HDEL', owners, id)
    redis.call('SREM', base .. 'running:' .. account, id)
    redis.call('DEL', 'arq:in-progress:' .. id)
    if redis.call('EXISTS', 'arq:job:' .. id) == 1 then list(queue, base, id, now, 'LPUSH') end
end
local due = redis.call('ZRANGEBYSCORE', queue, 0, now, 'WITHSCORES', 'LIMIT', 0, math.max(1000, wanted))
for i = 1, #due, 2 do list(queue, base, due[i], tonumber(due[i + 1]), 'RPUSH') end

local claimed = {}
local function serve(lane)
    local ring = base .. 'ring:' .. lane
    for _ = 1, redis.call('LLEN', ring) do
        local account = redis.call('LPOP', ring)
        local waiting, running = base .. lane .. ':' .. account, base .. 'running:' .. account
        if cap > 0 and redis.call('SCARD', running) >= cap then
            redis.call('RPUSH', ring, account) -- full: its turn passes, nobody waits behind it
        else
            local id, score
            repeat -- one that was taken off the queue is skipped
                id = redis.call('LPOP', waiting)
                score = id and tonumber(redis.call('ZSCORE', queue, id) or 1)
            until not id or (score < 0 and score >= -SHIFT)
            if redis.call('EXISTS', waiting) == 1 then redis.call('RPUSH', ring, account) end
            if id then
                redis.call('ZADD', queue, score - SHIFT, id)
                redis.call('ZADD', leases, now + lease, id)
                redis.call('HSET', owners, id, worker)
                redis.call('SADD', running, id)
                redis.call('SET', 'arq:in-progress:' .. id, worker, 'PX', lease)
                local try = redis.call('INCR', 'arq:retry:' .. id)
                redis.call('EXPIRE', 'arq:retry:' .. id, 88400)
                claimed[#claimed + 1] = id
                claimed[#claimed + 1] = string.format('%.0f', score + SHIFT)
                claimed[#claimed + 1] = try
                claimed[#claimed + 1] = redis.call('GET', 'arq:job:' .. id) or ''
                return true
            end
        end
    end
    return false
end

local turn = tonumber(redis.call('GET', base .. 'turn') or '0')
for _ = 1, wanted do
    turn = turn + 1
    local first, second = 'interactive', 'batch'
    if turn % batch_every == 0 then first, second = second, first end
    if not (serve(first) or serve(second)) then break end
end
redis.call('SET', base .. 'turn', turn % 1000000)

local wait = -1
local next_due = redis.call('ZRANGEBYSCORE', queue, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if next_due[2] then wait = math.max(0, tonumber(next_due[2]) - now) end
local next_lost = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
if next_lost[2] then
    local lost_in = math.max(0, tonumber(next_lost[2]) - now)
    if wait < 0 or lost_in < wait then wait = lost_in end
end
-- There may be more than this worker had room for: let the next idle one look too.
if #claimed > 0 and redis.call('LLEN', base .. 'ring:interactive') + redis.call('LLEN', base .. 'ring:batch') > 0 then
    wake(base)
end
table.insert(claimed, 1, wait)
return claimed
