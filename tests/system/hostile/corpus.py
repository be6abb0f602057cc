"""All hostile requests that an ordinary HTTP library can send."""

from tests.system.hostile.bodies import BODIES
from tests.system.hostile.fields import FIELDS
from tests.system.hostile.headers import HEADERS
from tests.system.hostile.numbers import NUMBERS
from tests.system.hostile.targets import TARGETS

CORPUS = [*NUMBERS, *FIELDS, *BODIES, *HEADERS, *TARGETS]
