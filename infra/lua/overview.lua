-- Tells operators how a queue stands.
-- KEYS[1]  arq's queue
-- ARGV     base, now in ms, ms after which a silent worker counts as dead, then the pool's kinds
-- Returns  jobs that wait, are not due yet, and run; ms at which the longest waiting one was due (-1: none waits);
--          those that wait in the interactive and in the batch lane; done, failed and returned ones in the last sixty
--          seconds; the control hash; what each living worker tells; how long each kind's last jobs took, in ms
local queue, base, now, silence = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = redis.call('ZRANGEBYSCORE', queue, -SHIFT, '(0', 'WITHSCORES', 'LIMIT', 0, 1)[2]
local minute, share = math.floor(now / 60000), (now % 60000) / 60000
local these = redis.call('HMGET', base .. 'stats:' .. minute, 'done', 'failed', 'again')
local those = redis.call('HMGET', base .. 'stats:' .. minute - 1, 'done', 'failed', 'again')
local stats = {}
for i = 1, 3 do stats[i] = tostring(tonumber(these[i] or 0) + (1 - share) * tonumber(those[i] or 0)) end
local alive, told, took = redis.call('ZRANGEBYSCORE', base .. 'alive', now - silence, '+inf'), {}, {}
if #alive > 0 then told = redis.call('HMGET', base .. 'workers', unpack(alive)) end
for i = 4, #ARGV do took[i - 3] = redis.call('LRANGE', base .. 'took:' .. ARGV[i], 0, -1) end
return {
    redis.call('ZCOUNT', queue, -SHIFT, '(0'), redis.call('ZCOUNT', queue, 0, '+inf'),
    redis.call('ZCOUNT', queue, '-inf', '(' .. -SHIFT), oldest and tonumber(oldest) + SHIFT or -1,
    standing(base, 'interactive'), standing(base, 'batch'), stats, redis.call('HGETALL', base .. 'control'), told, took,
}
