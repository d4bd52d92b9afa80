-- Appends a worker's events to a job's stream and pokes its followers, in one call.
-- KEYS[1]  the stream
-- ARGV     channel, job id, seconds to keep, attempt, number of the first event, then the events
-- Returns  {"ok", n} after event n | {"behind", n} the stream has only this attempt's first n events: send from n + 1
--          | {"fenced", id} a later attempt has spoken
-- Event n of attempt a has the id a-n, so an event sent twice is recognised, and Redis itself keeps the order.
local attempt, first = tonumber(ARGV[4]), tonumber(ARGV[5])
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local last_attempt, last_n = 0, 0
if last then
    last_attempt, last_n = string.match(last[1], '^(%d+)-(%d+)$')
    last_attempt, last_n = tonumber(last_attempt), tonumber(last_n)
end
if last_attempt > attempt then return {'fenced', last[1]} end
local known = last_attempt == attempt and last_n or 0
if first > known + 1 then return {'behind', known} end
local n = first
for i = 6, #ARGV do
    if n > known then redis.call('XADD', KEYS[1], attempt .. '-' .. n, 'e', ARGV[i]) end
    n = n + 1
end
if n - 1 > known then -- what was said already changes nothing, also not how long the stream is kept
    redis.call('EXPIRE', KEYS[1], ARGV[3])
    redis.call('PUBLISH', ARGV[1], ARGV[2])
end
return {'ok', n - 1}
