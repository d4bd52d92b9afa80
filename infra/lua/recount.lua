-- Counts a queue's running jobs anew, from the leases.
-- KEYS[1]  arq's queue
-- ARGV     base
-- Returns  how many kinds and accounts have running jobs
local base = ARGV[1]
local ids, changes = redis.call('ZRANGE', base .. 'leases', 0, -1), {}
for _, id in ipairs(ids) do
    local _, kind, account = split(redis.call('HGET', base .. 'who', id))
    add(changes, 1, kind, account)
end
redis.call('DEL', base .. 'running')
count(base, changes)
return redis.call('HLEN', base .. 'running')
