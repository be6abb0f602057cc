"""Every hostile request that a client can form, whatever its library."""

from tests.hostile.bodies import BODIES
from tests.hostile.fields import FIELDS
from tests.hostile.headers import HEADERS
from tests.hostile.numbers import NUMBERS
from tests.hostile.targets import TARGETS

CORPUS = [*NUMBERS, *FIELDS, *BODIES, *HEADERS, *TARGETS]
