-- Puts jobs on a queue, each once: one that waits or runs already stays as it is.
-- KEYS[1]  arq's queue
-- ARGV     base, then MessagePack of {now in ms, ms at which they are due, ms to keep a definition,
--          {{id, lane, kind, account, definition}, ...}}
-- Returns  the number of jobs that are new on the queue
local queue, base = KEYS[1], ARGV[1]
local now, due, keep, jobs = unpack(cmsgpack.unpack(ARGV[2]))
local ids = {}
for i, job in ipairs(jobs) do ids[i] = job[1] end
local known, seen = redis.call('ZMSCORE', queue, unpack(ids)), {}
local who, scores, lists, added = {}, {}, {}, 0
for i, job in ipairs(jobs) do
    local id, lane, kind, account, definition = unpack(job)
    if not known[i] and not seen[id] then
        seen[id] = true
        added = added + 1
        redis.call('SET', 'arq:job:' .. id, definition, 'PX', keep)
        who[#who + 1] = id
        who[#who + 1] = lane .. ' ' .. kind .. ' ' .. account
        scores[#scores + 1] = due > now and due or due - SHIFT
        scores[#scores + 1] = id
        if due <= now then gather(lists, who[#who], id) end
    end
end
if added == 0 then return 0 end
redis.call('HSET', base .. 'who', unpack(who))
redis.call('ZADD', queue, unpack(scores))
for i = 2, #who, 2 do -- in the order in which they came, so that accounts take their turns in it
    local list = lists[who[i]]
    if list then
        local lane, kind, account = split(who[i])
        line_up(base, 'RPUSH', lane, kind, account, list)
        lists[who[i]] = nil
    end
end
wake(base)
return added
