"""The addresses of the project, and two more for comparison."""

from django.urls import path

from benchmarks.compared import Constant, PlainReversal
from config.urls import *
from config.urls import urlpatterns as shipped

urlpatterns = [
    path("bench/constant", Constant.as_view()),
    path("bench/plain", PlainReversal.as_view()),
    *shipped,
]
