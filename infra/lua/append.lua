-- Appends attempts' events to their jobs' streams and pokes the followers: many jobs in one call.
-- ARGV     what the streams' names begin with, then MessagePack of {{job id, channel, seconds to keep, attempt, number of
--          the first event, how many, the events joined by line feeds, whether these are the last}, ...}
-- Returns  for each job two values: "ok" and n, the last event's number | "elsewhere" and n: the stream has this
--          attempt's first n events, so send from n + 1 | "fenced" and 0: a later attempt has spoken
-- Events that leave together are one entry, under the last one's id: event n of attempt a has the id a-n. So Redis itself
-- keeps the order, and what was said already is recognised. What is published is the ids of the jobs, apart by spaces.
local answer, poked = {}, {}
for i, job in ipairs(cmsgpack.unpack(ARGV[2])) do
    local id, channel, keep_s, attempt, first, many, said, over = unpack(job)
    local stream, how, n = ARGV[1] .. id, 'ok', first + many - 1
    local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    local last_attempt, known = 0, 0
    if last then
        last_attempt, known = string.match(last[1], '^(%d+)-(%d+)$')
        last_attempt, known = tonumber(last_attempt), tonumber(known)
        if last_attempt < attempt then known = 0 end
    end
    if last_attempt > attempt then how, n = 'fenced', 0
    elseif n <= known then n = known -- what was said already changes nothing, also not how long the stream is kept
    elseif first ~= known + 1 then how, n = 'elsewhere', known
    else
        redis.call('XADD', stream, attempt .. '-' .. n, 'e', said)
        if first == 1 or over then redis.call('EXPIRE', stream, keep_s) end
        poked[channel] = poked[channel] and poked[channel] .. ' ' .. id or id
    end
    answer[2 * i - 1], answer[2 * i] = how, n
end
for channel, ids in pairs(poked) do redis.call('PUBLISH', channel, ids) end
return answer
