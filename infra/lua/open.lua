-- Counts what accounts have open at a time, over all processes: many accounts in one call.
-- ARGV     what the accounts' keys begin with, then MessagePack of {now, process, ms until a silent process does not count,
--          most, accounts}: the time in ms (0: the server's own), and {{account, how many this process has open, how many
--          more it asks for}, ...}
-- Returns  for each account how many of those it may open
-- An account is a hash of processes, each with "how many:until when". What a process says of itself is believed, so that
-- a Redis that forgot is told again by the next word.
local now, process, keep, most, accounts = unpack(cmsgpack.unpack(ARGV[2]))
if now == 0 then
    local at = redis.call('TIME')
    now = at[1] * 1000 + math.floor(at[2] / 1000)
end
local granted = {}
for i, said in ipairs(accounts) do
    local key, open, wanted = ARGV[1] .. said[1], said[2], said[3]
    local others, gone = 0, {}
    local told = wanted > 0 and redis.call('HGETALL', key) or {}
    for j = 1, #told, 2 do
        if told[j] ~= process then
            local count, expires = string.match(told[j + 1], '^(%d+):(%d+)$')
            expires = tonumber(expires)
            -- Further ahead than anybody says, it comes from a clock that was set back.
            if expires > now and expires <= now + keep then others = others + count else gone[#gone + 1] = told[j] end
        end
    end
    if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
    granted[i] = math.max(0, math.min(wanted, most - others - open))
    if open + granted[i] > 0 then
        redis.call('HSET', key, process, string.format('%d:%.0f', open + granted[i], now + keep))
        redis.call('PEXPIRE', key, keep)
    else redis.call('HDEL', key, process) end
end
return granted
