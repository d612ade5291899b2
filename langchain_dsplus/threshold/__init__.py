"""Choosing the threshold, and what a threshold costs. `certify` is both a module here and a name at the top."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.answer import CertificateError
    from langchain_dsplus.threshold.certificate import Certificate
    from langchain_dsplus.threshold.choose import ThresholdChoice, choose_threshold
    from langchain_dsplus.threshold.curves import (
        CostQualityCurve,
        RiskCoverageCurve,
        cost_quality_curve,
        risk_coverage_curve,
    )
    from langchain_dsplus.threshold.deferral import apgr, cost_at_parity, cpt
    from langchain_dsplus.threshold.path import coverage_path
    from langchain_dsplus.threshold.planning import SampleSizePlan, plan_sample_size

__all__ = [
    "Certificate",
    "CertificateError",
    "CostQualityCurve",
    "RiskCoverageCurve",
    "SampleSizePlan",
    "ThresholdChoice",
    "apgr",
    "choose_threshold",
    "cost_at_parity",
    "cost_quality_curve",
    "coverage_path",
    "cpt",
    "plan_sample_size",
    "risk_coverage_curve",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "certificate": "Certificate CertificateError",
        "choose": "ThresholdChoice choose_threshold",
        "curves": "CostQualityCurve RiskCoverageCurve cost_quality_curve risk_coverage_curve",
        "deferral": "apgr cost_at_parity cpt",
        "path": "coverage_path",
        "planning": "SampleSizePlan plan_sample_size",
    },
)
