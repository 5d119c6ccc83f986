"""Classical predictors, precoders and bounds, all tunable: the methods that learned ones are compared with."""

from airlam.baselines.ar import ARFilters, ARPredictor, ar_filters, rollout
from airlam.baselines.beam_tracking import LastBest, LinearExtrapolation, SoftmaxRegression, TrainedLinear
from airlam.baselines.bounds import dpc_sum_capacity, water_filling_capacity
from airlam.baselines.denoising import BeamDelayThreshold, TrainingLMMSE
from airlam.baselines.eigen_ar import EigenARPredictor
from airlam.baselines.features import link_features
from airlam.baselines.genie import cluster_genie, genie_lmmse, per_bin_genie
from airlam.baselines.hold import HoldPredictor
from airlam.baselines.interpolation import (
    DelayInterpolator,
    EigenLMMSEInterpolator,
    EigenPowerDelayInterpolator,
    LinearInterpolator,
    LMMSEInterpolator,
    PowerDelayInterpolator,
    PredictorExtrapolator,
    axis_covariance,
    ray_covariance,
    tune_estimator,
)
from airlam.baselines.kalman import KalmanPredictor
from airlam.baselines.mean import MeanPredictor
from airlam.baselines.precoders import (
    MRTPrecoder,
    RZFPrecoder,
    SLNRPrecoder,
    ZFPrecoder,
    mrt,
    rzf,
    slnr,
    svd_water_filling,
    zf,
    zf_water_filling,
)
from airlam.baselines.precoding_steps import effective_channel, water_filling
from airlam.baselines.prony import PADPredictor, VectorPronyPredictor
from airlam.baselines.reverse_water_filling import reverse_water_filling
from airlam.baselines.stack import STACK_MEMBERS, StackPredictor, fit_stack
from airlam.baselines.tuning import tune
from airlam.baselines.type1 import Type1Precoder, Type1Subbands, type1_codebook
from airlam.baselines.type2 import EnhancedType2
from airlam.baselines.wiener import JakesWienerPredictor, WienerPredictor
from airlam.baselines.wmmse import WMMSEPrecoder, wmmse

__all__ = [
    "STACK_MEMBERS",
    "ARFilters",
    "ARPredictor",
    "BeamDelayThreshold",
    "DelayInterpolator",
    "EigenARPredictor",
    "EigenLMMSEInterpolator",
    "EigenPowerDelayInterpolator",
    "EnhancedType2",
    "HoldPredictor",
    "JakesWienerPredictor",
    "KalmanPredictor",
    "LMMSEInterpolator",
    "LastBest",
    "LinearExtrapolation",
    "LinearInterpolator",
    "MRTPrecoder",
    "MeanPredictor",
    "PADPredictor",
    "PowerDelayInterpolator",
    "PredictorExtrapolator",
    "RZFPrecoder",
    "SLNRPrecoder",
    "SoftmaxRegression",
    "StackPredictor",
    "TrainedLinear",
    "TrainingLMMSE",
    "Type1Precoder",
    "Type1Subbands",
    "VectorPronyPredictor",
    "WMMSEPrecoder",
    "WienerPredictor",
    "ZFPrecoder",
    "ar_filters",
    "axis_covariance",
    "cluster_genie",
    "dpc_sum_capacity",
    "effective_channel",
    "fit_stack",
    "genie_lmmse",
    "link_features",
    "mrt",
    "per_bin_genie",
    "ray_covariance",
    "rollout",
    "reverse_water_filling",
    "rzf",
    "slnr",
    "svd_water_filling",
    "tune",
    "tune_estimator",
    "type1_codebook",
    "water_filling",
    "water_filling_capacity",
    "wmmse",
    "zf",
    "zf_water_filling",
]
