"""Random numbers that keep peers from doing the same thing in the same moment.

From the kernel: a generator of our own has no state that others see, nor one that a fork would copy.
"""

from random import SystemRandom

_random = SystemRandom()
uniform, randint = _random.uniform, _random.randint
