"""Ring and hear bells: "there is work for this model version in this lane", "there are deliveries to send".

The API commits, then rings. A worker clears the flag, then claims. In this order no wake-up can be
lost: a job committed after the flag was cleared rings anew, and one committed before is claimed.
The flag coalesces: however many jobs arrive, one message waits per bell.
"""

from uuid import UUID

import redis
from pydantic import SecretStr

from app.broker.celery import make_celery
from app.broker.message import Bell, BellMessages
from app.broker.redis import BestEffort, make_client
from app.domain.lanes import Lane
from app.domain.model import ModelVersion
from app.domain.stages import Doorbell

FLAG_TTL_MS = 2000
"""A flag outlives its message by at most this long, if whoever took it from the queue died with it."""

MESSAGE_TTL_S = 2 * 3600
"""A bell nobody heard for this long says nothing new: the sweep rings again. Celery goes by the clock of the
worker's machine, which may be an hour ahead of ours: with less, such a worker would never hear a bell.
"""

MODEL_LOAD_S = 300
"""What a drain may spend on loading a model before Celery's hard limit ends its child."""

NUDGE_TTL_MS = 5000

# One round trip, and a flag never stands without its message.
# A child that lingers for this version is nudged, which spares the message. Else the message goes out, and
# a child that lingers for another version leaves, so that its slot can hear it.
# However many linger, only the one that is nudged is looked at. Who is not on the queue's list is on none.
# While a bell's message is still in the queue it has no other, however long the flag lives: else each version
# that is busy would have one more every two seconds, and a rare one's would come after all of them. Messages
# are numbered; those in the queue are the last ones, as many as it is long.
# KEYS: flag, unanswered bells, queue, the queue's lingerers, this version's, numbers by bell.
# ARGV: flag's life, message, the bell's key, nudge's life, the numbers' life.
_RING = """
local function nudge(member, word)
  redis.call('LPUSH', 'nudge:' .. member, word)
  redis.call('PEXPIRE', 'nudge:' .. member, ARGV[4])
end
local member = redis.call('SPOP', KEYS[5])
while member do
  if redis.call('SREM', KEYS[4], member) == 1 then
    nudge(member, 'work')
    return 2
  end
  member = redis.call('SPOP', KEYS[5])
end
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
local sent = redis.call('HMGET', KEYS[6], ARGV[3], '#')
local waits = sent[1] and tonumber(sent[1]) > tonumber(sent[2]) - redis.call('LLEN', KEYS[3])
if not waits and redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[1]) then
  redis.call('LPUSH', KEYS[3], ARGV[2])
  redis.call('HSET', KEYS[6], ARGV[3], redis.call('HINCRBY', KEYS[6], '#', 1))
  redis.call('PEXPIRE', KEYS[6], ARGV[5])
  local other = redis.call('SPOP', KEYS[4])
  if other then
    redis.call('SREM', KEYS[4] .. ':' .. string.match(other, '^[^:]+'), other)
    nudge(other, 'leave')
  end
end
return 1
"""

# Who lingers while another version's bell is unanswered would keep the slot that could answer it. A bell of
# the same version is answered here and now, which spares a drain for each time the queue runs empty; its flag
# stays, because its message is still on its way, and so no more messages are sent than are heard.
# KEYS: unanswered bells, the queue's lingerers, this version's. ARGV: child, its life there, bell's key.
_STAY = """
local rung = redis.call('SCARD', KEYS[1])
if rung == 1 and redis.call('SREM', KEYS[1], ARGV[3]) == 1 then return 2 end
if rung > 0 then return 0 end
for i = 2, 3 do
  redis.call('SADD', KEYS[i], ARGV[1])
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
end
return 1
"""

# Leaving and being nudged exclude each other: who is no longer listed has a nudge waiting.
# KEYS: the queue's lingerers, this version's, the child's nudge. ARGV: child.
_LEAVE = """
redis.call('SREM', KEYS[2], ARGV[1])
if redis.call('SREM', KEYS[1], ARGV[1]) == 1 then return false end
return redis.call('LPOP', KEYS[3])
"""

