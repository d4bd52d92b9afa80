-- Ends the leases of jobs that a worker has run, one way or the other.
-- KEYS[1]  arq's queue
-- ARGV     base, then MessagePack of {now in ms (0: the server's), the worker, {{id, how, ms, result, seconds to keep
--          its in-progress mark, ms it took, whether it failed, the try that it was}, ...}}
--          how "over":  forget the job; keep `result` (if any) as arq's for `ms` (0: for ever)
--          how "again": back on the queue, due in `ms`; that was a try
--          how "back":  back at the head of its account's list; that was no try
-- Returns  the ids that the worker had no lease on any more: for those nothing was changed
local queue, base = KEYS[1], ARGV[1]
local now, worker, jobs = unpack(cmsgpack.unpack(ARGV[2]))
now = clock(now)
local KEPT_TIMES, KEEP_STATS_S = 256, 7200
local ids = {}
for i, job in ipairs(jobs) do ids[i] = job[1] end
local owned, who = redis.call('HMGET', base .. 'owners', unpack(ids)), redis.call('HMGET', base .. 'who', unpack(ids))
local lost, ended, over, back, forgotten, times, changes = {}, {}, {}, {}, {}, {}, {}
local seen, done, failed, returned = {}, 0, 0, 0
for i, job in ipairs(jobs) do
    local id, how, ms, result, progress_s, took, was_failed, try = unpack(job)
    if owned[i] ~= worker or seen[id] then
        lost[#lost + 1] = id
    else
        seen[id] = true
        ended[#ended + 1] = id
        local lane, kind, account = split(who[i])
        add(changes, -1, kind, account)
        if progress_s > 0 then redis.call('EXPIRE', 'arq:in-progress:' .. id, progress_s)
        else forgotten[#forgotten + 1] = 'arq:in-progress:' .. id end
        if how == 'over' then
            over[#over + 1] = id
            forgotten[#forgotten + 1] = 'arq:job:' .. id
            forgotten[#forgotten + 1] = 'arq:retry:' .. id
            if result ~= '' then
                if ms > 0 then redis.call('SET', 'arq:result:' .. id, result, 'PX', ms)
                else redis.call('SET', 'arq:result:' .. id, result) end
            end
            done = done + 1
            if was_failed then failed = failed + 1 end
            gather(times, kind, took)
        elseif is_forgotten(who[i], id) then over[#over + 1] = id
        elseif how == 'again' then
            returned = returned + 1
            redis.call('SET', 'arq:retry:' .. id, try, 'EX', BEGUN_S)
            redis.call('ZADD', queue, now + ms, id)
        else
            returned = returned + 1
            back[#back + 1] = { lane, kind, account, id }
        end
    end
end
for i = #back, 1, -1 do -- from the last one, so that they stand in order at the heads of their lists
    local lane, kind, account, id = unpack(back[i])
    line_up(base, 'LPUSH', lane, kind, account, { id })
    redis.call('ZADD', queue, now - SHIFT, id)
end
if #ended == 0 then return lost end
redis.call('ZREM', base .. 'leases', unpack(ended))
redis.call('HDEL', base .. 'owners', unpack(ended))
count(base, changes)
if #forgotten > 0 then redis.call('DEL', unpack(forgotten)) end
if #over > 0 then
    redis.call('ZREM', queue, unpack(over))
    redis.call('ZREM', 'arq:abort', unpack(over))
    redis.call('HDEL', base .. 'who', unpack(over))
    redis.call('HDEL', base .. 'losses', unpack(over))
end
local stats = base .. 'stats:' .. math.floor(now / 60000)
if done > 0 then redis.call('HINCRBY', stats, 'done', done) end
if failed > 0 then redis.call('HINCRBY', stats, 'failed', failed) end
if returned > 0 then redis.call('HINCRBY', stats, 'again', returned) end
redis.call('EXPIRE', stats, KEEP_STATS_S)
for kind, took in pairs(times) do
    redis.call('LPUSH', base .. 'took:' .. kind, unpack(took))
    redis.call('LTRIM', base .. 'took:' .. kind, 0, KEPT_TIMES - 1)
end
if returned > 0 then wake(base) end
return lost
