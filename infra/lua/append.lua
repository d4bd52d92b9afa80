-- Appends attempts' events to their jobs' streams, and what concerns the whole account to the account's, and publishes
-- both to whoever follows them: many jobs in one call.
-- ARGV     what the streams' names of jobs and of accounts begin with, how many events an account's keeps and for how many
--          seconds, then MessagePack of {{job id, account id, what stands before an event in the account's stream, seconds
--          to keep, attempt, number of the first event (0: the next, whatever it is), how many, the events joined by line
--          feeds, those of them that the account's stream gets too, whether these are the last, whether nothing is kept of
--          a stream that has ended and that nobody hears}, ...}
-- Returns  for each job two values: "ok" and n, the last event's number | "elsewhere" and n: the stream has this
--          attempt's first n events, so send from n + 1 | "fenced" and 0: a later attempt has spoken
-- Events that leave together are one entry, under the last one's id: event n of attempt a has the id a-n. So Redis itself
-- keeps the order, and what was said already is recognised, and is no news for the account either. A stream's channel has
-- its name; what is published is an entry as it stands there: its id, a line feed (in an account's: a space) and it.
local answer, news = {}, {}
for i, job in ipairs(cmsgpack.unpack(ARGV[5])) do
    local id, account, head, keep_s, attempt, first, many, said, shared, over, quiet = unpack(job)
    local stream, how = ARGV[1] .. id, 'ok'
    local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    local last_attempt, known = 0, 0
    if last then
        last_attempt, known = string.match(last[1], '^(%d+)-(%d+)$')
        last_attempt, known = tonumber(last_attempt), tonumber(known)
        if last_attempt < attempt then known = 0 end
    end
    -- Sent again because the answer was lost, it is the last entry already.
    if first == 0 then first = last and last_attempt == attempt and last[2][2] == said and known or known + 1 end
    local n = first + many - 1
    if last_attempt > attempt then how, n = 'fenced', 0
    elseif n <= known then n = known -- what was said already changes nothing, also not how long the stream is kept
    elseif first ~= known + 1 then how, n = 'elsewhere', known
    else
        local entry = attempt .. '-' .. n
        local ears = redis.call('PUBLISH', stream, entry .. '\n' .. said)
        if over and quiet and ears == 0 then redis.call('UNLINK', stream)
        else
            redis.call('XADD', stream, entry, 'e', said)
            if first == 1 or over then redis.call('EXPIRE', stream, keep_s) end
        end
        for _, line in ipairs(shared) do
            local whole, told = ARGV[2] .. account, head .. line
            local place = redis.call('XADD', whole, 'MAXLEN', '~', ARGV[3], '*', 'e', told)
            news[whole] = (news[whole] and news[whole] .. '\n' or '') .. place .. ' ' .. told
        end
    end
    answer[2 * i - 1], answer[2 * i] = how, n
end
for whole, told in pairs(news) do
    redis.call('EXPIRE', whole, ARGV[4])
    redis.call('PUBLISH', whole, told)
end
return answer
