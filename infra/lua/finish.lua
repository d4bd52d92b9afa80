-- Ends the leases of jobs that a worker has run, one way or the other.
-- KEYS[1]  arq's queue
-- ARGV     base, now in ms, the worker, then for each job: id, how, ms, data, seconds to keep its in-progress mark
--          how "over":  forget the job; keep `data` (if any) as arq's result for `ms` (0: for ever)
--          how "again": back on the queue, due in `ms`
-- Returns  the ids that the worker had no lease on any more: for those nothing was changed
local queue, base, now, worker = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local lost, back = {}, false
for i = 4, #ARGV, 5 do
    local id, how, ms, data = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
    if redis.call('HGET', base .. 'owners', id) ~= worker then
        lost[#lost + 1] = id
    else
        local _, account = whose(base, id)
        redis.call('ZREM', base .. 'leases', id)
        redis.call('HDEL', base .. 'owners', id)
        redis.call('SREM', base .. 'running:' .. account, id)
        if tonumber(ARGV[i + 4]) > 0 then redis.call('EXPIRE', 'arq:in-progress:' .. id, ARGV[i + 4])
        else redis.call('DEL', 'arq:in-progress:' .. id) end
        redis.call('ZREM', 'arq:abort', id)
        if how == 'again' then
            redis.call('ZADD', queue, now + ms, id)
            back = true
        else
            redis.call('ZREM', queue, id)
            redis.call('DEL', 'arq:job:' .. id, 'arq:retry:' .. id)
            redis.call('HDEL', base .. 'who', id)
            if data ~= '' then
                if ms > 0 then redis.call('SET', 'arq:result:' .. id, data, 'PX', ms)
                else redis.call('SET', 'arq:result:' .. id, data) end
            end
        end
    end
end
if back then wake(base) end
return lost
