"""The default settings, with two more addresses for comparison."""

from config.settings import *

ROOT_URLCONF = "benchmarks.urls"