# Who was awake and heard bells by `hear` stops doing so, unless one rang since.
# KEYS: unanswered bells, flag. ARGV: the bell's key.
_LEAVE_OFF = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 0 end
redis.call('DEL', KEYS[2])
return 1
"""


def doorbell_for(version: ModelVersion, lane: Lane, slice_s: float = 5.0) -> Doorbell:
    """The bell for this version and lane.

    Its time limit is the last line of defence: a batch's own watchdog ends a hung child long before.
    """
    return Doorbell(
        version_id=version.id,
        model=version.spec.name,
        version=version.spec.version,
        device=version.spec.device,
        lane=lane,
        time_limit_s=MODEL_LOAD_S + slice_s + 2 * version.spec.execution_timeout_s,
    )


class Ringer:
    """Rings and clears doorbells. No method raises when Redis is away: the sweep finds what was missed."""

    def __init__(self, redis_url: SecretStr) -> None:
        client = make_client(redis_url)
        self._redis = BestEffort(client)
        self._messages = BellMessages(make_celery(redis_url))
        self._push = client.register_script(_RING)
        self._stay = client.register_script(_STAY)
        self._leave = client.register_script(_LEAVE)
        self._leave_off = client.register_script(_LEAVE_OFF)

    def ring(self, bell: Bell) -> bool:
        """Publish one message, unless one is already waiting. False if Redis can't be reached."""
        message = self._messages.encode(bell, MESSAGE_TTL_S)
        lingerers = [_lingerers(bell.queue), _lingerers(bell.queue, bell.key)]
        keys = [_flag(bell), _rung(bell.queue), bell.queue, *lingerers, f"sent:{bell.queue}"]
        values: list[str | int] = [FLAG_TTL_MS, message, bell.key, NUDGE_TTL_MS, MESSAGE_TTL_S * 1000]
        return self._redis.attempt(lambda _: self._push(keys, values)) is not None

    def linger(self, version_id: int, queue: str, child: UUID, seconds: float) -> bool:
        """Wait for the next bell of this version without going back to Celery. True if it rang, or had rung.

        False after `seconds` (below a second), when another bell of the queue needs this child's slot, or
        without Redis. No bell is lost: a ring either finds this child listed and nudges it, or sends a
        message. A child that dies here costs one nudge, which the sweep makes good.
        """
        member = f"{version_id}:{child.hex}"
        lingerers = [_lingerers(queue), _lingerers(queue, str(version_id))]

        def wait(client: redis.Redis) -> bool:
            life_ms = int(seconds * 1000) + 1000
            stays = self._stay([_rung(queue), *lingerers], [member, life_ms, version_id])
            if stays != 1:
                return bool(stays == 2)
            nudge = client.blpop([f"nudge:{member}"], timeout=seconds)
            word = nudge[1] if nudge else self._leave([*lingerers, f"nudge:{member}"], [member])
            return word == b"work"

        return bool(self._redis.attempt(wait))

    def clear(self, bell: Bell) -> None:
        """Take the bell down, before claiming: from now on a new job rings anew."""

        def take_down(client: redis.Redis) -> None:
            with client.pipeline(transaction=False) as pipe:
                pipe.delete(_flag(bell))
                pipe.srem(_rung(bell.queue), bell.key)
                pipe.execute()

        self._redis.attempt(take_down)

    def hear(self, bell: Bell) -> None:
        """As `clear`, for who goes on to ask `rung` and ends with `leave_off`. The flag stands meanwhile,
        which spares messages that nobody needs.
        """
        self._redis.attempt(lambda client: client.srem(_rung(bell.queue), bell.key))

    def leave_off(self, bell: Bell) -> bool:
        """Take the flag down, so that the next bell sends a message. False if one rang since `hear`."""
        keys = [_rung(bell.queue), _flag(bell)]
        return self._redis.attempt(lambda _: self._leave_off(keys, [bell.key])) != 0

    def rung(self, queue: str) -> bool:
        """Whether a bell of this queue rang and nobody has begun to answer it."""
        return bool(self._redis.attempt(lambda client: client.exists(_rung(queue))))

    def waiting(self, queue: str) -> int:
        """How many messages lie in the queue."""
        return self._redis.attempt(lambda client: client.llen(queue)) or 0

    def reachable(self) -> bool:
        """Whether Redis answers now."""
        return self._redis.reachable()


def _flag(bell: Bell) -> str:
    return f"bell:{bell.queue}:{bell.key}"


def _lingerers(queue: str, key: str | None = None) -> str:
    """The set of a queue's lingerers, or of those for the bell of this key."""
    return f"linger:{queue}" if key is None else f"linger:{queue}:{key}"


def _rung(queue: str) -> str:
    return f"rung:{queue}"
