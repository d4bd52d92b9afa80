-- What is told of lanes; it stands before the scripts that tell it. Of a ring with more accounts than this the first
-- ones are looked at and the others taken to be like them: these are answers for people, asked for often.
local MOST_ACCOUNTS = 200

local function ring_of(base, lane, kind)
    local ring = base .. 'ring:' .. lane .. ':' .. kind
    return redis.call('LRANGE', ring, 0, MOST_ACCOUNTS - 1), redis.call('LLEN', ring)
end

-- How many jobs stand in the lists of a lane, or of one kind in it.
local function standing(base, lane, kind)
    local sum = 0
    for _, each in ipairs(kind and { kind } or redis.call('SMEMBERS', base .. 'rings:' .. lane)) do
        local accounts, length = ring_of(base, lane, each)
        local its = 0
        for _, account in ipairs(accounts) do
            its = its + redis.call('LLEN', base .. lane .. ':' .. each .. ':' .. account)
        end
        if #accounts > 0 then sum = sum + its * length / #accounts end
    end
    return math.floor(sum + 0.5)
end
