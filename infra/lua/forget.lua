-- Takes jobs that do not run off a queue.
-- KEYS[1]  arq's queue
-- ARGV     base, then the ids
-- Returns  how many were on it and did not run
local queue, base = KEYS[1], ARGV[1]
local forgotten = 0
for i = 2, #ARGV do
    local id = ARGV[i]
    local score = tonumber(redis.call('ZSCORE', queue, id) or -math.huge)
    if score >= -SHIFT then
        local lane, kind, account = split(redis.call('HGET', base .. 'who', id))
        -- Whoever cancels a batch does so in its order, so that the id stands near the head.
        if score < 0 then
            local list = base .. lane .. ':' .. kind .. ':' .. account
            redis.call('LREM', list, 1, id)
            -- An account that stays in the ring with no job would stand there twice with its next one.
            if redis.call('EXISTS', list) == 0 then redis.call('LREM', base .. 'ring:' .. lane .. ':' .. kind, 1, account) end
        end
        redis.call('ZREM', queue, id)
        redis.call('DEL', 'arq:job:' .. id, 'arq:retry:' .. id)
        redis.call('HDEL', base .. 'who', id)
        redis.call('HDEL', base .. 'losses', id)
        forgotten = forgotten + 1
    end
end
return forgotten
