-- Lets requests pass or not, each by all of its limits: many requests in one call.
-- ARGV     what the limits' names begin with, then MessagePack of {now, rates, requests}: the time in microseconds (0: the
--          server's own), {{microseconds for one request, most at once}, ...}, and for each request {1, or 0 to only look,
--          which rate, name, which rate, name, ...}
-- Returns  for each request {which of its limits refuses it (0: none), microseconds until it may pass, then for each limit
--          how many requests it has left and the microseconds until it has one more}
-- GCRA: a limit keeps one number, the theoretical arrival time, at which it will have forgotten what has passed. A request
-- moves it on by the time of one request, and may not move it further than the burst beyond now. All in whole
-- microseconds, which are exact up to 2^53. A refused request moves nothing.
local now, rates, requests = unpack(cmsgpack.unpack(ARGV[2]))
if now == 0 then
    local at = redis.call('TIME')
    now = at[1] * 1000000 + at[2]
end

-- Every limit is read and written once, however many of the requests it has to do with.
local keys, known = {}, {}
for _, request in ipairs(requests) do
    for i = 3, #request, 2 do
        local key = ARGV[1] .. request[i]
        if not known[key] then
            keys[#keys + 1] = key
            known[key] = rates[request[i - 1]]
        end
    end
end
local arrival, moved = {}, {}
for first = 1, #keys, 1000 do
    local some = { unpack(keys, first, math.min(first + 999, #keys)) }
    for i, told in ipairs(redis.call('MGET', unpack(some))) do
        local each, most = unpack(known[some[i]])
        -- Nothing that passed is further ahead than the burst: what is comes from a clock that was set back, or from
        -- another rate.
        local kept, furthest = tonumber(told or 0), now + each * most
        arrival[some[i]] = math.min(math.max(kept, now), furthest)
        if kept > furthest then moved[some[i]] = true end
    end
end

local answers = {}
for n, request in ipairs(requests) do
    local refusing, wait = 0, 0
    for i = 2, #request, 2 do
        local each, most = unpack(rates[request[i]])
        local over = arrival[ARGV[1] .. request[i + 1]] + each - now - each * most
        if over > wait then refusing, wait = i / 2, over end
    end
    local answer = { refusing, wait }
    for i = 2, #request, 2 do
        local key, each, most = ARGV[1] .. request[i + 1], unpack(rates[request[i]])
        if refusing == 0 and request[1] > 0 then
            arrival[key] = arrival[key] + each
            moved[key] = true
        end
        local owed = arrival[key] - now
        local left = math.max(0, math.floor((each * most - owed) / each))
        answer[#answer + 1] = left
        answer[#answer + 1] = math.max(0, owed - (most - left - 1) * each)
    end
    answers[n] = answer
end
for key in pairs(moved) do
    -- A second longer than it matters: after a failover another clock tells the time.
    redis.call('SET', key, string.format('%.0f', arrival[key]), 'PX', math.ceil((arrival[key] - now) / 1000) + 1000)
end
return answers
