-- Extends the leases of a worker's running jobs.
-- KEYS[1]  arq's queue
-- ARGV     base, now in ms, lease in ms, the worker, then the ids
-- Returns  the ids that another worker runs by now
-- A lease that nobody has is taken again: Redis may have come back empty or old, or this worker was frozen for longer
-- than its lease. Should the job stand in a list again, its score says that it runs, and the list's entry is skipped.
local queue, base, now, lease, worker = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local lost = {}
for i = 5, #ARGV do
    local id = ARGV[i]
    local owner = redis.call('HGET', base .. 'owners', id)
    if owner and owner ~= worker then
        lost[#lost + 1] = id
    else
        if not owner then
            local _, account = whose(base, id)
            redis.call('HSET', base .. 'owners', id, worker)
            redis.call('SADD', base .. 'running:' .. account, id)
            redis.call('ZADD', queue, now - 2 * SHIFT, id)
        end
        redis.call('ZADD', base .. 'leases', now + lease, id)
        redis.call('SET', 'arq:in-progress:' .. id, worker, 'PX', lease)
    end
end
return lost
