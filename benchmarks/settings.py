"""The settings that ship, with two more addresses to compare with."""

from config.settings import *

ROOT_URLCONF = "benchmarks.urls"
