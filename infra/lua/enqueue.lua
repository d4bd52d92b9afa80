-- Puts jobs on a queue, each once: one that waits or runs already stays as it is.
-- KEYS[1]  arq's queue
-- ARGV     base, now in ms, ms at which they are due, ms to keep a definition, then for each job: id, lane, account, definition
-- Returns  the number of jobs that are new on the queue
local queue, base, now, due = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local added = 0
for i = 5, #ARGV, 4 do
    local id = ARGV[i]
    if not redis.call('ZSCORE', queue, id) then
        redis.call('SET', 'arq:job:' .. id, ARGV[i + 3], 'PX', ARGV[4])
        redis.call('HSET', base .. 'who', id, ARGV[i + 1] .. ' ' .. ARGV[i + 2])
        if due > now then redis.call('ZADD', queue, due, id) else list(queue, base, id, due, 'RPUSH') end
        added = added + 1
    end
end
if added > 0 then wake(base) end
return added
