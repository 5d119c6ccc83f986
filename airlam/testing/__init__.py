"""Suites that an outside package can run on its own methods: contracts to subclass, golden runs to replay.

Example: in a test file of your own package::

    from airlam.testing import PredictorContract

    class TestMyPredictor(PredictorContract):
        def make(self):
            return MyPredictor()

pytest then runs every test of the contract on ``MyPredictor``. Needs pytest (``pip install pytest``).
"""

from airlam.testing.benchmark import BenchmarkContract
from airlam.testing.channel import ChannelContract
from airlam.testing.estimator import EstimatorContract
from airlam.testing.golden import check_golden
from airlam.testing.precoder import PrecoderContract
from airlam.testing.predictor import PredictorContract

__all__ = [
    "BenchmarkContract",
    "ChannelContract",
    "EstimatorContract",
    "PrecoderContract",
    "PredictorContract",
    "check_golden",
]
