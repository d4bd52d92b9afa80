-- Extends the leases of a worker's running jobs, and says that the worker lives.
-- KEYS[1]  arq's queue
-- ARGV     base, now in ms (0: the server's), lease in ms, the worker, what it tells operators of itself, ms of its last
--          renewal that it knows to be heard (0: none), ms for which nobody may claim where that was forgotten, then
--          the ids
-- Returns  the slots that operators give a worker (-1: its own number), now in ms, then the ids that another worker runs
--          by now
-- A lease that nobody has, or somebody who did not renew it, is taken again: Redis may have come back empty or old, or
-- this worker was frozen for longer than its lease. Should the job stand in a list again, its score says that it runs,
-- and the list's entry is skipped.
local queue, base, now, lease, worker = KEYS[1], ARGV[1], clock(tonumber(ARGV[2])), tonumber(ARGV[3]), ARGV[4]
local FORGET_MS = 3600000
settling(base, worker, now, lease, tonumber(ARGV[6]), tonumber(ARGV[7]))
local gone = redis.call('ZRANGEBYSCORE', base .. 'alive', '-inf', now - FORGET_MS)
if #gone > 0 then
    redis.call('ZREM', base .. 'alive', unpack(gone))
    redis.call('HDEL', base .. 'workers', unpack(gone))
end
redis.call('ZADD', base .. 'alive', now, worker)
redis.call('HSET', base .. 'workers', worker, ARGV[5])
local changes = {}
local answer = { tonumber(redis.call('HGET', base .. 'control', 'slots') or '-1'), now }
for i = 8, #ARGV do
    local id = ARGV[i]
    local owner = redis.call('HGET', base .. 'owners', id)
    local other = owner and owner ~= worker
    if other and tonumber(redis.call('ZSCORE', base .. 'leases', id) or 0) > now then
        answer[#answer + 1] = id
    else
        if other or not owner then
            redis.call('HSET', base .. 'owners', id, worker)
            redis.call('ZADD', queue, now - 2 * SHIFT, id)
        end
        if not owner then
            local _, kind, account = split(redis.call('HGET', base .. 'who', id))
            add(changes, 1, kind, account)
        end
        redis.call('ZADD', base .. 'leases', now + lease, id)
        redis.call('SET', 'arq:in-progress:' .. id, worker, 'PX', lease)
    end
end
count(base, changes)
return answer
