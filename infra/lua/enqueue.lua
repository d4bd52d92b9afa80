-- Puts jobs on a queue, each once: one that waits or runs already stays as it is. Of one that runs, what Redis has
-- forgotten is told again.
-- KEYS[1]  arq's queue
-- ARGV     base, then MessagePack of {now in ms (0: the server's), ms to keep a definition, {{id, lane, kind, account,
--          definition, ms at which it is due (0: now)}, ...}}
-- Returns  the number of jobs that are new on the queue
local queue, base = KEYS[1], ARGV[1]
local now, keep, jobs = unpack(cmsgpack.unpack(ARGV[2]))
now = clock(now)
local ids = {}
for i, job in ipairs(jobs) do ids[i] = job[1] end
local known, seen = redis.call('ZMSCORE', queue, unpack(ids)), {}
local who, scores, lists, changes, added = {}, {}, {}, {}, 0
for i, job in ipairs(jobs) do
    local id, lane, kind, account, definition, due = unpack(job)
    if due == 0 then due = now end
    if not known[i] and not seen[id] then
        seen[id] = true
        added = added + 1
        redis.call('SET', 'arq:job:' .. id, definition, 'PX', keep)
        who[#who + 1] = id
        who[#who + 1] = lane .. ' ' .. kind .. ' ' .. account
        scores[#scores + 1] = due > now and due or due - SHIFT
        scores[#scores + 1] = id
        if due <= now then gather(lists, who[#who], id) end
    elseif not seen[id] and tonumber(known[i]) < -SHIFT and is_forgotten(redis.call('HGET', base .. 'who', id), id) then
        seen[id] = true
        redis.call('SET', 'arq:job:' .. id, definition, 'PX', keep)
        who[#who + 1] = id
        who[#who + 1] = lane .. ' ' .. kind .. ' ' .. account
        add(changes, -1, '', '')
        add(changes, 1, kind, account)
    end
end
if #who > 0 then redis.call('HSET', base .. 'who', unpack(who)) end
count(base, changes)
if added == 0 then return 0 end
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
