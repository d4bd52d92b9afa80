-- Tells which jobs a queue does not know; also of those that run when all else about them was forgotten.
-- KEYS[1]  arq's queue
-- ARGV     base, then the ids
-- Returns  the lost ids
local queue, base, lost = KEYS[1], ARGV[1], {}
local ids = { unpack(ARGV, 2) }
local known, whose = redis.call('ZMSCORE', queue, unpack(ids)), redis.call('HMGET', base .. 'who', unpack(ids))
for i, id in ipairs(ids) do
    if not known[i] or is_forgotten(whose[i], id) then lost[#lost + 1] = id end
end
return lost
