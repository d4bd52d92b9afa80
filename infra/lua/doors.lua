-- Hears how calls to vendors went and lets others in, over all processes, in one call.
-- A door is one model behind one deployment (a key); calls at a time are counted by deployment, all else by door.
-- ARGV     what all names begin with, then MessagePack of {now, process, keep, policy, open, told, asked}: the time in ms
--          (0: the server's own), the ms after which a silent process counts no longer, {failures in a row after which a
--          door is shut, ms for which it is, ms that one call may take to try it again, calls at a time by deployment},
--          {{deployment, calls that this process has there}, ...}, what is told, {{door, 0: goes on 1: answered 2: failed
--          3: neither, ms of rest (0: none), why it rests, requests left (-1: not told), ms until they are whole, tokens
--          left, ms until they are whole}, ...}, and what is asked, {{tokens, {deployment, door, deployment, door, ...}},
--          ...}, the doors that would do in the order in which they are wanted
-- Returns  for each asked {which of its doors it may take (0: none), ms after which it is worth asking again, why}, where
--          why is 1: limited by the vendor 2: out of order 3: set up wrongly 4: as many calls as may be at a time 5: shut;
--          of one that it may take, 5 says that it tries a door that was shut
-- What a process says of its own calls is believed, so that a Redis that forgot is told again by the next word.
local base = ARGV[1]
local now, process, keep, policy, open, told, asked = unpack(cmsgpack.unpack(ARGV[2]))
local most_failures, shut_for, try_for, slots = unpack(policy)
if now == 0 then
    local at = redis.call('TIME')
    now = at[1] * 1000 + math.floor(at[2] / 1000)
end
local LIMITED, CROWDED, SHUT = 1, 4, 5
local LONGEST_REST, ASK_AGAIN = 3600000, 250
local FIELDS = { 'failures', 'shut', 'tried', 'rests', 'why', 'requests', 'requests_at', 'tokens', 'tokens_at' }

local doors, changed = {}, {}
local function door(name)
    if not doors[name] then
        doors[name] = {}
        for i, kept in ipairs(redis.call('HMGET', base .. 'door:' .. name, unpack(FIELDS))) do
            doors[name][FIELDS[i]] = tonumber(kept or 0)
        end
    end
    return doors[name]
end

-- Whether a moment is still to come; further ahead than it may be, it comes from a clock that was set back.
local function ahead(moment, most) return moment > now and moment <= now + most end

for _, word in ipairs(told) do
    local name, how, rest, why, requests, requests_ms, tokens, tokens_ms = unpack(word)
    local it = door(name)
    changed[name] = true
    if how ~= 0 then it.tried = 0 end
    if how == 1 then it.failures, it.shut = 0, 0 end
    if how == 2 then
        it.failures = it.failures + 1
        if it.failures >= most_failures then it.shut = now + shut_for end
    end
    if rest > 0 and now + rest > it.rests then it.rests, it.why = now + rest, why end
    if requests >= 0 then it.requests, it.requests_at = requests, now + requests_ms end
    if tokens >= 0 then it.tokens, it.tokens_at = tokens, now + tokens_ms end
end

local function wait(it, tokens)
    if ahead(it.rests, LONGEST_REST) then return it.rests - now, it.why end
    if it.failures >= most_failures then
        if ahead(it.shut, shut_for) then return it.shut - now, SHUT end
        if ahead(it.tried, try_for) then return ASK_AGAIN, SHUT end
    end
    if it.requests <= 0 and ahead(it.requests_at, LONGEST_REST) then return it.requests_at - now, LIMITED end
    if it.tokens < tokens and ahead(it.tokens_at, LONGEST_REST) then return it.tokens_at - now, LIMITED end
    return 0, 0
end

local mine, others = {}, {}
for _, said in ipairs(open) do mine[said[1]] = said[2] end
local function calls(deployment)
    if not others[deployment] then
        local count, gone, said = 0, {}, redis.call('HGETALL', base .. 'slots:' .. deployment)
        for i = 1, #said, 2 do
            local many, expires = string.match(said[i + 1], '^(%d+):(%d+)$')
            if said[i] ~= process then
                if ahead(tonumber(expires), keep) then count = count + many else gone[#gone + 1] = said[i] end
            end
        end
        if #gone > 0 then redis.call('HDEL', base .. 'slots:' .. deployment, unpack(gone)) end
        others[deployment] = count
    end
    return others[deployment] + (mine[deployment] or 0)
end

local function take(name, deployment, tokens)
    local it = door(name)
    mine[deployment] = (mine[deployment] or 0) + 1
    if it.failures >= most_failures then it.tried, changed[name] = now + try_for, true end
    if ahead(it.requests_at, LONGEST_REST) then it.requests, changed[name] = it.requests - 1, true end
    if ahead(it.tokens_at, LONGEST_REST) then it.tokens, changed[name] = it.tokens - tokens, true end
end

local answers = {}
for n, ask in ipairs(asked) do
    local tokens, wanted = unpack(ask)
    local answer = { 0, -1, 0 }
    for i = 1, #wanted, 2 do
        local ms, why = wait(door(wanted[i + 1]), tokens)
        if ms == 0 and calls(wanted[i]) >= slots then ms, why = ASK_AGAIN, CROWDED end
        if ms == 0 then
            answer = { (i + 1) / 2, 0, door(wanted[i + 1]).failures >= most_failures and SHUT or 0 }
            take(wanted[i + 1], wanted[i], tokens)
            break
        end
        if answer[2] < 0 or ms < answer[2] then answer = { 0, ms, why } end
    end
    answers[n] = answer
end

for deployment, count in pairs(mine) do
    local key = base .. 'slots:' .. deployment
    if count > 0 then
        redis.call('HSET', key, process, string.format('%d:%.0f', count, now + keep))
        redis.call('PEXPIRE', key, keep)
    else redis.call('HDEL', key, process) end
end
for name in pairs(changed) do
    local it, key, row = doors[name], base .. 'door:' .. name, {}
    if it.failures == 0 and math.max(it.rests, it.requests_at, it.tokens_at) <= now then redis.call('DEL', key)
    else
        for _, field in ipairs(FIELDS) do
            row[#row + 1] = field
            row[#row + 1] = string.format('%.0f', it[field])
        end
        redis.call('HSET', key, unpack(row))
        redis.call('PEXPIRE', key, LONGEST_REST)
    end
end
return answers
